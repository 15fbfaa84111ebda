"""What papers printed, to stand beside what is measured here. Figures are read off the tables that each entry names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """One table of a paper. figures: row -> (our method, data set -> figure as printed); column: which of ours stands beside."""

    source: str
    quantity: str
    column: str  # a prefix of the name of our column
    figures: Mapping[str, tuple[str, Mapping[str, str]]]
    remark: str


LI = "Li, Roblek, Tagliasacchi 2019 (arXiv 1905.10240)"

TABLES = {
    "table1": Published(
        source=f"{LI}, table 1",
        quantity="FVD, mean and 95% interval over 10 runs",
        column="fvd_i3d_16f",
        figures={
            "full": ("full", {"bair": "152 [144, 160]", "kth": "153 [148, 158]", "ucf101": "424 [411, 438]"}),
            "w/o fusion": (
                "wo-fusion",
                {"bair": "175 [166, 184]", "kth": "171 [163, 180]", "ucf101": "463 [453, 474]"},
            ),
            "naive": ("naive", {"bair": "702 [551, 895]", "kth": "346 [328, 361]", "ucf101": "1101 [1070, 1130]"}),
        },
        remark="A Frechet distance falls as the number of clips grows: only figures of equal n are comparable.",
    ),
    "table3": Published(
        source=f"{LI}, table 3",
        quantity="SSIM of the best sequence of 100 samples (3-D convolutions, 14 frames)",
        column="ssim_hidden_best",
        figures={
            "3D-conv, 14 frames": (
                "full",
                {"bair": "0.836 [0.832, 0.839]", "kth": "0.733 [0.729, 0.737]", "ucf101": "0.686 [0.680, 0.693]"},
            ),
            "SDVI, 7 frames, 4 reference frames": ("", {"bair": "0.880", "kth": "0.901", "ucf101": "0.598"}),
            "SDVI, 7 frames, 2 reference frames": ("sdvi", {"bair": "0.852", "kth": "0.831"}),
            "SepConv, 7 frames": ("sepconv-t", {"bair": "0.877", "kth": "0.904", "ucf101": "0.443"}),
            "Super SloMo, 7 frames": ("superslomo", {"kth": "0.893", "ucf101": "0.471"}),
        },
        remark="The printed table is not like for like (7 frames and single draws beside 14 frames, best of 100); here every"
        " method draws the same frames and the best of as many samples.",
    ),
}

"""What papers printed, to stand beside what is measured here. Figures are read off the tables that each entry names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Published:
    """One table of a paper. figures: row -> (our method, data set -> figure as printed); column: which of ours stands beside."""

    source: str
    quantity: str
    column: str  # a prefix of the name of our column
    figures: Mapping[str, tuple[str, Mapping[str, str]]]
    remark: str
    recipes: Mapping[str, str]  # our method -> recipe, with "{scale}" in its name
    scale: str = "paper"  # unless another is asked for
    # What `evaluate` is asked, unless it is said: the task, the size (height, width), frames, samples, metrics.
    protocol: Mapping[str, Any] = field(default_factory=dict)


LI_RECIPES = {
    "full": "inbetween/{scale}",
    "wo-fusion": "inbetween/{scale}-wo-fusion",
    "naive": "inbetween/{scale}-naive",
    "sdvi": "sdvi/{scale}",
    "sepconv-t": "sepconv/{scale}",
    "superslomo": "superslomo/{scale}",
}
WANG_RECIPES = {
    "vid2vid": "vid2vid/{scale}",
    "pix2pixhd": "pix2pixhd/{scale}",
    "covst": "covst/{scale}",
    "wo-foreground": "vid2vid/{scale}-wo-foreground",
    "wo-video": "vid2vid/{scale}-wo-video",
    "wo-flow": "vid2vid/{scale}-wo-flow",
}
PAINTED = {
    "task": "paint",
    "size": (64, 128),
    "frames": 30,
    "samples": 1,
    "metrics": ("ssim_hidden", "lpips_alex_hidden", "fvd_i3d", "warp_error", "temporal_lpips", "labels"),
}

LI = "Li, Roblek, Tagliasacchi 2019 (arXiv 1905.10240)"
WANG = "Wang et al. 2018 (arXiv 1808.06601)"

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
        recipes=LI_RECIPES,
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
        recipes=LI_RECIPES,
    ),
    "vid2vid-table1": Published(
        source=f"{WANG}, table 1",
        quantity="Frechet distance of I3D features",
        column="fvd_i3d_30f",
        figures={
            "pix2pixHD": ("pix2pixhd", {"cityscapes": "5.57"}),
            "COVST": ("covst", {"cityscapes": "5.55"}),
            "vid2vid": ("vid2vid", {"cityscapes": "4.66"}),
        },
        remark="Its features are of another layer and another scale than ours, so the orders are to be compared and not the"
        " figures. Its second network, 3-D ResNeXt, could not be had.",
        recipes=WANG_RECIPES,
        scale="blocks",
        protocol=PAINTED,
    ),
    "vid2vid-table2": Published(
        source=f"{WANG}, table 2",
        quantity="share of people who preferred the whole vid2vid to what lacks a part",
        column="fvd_i3d_30f",
        figures={
            "vid2vid": ("vid2vid", {}),
            "no foreground-background prior": ("wo-foreground", {"cityscapes": "0.80"}),
            "no video critic": ("wo-video", {"cityscapes": "0.84"}),
            "no flow warping": ("wo-flow", {"cityscapes": "0.67"}),
        },
        remark="People judged there; here it is a Frechet distance, lower is better. The published order of harm: no video"
        " critic, no foreground-background prior, no flow warping.",
        recipes=WANG_RECIPES,
        scale="blocks",
        protocol=PAINTED,
    ),
}

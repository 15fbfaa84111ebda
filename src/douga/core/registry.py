"""Tables of public names. A row names its code as "module:attribute" and loads it when asked, so that listing imports no torch.

Third parties add rows through entry points of the groups "douga.methods", "douga.sources" and "douga.recipes".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any


@dataclass(frozen=True)
class Row:
    target: str  # "module:attribute"
    summary: str  # one line for `douga list`


class Table(Mapping[str, Row]):
    """Public name -> Row, ours first, then those of installed plug-ins."""

    def __init__(self, kind: str, rows: dict[str, Row]) -> None:
        self.kind = kind
        plugged = {
            entry.name: Row(entry.value, f"plug-in: {entry.value}") for entry in entry_points(group=f"douga.{kind}s")
        }
        self._rows = {**plugged, **rows}

    def __getitem__(self, name: str) -> Row:
        return self._rows[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def load(self, name: str) -> Any:
        """Import what the row names. Raises ValueError that lists the names there are."""
        if name not in self._rows:
            near = get_close_matches(name, self._rows, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"unknown {self.kind} {name!r}{hint} (there are: {', '.join(self._rows)})")
        module, _, attribute = self._rows[name].target.partition(":")
        return getattr(import_module(module), attribute)


METHODS = Table(
    "method",
    {
        "inbetween-gan": Row(
            "douga.models.inbetween_gan:InbetweenGAN", "3-D convolutions with stochastic fusion (Li et al. 2019)"
        ),
        "hold": Row("douga.baselines.naive:Hold", "repeat the nearest key frame"),
        "linear": Row("douga.baselines.naive:Linear", "cross-fade"),
        "flow": Row("douga.baselines.flow:Flow", "DIS optical flow both ways, warped, occlusion-aware blend"),
    },
)

SOURCES = Table(
    "source",
    {
        "folder": Row("douga.data.folder:Folder", "any folder of videos or of frame folders"),
        "shapes": Row("douga.data.shapes:Shapes", "endless synthetic shapes with known motion"),
        "weizmann": Row("douga.data.weizmann:Weizmann", "Weizmann actions, 64x64 colour, by person"),
        "kth": Row("douga.data.kth:Kth", "KTH actions, official names, frame ranges and person splits"),
    },
)

RECIPES = Table(
    "recipe",
    {
        "inbetween/paper": Row("douga.recipes.inbetween:paper", "Li et al. 2019, full size, the paper's settings"),
        "inbetween/paper-wo-fusion": Row("douga.recipes.inbetween:paper_wo_fusion", "ablation: no gates"),
        "inbetween/paper-naive": Row("douga.recipes.inbetween:paper_naive", "ablation: no latent generator"),
        "inbetween/small": Row(
            "douga.recipes.inbetween:small", "about a quarter of the cost; terms that help on little data"
        ),
        "inbetween/brief": Row("douga.recipes.inbetween:brief", "small in a quarter of its steps, to compare with"),
        "inbetween/brief-wo-fusion": Row("douga.recipes.inbetween:brief_wo_fusion", "ablation of brief: no gates"),
        "inbetween/brief-naive": Row("douga.recipes.inbetween:brief_naive", "ablation of brief: no latent generator"),
        "inbetween/tiny": Row("douga.recipes.inbetween:tiny", "seconds on a CPU: for the tests"),
    },
)

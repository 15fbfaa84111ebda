"""Tables of public names. A row names its code as "module:attribute" and loads it when asked, so that listing imports no torch.

Third parties add rows through entry points of the groups "douga.methods", "douga.sources", "douga.recipes" and "douga.metrics".
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
    default: bool = True  # of a metric: measured where none is named


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
        "tween-any": Row(
            "douga.models.tween_any:TweenAny", "any pictures at their own size: motion is drawn, not pixels"
        ),
        "latent-vae": Row(
            "douga.models.latent_vae:LatentVAE", "a path between two latents of a VAE (Cristovao et al. 2020)"
        ),
        "vid2vid": Row("douga.models.vid2vid:Vid2Vid", "maps to video, flow and picture composed (Wang et al. 2018)"),
        "pix2pixhd": Row("douga.baselines.pix2pixhd:Pix2PixHD", "maps to pictures, each alone (Wang et al. 2018)"),
        "covst": Row(
            "douga.baselines.covst:Covst", "pix2pixHD, its features blended along the true motion (Chen et al. 2017)"
        ),
        "hold": Row("douga.baselines.naive:Hold", "repeat the nearest key frame"),
        "linear": Row("douga.baselines.naive:Linear", "cross-fade"),
        "flow": Row("douga.baselines.flow:Flow", "DIS optical flow both ways, warped, occlusion-aware blend"),
        "sepconv-t": Row(
            "douga.baselines.sepconv:SepConv", "separable kernels for each pixel and time (after Niklaus 2017)"
        ),
        "superslomo": Row("douga.baselines.superslomo:SuperSloMo", "learned flow and visibility (Jiang et al. 2018)"),
        "sdvi": Row("douga.baselines.sdvi:Sdvi", "stochastic recurrent interpolation (Xu et al. 2020)"),
    },
)

SOURCES = Table(
    "source",
    {
        "folder": Row("douga.data.folder:Folder", "any folder of videos or of frame folders"),
        "pairs": Row("douga.data.pairs:Pairs", "any videos with maps to paint from: labels, edges, poses, drawings"),
        "shapes": Row("douga.data.shapes:Shapes", "endless synthetic shapes with known motion"),
        "layers": Row("douga.data.layers:Layers", "pieces of your pictures in motion, with exact flow"),
        "clips": Row("douga.data.mixture:Clips", "the real clips of all sets in one folder"),
        "mixture": Row("douga.data.mixture:Mixture", "those, and layers made from their stills"),
        "blocks": Row(
            "douga.data.blocks:Blocks", "endless synthetic street world with labels, instances and exact flow"
        ),
        "teapot-1dof": Row("douga.data.teapot:Teapot1", "Newell's teapot between two places, with its true middle"),
        "teapot-2dof": Row("douga.data.teapot:Teapot2", "it moves sideways and turns"),
        "teapot-6dof": Row("douga.data.teapot:Teapot6", "it moves and turns in all ways"),
        "teapot-several": Row("douga.data.teapot:TeapotSeveral", "three teapots that hide each other"),
        "dsprites": Row("douga.data.dsprites:Dsprites", "dSprites, the official file, paths on its grid of factors"),
        "weizmann": Row("douga.data.weizmann:Weizmann", "Weizmann actions, 64x64 colour, by person"),
        "kth": Row("douga.data.kth:Kth", "KTH actions, official names, frame ranges and person splits"),
        "bair": Row("douga.data.bair:Bair", "BAIR robot pushing, TFRecords read without TensorFlow"),
        "ucf101": Row("douga.data.ucf101:Ucf101", "UCF101, official lists"),
        "cityscapes": Row("douga.data.cityscapes:Cityscapes", "Cityscapes snippets with label maps, official layout"),
        "apolloscape": Row("douga.data.apolloscape:Apolloscape", "ApolloScape scene parsing with labels, by record"),
        "driving": Row("douga.data.driving:Driving", "front camera and rendered map, by drive"),
        "faces": Row("douga.data.pairs:Faces", "faces with edge maps; FaceForensics or any others"),
        "pose": Row("douga.data.pairs:Pose", "a person with poses, from any video"),
    },
)

RECIPES = Table(
    "recipe",
    {
        "tween/motion": Row("douga.recipes.tween_any:motion", "its motion first and alone; tween/any begins with that"),
        "tween/any": Row("douga.recipes.tween_any:any_pictures", "for any pictures, for two CPU cores"),
        "tween/tiny": Row("douga.recipes.tween_any:tiny", "seconds on a CPU: for the tests"),
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
        "latent/teapot-1dof": Row("douga.recipes.latent:teapot_1dof", "latent VAE, a teapot that moves sideways"),
        "latent/teapot-2dof": Row("douga.recipes.latent:teapot_2dof", "latent VAE, a teapot that moves and turns"),
        "latent/teapot-6dof": Row("douga.recipes.latent:teapot_6dof", "latent VAE, a teapot that moves in all ways"),
        "latent/teapot-several": Row("douga.recipes.latent:teapot_several", "latent VAE, three teapots"),
        "latent/dsprites": Row("douga.recipes.latent:dsprites", "latent VAE, the authors' study of the latent's size"),
        "latent/pictures": Row("douga.recipes.latent:pictures", "latent VAE, deeper, for real pictures and videos"),
        "latent/tiny": Row("douga.recipes.latent:tiny", "seconds on a CPU: for the tests"),
        "sepconv/paper": Row("douga.recipes.sepconv:paper", "SepConv-t, full size, its paper's settings"),
        "sepconv/small": Row("douga.recipes.sepconv:small", "SepConv-t, for two CPU cores"),
        "sepconv/tiny": Row("douga.recipes.sepconv:tiny", "seconds on a CPU: for the tests"),
        "superslomo/paper": Row("douga.recipes.superslomo:paper", "Super SloMo, full size, its paper's settings"),
        "superslomo/small": Row("douga.recipes.superslomo:small", "Super SloMo, for two CPU cores"),
        "superslomo/tiny": Row("douga.recipes.superslomo:tiny", "seconds on a CPU: for the tests"),
        "sdvi/paper": Row("douga.recipes.sdvi:paper", "SDVI, full size, its paper's settings"),
        "sdvi/small": Row("douga.recipes.sdvi:small", "SDVI, for two CPU cores"),
        "sdvi/tiny": Row("douga.recipes.sdvi:tiny", "seconds on a CPU: for the tests"),
        "vid2vid/street": Row("douga.recipes.vid2vid:street", "Wang et al. 2018, full size, street scenes"),
        "vid2vid/face": Row("douga.recipes.vid2vid:face", "vid2vid, full size, edges to a face"),
        "vid2vid/pose": Row("douga.recipes.vid2vid:pose", "vid2vid, full size, poses to a person"),
        "vid2vid/street-small": Row(
            "douga.recipes.vid2vid:street_small", "vid2vid on a sample of streets, for a CPU core"
        ),
        "vid2vid/face-small": Row("douga.recipes.vid2vid:face_small", "vid2vid, edges to one face, for a CPU core"),
        "vid2vid/pose-small": Row("douga.recipes.vid2vid:pose_small", "vid2vid, poses to one person, for a CPU core"),
        "vid2vid/blocks": Row("douga.recipes.vid2vid:blocks", "vid2vid on the synthetic street, for two CPU cores"),
        "vid2vid/blocks-wo-foreground": Row(
            "douga.recipes.vid2vid:blocks_wo_foreground", "ablation: no prior on things"
        ),
        "vid2vid/blocks-wo-video": Row("douga.recipes.vid2vid:blocks_wo_video", "ablation: no video critics"),
        "vid2vid/blocks-wo-flow": Row("douga.recipes.vid2vid:blocks_wo_flow", "ablation: no warping"),
        "vid2vid/tiny": Row("douga.recipes.vid2vid:tiny", "seconds on a CPU: for the tests"),
        "pix2pixhd/blocks": Row("douga.recipes.pix2pixhd:blocks", "pix2pixHD on the synthetic street"),
        "pix2pixhd/street": Row("douga.recipes.pix2pixhd:street", "pix2pixHD, full size, street scenes"),
        "pix2pixhd/street-small": Row(
            "douga.recipes.pix2pixhd:street_small", "pix2pixHD on a sample of streets, for a CPU core"
        ),
        "pix2pixhd/tiny": Row("douga.recipes.pix2pixhd:tiny", "seconds on a CPU: for the tests"),
        "covst/street": Row("douga.recipes.covst:street", "COVST, full size, street scenes"),
        "covst/blocks": Row("douga.recipes.covst:blocks", "COVST on the synthetic street"),
        "covst/tiny": Row("douga.recipes.covst:tiny", "seconds on a CPU: for the tests"),
    },
)

METRICS = Table(
    "metric",
    {
        "mse_hidden": Row("douga.metrics.paired:Mse", "mean squared error, pixels in 0-1, of the drawn frames"),
        "psnr_hidden": Row("douga.metrics.paired:Psnr", "of a sequence's mean squared error"),
        "ssim_hidden": Row("douga.metrics.paired:Ssim", "Gaussian 11x11, sigma 1.5, per frame and channel"),
        "lpips_alex_hidden": Row("douga.metrics.paired:Lpips", "LPIPS v0.1, AlexNet, per frame"),
        "fvd_i3d": Row(
            "douga.metrics.distribution:VideoDistance", "Frechet and kernel distance of I3D logits, 224x224"
        ),
        "frechet_resnext3d": Row(
            "douga.metrics.distribution:ResNextDistance",
            "the same with a 3-D ResNeXt that you bring (Wang et al. 2018's second); only if named",
            default=False,
        ),
        "spread": Row("douga.metrics.diversity:Spread", "distance between samples, in pixels and over time"),
        "calibration": Row(
            "douga.metrics.diversity:Calibration", "rank histogram, CRPS and energy score of the samples"
        ),
        "warp_error": Row("douga.metrics.temporal:WarpError", "flicker: frames against their flow-warped neighbours"),
        "temporal_lpips": Row(
            "douga.metrics.temporal:TemporalLpips",
            "how much neighbouring frames differ, against the truth; only if named",
            default=False,
        ),
        "labels": Row(
            "douga.metrics.labels:Labels",
            "whether painted frames show their maps, of sources with labels; only if named",
            default=False,
        ),
        "position": Row(
            "douga.metrics.position:Position",
            "where a thing before a plain backdrop stands; only if named",
            default=False,
        ),
    },
)


def paper_of(recipe: str) -> str:
    """The recipe of the same family that is its paper's own; where that has several experiments, the recipe itself."""
    family = recipe.partition("/")[0]
    return next((name for name in (f"{family}/paper", f"{family}/street") if name in RECIPES), recipe)

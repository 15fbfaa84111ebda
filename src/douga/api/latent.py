"""Walks through a latent space."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from douga.api import models
from douga.api.keys import key_pictures
from douga.api.sources import open_source

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


def explore(
    first: str | Path | Float[Tensor, "3 h w"],
    last: str | Path | Float[Tensor, "3 h w"],
    model: str | Path = "vae-teapot",
    *,
    data: str | Path | None = None,
    frames: int = 9,
    pictures: int = 1_000,
    out: str | Path = "latent.png",
    device: str = "auto",
) -> dict[str, dict[str, float]]:
    """Walk from one key frame to another through a latent space in several ways; write a picture of them.

    first, last: as in `tween`. model: what `load` takes; it must have a latent space. data: what `open_source` takes, whose
    training pictures (at most so many as `pictures` says) tell what was learned; None: what the model was trained on.
    frames: points between the ends. out: a .png.
    Returns of each way (linear, spherical, density-aware): "latent" and "pixels", the distance travelled, "off_mean" and
    "off_most", how much less likely than the median training picture its points are, in nats, and "jump_first" and
    "jump_last", how far the reconstructions are from the key frames, of 255. Raises as `tween` does.
    """
    from douga.evaluate import latent
    from douga.video.ops import fit, on_white

    out = Path(out).expanduser().resolve()
    if out.suffix.lower() != ".png":
        raise ValueError(f"cannot write {out.name}: the name must end in .png")
    if frames < 1 or pictures < 1:
        raise ValueError("frames and pictures must be 1 or more")
    if not out.parent.is_dir() or out.is_dir():
        raise ValueError(f"cannot write {out}: {'it is a folder' if out.is_dir() else 'its folder is not there'}")
    keys, _, _ = key_pictures([first, last])
    keys = on_white(keys) if len(keys) == 4 else keys
    drawer, known = models.load(model, device)
    coder: Any = drawer
    if not hasattr(coder, "encode"):
        raise ValueError(f"{model} has no latent space to walk through: give a latent-vae")
    place = next(coder.parameters()).device
    spec = known["provenance"]["experiment"]["data"] if data is None else data
    training = latent.first_frames(open_source(spec, "train", coder.size), pictures)
    density = latent.Density(coder.encode(training.to(place)).mean.cpu())
    ends = fit(keys.transpose(0, 1), coder.size)
    codes = coder.encode(ends.to(place)).mean.cpu()
    found = latent.ways(codes[0], codes[1], frames + 2, density, lambda z: coder.decode(z.to(place)).cpu())
    title = f"{Path(known.get('file', str(model))).stem}, among {len(training)} training pictures of {spec}"
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".douga-") as stage:
        latent.picture(found, density, ends, Path(stage) / "latent.png", title)
        os.replace(Path(stage) / "latent.png", out)
    return {
        name: {
            "latent": way.travelled[0],
            "pixels": way.travelled[1],
            "off_mean": way.off.mean().item(),
            "off_most": way.off.max().item(),
            **dict(zip(("jump_first", "jump_last"), latent.jumps(way, ends), strict=True)),
        }
        for name, way in found.items()
    }

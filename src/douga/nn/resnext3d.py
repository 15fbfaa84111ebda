"""A 3-D ResNeXt: the second network by whose features Wang et al. 2018 compare videos. The user brings it.

The paper names no weights, and none are known here that could be fetched and checked. So any network will do that is exported
with `torch.export.save` to resnext3d.pt2 in the cache's folder of weights, if it takes (1, 3, 16, 112, 112), RGB in [-1, 1], and
returns (1, D). Which one it was stands in every result by its digest.
"""

from __future__ import annotations

import hashlib

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from douga.nn.pretrained import folder

FRAMES, SIZE = 16, 112  # px


class ResNext3d:
    """Raises FileNotFoundError, which says where to put the network, or ValueError if the file is not such a one."""

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        path = folder() / "resnext3d.pt2"
        if not path.is_file():
            raise FileNotFoundError(
                f"there is no 3-D ResNeXt: none is known with weights that can be checked, so put your own at {path}, written by"
                f" torch.export.save, from (1, 3, {FRAMES}, {SIZE}, {SIZE}) in [-1, 1] to (1, D); or leave this metric out"
            )
        try:
            # Any way in which reading can fail means the same to the user.
            self._network = torch.export.load(path).module().to(self.device)
        except Exception as error:
            raise ValueError(f"{path} is no network written by torch.export.save: {error}".splitlines()[0]) from None
        self.digest = hashlib.sha256(path.read_bytes()).hexdigest()

    @torch.no_grad()
    def logits(self, video: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b d"]:
        """The mean over pieces of 16 frames, without what is left over. video: in [-1, 1], any size.

        Raises ValueError for fewer than 16 frames.
        """
        b, _, t = video.shape[:3]
        if t < FRAMES:
            raise ValueError(f"a 3-D ResNeXt takes {FRAMES} frames or more, not {t}")
        frames = video.to(self.device).transpose(1, 2).flatten(0, 1)
        frames = F.interpolate(frames, (SIZE, SIZE), mode="bilinear", align_corners=False, antialias=True)
        pieces = frames.unflatten(0, (b, t)).transpose(1, 2)[:, :, : t // FRAMES * FRAMES].unfold(2, FRAMES, FRAMES)
        rows = pieces.permute(0, 2, 1, 5, 3, 4).flatten(0, 1)  # (B * pieces, 3, 16, H, W)
        found = torch.cat([self._network(row[None].contiguous()) for row in rows])
        return found.unflatten(0, (b, -1)).mean(1)

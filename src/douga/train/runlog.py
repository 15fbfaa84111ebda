"""What a run leaves to look at: TensorBoard curves, `log.jsonl` with the same figures, and strips of samples as PNG."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from jaxtyping import Float
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from douga.video.io import write_image


class RunLog:
    """Writes into `run`; after a resume at `step`, curves go on from there."""

    def __init__(self, run: Path, step: int) -> None:
        self.run = run
        (run / "strips").mkdir(parents=True, exist_ok=True)
        self.board = SummaryWriter(run, purge_step=step)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self.board.add_scalar(name, value, step)
        with (self.run / "log.jsonl").open("a") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")

    def strip(self, step: int, picture: Float[Tensor, "3 h w"]) -> None:
        write_image(self.run / "strips" / f"{step:07d}.png", picture)
        self.board.add_image("samples", (picture + 1) / 2, step)

    def close(self) -> None:
        self.board.close()

"""What a run tells while it goes on, and what it leaves to look at: TensorBoard curves, `log.jsonl` with the same figures,
and strips of samples as PNG."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from jaxtyping import Float
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from douga.video.io import write_image


@dataclass(frozen=True)
class Progress:
    """What callbacks are told, every `log_steps` and at the end."""

    step: int
    steps: int | None  # where it will stop; None: by the clock
    losses: dict[str, float]  # mean over the steps since the last report
    clips_per_second: float
    waiting: float  # share of the time spent waiting for data
    seconds_left: float | None


class Meter:
    """Gathers what the next Progress tells."""

    def __init__(self, batch: int, step: int, steps: int | None, minutes: float | None) -> None:
        self.batch, self.first_step, self.steps, self.minutes = batch, step, steps, minutes
        self.began = time.perf_counter()
        self.start(step)

    def start(self, step: int) -> None:
        self.step, self.since = step, time.perf_counter()
        self.waited, self.sums = 0.0, dict[str, Tensor]()

    def add(self, losses: dict[str, Tensor], waited: float) -> None:
        self.waited += waited
        for name, value in losses.items():
            self.sums[name] = self.sums[name] + value if name in self.sums else value

    def spent(self) -> float:
        """Seconds since this run, or its resumption, began."""
        return time.perf_counter() - self.began

    def report(self, step: int) -> Progress:
        """What was gathered since the last report; then begin anew."""
        done, seconds = step - self.step, time.perf_counter() - self.since
        left = [] if self.minutes is None else [max(0.0, self.minutes * 60 - self.spent())]
        if self.steps is not None:
            left.append((self.steps - step) * self.spent() / (step - self.first_step))
        progress = Progress(
            step,
            self.steps,
            {name: (value / done).item() for name, value in self.sums.items()},
            done * self.batch / seconds,
            self.waited / seconds,
            min(left, default=None),
        )
        self.start(step)
        return progress


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

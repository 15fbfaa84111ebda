"""How fast, on this machine, in one run.

`python benchmarks/speed.py [--model NAME|FILE] [--recipe inbetween/small] [--steps 40]`

- frames per second of `synthesize` in batches of 1 and 8, float32 and bf16, both channels-last;
- the generator's GFLOP/s as a share of what a big matrix product reaches here in the same precision (2048 x 2048);
- training clips per second of the recipe, and the share of the time spent waiting for data.

Run it on an idle machine: nothing is timed beside another job. Figures are medians of `--repeats` runs. Writes
benchmarks/results/speed.md (committed) and prints it.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

import douga
from douga import api
from douga.core.clip import Request
from douga.train import engine

MATRIX = 2048


def seconds(action: Callable[[], object], repeats: int) -> float:
    action()  # warm-up
    taken = []
    for _ in range(repeats):
        began = time.perf_counter()
        action()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="inbetween-weizmann")
    parser.add_argument("--recipe", default="inbetween/small")
    parser.add_argument("--data", default="weizmann")
    parser.add_argument("--set", action="append", default=[], help="a setting of the recipe, as in `douga train`")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "speed.md")
    options = parser.parse_args()
    rows = [
        "| `tween` of 14 frames | clips in a batch | frames drawn a second | GFLOP/s | share of the big matrix product |",
        "|---|---|---|---|---|",
    ]
    matrix = torch.randn(MATRIX, MATRIX)
    for precision in ("fp32", "bf16"):
        model, _ = douga.load(options.model)
        low = precision == "bf16"
        big = matrix.bfloat16() if low else matrix
        peak = 2 * MATRIX**3 / seconds(lambda big=big: big @ big, options.repeats) / 1e9
        for clips in (1, 8):
            key = torch.rand(clips, 3, *model.size) * 2 - 1
            request = Request.tween(key, -key, 14)

            def draw(request=request, model=model, low=low) -> None:  # type: ignore[no-untyped-def]
                with torch.autocast("cpu", torch.bfloat16) if low else nullcontext():
                    model.synthesize(request, 1, torch.Generator().manual_seed(0))

            with FlopCounterMode(display=False) as counter:
                draw()
            taken = seconds(draw, options.repeats)
            rate = counter.get_total_flops() / taken / 1e9
            rows.append(
                f"| {precision} | {clips} | {14 * clips / taken:.0f} | {rate:.0f} | {rate / peak:.0%} of {peak:.0f} |"
            )
    seen: list[engine.Progress] = []
    with tempfile.TemporaryDirectory() as folder:
        settings = ["log_steps=4", *options.set]
        api.train(
            options.recipe,
            options.data,
            steps=options.steps,
            settings=settings,
            out=Path(folder) / "run",
            callbacks=[seen.append],
        )
    warm = seen[len(seen) // 3 :]
    rate, waiting = (statistics.median(getattr(p, name) for p in warm) for name in ("clips_per_second", "waiting"))
    lines = [
        "# Speed on a CPU",
        "",
        f"{engine.device_name(torch.device('cpu'))}, {torch.get_num_threads()} threads,",
        f"torch {torch.__version__}, commit {engine.commit()}.",
        f"Command: `python benchmarks/speed.py --model {Path(options.model).name} --recipe {options.recipe}",
        f"--data {options.data} --steps {options.steps}{''.join(f' --set {setting}' for setting in options.set)}`",
        "",
        *rows,
        "",
        f"Training `{options.recipe}` ({', '.join(options.set) or 'as it is'}) on {options.data}: {rate:.1f} clips a second,",
        f"{waiting:.2%} of the time spent waiting for data",
        f"(medians over the last two thirds of {options.steps} steps).",
    ]
    options.out.parent.mkdir(exist_ok=True)
    options.out.write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()

"""How fast are the best-of-many scores, against one call for each frame?

`python benchmarks/metric_speed.py [--clips 100] [--samples 100] [--naive-clips 2]`

SSIM and LPIPS of every sample of every clip (14 drawn frames at 64x64; each sample walks away from the truth at random):

- ours: the metrics as an evaluation calls them, for all clips;
- naive: scikit-image's SSIM called for each frame, our LPIPS network called for each frame and its truth; timed on the
  first clips alone and scaled. The program fails where the two differ by 1e-4 or more.

Run it on an idle machine: nothing is timed beside another job. Writes benchmarks/results/metric_speed.md (committed) and
prints it. The weights of LPIPS: `douga weights get lpips-alex`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import mean

import skimage
import torch
import torch.nn.functional as F
from rich.progress import track
from skimage.metrics import structural_similarity
from torch import Tensor

from douga.metrics.paired import Lpips, Ssim
from douga.nn.lpips import Lpips as Network
from douga.train import engine

FRAMES, SIDE = 16, 64
CPU = torch.device("cpu")


def walk(seed: int, samples: int) -> tuple[Tensor, Tensor]:
    """Samples (S, 3, T, H, W) and truth (3, T, H, W) in [-1, 1]: smooth pictures, each frame a small step from the last."""
    chance = torch.Generator().manual_seed(seed)
    steps = 0.2 * torch.randn(samples + 1, 3 * FRAMES, SIDE // 8, SIDE // 8, generator=chance)
    fine = F.interpolate(steps, (SIDE, SIDE), mode="bicubic")
    video = fine.view(-1, 3, FRAMES, SIDE, SIDE).cumsum(2)
    video[1:] = video[:1] + 0.5 * video[1:]
    video = video.clamp(-1, 1)
    return video[1:], video[0]


def naive_ssim(drawn: Tensor, truth: Tensor) -> float:
    """Of one (3, H, W) frame."""
    drawn, truth = ((frame + 1) / 2 for frame in (drawn, truth))
    options = {"data_range": 1.0, "gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    return structural_similarity(drawn.numpy(), truth.numpy(), channel_axis=0, **options)


def naive_lpips(network: Network, drawn: Tensor, truth: Tensor) -> float:
    """Of one (3, H, W) frame."""
    return network.distance(network.features(drawn[None]), network.features(truth[None])).item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=100)
    parser.add_argument("--samples", type=int, default=100)
    parser.add_argument("--naive-clips", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "metric_speed.md")
    options = parser.parse_args()
    options.naive_clips = min(options.naive_clips, options.clips)
    mask = torch.zeros(FRAMES, dtype=torch.bool)
    mask[[0, -1]] = True
    one_by_one: dict[Ssim | Lpips, Callable[[Tensor, Tensor], float]] = {
        Ssim(CPU): naive_ssim,
        Lpips(CPU): partial(naive_lpips, Network(CPU)),
    }
    ours, naive, apart = (dict.fromkeys(one_by_one, 0.0) for _ in range(3))
    for metric in one_by_one:  # warm-up
        metric.observe(*walk(0, 2), mask)
    for clip in track(range(options.clips), description="clips"):
        drawn, truth = walk(clip, options.samples)
        for metric, one in one_by_one.items():
            began = time.perf_counter()
            observed = metric.observe(drawn, truth, mask)["per_sample"]
            ours[metric] += time.perf_counter() - began
            if clip >= options.naive_clips:
                continue
            began = time.perf_counter()
            expected = [mean(one(sample[:, t], truth[:, t]) for t in range(1, FRAMES - 1)) for sample in drawn]
            naive[metric] += (time.perf_counter() - began) * options.clips / options.naive_clips
            apart[metric] = max(apart[metric], (observed - torch.tensor(expected)).abs().max().item())
            assert apart[metric] < 1e-4, (metric.name, apart[metric])
    frames = options.clips * options.samples * (FRAMES - 2)
    lines = [
        f"# Speed of the best of {options.samples}",
        "",
        f"{engine.device_name(CPU)}, {torch.get_num_threads()} threads,",
        f"torch {torch.__version__}, scikit-image {skimage.__version__}, commit {engine.commit()}.",
        f"Command: `python benchmarks/metric_speed.py --clips {options.clips} --samples {options.samples}",
        f"--naive-clips {options.naive_clips}`",
        "",
        f"{options.clips} clips x {options.samples} samples x {FRAMES - 2} frames at {SIDE}x{SIDE}; the naive way calls once for"
        f" each frame, on {options.naive_clips} clips, scaled.",
        "",
        "| metric | ours | frames a second | naive | frames a second | times faster | largest difference of a score |",
        "|---|---|---|---|---|---|---|",
        *(
            f"| `{metric.name}` | {ours[metric]:.1f} s | {frames / ours[metric]:,.0f} | {naive[metric]:.1f} s"
            f" | {frames / naive[metric]:,.0f} | {naive[metric] / ours[metric]:.1f} | {apart[metric]:.0e} |"
            for metric in one_by_one
        ),
    ]
    options.out.parent.mkdir(exist_ok=True)
    options.out.write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()

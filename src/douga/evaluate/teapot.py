"""The experiments of Cristovao et al. 2020 on the teapot, as one table and their kinds of pictures.

It is handed the tables of `douga.evaluate.report`, one for each split, and models that draw, encode and decode.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from douga.core.clip import Request
from douga.core.contracts import Source
from douga.data.teapot import WIDTH
from douga.evaluate.latent import linear, plane, spread_over
from douga.evaluate.report import Cell, Table, pyplot
from douga.video.io import to_uint8
from douga.video.ops import contact_sheet

SPLITS = {"train": 3, "test-small": 3, "test-large": 3, "test-long": 9, "test": 3}  # and the frames of a clip
BIN = 0.25  # of the gaps, in widths of the teapot
UNTRAINED = "linear", "flow", "hold"
COLUMNS = {  # what stands in the table: split, column, factor
    "in-between, train": ("train", "mse_hidden", 1000),
    "in-between, small gaps": ("test-small", "mse_hidden", 1000),
    "in-between, large gaps": ("test-large", "mse_hidden", 1000),
    "long-term": ("test-long", "mse_hidden", 1000),
    "LPIPS, large gaps": ("test-large", "lpips_alex_hidden", 1),
    "transport error, small gaps, px": ("test-small", "transport_error", 1),
    "transport error, large gaps, px": ("test-large", "transport_error", 1),
    "centroid error, large gaps, px": ("test-large", "centroid_error", 1),
}


@torch.no_grad()
def reconstruction(model: Any, pictures: Float[Tensor, "n 3 h w"]) -> float:
    """Mean squared error of decode(encode(picture)), pixels in 0-1."""
    return ((model.decode(model.encode(pictures).mean) - pictures).square().mean() / 4).item()


class Poses:
    """The nearest rendered factors: which training picture a drawing is most like, and how its teapots stand there.

    source: a split of a teapot, whose frames are the bank; at half size, by squared error.
    """

    def __init__(self, source: Any) -> None:
        frames = [source.clip(index, 0, source.lengths[index]).transpose(0, 1) for index in range(len(source))]
        self.bank = _small(torch.cat(frames))
        self.factors = np.concatenate([source.factors(index) for index in range(len(source))])  # (M, objects, 6)

    def nearest(self, pictures: Float[Tensor, "n 3 h w"]) -> np.ndarray:
        """(N, objects, 6)"""
        small = _small(pictures)
        apart = self.bank.square().sum(1) - 2 * small @ self.bank.mT  # but for a constant of each picture
        return self.factors[apart.argmin(1).numpy()]

    def errors(self, model: Any, source: Any, count: int) -> tuple[float, float]:
        """Of the drawn middles of `count` clips: how far the nearest pose stands from the true one, in widths of the teapot, and
        how far its yaw is turned from it, in degrees; means, over teapots too.
        """
        picks = spread_over(source, count)
        clips = torch.stack([source.clip(index, 0, 3) for index in picks])
        found = self.nearest(_draw(model, clips)[:, :, 1])
        true = np.stack([source.factors(index)[1] for index in picks])
        place = np.linalg.norm(found[..., :2] - true[..., :2], axis=-1) / WIDTH
        turn = (found[..., 3] - true[..., 3] + np.pi) % (2 * np.pi) - np.pi
        return float(place.mean()), float(np.degrees(np.abs(turn)).mean())


def _small(pictures: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n d"]:
    return F.avg_pool2d(pictures, 2).flatten(1)


def alpha_of(method: str) -> float | None:
    """Of a row "alpha=5"; None for others."""
    return float(method.removeprefix("alpha=")) if method.startswith("alpha=") else None


def best_alpha(tables: Mapping[str, Table]) -> str:
    """The row with the least in-between error at large gaps."""
    cells = tables["test-large"].cells
    return min((m for m in cells if alpha_of(m)), key=lambda m: cells[m]["mse_hidden"].value)


def report(
    tables: Mapping[str, Table],
    rebuilt: Mapping[str, Sequence[tuple[float, float]]],
    posed: Mapping[str, tuple[float, float]],
    distances: Sequence[float],
) -> str:
    """Markdown: the table, the claim, and the gap from which on the VAE is nearer than what moves pixels.

    tables: split -> table. rebuilt: row -> for each run the reconstruction error on train and test pictures.
    posed: row -> what `Poses.errors` says at large gaps. distances: of the clips of the split "test", in widths of the teapot.
    """
    rows = list(tables["test-large"].cells)
    rows = [row for row in rows if not row.startswith("real")]
    heads = ["reconstruction, train", "reconstruction, test", *COLUMNS]
    heads += ["nearest pose, large gaps: place, widths", "turn, degrees"]
    lines = ["| method | runs | " + " | ".join(heads) + " |", "|---" * (len(heads) + 2) + "|"]
    for row in rows:
        texts = []
        for part in (0, 1):
            errors = [1000 * pair[part] for pair in rebuilt.get(row, ())]
            texts.append(f"{np.mean(errors):.3g} ({min(errors):.3g} to {max(errors):.3g})" if errors else "-")
        for split, column, factor in COLUMNS.values():
            cell = tables[split].cells[row].get(column)
            texts.append(_text(cell, factor))
        texts += [f"{error:.3g}" for error in posed[row]]
        lines.append(f"| {row} | {tables['test-large'].runs[row]} | " + " | ".join(texts) + " |")
    lines += [
        "",
        "Mean squared errors are in thousandths, pixels in 0-1, with 95% intervals over clips and runs (reconstruction: least to"
        " most of the runs); long-term: the 7 frames between two key frames a large gap apart. Nearest pose: that of the training"
        " picture most like the drawing, of the first run; error against the true factors.",
        "",
    ]
    return "\n".join(
        [*lines, *_claims(tables), "", *_gaps(tables["test"], rows, np.array(distances), best_alpha(tables))]
    )


def _text(cell: Cell | None, factor: float) -> str:
    return "-" if cell is None else f"{cell.value * factor:.3g} [{cell.low * factor:.3g}, {cell.high * factor:.3g}]"


def _claims(tables: Mapping[str, Table]) -> list[str]:
    lines = []
    for split, gap in (("test-small", "small"), ("test-large", "large")):
        table = tables[split]
        for row in table.cells:
            if alpha_of(row):
                value, low, high = (1000 * x for x in table.difference(row, "alpha=0", "mse_hidden"))
                verdict = "a tie" if low <= 0 <= high else "better" if value < 0 else "worse"
                lines.append(
                    f"- {gap} gaps: {row} against alpha=0: in-between error {value:+.3g} [{low:+.3g}, {high:+.3g}]: {verdict}"
                )
    return lines


def _gaps(table: Table, rows: Sequence[str], distances: np.ndarray, vae: str) -> list[str]:
    """Errors by gap, and from which gap on `vae` is better than every untrained method, to the end."""
    bins = (distances / BIN).astype(int)
    shown = [row for row in (*UNTRAINED, "autoencoder", "alpha=0", vae) if row in rows]
    lines, starts = [], {}
    for column, factor in (("mse_hidden", 1000.0), ("transport_error", 1.0)):
        lines += [
            f"| {column} by gap, widths | clips | " + " | ".join(shown) + " |",
            "|---" * (len(shown) + 2) + "|",
        ]
        ahead = []
        for which in np.unique(bins):
            of_bin = bins == which
            means = {row: table.scores[row][column][of_bin].mean() * factor for row in shown}
            texts = " | ".join(f"{means[row]:.3g}" for row in shown)
            lines.append(f"| {which * BIN:.2f} to {(which + 1) * BIN:.2f} | {of_bin.sum()} | {texts} |")
            ahead.append((which * BIN, all(means[vae] < means[row] for row in UNTRAINED if row in means)))
        lines.append("")
        behind = [index for index, (_, better) in enumerate(ahead) if not better]
        first = behind[-1] + 1 if behind else 0
        starts[column] = f"from {ahead[first][0]:.2f} widths on" if first < len(ahead) else "at no gap"
    said = "; ".join(f"by {column} {start}" for column, start in starts.items())
    return [*lines, f"{vae} is better than each of {', '.join(UNTRAINED)}: {said}."]


@torch.no_grad()
def pictures(
    models: Mapping[str, Any], source: Source, long: Source, training: Float[Tensor, "n 3 h w"], out: Path
) -> None:
    """The authors' pictures, as PNG files in `out`: reconstruction, in-between, long-term, latent.

    models: row -> what draws, of the first run; those that encode and decode are shown in the latent space too.
    source: pairs a large gap apart, of 3 frames; long: of more. training: pictures for the latent space.
    """
    clips = torch.stack([source.clip(index, 0, 3) for index in range(5)])  # (N, 3, 3, H, W)
    coding = {row: model for row, model in models.items() if hasattr(model, "encode")}
    ends = clips[:, :, [0, 2]].transpose(1, 2).flatten(0, 1)
    rebuilt = {row: model.decode(model.encode(ends).mean) for row, model in coding.items()}
    _save({"true": ends, **rebuilt}, out / "reconstruction.png", "reconstruction of key frames, test")
    drawn = {row: _draw(model, clips) for row, model in models.items()}
    grid = {"first": clips[:, :, 0], "truth": clips[:, :, 1], **{row: video[:, :, 1] for row, video in drawn.items()}}
    _save({**grid, "last": clips[:, :, 2]}, out / "in-between.png", "in-between, large gaps, test")
    path = long.clip(0, 0, long.lengths[0])[None]
    rows = {"truth": path, **{row: _draw(model, path) for row, model in models.items()}}
    _save(
        {row: video[0].transpose(0, 1) for row, video in rows.items()},
        out / "long-term.png",
        "long-term, a large gap, test",
    )
    _latent(coding, clips, training, out / "latent.png")


def _draw(model: Any, clips: Float[Tensor, "n 3 t h w"]) -> Tensor:
    mask = torch.zeros(clips.shape[2], dtype=torch.bool)
    mask[[0, -1]] = True
    drawn: Tensor = model.synthesize(Request.hide(clips, mask), 1, torch.Generator().manual_seed(0))[0]
    return drawn


def _save(rows: Mapping[str, Float[Tensor, "n 3 h w"]], path: Path, title: str) -> None:
    """One row of pictures for each name."""
    plt = pyplot()
    sheet = contact_sheet(torch.stack(list(rows.values())).transpose(1, 2))
    height, width = sheet.shape[-2:]
    figure, axes = plt.subplots(figsize=(width / 80 + 1.2, height / 80 + 0.4), layout="constrained")
    axes.imshow(to_uint8(sheet[:, None])[0], interpolation="nearest")
    axes.set_yticks([(row + 0.5) * height / len(rows) for row in range(len(rows))], rows)
    axes.set_xticks([])
    axes.set_title(title, fontsize=9)
    axes.tick_params(length=0, labelsize=8)
    figure.savefig(path, dpi=80, metadata={"Software": None})
    plt.close(figure)


def _latent(
    models: Mapping[str, Any], clips: Float[Tensor, "n 3 3 h w"], training: Float[Tensor, "m 3 h w"], path: Path
) -> None:
    """For each model the training pictures in the plane of two principal components, with the ways of some pairs drawn in it,
    and a cross where the true middle lies.
    """
    plt = pyplot()
    figure, all_axes = plt.subplots(
        1, len(models), figsize=(3.4 * len(models), 3.4), layout="constrained", squeeze=False
    )
    for axes, (row, model) in zip(all_axes[0], models.items(), strict=True):
        codes = model.encode(training).mean
        mean, directions, share = plane(codes)
        axes.scatter(*((codes - mean) @ directions).T.numpy(), s=2, color="0.8")
        for number, clip in enumerate(clips[:4]):
            z = model.encode(clip.transpose(0, 1)).mean
            way = ((linear(z[0], z[2], 9) - mean) @ directions).T.numpy()
            axes.plot(*way, marker=".", color=f"C{number}")
            axes.plot(*((z[1:2] - mean) @ directions).T.numpy(), marker="x", markersize=9, color=f"C{number}")
        axes.set_title(f"{row}: {share[0]:.0%} and {share[1]:.0%} of the variance", fontsize=8)
        axes.set_aspect("equal", "datalim")  # else a straight line looks bent
        axes.tick_params(labelsize=6)
    figure.savefig(path, dpi=90, metadata={"Software": None})
    plt.close(figure)

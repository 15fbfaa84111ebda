"""From observations to tables with intervals, plots and a page.

Intervals are 95%, by the bootstrap over clips: every method is resampled with the same clips, so differences are paired. Where a
method has several runs they are resampled too. A figure of a whole set (a Frechet distance) is biased by resampling, since
a clip that is drawn twice adds nothing: its replicates are moved so that their mean is the figure.
"""

from __future__ import annotations

import base64
import html
import io
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from douga.core.config import to_dict
from douga.core.contracts import Figure, Metric
from douga.evaluate.harness import REAL, Entry, Protocol, observations
from douga.evaluate.published import Published
from douga.video.io import write_image, write_video
from douga.video.ops import contact_sheet

REPLICATES, SET_REPLICATES = 2_000, 200
GROUPS = {  # by the file that a metric lies in
    "paired": "Near the truth",
    "distribution": "Like real video",
    "temporal": "Steady",
    "diversity": "Different, and calibrated",
    "position": "In its place",
    "labels": "True to its maps",
}


@dataclass(frozen=True)
class Column:
    name: str
    unit: str
    higher_is_better: bool | None
    group: str


@dataclass(frozen=True)
class Cell:
    """A figure with its 95% interval. `replicates` belong to it, for differences with other methods."""

    value: float
    low: float
    high: float
    replicates: np.ndarray


@dataclass(frozen=True)
class Table:
    """Methods as rows. `notes`: what is to be known of each; `curves`: method -> name -> (K,), the mean over its runs."""

    protocol: Protocol
    columns: Sequence[Column]
    cells: Mapping[str, Mapping[str, Cell]]  # method -> column
    notes: Mapping[str, str]
    runs: Mapping[str, int]
    curves: Mapping[str, Mapping[str, np.ndarray]]
    scores: Mapping[str, Mapping[str, np.ndarray]]  # method -> column -> (N,), the mean over its runs

    def best(self, column: Column) -> str | None:
        there = {name: cells[column.name].value for name, cells in self.cells.items() if column.name in cells}
        there.pop(REAL, None)
        if column.higher_is_better is None or not there:
            return None
        return (max if column.higher_is_better else min)(there, key=lambda name: there[name])

    def difference(self, one: str, other: str, column: str) -> tuple[float, float, float]:
        """`one` minus `other` with its paired interval; a tie where that holds zero."""
        a, b = self.cells[one][column], self.cells[other][column]
        low, high = np.percentile(a.replicates - b.replicates, [2.5, 97.5]) if one != other else (0.0, 0.0)
        return a.value - b.value, float(low), float(high)

    def tied(self, one: str, other: str, column: str) -> bool:
        _, low, high = self.difference(one, other, column)
        return low <= 0 <= high


@dataclass(frozen=True)
class Evaluation:
    """Where it lies, what came out, and what is missing: name -> why."""

    folder: Path
    table: Table
    left_out: Mapping[str, str]


def measure(
    observed_in: Sequence[tuple[Path, Entry]], protocol: Protocol, metrics: Mapping[str, Metric]
) -> tuple[Table, list[dict[str, Any]]]:
    """The table, and the rows for `rows.jsonl`: one for each run and clip, one for each run and the whole set."""
    count, entries = len(protocol.clips), [entry for _, entry in observed_in]
    chance = np.random.default_rng(0)
    picks = chance.integers(count, size=(REPLICATES, count))
    columns: dict[str, Column] = {}
    figures: dict[
        str, list[dict[str, tuple[np.ndarray, np.ndarray]]]
    ] = {}  # method -> run -> column -> values, replicates
    curves: dict[str, list[dict[str, np.ndarray]]] = {}
    rows: list[dict[str, Any]] = []
    for out, entry in observed_in:
        observed = observations(out, entry, count)
        found: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        shown: dict[str, np.ndarray] = {}
        for name, metric in metrics.items():
            seen = observed[name]
            computed = metric.compute(seen)
            for column, figure in computed.items():
                group = GROUPS.get(type(metric).__module__.rpartition(".")[2], "Others")
                columns.setdefault(column, Column(column, figure.unit, figure.higher_is_better, group))
            found |= _resampled(metric, seen, computed, picks)
            shown |= {curve: values.numpy() for curve, values in metric.curves(seen).items()}
        label = {"protocol": protocol.hash, "method": entry.method, "run": entry.run}
        for index, clip in enumerate(protocol.clips):
            of_clip = {column: float(values[index]) for column, (values, _) in found.items() if values.ndim}
            rows.append({**label, "clip": clip, **of_clip})
        rows.append(
            {**label, "clip": None, **{c: float(values) for c, (values, _) in found.items() if not values.ndim}}
        )
        figures.setdefault(entry.method, []).append(found)
        curves.setdefault(entry.method, []).append(shown)
    cells: dict[str, dict[str, Cell]] = {}
    for method, runs in figures.items():
        drawn = chance.integers(len(runs), size=(REPLICATES, len(runs)))
        cells[method] = {}
        for column in runs[0]:
            if not all(column in run for run in runs):
                continue
            each = np.stack([run[column][1] for run in runs])  # (R, replicates)
            repeats = each.shape[1]
            mean = each[drawn[:repeats], np.arange(repeats)[:, None]].mean(1)
            value = float(np.mean([run[column][0].mean() for run in runs]))
            low, high = np.percentile(mean, [2.5, 97.5])
            cells[method][column] = Cell(value, float(low), float(high), mean)
    for entry in entries:  # a method that draws the same every time is its own best of any number
        if not entry.stochastic and entry.method != REAL:
            for column in columns:
                plain = column.rpartition("_best")[0]
                if plain in cells[entry.method]:
                    cells[entry.method].setdefault(column, cells[entry.method][plain])
    table = Table(
        protocol,
        list(columns.values()),
        cells,
        {entry.method: note(entry) for entry in entries},
        {method: len(runs) for method, runs in figures.items()},
        {m: {c: np.mean([run[c] for run in runs], axis=0) for c in runs[0]} for m, runs in curves.items()},
        {
            method: {c: np.mean([run[c][0] for run in runs], axis=0) for c in runs[0] if runs[0][c][0].ndim}
            for method, runs in figures.items()
        },
    )
    return table, rows


def _resampled(
    metric: Metric, seen: Mapping[str, Tensor], computed: Mapping[str, Figure], picks: np.ndarray
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Column -> its values, (N,) or (), and its replicates."""
    found = {}
    for column, figure in computed.items():
        if figure.values.ndim:
            values = figure.values.double().numpy()
            found[column] = values, values[picks].mean(1)
    of_set = [column for column, figure in computed.items() if not figure.values.ndim]
    if of_set:
        repeats = []
        for pick in picks[:SET_REPLICATES]:
            again = metric.compute({part: values[torch.from_numpy(pick)] for part, values in seen.items()})
            repeats.append([again[column].values.item() for column in of_set])
        for column, replicates in zip(of_set, np.array(repeats).T, strict=True):
            value = computed[column].values.double().numpy()
            found[column] = value, replicates - replicates.mean() + value
    return found


def note(entry: Entry) -> str:
    """How much a method has seen, against its recipe `paper`, where that is known and all was seen in one run."""
    seen, wanted = entry.facts.get("clips_seen"), entry.facts.get("paper_clips")
    if seen is None:
        return "" if entry.method == REAL else "not trained"
    if before := entry.facts.get("steps_before"):
        return f"{seen:,} clips seen, begun with weights of {before:,} steps"
    percent = 100 * seen / wanted if wanted else 0
    share = f", {percent:{'.2g' if percent < 10 else '.0f'}}% of its paper recipe's" if wanted else ""
    return f"{seen:,} clips seen{share}" + (" †" if wanted and seen < wanted / 10 else "")


TOO_LITTLE = "† trained on less than a tenth of what its recipe `paper` asks for: this is no judgement of the method."


def text(cell: Cell | None, *, interval: bool = True) -> str:
    if cell is None:
        return "-"
    return f"{cell.value:.4g}" + (f" [{cell.low:.4g}, {cell.high:.4g}]" if interval else "")


def mark(table: Table, method: str, column: Column) -> str:
    """`*` for the best of a column, `=` for what ties with it."""
    best = table.best(column)
    if best is None or method == REAL or column.name not in table.cells[method]:
        return ""
    return "*" if method == best else "=" if table.tied(method, best, column.name) else ""


def in_short(table: Table, column: Column) -> bool:
    """Whether a column stands in a table that has little room: of best-of-k the largest k alone."""
    plain, best, k = column.name.rpartition("_best")
    of_this = [c.name.rpartition("_best")[2] for c in table.columns if c.name.startswith(f"{plain}_best")]
    return not best or k == max(of_this, key=int)


def caption(table: Table) -> str:
    """Under which protocol, and what the marks mean."""
    p, notes = table.protocol, [f"{method}: {note}" for method, note in table.notes.items() if note]
    lines = [
        f"Protocol {p.hash}: {p.task}, {p.data} {p.split}, {len(p.clips)} clips of {p.frames} frames at"
        f" {p.size[1]}x{p.size[0]}, {len(p.known)} of them given, {p.samples} samples, seed {p.seed}.",
        f"95% intervals over clips{' and runs' if max(table.runs.values()) > 1 else ''}; * best, = tied with the best"
        " (the paired interval of the difference holds zero).",
        f"Training: {'; '.join(notes)}.",
    ]
    return "\n".join([*lines, TOO_LITTLE] if any("†" in note for note in notes) else lines)


def groups(table: Table) -> dict[str, list[Column]]:
    found: dict[str, list[Column]] = {}
    for column in table.columns:
        found.setdefault(column.group, []).append(column)
    return found


def title(column: Column) -> str:
    arrow = {True: " ↑", False: " ↓", None: ""}[column.higher_is_better]
    return f"{column.name}{arrow}" + (f" ({column.unit})" if column.unit else "")


def markdown(table: Table) -> str:
    """All columns, in groups, below what they mean."""
    lines = [*caption(table).split("\n"), ""]
    for group, columns in groups(table).items():
        lines += [f"### {group}", "", f"| method | {' | '.join(title(column) for column in columns)} |"]
        lines += ["|---" * (len(columns) + 1) + "|"]
        for method, cells in table.cells.items():
            if not any(column.name in cells for column in columns):
                continue
            found = (f"{text(cells.get(column.name))}{mark(table, method, column)}" for column in columns)
            lines.append(f"| {method} | {' | '.join(found)} |")
        lines.append("")
    return "\n".join(lines) + "\n"


def cases(table: Table, count: int = 2) -> dict[str, list[int]]:
    """Which clips to show: where the first method is best, in the middle and worst, by the first column that is judged."""
    method = next(iter(table.cells))
    judged = next((c for c in table.columns if c.higher_is_better is not None and c.name in table.scores[method]), None)
    if judged is None:
        return {"clips": list(range(min(3 * count, len(table.protocol.clips))))}
    order = np.argsort(table.scores[method][judged.name], kind="stable")
    order = order[::-1] if judged.higher_is_better else order
    middle, names = len(order) // 2, f"of {method} by {judged.name}"
    picked = {"best": order[:count], "typical": order[middle : middle + count], "worst": order[-count:]}
    return {f"{kind} {names}": [int(index) for index in indices] for kind, indices in picked.items()}


def page(
    table: Table,
    shown: Mapping[str, Mapping[str, Mapping[str, Float[Tensor, "3 t h w"]]]],
    left_out: Mapping[str, str],
    facts: Mapping[str, str],
    published: Published | None,
) -> str:
    """One HTML file with everything in it. shown: heading -> clip -> column -> video; left_out: what is missing, and why."""
    p = table.protocol
    parts = [
        f"<h1>{_e(p.task)} on {_e(p.data)} ({_e(p.split)})</h1>",
        f"<p>Protocol <code>{table.protocol.hash}</code></p>",
    ]
    parts.append(_table(["", ""], [[_e(key), _e(value)] for key, value in facts.items()]))
    if left_out:
        parts.append("<h2>Left out</h2>" + _table(["what", "why"], [[_e(a), _e(b)] for a, b in left_out.items()]))
    if published:
        lines = [line.strip("| ").split(" | ") for line in beside(published, table).splitlines()]
        printed = [[_e(cell) for cell in line] for line in lines if len(line) > 1]
        parts.append(f"<h2>{_e(published.source)}</h2><p>{_e(published.quantity)}. {_e(published.remark)}</p>")
        parts.append(_table(["", *printed[0]], printed[1:]))
    for group, columns in groups(table).items():
        rows = []
        for method, cells in table.cells.items():
            if any(column.name in cells for column in columns):
                row = [_e(method)]
                for column in columns:
                    mine = text(cells.get(column.name))
                    value, _, interval = mine.partition(" ")
                    sign = mark(table, method, column)
                    bold = f"<b>{value}</b>" if sign == "*" else f"{value}{' =' if sign else ''}"
                    row.append(f"{bold}<br><small>{interval}</small>")
                rows.append(row)
        parts.append(f"<h2>{_e(group)}</h2>" + _table(["method", *(_e(title(column)) for column in columns)], rows))
    parts.append(
        "<p>Bold: best; = : tied with the best, that is, the paired 95% interval of the difference holds zero."
        " Small: 95% intervals by the bootstrap over clips, and over runs where there are several. best<i>k</i>: the best"
        " sequence of k samples.</p>"
    )
    notes = [[_e(m), str(table.runs[m]), _e(table.notes[m])] for m in table.cells if m != REAL]
    parts.append("<h2>Training</h2>" + _table(["method", "runs", "seen"], notes))
    if any(note.endswith("†") for note in table.notes.values()):
        parts.append(f"<p>{TOO_LITTLE}</p>")
    parts.append("<h2>Curves</h2>" + _plots(table))
    reference = next(iter(table.cells))
    parts.append(f"<h2>Differences to {_e(reference)}</h2>" + _differences(table, reference))
    for heading, clips in shown.items():
        parts.append(f"<h2>{_e(heading)}</h2>")
        parts += [f"<h3>{_e(clip)}</h3>{_clip(columns, p.fps)}" for clip, columns in clips.items()]
    parts.append(f"<h2>Protocol</h2><pre>{_e(json.dumps(to_dict(p), indent=1))}</pre>")
    style = (
        "body{font:15px/1.4 system-ui,sans-serif;margin:2em auto;max-width:78em;padding:0 1em}table{border-collapse:collapse}"
        "td,th{padding:.25em .6em;border-bottom:1px solid #ddd;text-align:left;vertical-align:top;white-space:nowrap}"
        "small{color:#666}img{image-rendering:pixelated}pre{max-height:20em;overflow:auto;background:#f6f6f6}"
        ".wide{overflow-x:auto}svg{max-width:100%}"
    )
    head = f'<meta charset="utf-8"><title>douga: {_e(p.task)} on {_e(p.data)}</title><style>{style}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(parts)}</body></html>\n'


def beside(published: Published, table: Table) -> str:
    """A published table with our figures in the last column, as Markdown."""
    sets = sorted({name for _, figures in published.figures.values() for name in figures})
    data = table.protocol.data
    ours = f"{data}, here" + ("" if data in sets else " (not the paper's data)")
    columns = [column.name for column in table.columns if column.name.startswith(published.column)]
    # best1, best5, ...: the one of most samples stands beside
    column = max(columns, key=lambda name: int("".join(filter(str.isdigit, name.rpartition("_")[2])) or 0), default="")
    lines = [
        f"{published.source}: {published.quantity}. Ours: `{column or published.column + ' (left out)'}`, protocol"
        f" `{table.protocol.hash}`.",
        "",
        f"| | {' | '.join(f'{name}, published' for name in sets)} | {ours} | training here |",
        "|---" * (len(sets) + 3) + "|",
    ]
    for row, (method, figures) in published.figures.items():
        printed = " | ".join(figures.get(name, "-") for name in sets)
        cells = table.cells.get(method, {})
        lines.append(f"| {row} | {printed} | {text(cells.get(column))} | {table.notes.get(method, '-')} |")
    real = table.cells.get(REAL, {}).get(column)
    if real and not published.column.startswith("ssim"):
        lines.append(f"| {REAL} | {' | '.join('-' for _ in sets)} | {text(real)} | - |")
    lines += ["", published.remark]
    if any(note.endswith("†") for note in table.notes.values()):
        lines += ["", TOO_LITTLE]
    return "\n".join(lines) + "\n"


def write(
    out: Path,
    table: Table,
    rows: Sequence[Mapping[str, Any]],
    listed: Sequence[Entry],
    shown: Mapping[str, Mapping[str, Mapping[str, Float[Tensor, "3 t h w"]]]],
    left_out: Mapping[str, str],
    facts: Mapping[str, str],
    published: Published | None,
) -> None:
    """rows.jsonl, table.md, report.html and entries.json in `out`: each whole, or as it was."""
    tables = (beside(published, table) + "\n" if published else "") + markdown(table)
    tables += "".join(f"\nLeft out: {what} ({why})\n" for what, why in left_out.items())
    tables += f"\n{'; '.join(f'{key}: {value}' for key, value in facts.items())}\n"
    described = [{"method": e.method, "run": e.run, "stochastic": e.stochastic, "facts": dict(e.facts)} for e in listed]
    for name, content in {
        "rows.jsonl": "".join(json.dumps(row) + "\n" for row in rows),
        "entries.json": json.dumps(described, indent=1) + "\n",
        "table.md": tables,
        "report.html": page(table, shown, left_out, facts, published),
    }.items():
        draft = out / f".{name}.{os.getpid()}.partial"
        try:
            draft.write_text(content, encoding="utf-8")
            os.replace(draft, out / name)
        finally:
            draft.unlink(missing_ok=True)


def entries(out: Path) -> list[Entry]:
    """What was measured in an evaluation that is complete. Raises ValueError for one that is not."""
    try:
        described = json.loads((out / "entries.json").read_text())
    except (OSError, ValueError):
        raise ValueError(f"{out} holds no complete evaluation: finish it with --resume") from None
    return [Entry(d["method"], d["run"], None, stochastic=d["stochastic"], facts=d["facts"]) for d in described]


def _e(value: object) -> str:
    return html.escape(str(value))


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    top = "".join(f"<th>{cell}</th>" for cell in head)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="wide"><table><tr>{top}</tr>{body}</table></div>'


def _differences(table: Table, reference: str) -> str:
    judged = [c for c in table.columns if c.higher_is_better is not None and c.name in table.cells[reference]]
    rows = []
    for method, cells in table.cells.items():
        if method in (reference, REAL):
            continue
        row = [_e(method)]
        for column in judged:
            if column.name not in cells:
                row.append("-")
                continue
            value, low, high = table.difference(method, reference, column.name)
            tie = " tie" if low <= 0 <= high else ""
            row.append(f"{value:+.3g}{tie}<br><small>[{low:+.3g}, {high:+.3g}]</small>")
        rows.append(row)
    return _table(["method", *(_e(title(column)) for column in judged)], rows)


def pyplot() -> Any:
    """matplotlib's, for files alone: it opens no window. Imported late, as few commands plot."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    return plt


def _plots(table: Table) -> str:
    plt = pyplot()
    names = sorted({name for curves in table.curves.values() for name in curves if not name.endswith("_n")})
    pictures = []
    for name in names:
        figure, axes = plt.subplots(figsize=(6, 3.4))
        for method, curves in table.curves.items():
            if name in curves and len(curves[name]) > 1:
                x = curves.get(
                    f"{name.removesuffix('_fvd')}_n", np.arange(len(curves[name])) + name.endswith("_best_of")
                )
                axes.plot(x, curves[name], label=method, marker="." if len(x) < 30 else "")
        if axes.lines:
            axes.set_title(name)
            axes.legend(fontsize=7)
            text = io.StringIO()
            figure.savefig(text, format="svg", bbox_inches="tight", metadata={"Date": None})
            pictures.append(text.getvalue()[text.getvalue().index("<svg") :])
        plt.close(figure)
    return "".join(pictures)


def _clip(columns: Mapping[str, Float[Tensor, "3 t h w"]], fps: float) -> str:
    """The videos side by side, moving in step, and the same as a strip for each."""
    videos = torch.stack(list(columns.values()))  # (n, 3, T, H, W)
    scale = max(1, 128 // videos.shape[-1])
    width, height = videos.shape[-1] * scale, videos.shape[-2] * scale
    side_by_side = torch.cat(list(videos), dim=-1)
    with tempfile.TemporaryDirectory() as folder:
        write_video(Path(folder) / "clip.gif", side_by_side, min(fps, 12.5))
        write_image(Path(folder) / "strip.png", contact_sheet(videos, columns=16))
        moving, strip = (
            base64.b64encode((Path(folder) / name).read_bytes()).decode() for name in ("clip.gif", "strip.png")
        )
    labels = "".join(f'<span style="display:inline-block;width:{width}px">{_e(name)}</span>' for name in columns)
    total = width * len(columns)
    return (
        f'<div class="wide"><div style="width:{total}px"><small>{labels}</small><br>'
        f'<img width="{total}" height="{height}" alt="" src="data:image/gif;base64,{moving}"></div></div>'
        f'<details><summary>strip</summary><img alt="" src="data:image/png;base64,{strip}"></details>'
    )

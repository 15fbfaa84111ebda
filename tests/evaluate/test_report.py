import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from douga.core.contracts import Figure
from douga.core.registry import RECIPES
from douga.evaluate import report
from douga.evaluate.harness import REAL, Entry, Protocol
from douga.evaluate.published import TABLES


class Score:
    """A score of each clip, and the variance of the set, which is biased by resampling."""

    needs: ClassVar[tuple[str, ...]] = ()
    settings: ClassVar[Mapping[str, Any]] = {}

    def observe(self, drawn: Tensor, truth: Tensor, mask: Tensor) -> dict[str, Tensor]:
        raise AssertionError

    def compute(self, observed: Mapping[str, Tensor]) -> dict[str, Figure]:
        values = observed["value"].double()
        figures = {
            "score": Figure(values, "dB", higher_is_better=True),
            "variance": Figure(values.var(), "", higher_is_better=False),
        }
        return figures | ({"score_best5": Figure(values + 1, "dB", higher_is_better=True)} if values.mean() < 8 else {})

    def curves(self, observed: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {"score_over_time": observed["value"][:5].double()}


def asked(clips: int = 200) -> Protocol:
    return Protocol(
        "tween", "kth14", "test", 6, (0, 5), (8, 8), 25.0, tuple(f"v@{i}" for i in range(clips)), "d", 5, 0, {}, {}
    )


def draws(clips: int = 200, seed: int = 0) -> Tensor:
    return torch.randn(clips, generator=torch.Generator().manual_seed(seed))


def table(
    out: Path, values: Mapping[tuple[str, str], Tensor], **facts: Any
) -> tuple[report.Table, list[dict[str, Any]]]:
    """Of a "method" and "run" whose clips have these scores."""
    entries = []
    for (method, run), scores in values.items():
        entry = Entry(method, run, None, stochastic=method == "many", facts=facts)
        folder = out / "observations" / entry.folder
        folder.mkdir(parents=True)
        for index, value in enumerate(scores):
            save_file({"score/value": value.clone()}, folder / f"{index:05}.safetensors")
        entries.append((out, entry))
    return report.measure(entries, asked(len(next(iter(values.values())))), {"score": Score()})


def test_an_interval_over_clips_is_that_of_the_mean(tmp_path: Path) -> None:
    values = draws() + 5
    cell = table(tmp_path, {("a", ""): values})[0].cells["a"]["score"]
    half = 1.96 * values.std().item() / len(values) ** 0.5
    assert cell.value == pytest.approx(values.double().mean().item())
    assert cell.low == pytest.approx(cell.value - half, abs=0.25 * half)
    assert cell.high == pytest.approx(cell.value + half, abs=0.25 * half)


def test_a_figure_of_the_set_lies_in_the_middle_of_its_interval(tmp_path: Path) -> None:
    values = draws(20)
    cell = table(tmp_path, {("a", ""): values})[0].cells["a"]["variance"]
    assert cell.value == pytest.approx(values.double().var().item())
    assert cell.low < cell.value < cell.high
    assert cell.replicates.mean() == pytest.approx(cell.value)


def test_differences_are_paired(tmp_path: Path) -> None:
    """Far apart beside what the clips have in common, though their intervals overlap; and noise alone is a tie."""
    common = 10 * draws() + 50
    made, _ = table(
        tmp_path,
        {("a", ""): common, ("b", ""): common + 0.3 + 0.1 * draws(seed=1), ("c", ""): common + 0.1 * draws(seed=2)},
    )
    a, b = made.cells["a"]["score"], made.cells["b"]["score"]
    assert a.high > b.low
    value, low, high = made.difference("b", "a", "score")
    assert value == pytest.approx(0.3, abs=0.05)
    assert 0.25 < low < value < high < 0.35
    assert not made.tied("b", "a", "score")
    assert made.tied("c", "a", "score")
    score = made.columns[0]
    assert made.best(score) == "b"
    assert [report.mark(made, name, score) for name in "abc"] == ["", "*", ""]


def test_several_runs_are_resampled_too(tmp_path: Path) -> None:
    values = draws() + 20
    apart = {("a", "1"): values - 3, ("a", "2"): values + 3, ("b", "1"): values}
    made, rows = table(tmp_path, apart)
    assert made.runs == {"a": 2, "b": 1}
    a, b = made.cells["a"]["score"], made.cells["b"]["score"]
    assert a.value == pytest.approx(b.value)
    assert a.high - a.low > 5 > b.high - b.low
    assert made.tied("a", "b", "score")
    assert {(row["method"], row["run"]) for row in rows} == set(apart)
    assert "and runs" in report.caption(made)


def test_rows_are_one_for_each_clip_and_one_for_the_set(tmp_path: Path) -> None:
    values = draws(6)
    made, rows = table(tmp_path, {("a", ""): values})
    assert [row["clip"] for row in rows] == [*made.protocol.clips, None]
    assert [row["score"] for row in rows[:-1]] == pytest.approx(values.tolist())
    assert set(rows[-1]) == {"protocol", "method", "run", "clip", "variance"}
    assert {row["protocol"] for row in rows} == {made.protocol.hash}


def test_what_draws_the_same_every_time_is_its_own_best(tmp_path: Path) -> None:
    made, _ = table(tmp_path, {("many", ""): draws(), ("one", ""): draws() + 9, (REAL, ""): draws() + 9})
    assert made.cells["one"]["score_best5"] == made.cells["one"]["score"]
    assert made.cells["many"]["score_best5"].value == pytest.approx(made.cells["many"]["score"].value + 1)
    assert "score_best5" not in made.cells[REAL]
    assert made.best(next(c for c in made.columns if c.name == "score")) == "one"  # real video wins nothing


def test_too_little_training_is_marked(tmp_path: Path) -> None:
    for seen, marked in ((50, True), (500, False)):
        made, _ = table(tmp_path / str(seen), {("a", ""): draws(4)}, clips_seen=seen, paper_clips=1000)
        assert made.notes["a"].endswith("†") is marked
        assert (report.TOO_LITTLE in report.caption(made)) is marked


def test_the_cases_shown_are_the_best_the_typical_and_the_worst(tmp_path: Path) -> None:
    made, _ = table(tmp_path, {("a", ""): torch.tensor([3.0, 9.0, 1.0, 5.0, 7.0, 4.0, 6.0])})
    assert list(report.cases(made).values()) == [[1, 4], [3, 5], [0, 2]]


def test_everything_written_is_whole_and_can_be_read_again(tmp_path: Path) -> None:
    made, rows = table(tmp_path, {("a<b>", ""): draws(4), ("many", "x"): draws(4) + 1})
    listed = [
        Entry("a<b>", "", None, stochastic=False),
        Entry("many", "x", None, stochastic=True, facts={"clips_seen": 3}),
    ]
    videos = {"truth": torch.zeros(3, 6, 8, 8), "a<b>": torch.ones(3, 6, 8, 8)}
    report.write(
        tmp_path, made, rows, listed, {"best": {"v@0": videos}}, {"video x": "it is damaged"}, {"device": "y"}, None
    )
    assert [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()] == rows
    assert report.entries(tmp_path) == listed
    text = (tmp_path / "table.md").read_text()
    assert made.protocol.hash in text and "Left out: video x (it is damaged)" in text
    page = (tmp_path / "report.html").read_text()
    for expected in (
        "a&lt;b&gt;",
        "it is damaged",
        made.protocol.hash,
        "data:image/gif;base64,",
        "<svg",
        "score_over_time",
    ):
        assert expected in page
    assert "a<b>" not in re.sub(r"<svg.*?</svg>", "", page, flags=re.DOTALL)
    assert not list(tmp_path.glob(".*"))
    with pytest.raises(ValueError, match="no complete evaluation"):
        report.entries(tmp_path / "observations")


@pytest.mark.parametrize("name", TABLES)
def test_published_figures_stand_beside_ours(tmp_path: Path, name: str) -> None:
    row, ours, printed = {
        "table1": ("full", "fvd_i3d_16f_n4", "153 [148, 158]"),
        "table3": ("full", "ssim_hidden_best100", "0.733 [0.729, 0.737]"),
        "vid2vid-table1": ("covst", "fvd_i3d_30f_n4", "5.55"),
        "vid2vid-table2": ("wo-flow", "fvd_i3d_30f_n4", "0.67"),
    }[name]
    made, _ = table(tmp_path, {(row, ""): draws(4), (REAL, ""): draws(4)})
    cells = {method: {ours: cells["score"]} for method, cells in made.cells.items()}
    smaller = [report.Column("ssim_hidden_best5", "", None, ""), report.Column("fvd_i3d_hidden14f_n4", "", None, "")]
    made = replace(made, cells=cells, columns=[*smaller, report.Column(ours, "", None, "")])
    text = report.beside(TABLES[name], made)
    assert f"`{ours}`" in text
    assert "kth14, here (not the paper's data)" in text
    assert printed in text
    assert report.text(cells[row][ours]) in text
    known = TABLES[name]
    assert {method for method, _ in known.figures.values() if method} <= set(known.recipes)
    assert all(
        known.recipes[method].format(scale=known.scale) in RECIPES for method, _ in known.figures.values() if method
    )


def test_intervals_do_not_depend_on_the_order_of_methods(tmp_path: Path) -> None:
    values = {("a", ""): draws(30), ("b", ""): draws(30, 1)}
    one, _ = table(tmp_path / "1", values)
    other, _ = table(tmp_path / "2", dict(reversed(values.items())))
    np.testing.assert_array_equal(one.cells["a"]["score"].replicates, other.cells["a"]["score"].replicates)

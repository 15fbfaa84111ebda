import json
from pathlib import Path

import pytest

from douga.core.timing import eased, read_ease

SHARES = [k / 20 for k in range(21)]


@pytest.mark.parametrize("ease", ["linear", "in", "out", "in-out", "hold:0", "hold:0.4", [[0, 0], [0.5, 0.9], [1, 1]]])
def test_an_ease_goes_from_0_to_1_and_never_back(ease: str | list) -> None:
    ways = [eased(share, read_ease(ease)) for share in SHARES]
    assert (ways[0], ways[-1]) == (0, 1)
    assert ways == sorted(ways)


def test_the_curves_are_the_ones_that_are_promised() -> None:
    assert eased(0.25, "linear") == 0.25
    assert eased(0.5, "in") == 0.125
    assert eased(0.5, "out") == 0.875
    assert [eased(share, "in-out") for share in (0.25, 0.5, 0.75)] == [0.0625, 0.5, 0.9375]
    assert [eased(share, "hold:0.5") for share in (0.25, 0.5, 0.75)] == [0, 0, 0.5]


def test_a_file_holds_points(tmp_path: Path) -> None:
    points = [[0, 0], [0.25, 0], [0.5, 1], [1, 1]]
    (tmp_path / "curve.json").write_text(json.dumps(points))
    ease = read_ease("curve.json", tmp_path)
    assert ease == points == read_ease(tmp_path / "curve.json")
    assert [eased(share, ease) for share in (0.1, 0.25, 0.375, 0.5, 0.75)] == [0, 0, 0.5, 1, 1]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("inout", "unknown ease 'inout'.*in-out"),
        ("hold:1", "like hold:0.3, not 'hold:1'"),
        ("hold:nan", "like hold:0.3"),
        ("hold:", "like hold:0.3"),
        ([[0, 0]], "two or more"),
        ([[0, 0], [1, 2]], "goes from .* to"),
        ([[0, 0], [0.5], [1, 1]], r"not \[0.5\]"),
        ([[0, 0], [True, 0.5], [1, 1]], "not"),
        ([[0, 0], ["a", 0.5], [1, 1]], "not"),
        ([[0, 0], [float("nan"), 0.5], [1, 1]], "not"),
        ([[0, 0], [0.5, 0.5], [0.5, 0.6], [1, 1]], "goes back"),
        ([[0, 0], [0.5, 0.5], [0.6, 0.4], [1, 1]], "goes back"),
        ({"a": 1}, "list of two or more"),
    ],
)
@pytest.mark.usefixtures("as_shipped")
def test_says_what_is_wrong(tmp_path: Path, given: object, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        read_ease(given)
    if not isinstance(given, str):
        (tmp_path / "curve.json").write_text(json.dumps(given))
        with pytest.raises(ValueError, match=sentence):
            read_ease(tmp_path / "curve.json")


def test_a_file_that_is_no_curve(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no file .*curve\.json"):
        read_ease("curve.json", tmp_path)
    (tmp_path / "curve.json").write_text("0, 0")
    with pytest.raises(ValueError, match="not JSON"):
        read_ease("curve.json", tmp_path)

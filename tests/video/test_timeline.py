"""When frames are shown and where wanted ones lie between known ones."""

from fractions import Fraction
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from douga.video.io import write_video
from douga.video.timeline import Survey, clock, numbers, survey


def seen(times: list[Fraction], end: Fraction | None = None) -> Survey:
    cut = [False] * (len(times) - 1)
    last = times[-1] if end is None else end
    return Survey(list(range(len(times))), times, cut, len(times), last, Fraction(0), Fraction(25), (8, 8), 3, 8)


def shot(seed: int, length: int) -> list[Tensor]:
    """Smooth colours, panned."""
    chance = torch.Generator().manual_seed(seed)
    wide = torch.nn.functional.interpolate(torch.rand(1, 3, 4, 12, generator=chance), (32, 300), mode="bicubic")[0]
    return [(wide * 2 - 1).clamp(-1, 1)[..., 2 * t : 2 * t + 48] for t in range(length)]


def test_a_clock_that_rounds_is_put_right() -> None:
    exact = [Fraction(1001 * i, 30000) for i in range(3000)]
    for given in (exact, [Fraction(round(1000 * t), 1000) + 7 for t in exact]):
        times, fps = clock(given, Fraction(30000, 1001))
        assert (times, fps) == (exact, Fraction(30000, 1001))
    # A rate that the file tells wrongly would be seconds off by the end.
    assert clock(exact, Fraction(29))[1] == Fraction(30000, 1001)


def test_missing_frames_leave_the_clock_as_it_was() -> None:
    kept = [i for i in range(200) if i % 7 and i % 11]
    times, fps = clock([Fraction(round(1000 * i / 24), 1000) for i in kept], Fraction(20))
    assert fps == 24
    assert times == [Fraction(i - kept[0], 24) for i in kept]


def test_times_of_no_clock_stay_as_they_are() -> None:
    times = [Fraction(i * i, 100) for i in range(9)]
    assert clock(times, Fraction(12)) == (times, 12)


def test_wanted_times_are_exact() -> None:
    known = seen([Fraction(i, 25) for i in range(5)])
    step = 1 / (25 * Fraction("2.5"))  # as 2.5 times slow
    assert list(known.wanted(step)) == [
        [0, Fraction(2, 5), Fraction(4, 5)],
        [Fraction(1, 5), Fraction(3, 5)],
        [0, Fraction(2, 5), Fraction(4, 5)],
        [Fraction(1, 5), Fraction(3, 5)],
        [0],
    ]


def test_wanted_times_heed_uneven_ones_and_the_end() -> None:
    known = seen([Fraction(0), Fraction(4, 100), Fraction(20, 100)], end=Fraction(28, 100))
    assert list(known.wanted(Fraction(4, 100))) == [[0], [0, *(Fraction(i, 4) for i in (1, 2, 3))], [0, 0, 0]]


def test_a_survey_finds_repeats_cuts_and_what_stands_still(tmp_path: Path) -> None:
    frames = [frame for frame in shot(0, 6) for _ in (0, 1)] + shot(1, 1) * 6 + shot(1, 9)[1:]
    write_video(tmp_path / "a", frames, 25)
    found = survey(tmp_path / "a", cut=6, still=4)
    assert found.keys == [0, 2, 4, 6, 8, 10, *range(12, 26)]  # six equal ones are meant
    assert found.times == [Fraction(key, 25) for key in found.keys]
    assert [key for key, cut in zip(found.keys[1:], found.cut, strict=True) if cut] == [12]
    assert (found.frames, found.end, found.fps, found.size) == (26, 1, 25, (32, 48))
    assert survey(tmp_path / "a").keys == list(range(26))
    assert not any(survey(tmp_path / "a", cut=None).cut)


def test_known_frames_have_one_number_of_planes(tmp_path: Path) -> None:
    for i, mode in enumerate(["RGB", "RGBA", "RGB"]):
        Image.new(mode, (6, 4), (10, 20, 30, 40)[: len(mode)]).save(tmp_path / f"{i}.png")
    known = list(survey(tmp_path).known(tmp_path))
    assert [frame.shape for frame in known] == [(4, 4, 6)] * 3
    assert [frame[3, 0, 0].item() for frame in known] == pytest.approx([1, 40 / 127.5 - 1, 1])


def test_numbers_are_those_of_the_names(tmp_path: Path) -> None:
    def put(folder: str, *names: str) -> Path:
        (tmp_path / folder).mkdir()
        for name in names:
            Image.new("L", (4, 4)).save(tmp_path / folder / name)
        return tmp_path / folder

    good = put("good", "s2_009.png", "s2_010.png", "s2_0012.png")
    assert numbers(good) == [9, 10, 12]
    assert survey(good, numbered=True).times == [0, Fraction(1, 25), Fraction(3, 25)]
    for folder, text in (
        (put("none", "1.png", "last.png"), r"last\.png holds no number"),
        (put("twice", "01.png", "1.png"), "have the same number"),
        (put("mixed", "a2.png", "b1.png"), "of several sequences"),
    ):
        with pytest.raises(ValueError, match=text):
            numbers(folder)


def test_what_cannot_be_surveyed_is_refused(tmp_path: Path) -> None:
    write_video(tmp_path / "one", shot(0, 1), 25)
    with pytest.raises(ValueError, match="only one frame"):
        survey(tmp_path / "one")
    for wrong, text in (({"cut": 1.0}, "above 1"), ({"still": -1.0}, "by 0 to 255"), ({"longest": 1}, "2 frames")):
        with pytest.raises(ValueError, match=text):
            survey(tmp_path / "one", **wrong)

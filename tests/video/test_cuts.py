"""Cuts in synthetic and real videos, and where a video stands still."""

from itertools import chain, islice
from pathlib import Path

import pytest
import torch
from torch import Tensor

from douga.video.cuts import cuts, look, still
from douga.video.io import frames


def shot(seed: int, length: int, speed: int = 2) -> list[Tensor]:
    """Smooth colours that are panned by `speed` pixels a frame, with some noise."""
    chance = torch.Generator().manual_seed(seed)
    wide = torch.nn.functional.interpolate(torch.rand(1, 3, 4, 16, generator=chance), (40, 400), mode="bicubic")[0]
    wide = (wide * 2 - 1 + 0.02 * torch.randn(wide.shape, generator=chance)).clamp(-1, 1)
    return [wide[..., t * speed : t * speed + 60] for t in range(length)]


def test_a_cut_is_found_where_it_is_and_a_pan_is_none() -> None:
    assert cuts(shot(0, 40)) == []
    assert cuts(shot(0, 20, speed=12)) == []  # a fifth of the picture in each frame
    assert cuts(shot(0, 12) + shot(1, 9) + shot(2, 15, speed=5)) == [12, 21]


def test_a_cut_is_found_between_stills_and_on_twos() -> None:
    still_shots = shot(0, 1) * 10 + shot(1, 1) * 10
    assert cuts(still_shots) == [10]
    assert cuts([frame for frame in shot(0, 12, speed=4) + shot(1, 12) for _ in range(2)]) == [24]


def test_a_fade_is_no_cut() -> None:
    first, last = shot(0, 1)[0], shot(1, 1)[0]
    assert cuts([torch.lerp(first, last, t / 19) for t in range(20)]) == []


def test_the_threshold_is_that_of_the_user() -> None:
    video = shot(0, 12) + shot(1, 12)
    assert cuts(video, 1000) == []
    with pytest.raises(ValueError, match="must be above 1, not 0"):
        cuts(video, 0)


@pytest.mark.parametrize("length", [0, 1, 2])
def test_a_short_video_has_no_cut_without_a_reason(length: int) -> None:
    assert cuts(shot(0, length, speed=6)) == []


def test_frames_are_let_go() -> None:
    drawn = 0

    def endless() -> chain[Tensor]:
        nonlocal drawn
        drawn += 1
        return chain(shot(drawn, 20))

    assert len(cuts(chain.from_iterable(endless() for _ in range(10)))) == 9


def test_what_stands_still_is_told_from_what_moves_a_little() -> None:
    frame = shot(0, 1)[0]
    noisy = (frame + 0.006 * torch.randn(frame.shape, generator=torch.Generator().manual_seed(0))).clamp(-1, 1)
    moved = frame.clone()
    moved[:, 10:14, 20:24] = moved[:, 10:14, 22:26] * -1  # a mouth
    assert still(look(frame), look(frame))
    assert still(look(frame), look(noisy))
    assert not still(look(frame), look(moved))


def test_real_shots_and_real_cuts(real_data: Path) -> None:
    clips = ["ucf101/v_SoccerJuggling_g23_c01.avi", "robot/umi_cup_in_the_wild.mp4", "dance/dance.mp4", "faces/d14.mp4"]
    taken = [[frame for _, frame in islice(frames(real_data / clip, (72, 128)), 90, 130)] for clip in clips]
    assert cuts(chain.from_iterable(taken)) == [40, 80, 120]
    film = (frame for _, frame in frames(real_data / "ucf101/TrumanShow_wave_f_nm_np1_fr_med_26.avi"))
    assert cuts(film) == [19]

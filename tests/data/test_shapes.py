from __future__ import annotations

import time

import pytest
import torch
from torch import Tensor

from douga.core.clip import check_video
from douga.data.shapes import FRAMES, Shapes
from douga.video.ops import warp

SIZE = (48, 64)


def errors(index: int, size: tuple[int, int] = SIZE) -> tuple[Tensor, Tensor]:
    """Where visible: how far frame t, warped and as it is, lies from frame t + 1."""
    shapes = Shapes(None, "test", size)
    video, flow = shapes.clip(index, 4, 16), shapes.flow(index, 4, 16)
    visible = shapes.visible(index, 4, 16)[0]
    before, after = video[:, :-1].transpose(0, 1), video[:, 1:].transpose(0, 1)
    warped = warp(before, flow.transpose(0, 1))
    return (warped - after).abs().amax(1)[visible], (before - after).abs().amax(1)[visible]


def test_the_flow_explains_the_next_frame_where_it_is_visible() -> None:
    warped, still = (torch.cat(parts) for parts in zip(*(errors(index) for index in range(20)), strict=True))
    assert warped.mean() < 0.01
    assert warped.max() < 0.25  # bilinear sampling of the finest waves
    assert warped.mean() < still.mean() / 5  # most of a picture is background, which moves slowly


def test_the_flow_is_exact_in_the_limit_of_fine_pixels() -> None:
    coarse, fine = (errors(3, size)[0].mean() for size in ((64, 64), (192, 192)))
    assert fine < coarse / 4  # the error is that of interpolation: second order in the pixel


def test_visible_is_most_but_not_all() -> None:
    shapes = Shapes(None, "train", SIZE)
    share = torch.stack([shapes.visible(index, 0, FRAMES).float().mean() for index in range(20)])
    assert share.min() > 0.75
    assert share.max() < 1


def test_hidden_and_uncovered_places_are_not_visible() -> None:
    # What is wrong after warping although it is not called visible: without it the mask would be for show.
    shapes = Shapes(None, "test", SIZE)
    hidden = []
    for index in range(20):
        video, flow = shapes.clip(index, 0, 16), shapes.flow(index, 0, 16)
        warped = warp(video[:, :-1].transpose(0, 1), flow.transpose(0, 1)).transpose(0, 1)
        hidden.append((warped - video[:, 1:]).abs().amax(0)[~shapes.visible(index, 0, 16)[0]])
    assert torch.cat(hidden).mean() > 0.05  # 15 times the error of visible places


def test_key_frames_15_apart_differ_clearly() -> None:
    shapes = Shapes(None, "train", (64, 64))
    for index in range(30):
        video = shapes.clip(index, 0, 16)
        check_video(video[None], "shapes")
        assert (video[:, 0] - video[:, 15]).abs().mean() > 0.08
    furthest = [shapes.flow(index, 0, 16).norm(dim=0).amax() for index in range(30)]
    assert min(furthest) > 0.7
    assert max(furthest) < 6


def test_a_clip_is_a_function_of_split_index_and_time_alone() -> None:
    first, second = Shapes(None, "train", SIZE), Shapes(None, "train", SIZE)
    whole = first.clip(7, 0, FRAMES)
    first.clip(8, 0, 4)
    assert torch.equal(second.clip(7, 5, 11), whole[:, 5:16])
    assert torch.equal(second.flow(7, 5, 11), first.flow(7, 0, FRAMES)[:, 5:15])
    assert torch.equal(second.visible(7, 5, 11), first.visible(7, 0, FRAMES)[:, 5:15])
    assert not torch.equal(first.clip(6, 0, FRAMES), whole)


def test_splits_share_no_scene() -> None:
    openings = [
        Shapes(None, split, (16, 16)).clip(index, 0, 1).flatten() for split in Shapes.splits for index in range(40)
    ]
    distance = torch.cdist(torch.stack(openings), torch.stack(openings)) + 100 * torch.eye(len(openings))
    assert distance.min() > 0.5


def test_the_scene_does_not_depend_on_the_size() -> None:
    small, large = (Shapes(None, "train", size).clip(2, 0, 4) for size in ((64, 64), (192, 192)))
    centres = large[:, :, 1::3, 1::3]  # the pixels of both that lie at the same place
    assert (small - centres).abs().mean() < 0.01


def test_a_clip_is_quick() -> None:
    shapes, seconds = Shapes(None, "train", (64, 64)), []
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for index in range(20):
            start = time.perf_counter()
            shapes.clip(index, 0, 16)
            seconds.append(time.perf_counter() - start)
    finally:
        torch.set_num_threads(threads)
    assert min(seconds) < 0.05  # about 5 ms; the rest is for a busy machine


def test_an_unknown_split_lists_those_there_are() -> None:
    with pytest.raises(ValueError, match="train, validation, test, not 'valid'"):
        Shapes(None, "valid", SIZE)

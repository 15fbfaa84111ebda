from __future__ import annotations

import pytest
import torch
from torch import Tensor

from douga.core.clip import check_video
from douga.core.contracts import Paired
from douga.data.blocks import CAR, CLASSES, PERSON, Blocks
from douga.video.ops import encode_labels, warp

SIZE = (48, 96)


def errors(index: int, size: tuple[int, int] = SIZE) -> tuple[Tensor, Tensor, Tensor]:
    """How far frame t lies from frame t + 1: warped where visible, as it is where visible, warped where not."""
    blocks = Blocks(None, "test", size)
    video, flow = blocks.clip(index, 4, 6), blocks.flow(index, 4, 6)
    visible = blocks.visible(index, 4, 6)[0]
    warped = (warp(video[:, :-1].transpose(0, 1), flow.transpose(0, 1)).transpose(0, 1) - video[:, 1:]).abs().amax(0)
    still = (video[:, :-1] - video[:, 1:]).abs().amax(0)
    return warped[visible], still[visible], warped[~visible]


def test_the_flow_explains_the_next_frame_where_it_is_visible() -> None:
    warped, still, hidden = (torch.cat(parts) for parts in zip(*(errors(index) for index in range(8)), strict=True))
    assert warped.mean() < 0.012  # bilinear sampling of windows, markings and leaves
    assert warped.quantile(0.999) < 0.25
    assert warped.mean() < still.mean() / 2
    assert hidden.mean() > 4 * warped.mean()  # `visible` is not for show


def test_textures_stick_to_the_surfaces() -> None:
    # What motion is left after warping, by least squares over each thing: hundredths of a pixel where flow is exact.
    blocks = Blocks(None, "test", (128, 256))
    left, moved = [], []
    for index in (0, 3, 5, 7):
        video, flow, classes = blocks.clip(index, 4, 4), blocks.flow(index, 4, 4), blocks.maps(index, 4, 4)[0, 1:]
        visible = blocks.visible(index, 4, 4)[0]
        warped = warp(video[:, :-1].transpose(0, 1), flow.transpose(0, 1)).transpose(0, 1)
        slopes = torch.stack(torch.gradient((warped + video[:, 1:]) / 2, dim=(3, 2)))  # (2, 3, T, H, W), x first
        for kind in classes.unique().tolist():
            seen = visible & (classes == kind)
            if seen.sum() > 4000:
                slope, error = slopes[:, :, seen].flatten(1), (video[:, 1:] - warped)[:, seen].flatten()
                left.append(torch.linalg.solve(slope @ slope.T, slope @ error).norm())
                moved.append(flow[:, seen].norm(dim=0).mean())
    assert max(left) < 0.09  # px
    assert torch.stack(left).mean() < 0.025
    assert max(moved) > 2


def test_surfaces_are_followed_to_the_pixel() -> None:
    # Where a thing is seen in two frames its number is found where the flow points to.
    blocks = Blocks(None, "train", SIZE)
    for index in range(6):
        numbers = blocks.maps(index, 0, 8)[1].float()
        found = warp(numbers[:-1, None], blocks.flow(index, 0, 8).transpose(0, 1))[:, 0]
        visible = blocks.visible(index, 0, 8)[0]
        assert torch.allclose(found[visible], numbers[1:][visible], atol=1e-2)


def test_visible_is_most_but_not_all() -> None:
    for index in range(8):
        share = Blocks(None, "train", SIZE).visible(index, 0, 8).float().mean()
        assert 0.6 < share < 0.95


def test_it_is_paired_and_its_maps_are_labels() -> None:
    blocks = Blocks(None, "train", SIZE)
    assert isinstance(blocks, Paired)
    assert tuple(blocks.classes) == CLASSES
    assert blocks.things == {CAR, PERSON}
    seen = set()
    for index in range(12):
        video, maps = blocks.clip(index, 0, 2), blocks.maps(index, 0, 2)
        check_video(video[None], "blocks")
        assert maps.shape == (2, 2, *SIZE) and maps.dtype == torch.int32
        assert encode_labels(maps, len(CLASSES)).shape == (len(CLASSES) + 1, 2, *SIZE)
        assert torch.equal(maps[1] > 0, maps[0] > 2)  # all but sky, road and pavement are numbered
        seen |= set(maps[0].unique().tolist())
    assert seen == set(range(len(CLASSES)))


def test_an_instance_has_one_class_through_its_video() -> None:
    maps = Blocks(None, "long", SIZE).maps(0, 200, 60)
    assert len(maps[1].unique()) > 30
    for number in maps[1].unique().tolist()[1:]:
        assert len(maps[0][maps[1] == number].unique()) == 1


def test_labels_end_where_the_picture_changes() -> None:
    for index in range(6):
        blocks = Blocks(None, "test", SIZE)
        video, maps = blocks.clip(index, 0, 2), blocks.maps(index, 0, 2)
        steps = video.diff(dim=3).abs().amax(0)
        borders = (maps.diff(dim=3) != 0).any(0)
        assert steps[borders].mean() > 2.2 * steps[~borders].mean()


def test_things_move_by_themselves() -> None:
    # Motion that the camera alone would not cause: over the ground beside it, a car is left or gained on.
    apart = []
    for index in range(8):
        blocks = Blocks(None, "train", SIZE)
        flow, classes = blocks.flow(index, 0, 8), blocks.maps(index, 0, 8)[0, 1:]
        apart += [flow.norm(dim=0)[classes == kind].amax() for kind in (1, CAR) if (classes == kind).any()]
    assert max(apart) > 2  # px
    maps = Blocks(None, "train", SIZE).maps(1, 0, 32)
    walkers = 0
    for number in maps[1][maps[0] == PERSON].unique().tolist():
        columns = [(maps[1, t] == number).nonzero()[:, 1].float() for t in (0, 31)]
        if min(len(c) for c in columns) > 3:
            walkers += bool((columns[0].mean() - columns[1].mean()).abs() > 1)
    assert walkers > 0


def test_a_clip_is_a_function_of_split_index_and_time_alone() -> None:
    first, second = Blocks(None, "train", SIZE), Blocks(None, "train", SIZE)
    parts = [first.clip(7, 0, 12), first.maps(7, 0, 12), first.flow(7, 0, 12), first.visible(7, 0, 12)]
    first.clip(8, 0, 2)
    assert torch.equal(second.clip(7, 5, 4), parts[0][:, 5:9])
    assert torch.equal(second.maps(7, 5, 4), parts[1][:, 5:9])
    assert torch.equal(second.flow(7, 5, 4), parts[2][:, 5:8])
    assert torch.equal(second.visible(7, 5, 4), parts[3][:, 5:8])
    second.clip(7, 5, 4).fill_(0)  # what is handed out is the caller's
    assert torch.equal(second.clip(7, 5, 4), parts[0][:, 5:9])


def test_splits_share_no_world() -> None:
    openings = [Blocks(None, split, (24, 48)).clip(i, 0, 1).flatten() for split in Blocks.splits for i in range(8)]
    distance = torch.cdist(torch.stack(openings), torch.stack(openings)) + 100 * torch.eye(len(openings))
    assert distance.min() > 3


def test_the_world_does_not_depend_on_the_size() -> None:
    small, large = (Blocks(None, "train", size) for size in (SIZE, (3 * SIZE[0], 3 * SIZE[1])))
    for index in range(4):
        same = small.maps(index, 0, 2) == large.maps(index, 0, 2)[:, :, 1::3, 1::3]  # where pixels have the same middle
        assert same.float().mean() > 0.93
        coarse, fine = small.clip(index, 0, 1), large.clip(index, 0, 1)
        shrunk = torch.nn.functional.avg_pool2d(fine.transpose(0, 1), 3).transpose(0, 1)
        assert (coarse - shrunk).abs().mean() < 0.05


def test_a_long_drive_keeps_showing_what_is_new() -> None:
    blocks, seen = Blocks(None, "long", SIZE), []
    assert set(blocks.lengths) == {640}
    for start in range(0, 640, 106):
        maps = blocks.maps(3, start, 1)
        seen.append({kind: set(maps[1][maps[0] == kind].unique().tolist()) for kind in range(3, len(CLASSES))})
    for kind in range(3, len(CLASSES)):
        before: set[int] = set()
        news = []
        for now in seen:
            news.append(len(now[kind] - before))
            before |= now[kind]
        assert sum(count > 0 for count in news) >= len(news) - 2, (CLASSES[kind], news)


def test_an_unknown_split_lists_those_there_are() -> None:
    with pytest.raises(ValueError, match="train, validation, test, long, not 'valid'"):
        Blocks(None, "valid", SIZE)

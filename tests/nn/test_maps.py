"""A map written by hand: two cars side by side on a road, a place without a class."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from douga.nn.maps import INSTANCES, check_planes, identities, outlined, outlines, planes
from douga.video.ops import encode_labels

ROAD, CAR = 0, 2
LABELS = torch.tensor(
    [
        [0, 0, 0, 0, 0],
        [0, 2, 2, 2, 0],
        [0, 2, 2, 2, 0],
        [0, 0, 0, 0, 0],
        [0, 0, 0, -1, -1],
    ]
)
NUMBERS = torch.tensor(
    [
        [0, 0, 0, 0, 0],
        [0, 7, 7, 8, 0],
        [0, 7, 7, 8, 0],
        [0, 0, 0, 0, 0],
        [0, 0, 0, 0, 5],
    ]
)
OUTLINES = torch.tensor(
    [
        [0, 1, 1, 1, 0],
        [1, 1, 1, 1, 1],
        [1, 1, 1, 1, 1],
        [0, 1, 1, 1, 1],
        [0, 0, 1, 1, 1],
    ]
)


def cond() -> Tensor:
    """(1, 4, 5, 5)"""
    return encode_labels(torch.stack([LABELS, NUMBERS])[:, None].int(), 3).transpose(0, 1)


def test_an_identity_is_a_class_and_a_number() -> None:
    who = identities(cond())[0]
    road, cars, none = LABELS == ROAD, LABELS == CAR, LABELS < 0
    assert (who[road] == 0).all()
    assert torch.equal(who[cars], CAR * INSTANCES + NUMBERS[cars])
    assert (who[none] < 0).all()
    assert torch.equal(who // INSTANCES, LABELS)  # also where there is no class, whatever its number
    assert len(who.unique()) == 5


def test_clips_of_a_batch_are_told_apart() -> None:
    both = torch.cat([cond(), cond().flip(3)])
    assert torch.equal(identities(both), torch.cat([identities(cond()), identities(cond()).flip(2)]))
    assert torch.equal(outlines(identities(both))[0], OUTLINES.bool())


def test_outlines_lie_on_both_sides_of_every_border() -> None:
    assert torch.equal(outlines(identities(cond()))[0], OUTLINES.bool())
    assert not outlines(torch.full((1, 5, 5), 3)).any()
    for name in ("columns", "rows"):
        who = torch.tensor([4, 4, 4, 9, 9])[None, None].expand(1, 5, 5)
        wanted = torch.tensor([0, 0, 1, 1, 0]).bool()[None, None].expand(1, 5, 5)
        if name == "rows":
            who, wanted = who.transpose(1, 2), wanted.transpose(1, 2)
        assert torch.equal(outlines(who), wanted), name


def test_networks_see_outlines_in_the_place_of_numbers() -> None:
    seen = outlined(cond(), 3)
    assert torch.equal(seen[:, :3], cond()[:, :3])
    assert torch.equal(seen[0, 3], OUTLINES.float())
    pictures = torch.rand(1, 3, 5, 5)
    assert torch.equal(outlined(pictures, 0), pictures)


def test_maps_of_another_kind_are_refused() -> None:
    assert (planes(35), planes(1), planes(0)) == (36, 2, 3)
    check_planes(cond(), 3)
    check_planes(torch.zeros(1, 3, 2, 4, 4), 0)
    with pytest.raises(ValueError, match=r"label maps of 7 classes \(8 planes\), not maps of 4 planes"):
        check_planes(cond(), 7)
    with pytest.raises(ValueError, match=r"maps that are pictures \(3 planes\), not maps of 4 planes"):
        check_planes(cond(), 0)

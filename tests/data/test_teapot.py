from __future__ import annotations

import time
from collections import Counter

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from douga.core.clip import check_video
from douga.core.contracts import Source
from douga.data import teapot
from douga.data.teapot import (
    EYE,
    GREYS,
    HIGH,
    LOW,
    PALETTE,
    WIDTH,
    Teapot,
    Teapot1,
    Teapot2,
    Teapot6,
    TeapotSeveral,
    background,
    patches,
    path,
    render,
    width_px,
)

SIZE = (64, 64)
KINDS = [Teapot1, Teapot2, Teapot6, TeapotSeveral]
RED, BLUE = (1.0, 0.1, 0.1), (0.1, 0.1, 1.0)


def pose(
    x: float = 0, y: float = 0, z: float = 0, yaw: float = 0, pitch: float = 0, roll: float = 0
) -> list[list[float]]:
    return [[x, y, z, yaw, pitch, roll]]


def any_poses(count: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(LOW, HIGH, (count, 1, 6))


def covered(factors: np.ndarray, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> Tensor:
    """(N, H, W) share of each pixel that hides the background, seen by exchanging it."""
    pictures = []
    for grey in (-1.0, 1.0):
        monkeypatch.setattr(teapot, "SKY", (grey, grey))
        pictures.append(render(factors, size)[:, 0])
    return 1 - (pictures[1] - pictures[0]) / 2


def test_the_patches_are_newells() -> None:
    control = patches()
    assert control.shape == (32, 4, 4, 3)
    points = {tuple(point) for point in control.reshape(-1, 3).round(6).tolist()}
    assert len(points) == 290  # 306 less 12 that stand twice and 4 that no patch names
    # As they stand in the published listing: a quarter of the rim, of the knob, the lower handle, the mouth of the spout.
    published = {
        1: "0 -1.4 2.4 -.784 -1.4 2.4 -1.4 -.784 2.4 -1.4 0 2.4 0 -1.3375 2.53125 -.749 -1.3375 2.53125 -1.3375 -.749 2.53125"
        " -1.3375 0 2.53125 0 -1.4375 2.53125 -.805 -1.4375 2.53125 -1.4375 -.805 2.53125 -1.4375 0 2.53125"
        " 0 -1.5 2.4 -.84 -1.5 2.4 -1.5 -.84 2.4 -1.5 0 2.4",
        17: "0 0 3.15 0 0 3.15 0 0 3.15 0 0 3.15 0 -.8 3.15 -.45 -.8 3.15 -.8 -.45 3.15 -.8 0 3.15"
        " 0 0 2.85 0 0 2.85 0 0 2.85 0 0 2.85 0 -.2 2.7 -.112 -.2 2.7 -.2 -.112 2.7 -.2 0 2.7",
        26: "-2.7 0 1.8 -2.7 -.3 1.8 -3 -.3 1.8 -3 0 1.8 -2.7 0 1.575 -2.7 -.3 1.575 -3 -.3 1.35 -3 0 1.35"
        " -2.5 0 1.125 -2.5 -.3 1.125 -2.65 -.3 .9375 -2.65 0 .9375 -2 0 .9 -2 -.3 .9 -1.9 -.3 .6 -1.9 0 .6",
        30: "2.7 0 2.4 2.7 -.25 2.4 3.3 -.25 2.4 3.3 0 2.4 2.8 0 2.475 2.8 -.25 2.475 3.525 -.25 2.49375 3.525 0 2.49375"
        " 2.9 0 2.475 2.9 -.15 2.475 3.45 -.15 2.5125 3.45 0 2.5125 2.8 0 2.4 2.8 -.15 2.4 3.2 -.15 2.4 3.2 0 2.4",
    }
    for number, listing in published.items():
        np.testing.assert_allclose(control[number].ravel(), np.array(listing.split(), float), atol=1e-12)


def test_the_surface_is_mirror_symmetric_and_its_patches_join() -> None:
    control = patches()
    points = np.unique(control.reshape(-1, 3).round(6) + 0.0, axis=0)
    np.testing.assert_array_equal(np.unique(points * (1, -1, 1) + 0.0, axis=0), points)
    edges = Counter(
        min(tuple(map(tuple, edge)), tuple(map(tuple, edge[::-1])))
        for patch in (control.round(6) + 0.0).tolist()
        for edge in (patch[0], patch[3], [row[0] for row in patch], [row[3] for row in patch])
    )
    # Open are the rim and the lid where they face each other, both ends of the handle and of the spout.
    assert sum(count == 1 for count in edges.values()) == 4 + 4 + 4 + 4


@pytest.mark.parametrize("short_side", [24, 64, 100])
def test_no_place_of_the_surface_is_half_a_sample_from_the_nearest_point(short_side: int) -> None:
    # Then a sample that the front side covers holds a point of it: the picture has no pinholes, and no inside shows.
    points, normals = teapot._diced(short_side)
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-5)
    control = patches()
    basis, _ = teapot._basis(101, ends=True)
    surface = np.einsum("ui,vj,pijc->puvc", basis, basis, control).reshape(-1, 3)
    low, high = surface.min(0), surface.max(0)
    unit = WIDTH / (high - low)[0]
    surface = ((surface - (low + high) / 2) * unit)[:, [0, 2, 1]] * (1, 1, -1)
    scale = (
        EYE / (EYE - surface[:, 2]) * short_side / 2 * teapot.SAMPLES
    )  # samples to a unit, with its nearest side in front
    distance, _ = cKDTree(points.T).query(surface)
    assert (distance * scale).max() < 0.5


@pytest.mark.parametrize("size", [(64, 64), (72, 128)])
def test_the_body_has_no_holes(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    factors = any_poses(60)
    share = covered(factors, size, monkeypatch)
    y, x = np.indices(size)
    half = min(size) / 2
    for (place,), picture in zip(factors, share, strict=True):
        away = np.hypot(
            x - (size[1] - 1) / 2 - place[0] * half, y - (size[0] - 1) / 2 + place[1] * half
        )  # px from the centre
        assert (picture[away < 0.08 * EYE / (EYE - place[2]) * half] == 1).all()
    assert share.amin() == 0
    assert 0.01 < share.mean() < 0.1


@pytest.mark.parametrize("size", [(64, 64), (256, 256), (96, 160)])
def test_it_is_as_wide_as_claimed_and_stands_where_it_should(
    size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    half = min(size) / 2
    for x, y, z in [(0, 0, 0), (0.5, 0.3, 0), (-0.6, -0.4, -1.2)]:
        share = covered(np.array([pose(x, y, z)]), size, monkeypatch)[0]
        columns, rows = share.amax(0).nonzero()[:, 0], share.amax(1).nonzero()[:, 0]
        width = share.amax(0)[columns[0] : columns[-1] + 1].sum()  # its ends in parts of a pixel
        assert width == pytest.approx(width_px(size) * EYE / (EYE - z), abs=1.5)
        assert (columns[0] + columns[-1] + 1) / 2 == pytest.approx(size[1] / 2 + x * half, abs=1)
        assert (rows[0] + rows[-1] + 1) / 2 == pytest.approx(size[0] / 2 - y * half, abs=1)
    assert width_px((64, 64)) == pytest.approx(0.28 * 64)


def test_yaw_pitch_and_roll_turn_it_as_described(monkeypatch: pytest.MonkeyPatch) -> None:
    quarter, size = np.pi / 2, (128, 128)

    def extent(**angles: float) -> tuple[int, int]:
        share = covered(np.array([pose(**angles)]), size, monkeypatch)[0] > 0.5
        return int(share.any(0).sum()), int(share.any(1).sum())

    wide, high = extent()
    assert wide > 1.8 * high
    assert extent(yaw=quarter)[0] < 0.7 * wide  # seen from behind
    assert extent(roll=quarter) == pytest.approx((high, wide), abs=1)
    assert extent(pitch=quarter)[1] > 1.2 * high  # the round body from above
    right = covered(np.array([pose(roll=quarter)]), size, monkeypatch)[
        0
    ]  # anti-clockwise: the spout, thin at its end, is up
    ends = (right > 0.5).any(1).nonzero()[:, 0]
    above, below = (right[row].nonzero().float().mean() for row in (ends[0], ends[-1]))
    assert above < below  # the mouth of the spout is nearer to the lid, now on the left, than the handle's bend


def test_the_mirror_picture_is_that_of_the_mirrored_pose(monkeypatch: pytest.MonkeyPatch) -> None:
    yaw = np.linspace(-3, 3, 7)
    one = covered(np.array([pose(x=0.3, y=0.1, z=-0.4, yaw=a, pitch=0.3) for a in yaw]), SIZE, monkeypatch)
    other = covered(np.array([pose(x=-0.3, y=0.1, z=-0.4, yaw=np.pi - a, pitch=0.3) for a in yaw]), SIZE, monkeypatch)
    assert (one - other.flip(-1)).abs().amax() < 0.35  # three samples of nine, at edges
    assert (one - other.flip(-1)).abs().mean() < 0.001
    assert (one - other).abs().mean() > 0.01


@pytest.mark.parametrize("gap", [1.2, 0.05])
def test_the_nearer_surface_hides_the_farther_one(gap: float) -> None:
    near, far = [0.1, 0, 0, 0.5, 0.2, 0], [0.1, 0, -gap, 0.5, 0.2, 0]
    alone = render(np.array([[near]]), SIZE, colours=[RED])
    both = render(np.array([[near, far]]), SIZE, colours=[RED, BLUE])
    swapped = render(np.array([[far, near]]), SIZE, colours=[BLUE, RED])
    assert torch.equal(both, swapped)
    middle = (..., slice(29, 35), slice(32, 38))
    assert torch.equal(both[middle], alone[middle])
    beside = render(np.array([[near, [-0.5, 0, -gap, 0.5, 0.2, 0]]]), SIZE, colours=[RED, BLUE])
    assert torch.equal(beside[..., 32:], alone[..., 32:])
    assert (beside - alone)[0, 2].amax() > 0.3


def test_the_side_that_faces_the_viewer_is_seen() -> None:
    spout, handle = render(np.array([pose(yaw=-np.pi / 2), pose(yaw=np.pi / 2)]), (128, 128), colours=[(0.8,) * 3])
    middle = (slice(None), slice(54, 74), slice(54, 74))
    assert (spout[middle] - handle[middle]).abs().mean() > 0.05


def test_the_light_comes_from_above_on_the_left_whichever_way_a_patch_faces(monkeypatch: pytest.MonkeyPatch) -> None:
    factors = any_poses(20) * (0, 0, 0, 1, 0.3, 0.3)
    pictures = render(factors, SIZE)
    lit, dark = pictures[:, 0, 29:32, 28:31], pictures[:, 0, 33:36, 33:36]
    assert (lit.mean((1, 2)) > dark.mean((1, 2)) + 0.05).all()
    points, normals = teapot._diced(64)
    turned = normals * np.random.default_rng(0).choice([-1, 1], (len(normals), 1)).astype(np.float32)
    monkeypatch.setattr(teapot, "_diced", lambda short_side: (points, turned))
    assert torch.equal(render(factors, SIZE), pictures)


def test_grey_has_equal_channels_and_colours_are_clearly_different() -> None:
    factors = TeapotSeveral(None, "test", SIZE).factors(1)
    grey, colour = render(factors, SIZE, colours=GREYS), render(factors, SIZE)
    check_video(grey.transpose(0, 1)[None], "grey")
    assert torch.equal(grey, grey[:, :1].expand_as(grey))
    assert (colour[:, 0] - colour[:, 2]).abs().amax() > 0.5
    assert (torch.pdist(torch.tensor(PALETTE)) > 0.4).all()


def test_where_no_teapot_is_the_background_is_seen() -> None:
    for size in (SIZE, (48, 80)):
        plain = background(size)
        assert plain.shape == (3, *size)
        nowhere = render(np.array([pose(x=9)]), size)
        torch.testing.assert_close(nowhere[0], plain, rtol=0, atol=1e-6)
        assert plain[0, :, 0].diff().gt(0).all()


def test_it_stays_inside_the_picture() -> None:
    poses = np.array(
        [
            pose(x, y, 0, yaw, pitch, roll)
            for x in (LOW[0], HIGH[0])
            for y in (LOW[1], HIGH[1])
            for yaw in np.linspace(0, 2 * np.pi, 12)
            for pitch in (LOW[4], 0, HIGH[4])
            for roll in (LOW[5], 0, HIGH[5])
        ]
    )
    for size in (SIZE, (40, 60)):
        edge = torch.ones(size, dtype=torch.bool)
        edge[1:-1, 1:-1] = False
        change = render(poses, size) - background(size)
        assert change[..., edge].abs().amax() < 1e-6
        assert (change.abs().amax((1, 2, 3)) > 0.5).all()
    for kind in KINDS:
        for split in kind.splits:
            source = kind(None, split, SIZE)
            factors = np.stack([source.factors(index) for index in range(0, len(source), 5)])
            within = (factors >= LOW - 1e-9) & (factors <= HIGH + 1e-9)
            within[..., 3] = True
            assert within.all()
            lowest, highest = factors.min((0, 1)), factors.max((0, 1))
            free = np.array(kind.free)
            assert (lowest[:, ~free] == highest[:, ~free]).all()
            assert ((highest - lowest)[:, free] > 0.8 * (HIGH - LOW)[free]).all()  # the range is used


@pytest.mark.parametrize("kind", KINDS)
def test_small_and_large_distances_are_as_promised(kind: type[Teapot]) -> None:
    for split in kind.splits:
        source = kind(None, split, SIZE)
        for index in range(100):
            factors, distance = source.factors(index), source.distance(index)
            far = split in ("test-large", "test-long") or (split != "test-small" and index % 2 == 1)
            change = np.abs(factors[-1] - factors[0])
            widths = WIDTH * EYE / (EYE - factors[[0, -1], :, 2].mean(0))
            moves = np.hypot(change[:, 0], change[:, 1]) / widths
            assert distance == pytest.approx(moves.max())
            turns = change[:, 3:][:, kind.free[3:]]
            if split == "test":
                assert moves.min() >= 0.05 and moves.max() <= 2.2 + 1e-9
                assert (turns < np.pi).all()
            elif far:
                assert moves.min() > 1
                assert (turns >= np.pi / 4 - 1e-9).all() and (turns < np.pi).all()
            else:
                assert moves.min() > 0 and moves.max() <= 0.5 + 1e-9
                assert (turns <= np.pi / 8 + 1e-9).all()
            assert (change[:, np.array(kind.free)][:, 2:] > 0).all()


def test_angles_take_the_shorter_arc_and_positions_go_straight() -> None:
    first, last = np.zeros((1, 6)), np.zeros((1, 6))
    first[0, 3:], last[0, 3:] = np.radians([170, -20, -170]), np.radians([-170, 20, 170])
    last[0, :3] = 0.4, -0.2, -0.8
    way = path(first, last, 5)
    np.testing.assert_allclose(np.degrees(way[:, 0, 3]), [170, 175, 180, 185, 190])
    np.testing.assert_allclose(np.degrees(way[:, 0, 4]), [-20, -10, 0, 10, 20], atol=1e-9)
    np.testing.assert_allclose(np.degrees(way[:, 0, 5]), [-170, -175, -180, -185, -190])
    np.testing.assert_allclose(way[:, 0, :3], np.linspace(0, 1, 5)[:, None] * last[0, :3])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("split", Teapot.splits)
def test_a_clip_is_a_function_of_split_and_index_alone(kind: type[Teapot], split: str) -> None:
    source = kind(None, split, SIZE)
    assert isinstance(source, Source)
    frames = source.lengths[7]
    assert frames == (9 if split == "test-long" else 3)
    whole = source.clip(7, 0, frames)
    assert whole.shape == (3, frames, *SIZE)
    check_video(whole[None], "teapot")
    source.clip(8, 0, 1)
    again = kind(None, split, SIZE)
    assert torch.equal(again.clip(7, 1, 2), whole[:, 1:3])
    assert torch.equal(again.clip(7, 1, frames), whole[:, 1:])  # it ends with the video
    middle = again.factors(7)[frames // 2]
    np.testing.assert_allclose(middle, again.factors(7)[[0, -1]].mean(0), atol=1e-12)
    assert torch.equal(render(middle[None], SIZE)[0], whole[:, frames // 2])
    assert (whole[:, 0] - whole[:, -1]).abs().amax() > 0.1


def test_the_scene_does_not_depend_on_the_size() -> None:
    for kind in KINDS:
        small, large = (kind(None, "test", size).clip(3, 0, 4) for size in (SIZE, (192, 192)))
        pooled = torch.nn.functional.avg_pool2d(large, 3)
        # What differs are edges, where a sample counts as covered if the surface touches it at a point.
        assert (small - pooled).abs().mean() < 0.15 * (small - background(SIZE)[:, None]).abs().mean()


def test_no_two_videos_share_a_pose() -> None:
    for kind in KINDS:
        sources = [kind(None, split, SIZE) for split in kind.splits]
        ends = [source.factors(index)[[0, -1], 0, 0] for source in sources for index in range(500)]
        assert len(np.unique(np.concatenate(ends).round(12))) == 2 * 500 * len(sources)


def test_a_picture_is_quick() -> None:
    source, seconds = Teapot6(None, "train", SIZE), []
    for index in range(20):
        start = time.perf_counter()
        source.clip(index, 0, 3)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.02  # about 2 ms; the rest is for a busy machine


def test_what_cannot_be_drawn_is_refused(as_shipped: None) -> None:
    with pytest.raises(ValueError, match="train, validation, test, test-small, test-large, test-long, not 'valid'"):
        Teapot2(None, "valid", SIZE)
    with pytest.raises(ValueError, match=r"\(pictures, objects, 6\), not \(1, 6\)"):
        render(np.zeros((1, 6)), SIZE)
    with pytest.raises(ValueError, match=r"at most 0, the nearest plane; found 0\.5"):
        render(np.array([pose(z=0.5)]), SIZE)
    with pytest.raises(ValueError, match="2 objects need as many colours, not 1"):
        render(np.zeros((1, 2, 6)), SIZE, colours=[RED])

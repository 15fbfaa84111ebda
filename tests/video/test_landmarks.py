from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from douga import api
from douga.data.pairs import Faces, Pose
from douga.video import landmarks
from douga.video.io import read_video, write_video
from douga.video.landmarks import CURVES, LIMBS, OVAL, RINGS, draw, draw_edges, draw_pose, prepare

HEIGHT, WIDTH = 120, 160


def dot_video(*places: tuple[int, int] | None) -> Tensor:
    """(3, T, H, W): a white square of 10 px in each frame, with its upper left corner at (x, y); None: none."""
    video = torch.full((3, len(places), HEIGHT, WIDTH), -1.0)
    for t, place in enumerate(places):
        if place is not None:
            x, y = place
            video[:, t, y : y + 10, x : x + 10] = 1
    return video


def find_dots(frames: Iterable[np.ndarray]) -> list[np.ndarray | None]:
    """Instead of a network: corners of the square, surely seen."""
    found: list[np.ndarray | None] = []
    for frame in frames:
        y, x = np.nonzero(frame[..., 0] > 127)
        found.append(np.array([[x.min(), y.min(), 1], [x.max(), y.max(), 1]], np.float32) if x.size else None)
    return found


def draw_dots(frame: np.ndarray, points: np.ndarray) -> np.ndarray:
    drawn = np.zeros_like(frame)
    (x, y), (x1, y1) = points[:, :2].astype(int)
    drawn[y : y1 + 1, x : x1 + 1, 1] = 255
    return drawn


@pytest.fixture
def dots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(landmarks.KINDS, "edges", landmarks.Kind("dot", find_dots, draw_dots))


def face(x: float = 80, y: float = 60, radius: float = 30) -> np.ndarray:
    """(468, 3): a face of which only the points that are drawn or outline it have a place: the outline, a ring inside."""
    points = np.zeros((468, 3), np.float32)
    for ring, size in ((OVAL, 1.0), *((line, 0.4) for line in (*CURVES[1:], *RINGS))):
        angles = np.linspace(0, 2 * np.pi, len(ring), endpoint=False)
        points[list(ring), 0] = x + size * radius * np.sin(angles)
        points[list(ring), 1] = y - size * radius * np.cos(angles)
    return points


def test_a_face_has_the_usual_68_points() -> None:
    used = [number for line in (*CURVES, *RINGS) for number in line]
    assert len(used) == len(set(used)) == 68
    assert [len(line) for line in (*CURVES, *RINGS)] == [17, 5, 5, 4, 5, 6, 6, 12, 8]
    assert set(CURVES[0]) <= set(OVAL)
    assert len(set(OVAL)) == 36
    assert max(used) < 468


def test_lines_of_the_face_inside_and_edges_of_the_picture_outside() -> None:
    frame = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    frame[5:20, 5:20] = 255  # outside the face
    frame[55:65, 75:85] = 255  # inside
    drawn = draw_edges(frame, face())
    assert set(np.unique(drawn)) == {0, 255}
    assert (drawn[..., 0] == drawn[..., 2]).all()
    y, x = np.nonzero(drawn[..., 0])
    away = np.hypot(x - 80, y - 60)
    assert (away < 40).any()
    assert ((x < 25) & (y < 25)).sum() > 30
    assert not (away < 9).any()  # the square inside leaves no edge
    jaw = (np.abs(away - 30) < 2) & (y > 70)
    assert jaw.sum() > 20
    assert not (jaw & (np.abs(x - 80) < 1) & (y < 85)).any()


def test_a_curve_goes_through_its_points() -> None:
    points = np.random.default_rng(0).uniform(0, 100, (7, 2)).astype(np.float32)
    for closed in (False, True):
        line = landmarks._curve(points, closed=closed)
        assert np.abs(line[:, None] - points).sum(2).min(0).max() < 1e-3
        assert np.allclose(line[0], points[0])
        assert np.allclose(line[-1], points[0 if closed else -1])
    straight = landmarks._curve(np.stack([np.arange(5.0), np.arange(5.0)], 1), closed=False)
    assert np.allclose(straight[:, 0], straight[:, 1])


def test_each_limb_has_its_colour_and_hidden_ones_are_left_out() -> None:
    colours = [landmarks._colour(number) for number in range(len(LIMBS))]
    assert len(set(colours)) == len(LIMBS)
    for number in range(1, len(LIMBS)):  # a forearm after an upper arm, for example
        if LIMBS[number][0] == LIMBS[number - 1][1]:
            assert sum(abs(a - b) for a, b in zip(*colours[number - 1 : number + 1], strict=True)) > 100
    points = np.zeros((34, 3), np.float32)
    points[11], points[13], points[15] = (20, 20, 0.9), (20, 60, 0.9), (60, 60, 0.2)
    drawn = draw_pose(np.zeros((HEIGHT, WIDTH, 3), np.uint8), points)
    assert tuple(drawn[40, 20]) == landmarks._colour(LIMBS.index((11, 13)))
    assert not drawn[60, 40].any()
    points[15, 2] = 0.9
    assert draw_pose(drawn, points)[60, 40].any()


@pytest.mark.usefixtures("dots")
def test_where_nothing_is_found_the_last_one_found_stays() -> None:
    video = dot_video(None, None, (20, 30), (40, 30), None, (60, 30))
    maps, held = draw("edges", video)
    assert held == [0, 1, 4]
    where = dot_video((20, 30), (20, 30), (20, 30), (40, 30), (40, 30), (60, 30))
    assert torch.equal(maps[1], where[1])
    assert maps[0].eq(-1).all()
    with pytest.raises(ValueError, match="no dot was found in any of the 2 frames of the video"):
        draw("edges", dot_video(None, None))
    with pytest.raises(ValueError, match=r"unknown kind of maps 'edge' \(there are: edges, pose\)"):
        draw("edge", video)


@pytest.mark.usefixtures("dots")
def test_what_is_prepared_is_a_source(tmp_path: Path) -> None:
    video = dot_video((20, 30), (40, 30), None, (60, 30))
    write_video(tmp_path / "in" / "deep" / "a", video, 25)
    seen: list[tuple[str, int, int]] = []
    made = api.data_prepare("edges", tmp_path / "in", tmp_path / "out", told=lambda *told: seen.append(told))
    assert made["videos"] == {"deep/a": {"frames": 4, "held": [2]}}
    assert seen == [("deep/a", number, 0) for number in (1, 2, 3, 4)]
    source = Faces(tmp_path / "out", "train", (HEIGHT, WIDTH))
    assert (source.names, list(source.lengths)) == (["deep/a"], [4])
    assert torch.equal(source.clip(0, 0, 4), video)
    assert torch.equal(source.maps(0, 0, 4), draw("edges", video)[0])


@pytest.mark.usefixtures("dots")
def test_a_part_of_a_video_and_a_square_of_it(tmp_path: Path) -> None:
    write_video(tmp_path / "a", dot_video((0, 0), (60, 50), (70, 60), (0, 0)), 25)
    count, held = prepare("edges", tmp_path / "a", tmp_path / "out", "a", start=1, length=2, square=True)
    assert (count, held) == (2, [])
    frames, maps = (read_video(tmp_path / "out" / part / "a")[0] for part in ("frames", "maps"))
    side = round(1.8 * 19)
    assert frames.shape == maps.shape == (3, 2, side, side)
    assert torch.equal(frames[1], maps[1])
    assert (frames[0] == 1).sum((1, 2)).tolist() == [100, 100]  # both wholly inside


@pytest.mark.usefixtures("dots")
def test_all_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_video(tmp_path / "a", dot_video((20, 30), (40, 30)), 25)
    before = sorted(tmp_path.rglob("*"))

    def fails(frame: np.ndarray, points: np.ndarray) -> np.ndarray:
        raise KeyboardInterrupt

    monkeypatch.setitem(landmarks.KINDS, "pose", landmarks.Kind("dot", find_dots, fails))
    with pytest.raises(KeyboardInterrupt):
        prepare("pose", tmp_path / "a", tmp_path / "new" / "out", "a")
    assert sorted(tmp_path.rglob("*")) == before
    prepare("edges", tmp_path / "a", tmp_path / "out", "a")
    with pytest.raises(FileExistsError, match="already there"):
        prepare("edges", tmp_path / "a", tmp_path / "out", "a")


@pytest.mark.usefixtures("dots")
def test_what_cannot_be_prepared_is_told_and_the_others_are_made(tmp_path: Path) -> None:
    for name, places in {"a": [(20, 30)] * 3, "b": [None] * 3}.items():
        write_video(tmp_path / "in" / f"{name}.mp4", dot_video(*places), 25)
    (tmp_path / "in" / "c.mp4").write_text("no video")
    made = api.data_prepare("edges", tmp_path / "in", tmp_path / "out")
    assert list(made["videos"]) == ["a"]
    assert "no dot was found in any of the 3 frames" in made["left_out"]["b"]
    assert "not a video" in made["left_out"]["c"]
    again = api.data_prepare("edges", tmp_path / "in" / "a.mp4", tmp_path / "other")
    assert list(again["videos"]) == ["a"]
    with pytest.raises(FileExistsError):
        api.data_prepare("edges", tmp_path / "in", tmp_path / "out")


def test_mistakes_are_told_before_anything_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_video(tmp_path / "a.mp4", dot_video((20, 30)), 25)
    with pytest.raises(ValueError, match="there are: edges, pose, labels"):
        api.data_prepare("poses", tmp_path / "a.mp4", tmp_path / "out")
    with pytest.raises(ValueError, match="--out FOLDER"):
        api.data_prepare("pose", tmp_path / "a.mp4")
    with pytest.raises(ValueError, match="frames 1 or more"):
        api.data_prepare("pose", tmp_path / "a.mp4", tmp_path / "out", frames=0)
    with pytest.raises(FileNotFoundError, match=r"no file or folder .*nowhere"):
        api.data_prepare("pose", tmp_path / "nowhere.mp4", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="no videos and no pictures"):
        api.data_prepare("pose", tmp_path / "empty", tmp_path / "out")
    monkeypatch.setitem(sys.modules, "mediapipe", None)
    with pytest.raises(ValueError, match=r"pip install 'douga\[maps\]'"):
        api.data_prepare("pose", tmp_path / "a.mp4", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_real_face(real_data: Path) -> None:
    pytest.importorskip("mediapipe")
    maps, held = draw("edges", read_video(real_data / "faces" / "d0.mp4", None, 0, 4)[0])
    assert held == []
    assert maps.unique().tolist() == [-1, 1]
    mouth = maps[0, 0, 185:200, 105:150]  # where it is in the picture
    assert (mouth > 0).sum() > 40
    assert (maps[0, 0, 198:208, 115:140] < 0).all()  # between mouth and chin there are no lines


def test_a_real_dancer(real_data: Path, tmp_path: Path) -> None:
    pytest.importorskip("mediapipe")
    prepare("pose", real_data / "dance" / "dance.mp4", tmp_path, "dance", start=100, length=5)
    source = Pose(tmp_path, "train", (248, 259))
    clip, maps = source.clip(0, 0, 5), source.maps(0, 0, 5)
    drawn = maps.amax(0) > 0
    assert 0.01 < drawn.float().mean() < 0.2
    # She wears black before a blue wall: limbs lie on her.
    assert clip[2][drawn].mean() < clip[2][~drawn].mean() - 0.8

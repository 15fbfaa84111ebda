"""Several key frames, their timing, loops, alpha, samples beside each other: what the door does around a method that tweens."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from douga import api
from douga.baselines.naive import Hold, Linear
from douga.core.clip import Request
from douga.video import io

LEVELS = {"a": -0.6, "b": 0.2, "c": 0.8}


def grey(level: float) -> Tensor:
    return torch.full((3, 6, 8), float(level))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """a.png, b.png and c.png of 8x6, each of one grey."""
    monkeypatch.chdir(tmp_path)
    for name, level in LEVELS.items():
        io.write_image(tmp_path / f"{name}.png", grey(level))
    return tmp_path


def levels(frames: Tensor) -> list[float]:
    assert torch.equal(frames, frames[:, :, :, :1, :1].expand_as(frames))
    return [round(level, 3) for level in frames[0, 0, :, 0, 0].tolist()]


def linear(*keys: Any, **options: Any) -> list[float]:
    return levels(api.tween(*keys, model="linear", **options).frames)


KEYS = grey(-1), grey(0), grey(1)


class Noise:
    """Draws a cross-fade and, over it, a grey of chance for each sample, most in the middle."""

    tasks = frozenset({"tween"})
    stochastic = True
    size = None

    def synthesize(self, request: Request, samples: int, generator: torch.Generator) -> Tensor:
        faded = Linear().synthesize(request, samples, generator)
        way = request.ways()[2]
        noise = torch.rand(samples, 1, 1, 1, 1, 1, generator=generator) - 0.5
        return request.keep_known((faded + request.diversity * noise * (way * (1 - way))[:, None, None]).clamp(-1, 1))


class OnePair(Noise):
    """Takes a first and a last key frame alone."""

    one_pair = True

    def synthesize(self, request: Request, samples: int, generator: torch.Generator) -> Tensor:
        assert request.mask.tolist() == [True, *[False] * (len(request.mask) - 2), True]
        return super().synthesize(request, samples, generator)


@pytest.fixture
def noise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api.models, "load", lambda name, device: (Noise(), {"method": "noise"}))


def test_many_key_frames_evenly() -> None:
    clip = api.tween(*KEYS, frames=1, model="linear")
    assert levels(clip.frames) == [-1, -0.5, 0, 0.5, 1]
    assert clip.mask.tolist() == [True, False, True, False, True]


def test_key_frames_at_chosen_frames() -> None:
    pairs = [(KEYS[0], 10), (KEYS[1], 12), (KEYS[2], 16)]
    assert linear(*pairs) == [-1, -0.5, 0, 0.25, 0.5, 0.75, 1]
    assert linear((KEYS[0], 0), (KEYS[1], 1)) == [-1, 0]  # nothing to draw is no mistake


def test_a_name_may_hold_the_frame_number(folder: Path) -> None:
    wanted = linear((folder / "a.png", 0), (folder / "b.png", 2), (folder / "c.png", 5))
    assert linear("a.png@0", "b.png@2", "c.png@5") == wanted
    (folder / "b.png").rename(folder / "b.png@2")  # a file of that very name wins
    with pytest.raises(ValueError, match=r"number .* or none: b\.png@2 has none"):
        linear("a.png@0", "b.png@2", "c.png@5")


def test_a_folder_of_key_frames_in_natural_order(tmp_path: Path) -> None:
    for name, key in zip(("10", "9", "1"), (KEYS[2], KEYS[1], KEYS[0]), strict=True):
        io.write_image(tmp_path / f"{name}.png", key)
    assert linear(tmp_path, frames=1)[::2] == pytest.approx([-1, 0, 1], abs=0.01)


def storyboard(folder: Path, **parts: Any) -> Path:
    path = folder / "board.json"
    path.write_text(json.dumps({"keys": [{"picture": f"{n}.png", "at": 3 * i} for i, n in enumerate("abc")]} | parts))
    return path


def test_a_storyboard(folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "curve.json").write_text("[[0, 0], [0.5, 0], [1, 1]]")
    path = storyboard(folder, fps=12, ease="curve.json", loop=True)
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))  # its paths are relative to it
    clip = api.tween(path, model="linear")
    assert (clip.fps, clip.made["loop"], clip.made["ease"]) == (12, True, [[0, 0], [0.5, 0], [1, 1]])
    assert clip.frames.shape[2] == 9
    # What is given beside it is stronger.
    clip = api.tween(path, model="linear", fps=24, ease="linear", loop=False)
    assert (clip.fps, clip.made["loop"], clip.made["ease"], clip.frames.shape[2]) == (24, False, "linear", 7)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "is not JSON"),
        ("[]", "must be like"),
        ('{"keys": 3}', "must be like"),
        ('{"keys": ["a.png", "b.png"]}', 'holds "a.png" in the place of'),
        ('{"keys": [{"picture": "a.png", "frame": 3}]}', "in the place of"),
        ('{"keys": [], "speed": 3}', "unknown 'speed'.*ease"),
        ('{"keys": [], "fps": "3"}', "fps is '3'"),
        ('{"keys": [], "loop": 1}', "loop is 1"),
        ('{"keys": [{"picture": "a.png"}]}', "two pictures or more, not 1"),
        ('{"keys": [{"picture": "a.png", "at": 0}, {"picture": "b.png"}]}', "b.png has none"),
        ('{"keys": [{"picture": "a.png", "at": 0}, {"picture": "b.png", "at": 2.5}]}', "stands at 2.5"),
        ('{"keys": [{"picture": "a.png"}, {"picture": "b.png"}], "ease": "slow"}', "unknown ease 'slow'"),
        ('{"keys": [{"picture": "a.png"}, {"picture": "b.png"}], "fps": 0}', "fps must be above 0"),
        ('{"keys": [{"picture": "a.png"}, {"picture": "z.png"}]}', "no file .*z.png"),
    ],
)
def test_a_storyboard_says_what_is_wrong(folder: Path, text: str, sentence: str) -> None:
    (folder / "board.json").write_text(text)
    with pytest.raises((ValueError, FileNotFoundError), match=sentence):
        api.tween("board.json", model="linear")


@pytest.mark.parametrize(
    ("keys", "options", "sentence"),
    [
        (["a.png"], {}, "two pictures or more, not 1"),
        ([], {}, "two pictures or more, not none"),
        (["a.png@0", "b.png"], {}, "or none: b.png has none"),
        (["a.png@0", "b.png@4"], {"frames": 3}, r"leave out frames \(3\)"),
        (["a.png@4", "b.png@4"], {}, "b.png at frame 4 follows a.png at 4"),
        (["a.png", "b.png@x"], {}, "no file b.png@x"),
        (["board.json"], {}, "no storyboard board.json"),
        (["a.png", "b.png", "small.png"], {}, "a.png is 8x6 and small.png is 4x4"),
        ([("a.png", 0), ("b.png", -2)], {}, "stands at -2"),
    ],
)
def test_says_what_is_wrong_with_the_keys(folder: Path, keys: list, options: dict, sentence: str) -> None:
    Image.new("RGB", (4, 4)).save("small.png")
    with pytest.raises((ValueError, FileNotFoundError), match=sentence):
        api.tween(*keys, model="linear", **options)


def test_an_ease_applies_to_each_segment() -> None:
    assert linear(*KEYS, frames=3, ease="in") == [-1, -0.984, -0.875, -0.578, 0, 0.016, 0.125, 0.422, 1]
    assert linear(KEYS[0], KEYS[2], frames=3, ease="hold:0.5") == [-1, -1, -1, 0, 1]
    assert linear(KEYS[0], KEYS[2], frames=3, ease=[[0, 0], [0.5, 1], [1, 1]]) == [-1, 0, 1, 1, 1]


def test_a_loop_ends_before_its_first_frame_comes_again() -> None:
    clip = api.tween(*KEYS, frames=1, model="linear", loop=True)
    assert levels(clip.frames) == [-1, -0.5, 0, 0.5, 1, 0]  # back in one step of the same frames
    assert clip.mask.tolist() == [True, False, True, False, True, False]
    assert clip.made["seam"] == pytest.approx(1 / 0.6)  # the last step is 1, the mean of the others 0.6
    assert api.tween(KEYS[0], KEYS[2], frames=3, model="linear", loop=True).made["seam"] == pytest.approx(1)
    # Frame numbers: the way back takes the mean of the others, unless the first picture comes again and says it.
    assert len(linear((KEYS[0], 0), (KEYS[1], 2), (KEYS[2], 6), loop=True)) == 9
    assert linear((KEYS[0], 0), (KEYS[2], 4), (KEYS[0], 6), loop=True) == [-1, -0.5, 0, 0.5, 1, 0]
    assert api.tween(KEYS[0], KEYS[0], model="hold", loop=True).made["seam"] == 1


def test_one_pair_methods_are_asked_pair_by_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api.models, "load", lambda name, device: (OnePair(), {"method": "pairs"}))
    wanted = linear  # with no diversity it is a cross-fade
    keys = (KEYS[0], 0), (KEYS[1], 1), (KEYS[2], 5)
    drawn = levels(api.tween(*keys, diversity=0.0, samples=1, ease="in").frames)
    monkeypatch.undo()
    assert drawn == wanted(*keys, ease="in")


def test_a_trained_model_draws_many_key_frames_at_any_times() -> None:
    keys = [torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(k)) for k in range(3)]
    model = "inbetween-weizmann"
    clip = api.tween(*zip(keys, (0, 3, 40), strict=True), samples=2, model=model, device="cpu", ease="hold:0.5")
    assert clip.frames.shape == (2, 3, 41, 64, 64)
    for key, at in zip(keys, (0, 3, 40), strict=True):
        assert torch.equal(clip.frames[:, :, at], key.expand(2, -1, -1, -1))
    assert torch.equal(clip.frames[0, :, 20], keys[1])  # held
    assert not torch.equal(clip.frames[0, :, 30], keys[1])


def rgba(path: Path, colour: tuple[int, int, int], alpha: np.ndarray) -> Path:
    Image.fromarray(np.dstack([np.broadcast_to(np.uint8(colour), (*alpha.shape, 3)), alpha])).save(path)
    return path


def test_alpha_leaves_no_dark_fringe_and_key_frames_come_back(tmp_path: Path) -> None:
    left, right = np.zeros((2, 4, 8), dtype=np.uint8)
    left[:, :4], right[:, 2:6] = 255, 255
    keys = [rgba(tmp_path / f"{n}.png", (240, 120, 60), alpha) for n, alpha in enumerate((left, right))]
    clip = api.tween(*keys, frames=1, model="linear")
    assert clip.made["alpha"] is True
    frames = (clip.frames[0] + 1) * 127.5
    middle = frames[:, 1]
    assert middle[3, 0].round().tolist() == [128, 128, 255, 255, 128, 128, 0, 0]
    seen = middle[3] > 0
    for plane, value in zip(middle[:3], (240, 120, 60), strict=True):
        assert torch.allclose(plane[seen], torch.tensor(float(value)), atol=0.01)
    for at, path in ((0, keys[0]), (2, keys[1])):
        assert torch.equal(clip.frames[0, :, at], io.read_picture(path)[0])  # the colour of what is not seen, too
    written = api.save(clip, tmp_path / "out")
    assert np.array_equal(np.array(Image.open(written[0] / "0002.png")), np.array(Image.open(keys[1])))


def test_pictures_with_and_without_alpha(folder: Path) -> None:
    rgba(folder / "half.png", (10, 20, 30), np.full((6, 8), 128, dtype=np.uint8))
    clip = api.tween("a.png", "half.png", frames=1, model="hold")
    assert clip.frames.shape[1] == 4
    assert (clip.frames[0, 3, 0] == 1).all()  # all of a picture without alpha is seen


@pytest.mark.usefixtures("noise")
def test_a_method_without_alpha_gets_white_behind_the_pictures(folder: Path) -> None:
    rgba(folder / "half.png", (0, 0, 0), np.full((6, 8), 51, dtype=np.uint8))
    clip = api.tween("half.png", "a.png", frames=1, samples=1)
    assert clip.frames.shape[1] == 3
    assert "laid on white" in str(clip.made["note"])
    assert clip.made["alpha"] is False
    assert torch.allclose(clip.frames[0, :, 0], torch.tensor(204 / 127.5 - 1), atol=1e-6)


def test_16_bits_win_and_come_back(folder: Path) -> None:
    deep = np.random.default_rng(0).integers(0, 65536, (6, 8)).astype(np.uint16)
    Image.fromarray(deep).save("deep.png")
    clip = api.tween("deep.png", "a.png", frames=1, model="linear")
    assert clip.made["bits"] == 16
    back, bits = io.read_picture(api.save(clip, folder / "out")[0] / "0000.png")
    assert (bits, back.shape) == (16, (3, 6, 8))
    assert torch.equal(back, clip.frames[0, :, 0])


@pytest.mark.usefixtures("noise")
def test_samples_are_ranked_and_their_spread_is_told() -> None:
    clip = api.tween(KEYS[0], KEYS[2], frames=3, samples=5)
    middles = clip.frames[:, 0, 2, 0, 0] * 127.5
    apart = [(middles - middle).abs().mean().item() for middle in middles]
    assert apart == sorted(apart)
    ranking: Any = clip.made["ranking"]
    assert sorted(sample["draw"] for sample in ranking) == [1, 2, 3, 4, 5]
    spread: Any = clip.made["spread_by_frame"]
    assert (spread[0], spread[-1]) == (0, 0)
    assert spread[2] == pytest.approx(middles.std(correction=0).item(), rel=1e-4)
    assert clip.spread is not None
    assert clip.spread.mean().item() == pytest.approx(sum(spread) / 5, rel=1e-4)
    picked = api.tween(KEYS[0], KEYS[2], frames=3, samples=5, pick=2)
    assert torch.equal(picked.frames, clip.frames[1:2])
    assert json.loads(json.dumps(clip.made)) == clip.made


@pytest.mark.usefixtures("noise")
def test_without_diversity_all_samples_are_one() -> None:
    clip = api.tween(*KEYS, frames=3, samples=3, diversity=0.0)
    assert torch.equal(clip.frames, clip.frames[:1].expand_as(clip.frames))
    less = api.tween(*KEYS, frames=3, samples=3, diversity=0.5)
    assert max(less.made["spread_by_frame"]) < max(api.tween(*KEYS, frames=3, samples=3).made["spread_by_frame"])


@pytest.mark.usefixtures("noise")
@pytest.mark.parametrize(("fallback", "method"), [("hold", Hold), ("fade", Linear)])
def test_unsure_frames_are_replaced_in_every_sample(fallback: str, method: type) -> None:
    plain = api.tween(KEYS[0], KEYS[2], frames=3)
    spread: Any = plain.made["spread_by_frame"]
    clip = api.tween(KEYS[0], KEYS[2], frames=3, fallback=fallback, unsure=(spread[1] + spread[2]) / 2)
    assert clip.made["fallback_frames"] == [2]
    wanted = method().synthesize(Request.tween(KEYS[0][None], KEYS[2][None], 3), 1, torch.Generator())[0, 0, :, 2]
    assert torch.equal(clip.frames[:, :, 2], wanted.expand(4, -1, -1, -1))
    assert torch.equal(clip.frames[:, :, [0, 1, 3, 4]], plain.frames[:, :, [0, 1, 3, 4]])
    none = api.tween(KEYS[0], KEYS[2], frames=3, fallback=fallback, unsure=200.0)
    assert none.made["fallback_frames"] == []


@pytest.mark.usefixtures("noise")
def test_save_adds_a_picture_of_the_spread(folder: Path) -> None:
    clip = api.tween("a.png", "c.png", frames=3, samples=2)
    written = api.save(clip, folder / "t.gif")
    assert [path.name for path in written] == ["t-1.gif", "t-2.gif", "t-sheet.png", "t-spread.png"]
    recipe = json.loads(io.read_recipe(written[1]) or "")
    assert recipe == {**clip.made, "sample": 2}
    Image.open(written[3]).verify()
    assert next(path.name for path in api.save(api.tween("a.png", "c.png", pick=2), folder / "p.gif")) == "p.gif"
    assert json.loads(io.read_recipe(folder / "p.gif") or "")["sample"] == 2


@pytest.mark.parametrize("keys", [["a.png", "b.png", "c.png"], ["a.png@2", "b.png@5", "c.png@6"], ["board.json"]])
def test_what_was_made_can_be_drawn_again(folder: Path, keys: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    storyboard(folder, fps=5, ease=[[0, 0], [0.3, 0.1], [1, 1]], loop=True)
    clip = api.tween(*keys, model="flow", seed=3)
    made = json.loads(json.dumps(clip.made))
    assert next(key["sha256"] for key in made["keys"]) == api.models.file_sha256(folder / "a.png")
    monkeypatch.chdir("/")
    again, options = api.tween_options(made)
    same = api.tween(*again, **options)
    assert torch.equal(same.frames, clip.frames)
    assert (same.fps, same.mask.tolist()) == (clip.fps, clip.mask.tolist())
    with pytest.raises(ValueError, match="no files"):
        api.tween_options(api.tween(*KEYS, model="hold").made)
    with pytest.raises(ValueError, match="cannot be drawn so again"):
        api.tween_options({"command": "paint"})


@pytest.mark.parametrize("frames", [1, 200])
def test_any_number_of_frames(frames: int) -> None:
    drawn = linear(KEYS[0], KEYS[2], frames=frames)
    assert len(drawn) == frames + 2
    assert drawn == sorted(drawn)

"""The door: what it returns, what it writes, and the one sentence that it says when it cannot."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import douga
from douga import api
from douga.core.clip import Clip
from douga.video import io, ops


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    """Two pictures of 48x40 (width x height)."""
    paths = tmp_path / "a.png", tmp_path / "b.png"
    for seed, path in enumerate(paths):
        Image.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 48, 3), dtype=np.uint8)).save(path)
    return paths


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return api.train("inbetween/tiny", "shapes", steps=2, device="cpu", out=tmp_path_factory.mktemp("train") / "run")


def clip_of(samples: int) -> Clip:
    frames = torch.rand(samples, 3, 5, 16, 24, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return Clip(frames, torch.tensor([True, False, False, False, True]))


def listing(folder: Path) -> dict[str, bytes | None]:
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@pytest.mark.parametrize("method", ["hold", "linear", "flow"])
def test_a_method_without_weights_draws_at_the_pictures_size(keys: tuple[Path, Path], method: str) -> None:
    clip = api.tween(*keys, frames=3, samples=2, model=method)
    assert clip.frames.shape == (1, 3, 5, 40, 48)
    assert torch.equal(clip.frames[0, :, 0], io.read_image(keys[0]))
    assert torch.equal(clip.frames[0, :, -1], io.read_image(keys[1]))
    assert clip.mask.tolist() == [True, False, False, False, True]
    assert clip.made["samples"] == 1
    assert method in str(clip.made["note"])
    assert clip.made["weights"] is None


def test_paths_and_tensors_are_the_same_pictures(keys: tuple[Path, Path]) -> None:
    first, last = map(io.read_image, keys)
    assert torch.equal(api.tween(*keys, model="linear").frames, api.tween(first, last, model="linear").frames)


def test_a_model_draws_what_the_seed_says_at_its_size(keys: tuple[Path, Path], release: Path) -> None:
    model, header = api.load(release)
    assert model.size is not None
    frames = 14

    def drawn(seed: int) -> Clip:
        return api.tween(*keys, frames=frames, samples=2, seed=seed, model=release, device="cpu")

    clip = drawn(3)
    assert clip.frames.shape == (2, 3, frames + 2, *model.size)
    for end, key in ((0, keys[0]), (-1, keys[1])):
        picture = ops.fit(io.read_image(key)[None, :, None], model.size)[0, :, 0]
        assert torch.equal(clip.frames[:, :, end], picture.expand(2, -1, -1, -1))
    assert torch.equal(clip.frames, drawn(3).frames)
    assert not torch.equal(clip.frames, drawn(4).frames)
    assert not torch.equal(clip.frames[0], clip.frames[1])

    made = json.loads(json.dumps(clip.made))
    assert made["weights"] == {"name": release.stem, "sha256": hashlib.sha256(release.read_bytes()).hexdigest()}
    assert made["method"] == header["method"] == "inbetween-gan"
    assert (made["given_at"], made["drawn_at"]) == ([40, 48], list(model.size))
    assert (made["seed"], made["frames"], made["samples"], made["version"]) == (3, frames, 2, douga.__version__)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"frames": 0}, "frames must be 1 or more, not 0"),
        ({"samples": 0}, "samples must be 1 or more, not 0"),
        ({"seed": -1}, "seed must be"),
        ({"fps": float("nan")}, "fps must be"),
        ({"fps": 0.0}, "fps must be"),
        ({"model": "inbetwen"}, "unknown model 'inbetwen'.*linear"),
        ({"model": "inbetween-gan"}, "needs weights"),
        ({"device": "abacus", "model": "RELEASE"}, "abacus"),
        ({"last": torch.zeros(3, 8, 9)}, "a.png is 48x40 and key frame 2 is 9x8"),
        ({"last": torch.zeros(40, 48)}, r"shape \(3, H, W\), or .* not \(40, 48\)"),
        ({"last": torch.full((3, 40, 48), 255.0)}, r"\[-1, 1\]"),
        ({"frames": 10**6}, "GiB"),
        ({"ease": "inout"}, "unknown ease 'inout'"),
        ({"diversity": 1.5}, "diversity must lie between 0 and 1, not 1.5"),
        ({"pick": 0}, "pick must be 1 or more"),
        ({"pick": 5}, "there are 4 samples"),
        ({"pick": 2}, "linear draws the same every time: there is no sample 2"),
        ({"fallback": "blend"}, "unknown fallback 'blend'"),
        ({"fallback": "hold"}, "can only be seen from a method whose samples differ"),
        ({"fallback": "hold", "samples": 1, "model": "RELEASE", "device": "cpu"}, "from two samples or more"),
        ({"fallback": "hold", "diversity": 0.0, "model": "RELEASE", "device": "cpu"}, "whose samples differ"),
        ({"unsure": 3.0}, "for a fallback"),
        ({"fallback": "hold", "unsure": -1.0}, "unsure is a spread of 0 or more"),
    ],
)
def test_tween_says_what_is_wrong(keys: tuple[Path, Path], release: Path, wrong: dict, sentence: str) -> None:
    asked = {"last": keys[1], "model": "linear"} | wrong
    if asked["model"] == "RELEASE":
        asked["model"] = release
    with pytest.raises(ValueError, match=sentence):
        api.tween(keys[0], asked.pop("last"), **asked)


def test_save_writes_a_file_for_each_sample_and_a_sheet(tmp_path: Path) -> None:
    clip = clip_of(2)
    written = api.save(clip, tmp_path / "t.mp4")
    assert [path.name for path in written] == ["t-1.mp4", "t-2.mp4", "t-sheet.png"]
    assert sorted(listing(tmp_path)) == ["t-1.mp4", "t-2.mp4", "t-sheet.png"]
    frames, fps = io.read_video(written[1])
    assert frames.shape == (3, 5, 16, 24)
    assert fps == clip.fps
    assert (frames - clip.frames[1]).abs().mean() < (frames - clip.frames[0]).abs().mean()
    assert torch.allclose(io.read_image(written[2]), ops.contact_sheet(clip.frames, columns=16), atol=1.01 / 127.5)


def test_save_one_sample_takes_the_name_as_it_is(tmp_path: Path) -> None:
    assert [path.name for path in api.save(clip_of(1), tmp_path / "t.gif", sheet=False)] == ["t.gif"]
    assert sorted(listing(tmp_path)) == ["t.gif"]


def test_save_into_folders(tmp_path: Path) -> None:
    clip = clip_of(2)
    written = api.save(clip, tmp_path / "t")
    assert [str(path.relative_to(tmp_path)) for path in written] == ["t/sample-1", "t/sample-2", "t-sheet.png"]
    pictures = sorted(written[1].iterdir())
    assert len(pictures) == 5
    assert torch.allclose(io.read_image(pictures[2]), clip.frames[1, :, 2], atol=1.01 / 127.5)
    before = listing(tmp_path)
    with pytest.raises(
        FileExistsError, match="not empty"
    ):  # never mixed with, or put in the place of, somebody's files
        api.save(clip, tmp_path / "t")
    assert listing(tmp_path) == before


def test_save_is_all_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip, out = clip_of(3), tmp_path / "t.gif"
    (tmp_path / "t-1.gif").write_bytes(b"older")
    before, write_video, calls = listing(tmp_path), io.write_video, []

    def full_disk(path: Path, frames: torch.Tensor, fps: float, **options: Any) -> None:
        calls.append(path)
        if len(calls) == 3:
            raise OSError("no space left")
        write_video(path, frames, fps, **options)

    monkeypatch.setattr(io, "write_video", full_disk)
    for place in (out, tmp_path / "new" / "newer" / "t.gif"):
        calls.clear()
        with pytest.raises(OSError, match="no space left"):
            api.save(clip, place)
        assert len(calls) == 3
        assert listing(tmp_path) == before

    monkeypatch.setattr(io, "write_video", write_video)
    api.save(clip, tmp_path / "new" / "newer" / "t.gif")
    assert (tmp_path / "new" / "newer" / "t-3.gif").is_file()
    api.save(clip, out)
    assert (tmp_path / "t-1.gif").read_bytes() != b"older"


@pytest.mark.parametrize("out", ["t.avi", "file/t.mp4", "file/new/t.mp4", "file", "folder.mp4", "."])
def test_outputs_refuses_what_cannot_be_written(tmp_path: Path, out: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder.mp4").mkdir()
    before = listing(tmp_path)
    with pytest.raises((ValueError, OSError), match=r"another output|must end in"):
        api.save(clip_of(1), tmp_path / out)
    assert listing(tmp_path) == before


def test_open_source_takes_a_name_a_place_or_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOUGA_CACHE", str(tmp_path / "cache"))
    assert api.open_source("shapes", "train", (16, 24)).clip(0, 0, 3).shape == (3, 3, 16, 24)
    (tmp_path / "clips").mkdir()
    for number in range(8):
        io.write_video(tmp_path / "clips" / f"{number}.mp4", clip_of(1).frames[0], 25.0)
    for spec in (str(tmp_path / "clips"), f"folder:{tmp_path / 'clips'}"):
        assert api.open_source(spec, "train", (16, 24)).clip(0, 0, 5).shape == (3, 5, 16, 24)
    with pytest.raises(FileNotFoundError, match="weizmann"):
        api.open_source("weizmann", "train", (64, 64))
    with pytest.raises(ValueError, match=r"unknown source 'weizman'.*shapes.*weizmann, kth"):
        api.open_source("weizman", "train", (64, 64))
    with pytest.raises(ValueError, match="folder:/path"):
        api.open_source("folder", "train", (64, 64))
    with pytest.raises(ValueError, match="train"):
        api.open_source("shapes", "no-such-split", (64, 64))


def test_data_check_counts_an_endless_source() -> None:
    found = api.data_check("shapes")
    assert found["licence"]
    assert "train" in found["splits"]
    assert found["splits"]["train"]["videos"] == 8
    assert found["splits"]["train"]["damaged"] == {}


def test_data_check_names_the_damaged(tmp_path: Path) -> None:
    for number in range(8):
        io.write_video(tmp_path / f"{number}.mp4", clip_of(1).frames[0], 25.0)
    whole = (tmp_path / "3.mp4").read_bytes()
    (tmp_path / "3.mp4").write_bytes(whole[: len(whole) // 2])
    splits = api.data_check(tmp_path)["splits"].values()
    assert [name for split in splits for name in split["damaged"]] == ["3.mp4"]
    assert {split["longest"] for split in splits if split["videos"]} == {5}


def test_data_check_of_weizmann(real_data: Path) -> None:
    splits = api.data_check("weizmann")["splits"]
    assert {name: (split["videos"], split["damaged"]) for name, split in splits.items()} == {
        "train": (48, {}),
        "test": (16, {}),
    }
    assert all(40 < split["shortest"] <= split["longest"] < 200 for split in splits.values())


def test_info_says_what_a_weight_file_is(release: Path) -> None:
    found = api.info(release)
    header = api.load(release)[1]
    assert found["kind"] == "release"
    assert found["config"] == header["config"]
    assert found["provenance"]
    assert found["parameters"] == sum(
        tensor.numel() for name, tensor in load_file(release).items() if not name.endswith("num_batches_tracked")
    )
    assert found["bytes"] == release.stat().st_size
    assert found["sha256"] == hashlib.sha256(release.read_bytes()).hexdigest()


def test_weights_are_loaded_by_name(release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api.models, "weights", lambda: {"small-thing": release})
    assert api.info("small-thing")["file"] == str(release)
    assert api.load("small-thing")[1]["sha256"] == api.info(release)["sha256"]
    with pytest.raises(ValueError, match=r"small-thing.*hold, linear, flow"):
        api.load("big-thing")


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"recipe": "inbetween/tyni"}, "did you mean 'inbetween/tiny'"),
        ({"settings": ["model.chanels=3"]}, "unknown setting 'model.chanels'; valid here: model\\."),
        ({"settings": ["batch"]}, "name=value"),
        ({"steps": 1, "minutes": 1.0}, "not both"),
        ({"steps": 0}, "steps must be above 0"),
        ({"minutes": -1.0}, "minutes must be above 0"),
        ({"data": "nowhere"}, "unknown source 'nowhere'"),
        ({"device": "abacus"}, "abacus"),
    ],
)
def test_train_says_what_is_wrong_and_writes_nothing(tmp_path: Path, asked: dict, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        api.train(**({"recipe": "inbetween/tiny", "data": "shapes", "out": tmp_path / "run"} | asked))
    assert listing(tmp_path) == {}


def test_train_reports_applies_settings_and_goes_on(tmp_path: Path) -> None:
    seen: list[int] = []
    asked = {"device": "cpu", "out": tmp_path / "run", "settings": ["batch=2"]}
    api.train("inbetween/tiny", "shapes", steps=2, callbacks=[lambda now: seen.append(now.step)], **asked)
    assert seen
    assert seen[-1] == 2
    with pytest.raises(ValueError, match="resume"):
        api.train("inbetween/tiny", "shapes", steps=3, **asked)
    path = api.train(
        "inbetween/tiny", "shapes", steps=3, resume=True, callbacks=[lambda now: seen.append(now.step)], **asked
    )
    assert seen[-1] == 3
    assert path == tmp_path / "run" / "weights.safetensors"
    assert path.is_file()


def test_listing_and_importing_take_no_torch() -> None:
    code = (
        "import sys, douga; from douga import api; from douga.core.registry import METHODS; list(METHODS); "
        "api.weights(); print([name for name in ('torch', 'numpy', 'cv2', 'av') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_no_file_of_the_door_has_the_name_of_a_function() -> None:
    files = {path.stem for path in Path(api.__file__).parent.glob("*.py")}
    assert "files" in files
    assert files.isdisjoint(api.__all__)  # what was imported last would hide the other
    assert all(hasattr(api, name) for name in api.__all__)
    assert set(douga.__all__) <= set(api.__all__)

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from douga.core.clip import Request
from douga.core.registry import METHODS, RECIPES
from douga.train import checkpoint


@pytest.fixture
def release(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    experiment = RECIPES.load("inbetween/tiny")()
    path = tmp_path / "weights.safetensors"
    checkpoint.save_release(path, METHODS.load(experiment.method)(experiment.model), {"steps": 7}, experiment.method)
    return path


def test_release_says_what_it_is_and_draws_the_same(release: Path) -> None:
    header = checkpoint.read_header(release)
    assert (header["schema"], header["kind"], header["method"]) == (1, "release", "inbetween-gan")
    assert header["provenance"] == {"steps": 7}
    (first, _), (second, _) = checkpoint.load_release(release), checkpoint.load_release(release)
    assert header["parameters"] > sum(parameter.numel() for parameter in first.generator.parameters()) - 1
    assert not any(name.startswith("critics") for name in checkpoint.read(release, "release")[0])
    key = torch.rand(1, 3, 32, 32) * 2 - 1
    draw = [m.synthesize(Request.tween(key, -key, 3), 1, torch.Generator().manual_seed(1)) for m in (first, second)]
    assert torch.equal(*draw)


def test_what_is_no_weight_file_is_said_in_one_sentence(release: Path, tmp_path: Path) -> None:
    whole = release.read_bytes()
    cases = {
        "truncated": (whole[:-100], "truncated"),
        "short": (whole[:50], "not a weight file"),
        "empty": (b"", "not a weight file"),
        "text": (b"hello, I am a text file", "not a weight file"),
        "newer": (whole.replace(b'\\"schema\\": 1', b'\\"schema\\": 9', 1), "newer douga"),
    }
    for name, (content, message) in cases.items():
        path = tmp_path / f"{name}.safetensors"
        path.write_bytes(content)
        with pytest.raises(ValueError, match=message):
            checkpoint.load_release(path)
    with pytest.raises(ValueError, match="a folder"):
        checkpoint.read_header(tmp_path)
    with pytest.raises(FileNotFoundError):
        checkpoint.read_header(tmp_path / "nothing")
    with pytest.raises(ValueError, match="wanted is a training checkpoint"):
        checkpoint.read(release, "training")


def test_a_full_disk_leaves_what_was_there(release: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = release.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        checkpoint.write(release, {"x": torch.zeros(3)}, {"kind": "release"})
    assert release.read_bytes() == before and list(release.parent.iterdir()) == [release]

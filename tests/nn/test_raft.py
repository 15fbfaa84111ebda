from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from douga.data.shapes import Shapes
from douga.nn import raft
from douga.nn.raft import RaftSmall
from douga.video import flow as dis

# Flow [0, :, 20::110, 25::105] of `waves`, 12 steps, by torchvision 0.29.2's raft_small with the same weights under its
# own names, on the CPU; the odd size padded with its edges to 264x272, and cut again.
GOLDEN = {
    (256, 264): [
        [[3.5616, 3.4882, 3.3963], [5.5354, 5.6162, 5.5006], [7.7392, 7.6729, 7.5131]],
        [[-2.4066, -3.8871, -5.3539], [-2.5102, -4.0466, -5.4124], [-2.6083, -4.0865, -5.5176]],
    ],
    (259, 270): [
        [[3.5564, 3.5451, 3.4198], [5.5349, 5.6132, 5.5292], [7.7147, 7.7294, 7.575]],
        [[-2.4287, -3.9097, -5.5794], [-2.6037, -4.1028, -5.5788], [-2.5957, -4.1006, -5.4865]],
    ],
}


def waves(height: int, width: int) -> tuple[Tensor, Tensor]:
    """A pattern, and it moved by (3 + 0.02 y, -2 - 0.015 x) px."""
    y, x = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")

    def picture(x: np.ndarray, y: np.ndarray) -> Tensor:
        red, green = np.sin(0.11 * x + 0.3 * np.sin(0.13 * y)), np.cos(0.09 * y - 0.05 * x)
        blue = np.sin(0.021 * (x * 0.7 + y) + 0.4 * np.sin(0.17 * x))
        return torch.from_numpy(np.stack([red, green, blue])[None]).float()

    return picture(x, y), picture(x - 3 - 0.02 * y, y + 2 + 0.015 * x)


def texture(height: int, width: int) -> Tensor:
    """Clouds of several sizes, which have a place to hold on to everywhere."""
    generator, picture = torch.Generator().manual_seed(0), torch.zeros(1, 3, height, width)
    for cells in (6, 15, 40):
        coarse = torch.rand(1, 3, cells, cells * width // height, generator=generator) - 0.5
        picture += F.interpolate(coarse, (height, width), mode="bicubic")
    return picture.clamp(-1, 1)


def random_weights() -> dict[str, Tensor]:
    """Shapes as in the paper's appendix; a name's numbers are channels in, channels out, and the side of the kernel."""
    shapes: dict[str, tuple[int, int, int]] = {}
    for net, out in (("fnet", 128), ("cnet", 160)):
        shapes |= {f"{net}.conv1": (3, 32, 7), f"{net}.conv2": (96, out, 1)}
        for layer, before, width in ((1, 32, 32), (2, 32, 64), (3, 64, 96)):
            for block, inward in ((0, before), (1, width)):
                shapes[f"{net}.layer{layer}.{block}.conv1"] = (inward, width // 4, 1)
                shapes[f"{net}.layer{layer}.{block}.conv2"] = (width // 4, width // 4, 3)
                shapes[f"{net}.layer{layer}.{block}.conv3"] = (width // 4, width, 1)
            if layer > 1:
                shapes[f"{net}.layer{layer}.0.downsample.0"] = (before, width, 1)
    rest = {"encoder.convc1": (196, 96, 1), "encoder.convf1": (2, 64, 7), "encoder.convf2": (64, 32, 3)}
    rest |= {"encoder.conv": (128, 80, 3), "flow_head.conv1": (96, 128, 3), "flow_head.conv2": (128, 2, 3)}
    rest |= {f"gru.conv{gate}": (96 + 64 + 82, 96, 3) for gate in "zrq"}
    shapes |= {f"update_block.{name}": shape for name, shape in rest.items()}
    generator, tensors = torch.Generator().manual_seed(0), {}
    for name, (inward, outward, side) in shapes.items():
        spread = (1 / (inward * side**2)) ** 0.5
        tensors[f"{name}.weight"] = torch.randn(outward, inward, side, side, generator=generator) * spread
        tensors[f"{name}.bias"] = torch.randn(outward, generator=generator) * 0.1
    return tensors


@pytest.fixture
def weights(monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensor]:
    tensors = random_weights()
    monkeypatch.setattr(raft, "load", lambda name: tensors)
    monkeypatch.setattr(raft, "SMALLEST_PX", 128)  # a quarter of the work
    return tensors


@pytest.fixture
def network(real_data: Path) -> RaftSmall:
    if not (real_data / "weights" / "raft_small.safetensors").is_file():
        pytest.skip("no weights of RAFT-small in DOUGA_CACHE")
    return RaftSmall()


@pytest.mark.parametrize("size", GOLDEN)
def test_the_real_weights_give_what_they_give_elsewhere(size: tuple[int, int], network: RaftSmall) -> None:
    flow = network(*waves(*size))
    assert flow.shape == (1, 2, *size)
    torch.testing.assert_close(flow[0, :, 20::110, 25::105], torch.tensor(GOLDEN[size]), rtol=0, atol=2e-3)


def test_it_is_nearer_to_the_exact_flow_than_dis(network: RaftSmall) -> None:
    shapes, errors = Shapes(None, "test", (64, 64)), []
    for index in range(6):
        clip, exact = shapes.clip(index, 8, 2), shapes.flow(index, 8, 2)[:, 0]
        source, target = clip[None, :, 1], clip[None, :, 0]
        seen = shapes.visible(index, 8, 2)[0, 0]
        guesses = torch.zeros(1, 2, 64, 64), dis.estimate(source, target), network(source, target)
        errors.append([float((guess[0] - exact).norm(dim=0)[seen].mean()) for guess in guesses])
    zero, other, ours = np.mean(errors, axis=0)
    assert ours < 0.4 * zero
    assert ours < other


@pytest.mark.parametrize("size", [(256, 320), (45, 60)])  # as it is, and enlarged
def test_it_finds_a_translation(size: tuple[int, int], network: RaftSmall) -> None:
    (height, width), (x, y) = size, (size[1] // 20, -size[0] // 15)
    wide = texture(height + 40, width + 40)
    source, target = wide[..., 20 : 20 + height, 20 : 20 + width], wide[..., 20 - y :, 20 - x :][..., :height, :width]
    rest = height // 6
    miss = network(source, target)[0, :, rest:-rest, rest:-rest] - torch.tensor([float(x), float(y)])[:, None, None]
    assert miss.norm(dim=0).mean() < 0.2
    assert network(source, source).norm(dim=1).mean() < 0.1


def test_it_has_the_parameters_of_the_paper(weights: dict[str, Tensor]) -> None:
    assert sum(tensor.numel() for tensor in weights.values()) == 990_162
    reads: set[str] = set()

    class Watched(dict[str, Tensor]):
        def __getitem__(self, name: str) -> Tensor:
            reads.add(name)
            return super().__getitem__(name)

    network = RaftSmall()
    network._tensors = Watched(weights)
    network._flow(*waves(128, 128), 1)
    assert reads == set(weights)


def test_the_pairs_of_a_batch_do_not_touch_each_other(weights: dict[str, Tensor]) -> None:
    source, target = (torch.rand(2, 3, 70, 91, generator=torch.Generator().manual_seed(n)) * 2 - 1 for n in range(2))
    network = RaftSmall()
    flow = network(source, target, iterations=3)
    assert flow.shape == (2, 2, 70, 91)
    assert flow.std() > 0.01
    torch.testing.assert_close(flow[1:], network(source[1:], target[1:], iterations=3), rtol=0, atol=1e-4)


def test_pictures_are_padded_on_both_sides_and_flow_is_cut(
    weights: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    def positions(_: RaftSmall, source: Tensor, target: Tensor, iterations: int) -> Tensor:
        assert torch.equal(source[..., 2:133, 1:143], picture)
        assert torch.equal(target[..., :2, 1:143], picture[..., :1, :].expand(-1, -1, 2, -1))
        assert torch.equal(target[..., 133:, 1:143], picture[..., -1:, :].expand(-1, -1, 3, -1))
        height, width = source.shape[-2:]
        assert (height, width) == (136, 144)
        return torch.stack(torch.meshgrid(torch.arange(width), torch.arange(height), indexing="xy"))[None].float()

    picture = texture(131, 142)
    monkeypatch.setattr(RaftSmall, "_flow", positions)
    flow = RaftSmall()(picture, picture)
    assert flow[0, :, 0, 0].tolist() == [1, 2]
    assert flow.shape == (1, 2, 131, 142)


def test_small_pictures_are_enlarged_and_flow_counts_their_own_pixels(
    weights: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    def constant(_: RaftSmall, source: Tensor, target: Tensor, iterations: int) -> Tensor:
        assert source.shape == target.shape == (1, 3, 128, 240)  # 33x60 becomes 128x233, and 7 columns more
        return torch.tensor([233.0, 128.0])[None, :, None, None].expand(1, 2, 128, 240)

    monkeypatch.setattr(RaftSmall, "_flow", constant)
    flow = RaftSmall()(torch.zeros(1, 3, 33, 60), torch.zeros(1, 3, 33, 60))
    torch.testing.assert_close(flow, torch.tensor([60.0, 33.0])[None, :, None, None].expand(1, 2, 33, 60))


def test_what_is_looked_up_is_what_stands_there() -> None:
    generator = torch.Generator().manual_seed(0)
    source, target = (torch.randn(1, 5, 16, 24, generator=generator) for _ in range(2))
    places = torch.rand(1, 2, 16, 24, generator=generator) * 40 - 8  # some of them outside
    read = raft._look_up(RaftSmall._correlations(source, target), places)
    assert read.shape == (1, 196, 16, 24)

    def at(values: Tensor, x: float, y: float) -> float:
        """Bilinear, 0 outside."""
        total = 0.0
        for row in (int(np.floor(y)), int(np.floor(y)) + 1):
            for column in (int(np.floor(x)), int(np.floor(x)) + 1):
                if 0 <= row < values.shape[0] and 0 <= column < values.shape[1]:
                    total += float(values[row, column]) * (1 - abs(x - column)) * (1 - abs(y - row))
        return total

    for row, column in ((0, 0), (7, 3), (15, 23), (4, 20)):
        x, y = places[0, :, row, column].tolist()
        expected = []
        for level in range(4):
            cells = target[0].unflatten(1, (-1, 2**level)).unflatten(3, (-1, 2**level)).mean((2, 4))
            values = torch.einsum("c,cyx->yx", source[0, :, row, column], cells) / 5**0.5
            for right in range(-3, 4):
                for down in range(-3, 4):
                    expected.append(at(values, x / 2**level + right, y / 2**level + down))
        torch.testing.assert_close(read[0, :, row, column], torch.tensor(expected), rtol=0, atol=1e-4)


def test_no_iteration_is_one_sentence(weights: dict[str, Tensor]) -> None:
    with pytest.raises(ValueError, match="1 iteration or more, not 0"):
        RaftSmall()(torch.zeros(1, 3, 16, 16), torch.zeros(1, 3, 16, 16), iterations=0)

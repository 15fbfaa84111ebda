import pytest
import torch
import torch.nn.functional as F

from douga.video.flow import estimate, inside


@pytest.mark.parametrize("down", [False, True])  # x and y must not be exchanged
@pytest.mark.parametrize("side", [32, 64, 200])  # smaller and larger than DIS sees it
def test_finds_a_known_motion(side: int, down: bool) -> None:  # noqa: FBT001
    coarse = torch.rand(1, 3, 9, 12, generator=torch.Generator().manual_seed(0)) * 2 - 1
    wide = F.interpolate(coarse, (side, side * 4 // 3), mode="bicubic").clamp(-1, 1)
    step = side // 16
    frames = wide[..., step : step + side], wide[..., :side]  # goes right
    flow = estimate(*(frame.mT for frame in frames)).flip(1).mT if down else estimate(*frames)
    rest = side // 4
    miss = flow[0, :, rest:-rest, rest:-rest] - torch.tensor([float(step), 0.0])[:, None, None]
    assert miss.norm(dim=0).mean() < 0.03 * step + 0.1


def test_the_pairs_of_a_batch_do_not_touch_each_other() -> None:
    source, target = (torch.rand(2, 3, 20, 30, generator=torch.Generator().manual_seed(n)) * 2 - 1 for n in range(2))
    assert torch.allclose(estimate(source, target)[1:], estimate(source[1:], target[1:]), atol=1e-5)


def test_inside_is_where_the_flow_stays_in_the_picture() -> None:
    flow = torch.zeros(1, 2, 4, 6)
    flow[:, 0], flow[:, 1] = 2.0, -1.0
    expected = torch.zeros(4, 6)
    expected[1:, :4] = 1
    assert torch.equal(inside(flow)[0, 0], expected)

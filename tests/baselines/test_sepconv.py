from __future__ import annotations

import pytest
import torch
from torch import Tensor

from douga.baselines.naive import Linear
from douga.baselines.sepconv import Config, SepConv, Window, filtered
from douga.core.clip import Batch, Request
from douga.core.contracts import Synthesizer
from douga.core.registry import RECIPES

TINY = Config(widths=(4, 6), taps=5, times=2)


def model(config: Config = TINY) -> SepConv:
    """With filters that differ from pixel to pixel, unlike those of a fresh one."""
    torch.manual_seed(0)
    made = SepConv(config).eval()
    for head in made.filters.heads:
        torch.nn.init.normal_(list(head.modules())[-1].weight, std=0.2)
    return made


def drawn(method: Synthesizer, request: Request, samples: int = 1) -> Tensor:
    return method.synthesize(request, samples, torch.Generator())


@pytest.fixture
def tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """So small that a small picture has several, whole and cut ones."""
    monkeypatch.setattr("douga.baselines.sepconv.TILE_PX", (2, 4))


@pytest.mark.usefixtures("tiles")
def test_a_pixel_is_the_sum_over_its_patch_written_as_loops() -> None:
    generator = torch.Generator().manual_seed(0)
    height, width, taps = 3, 6, 5  # the patches reach beyond every border
    frames = torch.randn(2, 2, height, width, generator=generator)
    vertical, horizontal = (torch.randn(2, taps, height, width, generator=generator) for _ in range(2))
    expected = torch.zeros_like(frames)
    for y in range(height):
        for x in range(width):
            for i in range(taps):
                for j in range(taps):
                    row, column = min(max(y + i - 2, 0), height - 1), min(max(x + j - 2, 0), width - 1)
                    weight = vertical[:, i, y, x] * horizontal[:, j, y, x]
                    expected[:, :, y, x] += weight[:, None] * frames[:, :, row, column]
    torch.testing.assert_close(filtered(frames, vertical, horizontal), expected)


@pytest.mark.usefixtures("tiles")
def test_its_gradients_are_those_of_finite_differences() -> None:
    frames, *filters = (torch.randn(1, n, 3, 5, dtype=torch.float64) for n in (2, 3, 3))
    filters = [filter.requires_grad_() for filter in filters]
    assert torch.autograd.gradcheck(lambda *filters: filtered(frames, *filters), filters)


def test_autocast_does_not_round_the_picture() -> None:
    frames, taps = torch.rand(1, 3, 8, 8) * 2 - 1, torch.zeros(1, 3, 8, 8)
    taps[:, 1] = 1
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(filtered(frames, taps, taps), frames)


def test_full_model_has_the_parameters_of_the_paper() -> None:
    with torch.device("meta"):
        paper = SepConv(RECIPES.load("sepconv/paper")().model)
    assert round(sum(parameter.numel() for parameter in paper.parameters()) / 1e6, 1) == 21.7


def test_small_sees_as_many_clips_as_the_others_and_fits_in_8_MB() -> None:
    experiment, brief = RECIPES.load("sepconv/small")(), RECIPES.load("inbetween/brief")()
    assert experiment.batch * experiment.steps == brief.batch * brief.steps
    with torch.device("meta"):
        small = SepConv(experiment.model)
    assert sum(parameter.numel() * 4 for parameter in small.parameters()) < 8e6


def test_starts_out_as_a_cross_fade() -> None:
    torch.manual_seed(0)
    request = Request.tween(*(torch.rand(2, 3, 16, 16) * 2 - 1 for _ in range(2)), 5)
    torch.testing.assert_close(drawn(SepConv(TINY), request), drawn(Linear(), request), atol=0.1, rtol=0)


@pytest.mark.parametrize("size", [(1, 1), (3, 50), (9, 7)])
def test_any_size_is_drawn_as_if_it_went_on_beyond_its_border(size: tuple[int, int]) -> None:
    method = model()
    first, last = (torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(k)) * 2 - 1 for k in range(2))
    request = Request.tween(first, last, 3)
    further = torch.nn.functional.pad(request.known, (0, -size[1] % 4, 0, -size[0] % 4, 0, 0), mode="replicate")
    expected = drawn(method, Request(further, request.mask))[..., : size[0], : size[1]]
    torch.testing.assert_close(drawn(method, request), expected)


def test_pieces_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    method, video = model(), torch.rand(2, 3, 9, 8, 8) * 2 - 1
    request = Request.hide(video, torch.arange(9) % 4 == 0)
    whole = drawn(method, request)
    monkeypatch.setattr("douga.baselines.sepconv.PIECE_PX", 8 * 8 * 2)
    torch.testing.assert_close(drawn(method, request), whole)


def test_draws_between_neighbouring_known_frames_and_holds_outside() -> None:
    method, video = model(), torch.rand(1, 3, 9, 8, 8) * 2 - 1
    both = drawn(method, Request.hide(video, torch.isin(torch.arange(9), torch.tensor([1, 4, 6]))))[0]
    assert torch.equal(both[:, :, 0], video[:, :, 1])
    assert torch.equal(both[:, :, 7:], video[:, :, [6, 6]])
    for start, end in ((1, 4), (4, 6)):
        alone = drawn(method, Request.tween(video[:, :, start], video[:, :, end], end - start - 1))[0]
        torch.testing.assert_close(both[:, :, start : end + 1], alone)
    assert both.abs().max() <= 1


def test_other_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="3 channels"):
        drawn(model(), Request.tween(torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 8, 8), 2))


@pytest.mark.parametrize("wrong", [Config(widths=(8,)), Config(taps=4), Config(times=0)])
def test_a_config_that_cannot_be_built_is_refused(wrong: Config) -> None:
    with pytest.raises(ValueError, match="taps odd"), torch.device("meta"):
        SepConv(wrong)


def windows(seeds: Tensor, video: Tensor) -> Window:
    (window,) = model().windows(Batch(video, seeds))
    return window


def test_a_step_draws_other_true_frames_in_each_clip_and_only_the_seeds_decide() -> None:
    video = torch.rand(8, 3, 16, 8, 8)
    video[:, 0, :, 0, 0] = torch.arange(16) / 15  # each frame says when it is
    window = windows(torch.arange(8), video)
    torch.testing.assert_close(window.truth[:, 0, 0, 0], window.t)
    assert window.t.min() > 0
    assert window.t.max() < 1
    assert window.t.unflatten(0, (8, 2)).diff(dim=1).abs().min() > 0  # the two of a clip differ
    assert len(window.t.unique()) > 6
    assert torch.equal(window.first, video[:, :, 0].repeat_interleave(2, 0))
    assert torch.equal(window.last, video[:, :, -1].repeat_interleave(2, 0))
    assert torch.equal(windows(torch.arange(4, 8), video[4:]).t, window.t[8:])


def test_clips_without_a_frame_between_are_refused() -> None:
    with pytest.raises(ValueError, match="3 frames"):
        windows(torch.arange(1), torch.zeros(1, 3, 2, 8, 8))


def test_learns_to_move_what_a_cross_fade_dissolves() -> None:
    torch.manual_seed(0)
    method, t = SepConv(Config(widths=(8, 16), taps=9)), torch.arange(1, 8) / 8
    x, y = torch.arange(16.0), torch.arange(16.0)[:, None]

    def spot(t: Tensor) -> Tensor:
        """Goes 4 px to the right."""
        centre = 6 + 4 * t[:, None, None, None]
        return torch.exp(-((x - centre) ** 2 + (y - 8) ** 2) / 6).expand(-1, 3, -1, -1)

    window = Window(spot(0 * t), spot(0 * t + 1), t, spot(t))
    optimiser = torch.optim.Adam(method.parameters(), lr=3e-3)
    for _ in range(60):
        optimiser.zero_grad()
        loss = method.losses("filters", window, method(window, None)[0])["l1"]
        loss.backward()
        optimiser.step()
    fade = torch.lerp(window.first, window.last, t[:, None, None, None])
    assert loss < (fade - window.truth).abs().mean() / 2

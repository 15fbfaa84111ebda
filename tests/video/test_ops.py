import math

import pytest
import torch
from torch import Tensor

from douga.video.ops import colour_labels, contact_sheet, fit, on_white, premultiply, resize, unpremultiply, warp


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.mark.parametrize("size", [(8, 8), (30, 5), (40, 40), (1, 1)])
def test_resize_keeps_axes_range_and_even_grey(size: tuple[int, int]) -> None:
    video = noise(2, 3, 4, 17, 11).sign()  # black and white: bicubic overshoots most
    resized = resize(video, size)
    assert resized.shape == (2, 3, 4, *size)
    assert resized.abs().max() <= 1
    assert torch.allclose(resize(torch.full_like(video, 0.3), size), torch.tensor(0.3), atol=1e-6)


def test_resize_to_the_same_size_changes_nothing() -> None:
    video = noise(3, 9, 7)
    assert torch.equal(resize(video, (9, 7)), video)


def test_resize_down_averages_what_it_drops() -> None:
    stripes = torch.ones(3, 32, 32)
    stripes[..., ::2] = -1
    assert resize(stripes, (4, 4)).abs().max() < 0.1  # a resize that is not antialiased takes single pixels: 1 or -1


def test_fit_cuts_the_centre() -> None:
    wide = torch.full((3, 4, 12), -1.0)
    wide[..., 4:8] = 0.5
    assert torch.equal(fit(wide, (4, 4)), torch.full((3, 4, 4), 0.5))
    assert torch.equal(fit(wide.mT, (4, 4)), torch.full((3, 4, 4), 0.5))
    assert fit(wide, (100, 1)).shape == (3, 100, 1)


def test_warp_by_whole_pixels_moves_exactly() -> None:
    frame = noise(2, 3, 9, 12)
    flow = torch.tensor([3.0, -2.0])[None, :, None, None].expand(2, 2, 9, 12)
    moved = warp(frame, flow)
    assert torch.allclose(moved[:, :, 2:, :-3], frame[:, :, :-2, 3:], atol=1e-5)
    assert torch.allclose(moved[:, :, :2, :-3], frame[:, :, :1, 3:].expand(-1, -1, 2, -1), atol=1e-5)  # the border


def test_warp_equals_bilinear_written_as_loops() -> None:
    frame, flow = noise(1, 2, 6, 5), noise(1, 2, 6, 5, seed=1) * 4
    expected = torch.empty_like(frame)
    for row in range(6):
        for column in range(5):
            x = min(max(column + flow[0, 0, row, column].item(), 0), 4)
            y = min(max(row + flow[0, 1, row, column].item(), 0), 5)
            x0, y0 = math.floor(x), math.floor(y)
            x1, y1 = min(x0 + 1, 4), min(y0 + 1, 5)
            top = frame[0, :, y0, x0] * (1 - x + x0) + frame[0, :, y0, x1] * (x - x0)
            bottom = frame[0, :, y1, x0] * (1 - x + x0) + frame[0, :, y1, x1] * (x - x0)
            expected[0, :, row, column] = top * (1 - y + y0) + bottom * (y - y0)
    assert torch.allclose(warp(frame, flow), expected, atol=1e-5)


def test_half_a_pixel_blurs_less_when_it_is_bicubic() -> None:
    wave = (torch.arange(64) * 2 * math.pi / 5).sin().expand(1, 1, 4, 64)
    moved = (torch.arange(0.5, 64) * 2 * math.pi / 5).sin().expand(1, 1, 4, 64)
    half = torch.tensor([0.5, 0.0])[None, :, None, None].expand(1, 2, 4, 64)
    lost = {
        mode: (warp(wave, half, mode=mode) - moved)[..., 2:-3].abs().mean().item() for mode in ("bilinear", "bicubic")
    }
    assert lost["bicubic"] < 0.3 * lost["bilinear"]


def test_warp_in_half_precision_keeps_its_coordinates() -> None:
    frame = noise(1, 1, 1, 1001)
    flow = torch.ones(1, 2, 1, 1001, dtype=torch.bfloat16)
    moved = warp(frame.bfloat16(), flow)
    assert moved.dtype == torch.bfloat16
    assert torch.allclose(moved[..., :-1].float(), frame[..., 1:], atol=0.01)


def test_contact_sheet_lays_frames_side_by_side_with_white_gaps() -> None:
    rows = noise(2, 3, 5, 4, 6)
    sheet = contact_sheet(rows, pad=1)
    assert sheet.shape == (3, 2 * 4 + 1, 5 * 6 + 4)
    for row in range(2):
        for time in range(5):
            assert torch.equal(sheet[:, row * 5 : row * 5 + 4, time * 7 : time * 7 + 6], rows[row, :, time])
    assert (sheet[:, 4] == 1).all()
    assert (sheet[:, :, 6::7] == 1).all()


def test_contact_sheet_of_fewer_columns_keeps_first_and_last() -> None:
    rows = torch.linspace(-1, 1, 16)[:, None, None].expand(1, 3, 16, 2, 2)
    assert torch.equal(contact_sheet(rows, pad=0, columns=4)[0, 0, ::2], torch.linspace(-1, 1, 16)[[0, 5, 10, 15]])
    assert contact_sheet(rows, pad=0, columns=40).shape == (3, 2, 32)
    with pytest.raises(ValueError, match="1 or more columns, not 0"):
        contact_sheet(rows, columns=0)


def test_labels_to_look_at_have_a_colour_each_and_white_where_there_is_none() -> None:
    labels = torch.arange(-1, 11).view(1, 3, 4)
    shown = colour_labels(labels)
    assert shown.shape == (3, 1, 3, 4)
    assert shown.abs().max() <= 1
    colours = shown.flatten(1).T
    assert colours[0].tolist() == [1, 1, 1]
    apart = torch.cdist(colours, colours) + 9 * torch.eye(12)
    assert apart.min() > 0.15


def test_alpha_goes_in_and_out() -> None:
    video = torch.rand(2, 4, 3, 5, 6, generator=torch.Generator().manual_seed(0)) * 2 - 1
    there = premultiply(video)
    colour, alpha = (video[:, :3] + 1) / 2, (video[:, 3:] + 1) / 2
    torch.testing.assert_close(there[:, :3], colour * alpha * 2 - 1)
    torch.testing.assert_close(unpremultiply(there), video, rtol=0, atol=1e-4)
    torch.testing.assert_close(on_white(video), (colour * alpha + 1 - alpha) * 2 - 1)
    unseen = video.clone()
    unseen[:, 3] = -1
    assert (unpremultiply(premultiply(unseen)) == -1).all()
    assert (on_white(unseen) == 1).all()

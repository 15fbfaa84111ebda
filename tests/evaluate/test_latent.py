"""The latent lab on spaces that are known: a line, a ring."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from douga.evaluate.latent import Density, Way, density_aware, jumps, linear, picture, plane, spherical, ways


def ring(count: int = 400) -> Tensor:
    angle = torch.linspace(0, 2 * math.pi, count + 1)[:-1]
    return torch.stack([angle.cos(), angle.sin()], 1)


def decode(latents: Tensor) -> Tensor:
    """A grey level for each point."""
    return latents[:, :1, None, None].expand(-1, 3, 8, 8).clamp(-1, 1)


def test_linear_and_spherical_have_their_ends_and_an_even_pace() -> None:
    first, last = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 2.0])
    for way in (linear, spherical):
        path = way(first, last, 5)
        torch.testing.assert_close(path[[0, -1]], torch.stack([first, last]))
    torch.testing.assert_close(linear(first, last, 5)[2], torch.tensor([0.5, 1.0]))
    path = spherical(first, last, 5)
    torch.testing.assert_close(path.norm(dim=1), torch.linspace(1, 2, 5))
    torch.testing.assert_close(torch.atan2(path[:, 1], path[:, 0]), torch.linspace(0, math.pi / 2, 5))


@pytest.mark.parametrize("last", [[2.0, 0.0], [-1.0, 0.0], [0.0, 0.0], [1.0, 0.0]])
def test_spherical_is_straight_where_there_is_no_angle(last: list[float]) -> None:
    first, end = torch.tensor([1.0, 0.0]), torch.tensor(last)
    torch.testing.assert_close(spherical(first, end, 4), linear(first, end, 4))


def test_off_is_zero_for_the_usual_and_grows_away_from_it() -> None:
    density = Density(ring())
    assert density.off(ring(7)).abs().max() < 0.1
    radii = torch.tensor([1.0, 1.2, 1.5, 2.0])
    off = density.off(torch.stack([radii, torch.zeros(4)], 1))
    assert (off.diff() > 0).all()
    # A sum of round Gaussians, written out.
    point = torch.tensor([0.3, 0.9])
    expected = density.usual - ((-(ring() - point).square().sum(1) / 2 / density.width**2).exp().sum()).log()
    torch.testing.assert_close(density.off(point[None])[0], expected)


def test_the_density_aware_way_follows_the_ring() -> None:
    density = Density(ring())
    first, last = torch.tensor([1.0, 0.0]), torch.tensor([math.cos(2), math.sin(2)])
    straight, bent = linear(first, last, 9), density_aware(first, last, 9, density)
    torch.testing.assert_close(bent[[0, -1]], torch.stack([first, last]))
    assert density.off(bent).max() < density.off(straight).max() / 3
    steps = bent.diff(dim=0).norm(dim=1)
    assert steps.max() < 1.1 * steps.min()


def test_where_all_is_likely_the_density_aware_way_is_straight() -> None:
    latents = torch.rand(2000, 2, generator=torch.Generator().manual_seed(0)) * 4 - 2
    first, last = torch.tensor([-1.0, 0.0]), torch.tensor([1.0, 0.0])
    bent = density_aware(first, last, 9, Density(latents))
    assert (bent - linear(first, last, 9)).norm(dim=1).max() < 0.15


def test_identical_ends_are_a_point_and_not_nan() -> None:
    point = torch.tensor([1.0, 0.0])
    for way in ways(point, point, 4, Density(ring()), decode).values():
        assert way.latents.isfinite().all()
        assert way.travelled[1] < 0.1


def test_a_density_needs_pictures_that_differ() -> None:
    with pytest.raises(ValueError, match="more than 10"):
        Density(ring(10))
    with pytest.raises(ValueError, match="same latent"):
        Density(torch.ones(20, 3))


def test_travelled_adds_the_steps() -> None:
    latents = torch.tensor([[0.0, 0.0], [0.4, 0.0], [0.4, 0.3]])
    latent, pixels = Way(latents, decode(latents), torch.zeros(3)).travelled
    assert latent == pytest.approx(0.7)
    assert pixels == pytest.approx(0.2)  # pixels in 0-1


def test_plane_finds_the_widest_directions() -> None:
    chance = torch.Generator().manual_seed(0)
    latents = torch.randn(500, 3, generator=chance) * torch.tensor([0.1, 3.0, 1.0]) + 5
    mean, directions, share = plane(latents)
    torch.testing.assert_close(mean, latents.mean(0))
    torch.testing.assert_close(directions.abs(), torch.tensor([[0.0, 0], [1, 0], [0, 1]]), atol=0.1, rtol=0)
    assert share[0] > 0.8 > share[1]


def test_the_picture_is_written(tmp_path: Path) -> None:
    density = Density(ring())
    found = ways(ring()[0], ring()[130], 5, density, decode)
    picture(found, density, torch.zeros(2, 3, 8, 8), tmp_path / "ways.png", "a ring")
    assert Image.open(tmp_path / "ways.png").width > 800


def test_jumps_are_how_far_the_ends_are_from_the_key_frames() -> None:
    frames = torch.zeros(4, 3, 2, 2)
    frames[-1] += 0.2
    way = Way(torch.zeros(4, 2), frames, torch.zeros(4))
    keys = torch.stack([torch.full((3, 2, 2), 0.1), torch.full((3, 2, 2), -0.1)])
    assert jumps(way, keys) == pytest.approx((0.1 * 127.5, 0.3 * 127.5), rel=1e-5)

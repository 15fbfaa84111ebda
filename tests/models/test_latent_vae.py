"""The loss written out with loops and by Monte Carlo, and the path between latents, against `models/latent_vae.py`."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from douga.core.clip import Batch, Request
from douga.core.registry import RECIPES
from douga.models.latent_vae import Config, Gaussian, LatentVAE, Triplets, halfway

TINY = Config(size=(16, 16), widths=(4, 8), latent=3, alpha=0.0)


def model(**changes: object) -> LatentVAE:
    torch.manual_seed(0)
    return LatentVAE(replace(TINY, **changes))  # type: ignore[arg-type]


def clips(batch: int = 3, frames: int = 3) -> Batch:
    video = torch.rand(batch, 3, frames, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1
    return Batch(video, torch.arange(batch))


def terms(vae: LatentVAE, batch: Batch) -> tuple[dict[str, Tensor], Triplets, tuple[Tensor, Gaussian]]:
    (window,) = vae.windows(batch)
    out, _ = vae(window, None)
    return vae.losses("network", window, out), window, out


def gaussians(rows: int = 1, seed: int = 0) -> Gaussian:
    chance = torch.Generator().manual_seed(seed)
    return Gaussian(torch.randn(rows, 4, generator=chance), torch.randn(rows, 4, generator=chance) / 2)


def log_density(q: Gaussian, z: Tensor) -> Tensor:
    normal = torch.distributions.Normal(q.mean, (q.log_variance / 2).exp())
    return normal.log_prob(z).sum(-1)


def test_divergences_equal_a_monte_carlo_estimate_to_one_percent() -> None:
    p, q = gaussians(seed=0), gaussians(seed=1)
    standard = Gaussian(torch.zeros(1, 4), torch.zeros(1, 4))
    z = p.draw(torch.randn(400_000, 4, generator=torch.Generator().manual_seed(2)))
    for other, closed in ((q, p.kl(q)), (standard, p.kl_standard())):
        estimate = (log_density(p, z) - log_density(other, z)).mean()
        assert abs(estimate.item() / closed.item() - 1) < 0.01


@pytest.mark.parametrize("middle", ["parameters", "latents"])
def test_halfway_is_the_reading_that_it_names(middle: str) -> None:
    p, q = gaussians(seed=0), gaussians(seed=1)
    half = halfway(p, q, middle)  # type: ignore[arg-type]
    variances = torch.stack([p.log_variance.exp(), q.log_variance.exp()])
    torch.testing.assert_close(half.mean, (p.mean + q.mean) / 2)
    if middle == "parameters":
        torch.testing.assert_close(half.log_variance.exp(), variances.mean(0))
    else:
        noise = torch.randn(2, 200_000, 4, generator=torch.Generator().manual_seed(3))
        points = (p.draw(noise[0]) + q.draw(noise[1])) / 2
        torch.testing.assert_close(half.log_variance.exp()[0], points.var(0), rtol=0.02, atol=0)


def test_the_loss_is_that_of_the_paper() -> None:
    """Written out with loops over pictures and dimensions."""
    vae = model(alpha=5.0, beta=2.0, sparsity=0.5)
    found, window, (drawn, q) = terms(vae, clips())
    reconstruction = kl = between = sparse = 0.0
    for b in range(3):
        for k in range(3):
            reconstruction += (((drawn[k, b] + 1) / 2 - (window.pictures[k, b] + 1) / 2) ** 2).sum().item()
            mean, log_variance = q.mean[k, b], q.log_variance[k, b]
            kl += sum((v.exp() + m**2 - 1 - v).item() / 2 for m, v in zip(mean, log_variance, strict=True))
            sparse += mean.abs().sum().item()
        for z in range(3):
            (m0, m1, m2), (v0, v1, v2) = q.mean[:, b, z].tolist(), q.log_variance[:, b, z].exp().tolist()
            middle, variance = (m0 + m2) / 2, torch.tensor((v0 + v2) / 2)
            between += 0.5 * (variance.log() - torch.tensor(v1).log() + (v1 + (m1 - middle) ** 2) / variance - 1).item()
    wanted = {"reconstruction": reconstruction, "kl": 2 * kl, "in_between": 5 * between, "sparsity": 0.5 * sparse}
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert found[name].item() == pytest.approx(value / 3, rel=1e-4), name


def test_alpha_zero_is_a_plain_vae_to_the_last_bit() -> None:
    vae = model()
    found, window, _ = terms(vae, clips())
    pictures = window.pictures.flatten(0, 1)
    plain = vae.network.encode(pictures)
    decoded = vae.network.decode(plain.mean + (plain.log_variance / 2).exp() * window.noise.flatten(0, 1))
    squared = (decoded.unflatten(0, (3, 3)) - window.pictures).square().sum((0, 2, 3, 4)) / 4
    kl = (plain.log_variance.exp() + plain.mean.square() - 1 - plain.log_variance).sum(-1) / 2
    assert found.keys() == {"reconstruction", "kl"}
    assert found["reconstruction"].item() == squared.mean().item()
    assert found["kl"].item() == kl.unflatten(0, (3, 3)).sum(0).mean().item()


@pytest.mark.parametrize("middle", ["parameters", "latents"])
def test_a_perfect_middle_costs_nothing(middle: str) -> None:
    first, last = gaussians(5, seed=0), gaussians(5, seed=1)
    half = halfway(first, last, middle)  # type: ignore[arg-type]
    assert half.kl(half).abs().max().item() == 0


def test_an_autoencoder_has_no_noise_and_half_the_squared_distance() -> None:
    vae = model(variational=False, alpha=2.0)
    assert not vae.stochastic
    found, _, (_, q) = terms(vae, clips())
    distance = (q.mean[1] - (q.mean[0] + q.mean[2]) / 2).square().sum(-1) / 2
    assert found.keys() == {"reconstruction", "in_between"}
    torch.testing.assert_close(found["in_between"], 2 * distance.mean())


def test_triplets_have_their_true_middle_and_every_step() -> None:
    frames = 9
    video = torch.arange(frames).float()[:, None, None].expand(64, 3, frames, 16, 16) / 10
    (window,) = model().windows(Batch(video, torch.arange(64)))
    first, middle, last = window.pictures[:, :, 0, 0, 0] * 10
    torch.testing.assert_close(middle, (first + last) / 2)
    assert {round(step) for step in (last - first).tolist()} == {2, 4, 6, 8}
    with pytest.raises(ValueError, match="3 frames"):
        list(model().windows(clips(frames=2)))


def test_the_path_is_the_straight_line_between_the_means() -> None:
    vae = model(spread=0.0).eval()
    keys = clips(2, 2).video
    request = Request.tween(keys[:, :, 0], keys[:, :, 1], 3)
    drawn = vae.synthesize(request, 1, torch.Generator())[0]
    first, last = (vae.encode(keys[:, :, k]).mean for k in (0, 1))
    for t in range(1, 4):
        torch.testing.assert_close(drawn[:, :, t], vae.decode(first + (last - first) * t / 4))


def test_more_key_frames_bend_the_path() -> None:
    vae = model(spread=0.0).eval()
    video = clips(1, 7).video
    mask = torch.tensor([True, False, False, False, True, False, True])
    drawn = vae.synthesize(Request.hide(video, mask), 1, torch.Generator())[0]
    z = vae.encode(video[0].transpose(0, 1)).mean
    torch.testing.assert_close(drawn[:, :, 2], vae.decode((z[0] + z[4])[None] / 2))
    torch.testing.assert_close(drawn[:, :, 5], vae.decode((z[4] + z[6])[None] / 2))
    assert torch.equal(drawn[:, :, mask], video[:, :, mask])


def test_identical_ends_give_a_still() -> None:
    vae = model(spread=0.0).eval()
    key = clips(1, 1).video[:, :, 0]
    drawn = vae.synthesize(Request.tween(key, key, 5), 1, torch.Generator())[0, 0]
    assert drawn.isfinite().all()
    torch.testing.assert_close(drawn[:, 1:-1], drawn[:, 1:2].expand(-1, 5, -1, -1))


def test_wrong_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="multiple of 4"):
        model(size=(16, 18))
    with pytest.raises(ValueError, match="16x16"):
        model().synthesize(Request.tween(*torch.zeros(2, 1, 3, 16, 20), 3), 1, torch.Generator())
    known = torch.tensor([False, True, True])
    with pytest.raises(ValueError, match="first and the last"):
        model().synthesize(Request.hide(clips().video, known), 1, torch.Generator())


def test_the_deeper_preset_and_the_perceptual_term_train() -> None:
    config = replace(RECIPES.load("latent/pictures")().model, size=(32, 32), widths=(8, 8), perceptual=0.0)
    torch.manual_seed(0)
    vae = LatentVAE(config)
    assert sum(isinstance(m, torch.nn.GroupNorm) for m in vae.modules()) == 8
    batch = Batch(torch.rand(2, 3, 5, 32, 32) * 2 - 1, torch.arange(2))
    (window,) = vae.windows(batch)
    out, _ = vae(window, None)
    sum(vae.losses("network", window, out).values()).backward()  # type: ignore[union-attr]
    assert all(parameter.grad is not None for parameter in vae.parameters())


def test_divergences_open_late_and_then_count_in_full() -> None:
    late, plain = model(alpha=5.0, opening=100), model(alpha=5.0)
    assert late.encode(clips().video[:, :, 0]).log_variance.max() < -5  # next to no noise
    late.load_state_dict(plain.state_dict())
    whole = terms(plain, clips())[0]
    for step, share in ((0, 0.0), (50, 0.0), (75, 0.5), (100, 1.0), (1_000, 1.0)):
        found = terms(late, replace(clips(), step=step))[0]
        assert found["reconstruction"].item() == whole["reconstruction"].item()
        for name in ("kl", "in_between"):
            assert found[name].item() == pytest.approx(share * whole[name].item(), rel=1e-6), (step, name)

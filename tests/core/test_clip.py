import jaxtyping
import pytest
import torch

from douga.core.clip import Batch, Clip, Request, check_video, standard_normal


def video(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 2 - 1


MASK = torch.tensor([True, False, False, True])


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (torch.zeros(3, 4, 8, 8), r"v must have the 5 axes \(B, C, T, H, W\), not the shape \(3, 4, 8, 8\)"),
        (torch.zeros(1, 3, 0, 8, 8), "v is empty"),
        (torch.zeros(1, 3, 4, 8, 8, dtype=torch.float64), "v must be float32, not torch.float64"),
        (torch.full((1, 3, 4, 8, 8), 255.0), r"v must be finite and lie in \[-1, 1\]; found \[255, 255\]"),
        (torch.full((1, 3, 4, 8, 8), float("nan")), "v must be finite"),
        (torch.full((1, 3, 4, 8, 8), float("-inf")), "v must be finite"),
    ],
)
def test_check_video_says_what_is_wrong(wrong: torch.Tensor, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        check_video(wrong, "v")


def test_rounding_is_forgiven_but_a_unit_mistake_is_not() -> None:
    check_video(torch.full((1, 3, 1, 2, 2), 1.0005), "v")
    with pytest.raises(ValueError, match="finite and lie in"):
        check_video(torch.full((1, 3, 1, 2, 2), 1.01), "v")


def test_tween_asks_for_the_frames_between() -> None:
    first, last = video(2, 3, 8, 8), -video(2, 3, 8, 8)
    request = Request.tween(first, last, 5, fps=12)
    assert request.known.shape == (2, 3, 7, 8, 8)
    assert request.mask.tolist() == [True, *[False] * 5, True]
    assert request.fps == 12
    assert torch.equal(request.known[:, :, 0], first)
    assert torch.equal(request.known[:, :, -1], last)
    assert not request.known[:, :, 1:-1].any()


@pytest.mark.parametrize("frames", [0, -3])
def test_tween_needs_a_frame_to_draw(frames: int) -> None:
    with pytest.raises(ValueError, match=f"1 or more, not {frames}"):
        Request.tween(video(1, 3, 8, 8), video(1, 3, 8, 8), frames)


@pytest.mark.usefixtures("as_shipped")
def test_tween_refuses_key_frames_of_two_sizes() -> None:
    with pytest.raises(ValueError, match=r"same shape, not \(1, 3, 8, 8\) and \(1, 3, 8, 9\)"):
        Request.tween(video(1, 3, 8, 8), video(1, 3, 8, 9), 5)


def test_hide_forgets_what_is_outside_the_mask() -> None:
    truth = video(2, 3, 4, 8, 8)
    request = Request.hide(truth, MASK)
    assert torch.equal(request.known[:, :, MASK], truth[:, :, MASK])
    assert not request.known[:, :, ~MASK].any()


def test_a_request_holds_no_truth() -> None:
    with pytest.raises(ValueError, match="a request holds no truth"):
        Request(video(1, 3, 4, 8, 8), MASK)


@pytest.mark.usefixtures("as_shipped")
@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"mask": torch.ones(4)}, "mask must be bool with one entry for each of the 4 frames"),
        ({"mask": torch.ones(5, dtype=torch.bool)}, "mask must be bool with one entry for each of the 4 frames"),
        ({"mask": torch.zeros(4, dtype=torch.bool)}, "at least one frame must be known"),
        ({"cond": torch.zeros(1, 2, 5, 8, 8)}, "cond has 5 frames, known has 4"),
        ({"fps": 0.0}, "fps must be above 0, not 0.0"),
        ({"fps": float("nan")}, "fps must be above 0, not nan"),
        ({"times": torch.arange(5.0)}, "times must hold one finite number for each of the 4 frames"),
        ({"times": torch.tensor([0, 1, float("nan"), 3])}, "times must hold one finite number"),
        ({"times": torch.tensor([0.0, 2, 1, 3])}, "times must never decrease"),
        ({"times": torch.zeros(4)}, "must grow from each known frame to the next"),
        ({"diversity": -0.1}, "diversity must lie between 0 and 1, not -0.1"),
        ({"diversity": float("nan")}, "diversity must lie between 0 and 1"),
    ],
)
def test_a_request_says_what_is_wrong(change: dict, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Request(**{"known": torch.zeros(1, 3, 4, 8, 8), "mask": MASK, **change})


def test_keep_known_puts_the_given_frames_back_bit_for_bit() -> None:
    truth, drawn = video(2, 3, 4, 8, 8), torch.full((5, 2, 3, 4, 8, 8), 0.25)
    kept = Request.hide(truth, MASK).keep_known(drawn)
    assert kept.shape == drawn.shape
    assert all(torch.equal(sample[:, :, MASK], truth[:, :, MASK]) for sample in kept)
    assert torch.equal(kept[:, :, :, ~MASK], drawn[:, :, :, ~MASK])


def ways(known: list[int], times: list[float] | None = None) -> tuple[list, list, list]:
    mask = torch.zeros(6, dtype=torch.bool)
    mask[known] = True
    times_ = None if times is None else torch.tensor(times, dtype=torch.float32)
    left, right, way = Request(torch.zeros(1, 3, 6, 2, 2), mask, times=times_).ways()
    return left.tolist(), right.tolist(), [round(share, 4) for share in way.tolist()]


def test_ways_lead_from_known_frame_to_known_frame() -> None:
    assert ways([1, 3, 4]) == ([1, 1, 1, 3, 4, 4], [1, 1, 3, 3, 4, 4], [0, 0, 0.5, 0, 0, 0])
    assert ways([2]) == ([2] * 6, [2] * 6, [0] * 6)


def test_ways_go_by_time() -> None:
    left, right, way = ways([0, 5], [10, 10, 11, 13, 20, 20])
    assert (left, right) == ([0] * 5 + [5], [0] + [5] * 5)
    assert way == [0, 0, 0.1, 0.3, 1, 0]


def test_a_frame_at_the_time_of_a_known_one_is_that_one() -> None:
    known = torch.zeros(1, 3, 5, 2, 2)
    known[:, :, 0], known[:, :, 4] = -0.5, 0.5
    mask = torch.tensor([True, False, False, False, True])
    drawn = torch.full((2, 1, 3, 5, 2, 2), 0.25)
    kept = Request(known, mask, times=torch.tensor([0.0, 0, 1, 2, 2])).keep_known(drawn)
    assert kept[1, 0, 0, :, 0, 0].tolist() == [-0.5, -0.5, 0.25, 0.5, 0.5]
    # Before the first known frame and after the last one nothing is known.
    alone = torch.tensor([False, True, False, False, False])
    kept = Request.hide(known + 0.125, alone)
    kept = Request(kept.known, alone, times=torch.arange(5.0)).keep_known(drawn)
    assert kept[0, 0, 0, :, 0, 0].tolist() == [0.25, 0.125, 0.25, 0.25, 0.25]


def test_a_clip_is_in_range() -> None:
    with pytest.raises(ValueError, match="frames must be finite"):
        Clip(torch.full((1, 3, 4, 8, 8), 2.0), MASK)


def test_a_batch_keeps_its_seeds_and_step_when_it_moves() -> None:
    batch = Batch(video(2, 3, 4, 8, 8), torch.tensor([1, 2]), 7)
    moved = batch.to("cpu")
    assert torch.equal(moved.video, batch.video)
    assert (moved.seeds.tolist(), moved.step) == ([1, 2], 7)


def test_noise_is_a_function_of_the_seed_and_the_stream() -> None:
    noise = standard_normal(torch.tensor([5, 6, 5]), 1000)
    assert noise.shape == (3, 1000)
    assert torch.equal(noise[0], noise[2])
    assert not torch.equal(noise[0], noise[1])
    # However the clips are spread over processes, each gets its own row.
    assert torch.equal(standard_normal(torch.tensor([6]), 1000)[0], noise[1])
    assert not torch.equal(standard_normal(torch.tensor([5]), 1000, stream=1)[0], noise[0])
    assert standard_normal(torch.tensor([2**62]), 3, 4).shape == (1, 3, 4)


def test_noise_is_standard_normal() -> None:
    noise = standard_normal(torch.arange(100), 1000)
    assert abs(noise.mean().item()) < 0.02  # six standard errors
    assert abs(noise.std().item() - 1) < 0.02


def test_annotations_are_checked_while_the_tests_run() -> None:
    with pytest.raises(jaxtyping.TypeCheckError):
        Request.tween(video(1, 3, 8, 8), video(1, 3, 8, 9), 5)

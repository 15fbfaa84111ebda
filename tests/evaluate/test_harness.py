import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from douga.baselines.naive import Hold, Linear
from douga.core.clip import Request
from douga.core.contracts import Figure
from douga.evaluate import harness
from douga.evaluate.harness import Clips, Entry, Protocol

CPU = torch.device("cpu")


class Error:
    """The mean absolute error, and how often it was looked at."""

    needs: ClassVar[tuple[str, ...]] = ()

    def __init__(self) -> None:
        self.settings: Mapping[str, Any] = {"power": 1}
        self.looks = 0

    def observe(self, drawn: Tensor, truth: Tensor, mask: Tensor) -> dict[str, Tensor]:
        self.looks += 1
        return {"per_sample": (drawn - truth).abs().mean((1, 2, 3, 4))}

    def compute(self, observed: Mapping[str, Tensor]) -> dict[str, Figure]:
        return {"error": Figure(observed["per_sample"].double().mean(1), "", higher_is_better=False)}

    def curves(self, observed: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {}


class Numbered:
    """A source whose video v shows, in frame t, the grey value (v + t / 100) / 10 - 0.5; `broken` ones cannot be read."""

    splits: ClassVar[tuple[str, ...]] = ("test",)
    licence: ClassVar[str] = "none"
    endless: ClassVar[bool] = False
    fps = 10.0

    def __init__(self, lengths: Sequence[int], broken: Sequence[int] = ()) -> None:
        self.lengths, self.broken = list(lengths), broken
        self.names = [f"video{index}" for index in range(len(lengths))]

    def __len__(self) -> int:
        return len(self.lengths)

    def clip(self, index: int, start: int, length: int) -> Tensor:
        if index in self.broken:
            raise ValueError(f"{self.names[index]} is damaged")
        values = (index + torch.arange(start, start + length) / 100) / 10 - 0.5
        return values[:, None, None].expand(3, -1, 8, 8).clone()


def noisy(request: Request, samples: int, generator: torch.Generator) -> Tensor:
    noise = torch.randn(samples, *request.known.shape, generator=generator)
    return request.keep_known((0.1 * noise).clamp(-1, 1))


def entry(name: str = "noisy", draw: Any = noisy, *, stochastic: bool = True, **facts: Any) -> Entry:
    return Entry(name, "", draw, stochastic, facts)


def setting(clips: int = 4, samples: int = 3, **changes: Any) -> tuple[Clips, Protocol, dict[str, Error]]:
    chosen = harness.choose(Numbered([12, 12, 3, 20]), "test", 6, clips)
    metrics = {"error": Error()}
    return chosen, replace(harness.protocol(chosen, "tween", samples, 0, metrics), **changes), metrics


def observed(out: Path, asked: Protocol, chosen: Clips, one: Entry, metrics: Any, **options: Any) -> Tensor:
    harness.observe(asked, chosen, [one], metrics, out, device=CPU, **options)
    return harness.observations(out, one, len(asked.clips))["error"]["per_sample"]


class TestChoose:
    def test_windows_are_spread_evenly_and_named(self) -> None:
        chosen = harness.choose(Numbered([12, 12, 3, 20]), "test", 6, 4)
        assert len(set(chosen.names)) == 4
        assert chosen.names[0] == "video0@0"
        assert {name.partition("@")[0] for name in chosen.names} == {"video0", "video1", "video3"}
        for name, video in zip(chosen.names, chosen.videos, strict=True):
            index, start = (int(part) for part in name.removeprefix("video").split("@"))
            assert torch.equal(video, Numbered([40] * 4).clip(index, start, 6))
        assert chosen.left_out["short videos"].startswith("1 ")

    def test_the_other_real_clips_are_none_of_these(self) -> None:
        chosen = harness.choose(Numbered([12, 12]), "test", 6, 5)
        assert chosen.others is not None and chosen.others.shape == chosen.videos.shape
        both = torch.cat([chosen.videos, chosen.others])[:, 0, 0, 0, 0].tolist()
        assert len(set(both)) == 10

    def test_fewer_windows_than_asked_for_are_said(self) -> None:
        chosen = harness.choose(Numbered([7]), "test", 6, 100)
        assert (len(chosen.names), chosen.others) == (2, None)
        assert {"clips", harness.REAL} <= set(chosen.left_out)
        assert harness.reference(chosen) == []

    def test_a_damaged_video_is_left_out_by_name_and_its_clips_come_from_others(self) -> None:
        chosen = harness.choose(Numbered([12, 12, 12], broken=[1]), "test", 6, 4)
        assert chosen.left_out["video video1"] == "video1 is damaged"
        assert len(chosen.names) == 4
        assert not any(name.startswith("video1@") for name in chosen.names)

    @pytest.mark.parametrize("source", [Numbered([]), Numbered([3, 5]), Numbered([9], broken=[0])])
    def test_no_clip_at_all_is_one_sentence(self, source: Numbered) -> None:
        with pytest.raises(ValueError, match="6 frames of a clip") as error:
            harness.choose(source, "test", 6, 4)
        assert "\n" not in str(error.value)


class TestProtocol:
    def test_its_hash_tells_everything_that_decides_the_figures(self) -> None:
        chosen, asked, metrics = setting()
        assert harness.protocol(chosen, "tween", 3, 0, metrics).hash == asked.hash
        others = [
            harness.protocol(chosen, "tween", 4, 0, metrics),
            harness.protocol(chosen, "tween", 3, 1, metrics),
            harness.protocol(replace(chosen, videos=chosen.videos + 0.1), "tween", 3, 0, metrics),
            harness.protocol(replace(chosen, title="kth14"), "tween", 3, 0, metrics),
            harness.protocol(chosen, "tween", 3, 0, {}),
            replace(asked, networks={"i3d": "0"}),
        ]
        metrics["error"].settings = {"power": 2}
        others.append(harness.protocol(chosen, "tween", 3, 0, metrics))
        assert len({asked.hash, *(other.hash for other in others)}) == 1 + len(others)

    def test_the_networks_of_its_metrics_stand_in_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        chosen, _, metrics = setting()
        monkeypatch.setattr(Error, "needs", ("i3d",))
        assert set(harness.protocol(chosen, "tween", 3, 0, metrics).networks) == {"i3d"}

    def test_another_task_lists_those_there_are(self) -> None:
        chosen, _, metrics = setting()
        with pytest.raises(ValueError, match="tween"):
            harness.protocol(chosen, "predict", 3, 0, metrics)

    def test_it_comes_back_from_its_file(self, tmp_path: Path) -> None:
        _, asked, _ = setting()
        harness.begin(tmp_path / "out", asked, resume=False)
        assert harness.read_protocol(tmp_path / "out") == asked

    def test_a_folder_in_use_is_kept(self, tmp_path: Path) -> None:
        _, asked, _ = setting()
        harness.begin(tmp_path / "out", asked, resume=False)
        before = (tmp_path / "out" / "protocol.json").read_bytes()
        with pytest.raises(ValueError, match="--resume"):
            harness.begin(tmp_path / "out", asked, resume=False)
        with pytest.raises(ValueError, match="samples is 3 in one and 5 in the other"):
            harness.begin(tmp_path / "out", replace(asked, samples=5), resume=True)
        harness.begin(tmp_path / "out", asked, resume=True)
        assert (tmp_path / "out" / "protocol.json").read_bytes() == before
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / "letter.txt").write_text("dear")
        with pytest.raises(ValueError, match="something"):
            harness.begin(tmp_path / "mine", asked, resume=True)
        with pytest.raises(ValueError, match="no evaluation"):
            harness.read_protocol(tmp_path / "mine")


class TestDrawing:
    def test_the_function_never_gets_the_truth(self) -> None:
        chosen, asked, _ = setting()
        seen: list[Request] = []

        def spy(request: Request, samples: int, generator: torch.Generator) -> Tensor:
            seen.append(request)
            return noisy(request, samples, generator)

        harness.drawing(asked, chosen, entry(draw=spy), 0, CPU)
        for request in seen:
            assert request.mask.tolist() == [True, False, False, False, False, True]
            assert not request.known[:, :, 1:-1].any()
            assert torch.equal(request.known[0, :, 0], chosen.videos[0, :, 0])

    def test_a_clips_chance_is_its_own(self) -> None:
        chosen, asked, _ = setting()
        first, second = (harness.drawing(asked, chosen, entry(), index, CPU) for index in (0, 1))
        assert not torch.equal(first[:, :, 1:-1], second[:, :, 1:-1])
        turned = replace(chosen, names=chosen.names[::-1], videos=chosen.videos.flip(0))
        assert torch.equal(harness.drawing(asked, turned, entry(), 3, CPU), first)
        assert not torch.equal(harness.drawing(replace(asked, seed=1), chosen, entry(), 0, CPU), first)

    def test_more_samples_than_a_piece_all_differ(self) -> None:
        chosen, asked, _ = setting(samples=harness.PIECE + 5)
        drawn = harness.drawing(asked, chosen, entry(), 0, CPU)
        assert len({sample[0, 1, 0, 0].item() for sample in drawn}) == harness.PIECE + 5

    def test_a_method_that_draws_the_same_every_time_is_asked_once(self) -> None:
        chosen, asked, _ = setting()
        assert len(harness.drawing(asked, chosen, entry(draw=Linear().synthesize, stochastic=False), 0, CPU)) == 1

    @pytest.mark.parametrize(
        ("spoil", "match"),
        [
            (lambda drawn: drawn[:, :, :, 1:], "drew"),
            (lambda drawn: drawn * 3, "drew"),
            (lambda drawn: drawn * torch.nan, "drew"),
            (lambda drawn: drawn * 0.5, "changed the frames"),
        ],
    )
    def test_a_method_that_breaks_its_contract_is_named(self, spoil: Any, match: str) -> None:
        chosen, asked, _ = setting()
        bad = entry("liar", lambda *asked_for: spoil(Hold().synthesize(*asked_for)))
        with pytest.raises(ValueError, match=f"liar {match}"):
            harness.drawing(asked, chosen, bad, 0, CPU)


class TestObserve:
    def test_twice_gives_identical_observations(self, tmp_path: Path) -> None:
        chosen, asked, metrics = setting()
        one, other = (observed(tmp_path / name, asked, chosen, entry(), metrics) for name in "ab")
        assert one.shape == (4, 3)
        assert torch.equal(one, other)

    def test_two_processes_give_those_of_one(self, tmp_path: Path) -> None:
        chosen, asked, metrics = setting()
        alone = observed(tmp_path / "alone", asked, chosen, entry(), metrics)
        harness.observe(asked, chosen, [entry()], metrics, tmp_path / "shared", device=CPU, rank=1, world=2)
        assert len(list((tmp_path / "shared").rglob("*.safetensors"))) == 2
        assert torch.equal(observed(tmp_path / "shared", asked, chosen, entry(), metrics, rank=0, world=2), alone)

    def test_stopped_half_way_it_goes_on_and_looks_at_nothing_twice(self, tmp_path: Path) -> None:
        chosen, asked, metrics = setting()
        whole = observed(tmp_path / "whole", asked, chosen, entry(), metrics)
        stopped = SimpleNamespace(left=2)

        def stops(request: Request, samples: int, generator: torch.Generator) -> Tensor:
            if not stopped.left:
                raise KeyboardInterrupt
            stopped.left -= 1
            return noisy(request, samples, generator)

        with pytest.raises(KeyboardInterrupt):
            observed(tmp_path / "half", asked, chosen, entry(draw=stops), metrics)
        metrics["error"].looks = 0
        assert torch.equal(observed(tmp_path / "half", asked, chosen, entry(), metrics), whole)
        assert metrics["error"].looks == 2
        assert not list(tmp_path.rglob("*.partial"))

    def test_other_weights_under_the_same_name_are_refused(self, tmp_path: Path) -> None:
        chosen, asked, metrics = setting()
        observed(tmp_path, asked, chosen, entry(weights="a"), metrics)
        with pytest.raises(ValueError, match="other weights of noisy"):
            observed(tmp_path, asked, chosen, entry(weights="b"), metrics)

    def test_names_that_look_alike_keep_apart(self) -> None:
        folders = {Entry(name, "", None, stochastic=False).folder for name in ("a/b", "a-b", "a b", "A-b", "../a-b")}
        assert len(folders) == 5
        assert not any("/" in folder for folder in folders)

    def test_the_reference_is_other_real_video(self, tmp_path: Path) -> None:
        chosen, asked, metrics = setting()
        [real] = harness.reference(chosen)
        assert chosen.others is not None
        expected = (chosen.others - chosen.videos).abs().mean((1, 2, 3, 4))
        torch.testing.assert_close(observed(tmp_path, asked, chosen, real, metrics)[:, 0], expected)

    def test_the_protocol_is_plain_json(self, tmp_path: Path) -> None:
        _, asked, _ = setting()
        harness.begin(tmp_path / "out", asked, resume=False)
        assert json.loads((tmp_path / "out" / "protocol.json").read_text())["clips"] == list(asked.clips)


def test_what_is_shown_is_the_first_sample_that_was_measured() -> None:
    chosen, asked, _ = setting(samples=harness.PIECE + 5)
    [real] = harness.reference(chosen)
    shown = harness.side_by_side(asked, chosen, [entry(), entry("b", Hold().synthesize), real], 2, CPU)
    assert list(shown) == ["truth", "noisy", "b"]
    assert torch.equal(shown["truth"], chosen.videos[2])
    assert torch.equal(shown["noisy"], harness.drawing(asked, chosen, entry(), 2, CPU)[0])

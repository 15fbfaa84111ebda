"""One suite over every row of every table: what a method, a source or a recipe must do to be one."""

import json
import runpy
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import douga
from douga.core.clip import Batch, Request, check_video
from douga.core.config import from_dict, to_dict
from douga.core.contracts import Metric, Source, Synthesizer, Trainable
from douga.core.registry import METHODS, METRICS, RECIPES, SOURCES
from douga.train.checkpoint import load_release, save_release
from douga.train.engine import Experiment, Run

TINY = [name for name in RECIPES if name.endswith("/tiny")]
TABLES = {"models": METHODS, "baselines": METHODS, "data": SOURCES, "recipes": RECIPES, "metrics": METRICS}


def tiny(recipe: str) -> Run:
    return Run(RECIPES.load(recipe)(), torch.device("cpu"))


def build(name: str) -> Synthesizer:
    kind = METHODS.load(name)
    if not hasattr(kind, "phases"):
        return kind()
    configs = [e.model for e in (RECIPES.load(recipe)() for recipe in TINY) if e.method == name]
    assert configs, f"the method {name} learns, so it needs a recipe .../tiny for the tests"
    torch.manual_seed(0)
    return kind(configs[0]).eval()


def moving(method: Synthesizer, batch: int, frames: int) -> Tensor:
    """(B, 3, T, H, W): a soft pattern that moves right, another one in each clip."""
    h, w = method.size or (48, 64)
    b, t, y, x = torch.meshgrid(*(torch.arange(n).float() for n in (batch, frames, h, w)), indexing="ij")
    return torch.stack([torch.sin(0.3 * (x - t) + k + b) * torch.cos(0.2 * y) * 0.9 for k in range(3)], dim=1)


def key_frames(frames: int, *known: int) -> Tensor:
    return torch.isin(torch.arange(frames), torch.tensor(known) % frames)


def maps_of(method: Synthesizer, batch: int, frames: int) -> Tensor:
    """(B, K, T, H, W): upright stripes that move right; of label maps, one class each and one of them a thing with a number."""
    h, w = method.size or (48, 64)
    t, _, x = torch.meshgrid(*(torch.arange(n) for n in (frames, h, w)), indexing="ij")
    classes = method.config.classes  # type: ignore[attr-defined]
    labels = ((x + t) // 4) % classes
    one_hot = torch.nn.functional.one_hot(labels, classes).permute(3, 0, 1, 2).float()
    return torch.cat([one_hot, (labels == classes - 1)[None].float()]).expand(batch, -1, -1, -1, -1)


def ask(method: Synthesizer, truth: Tensor, *known: int) -> Request:
    """Of what a method needs: by default the first and the last frame or, to paint, the first one and maps."""
    batch, _, frames = truth.shape[:3]
    if "paint" not in method.tasks:
        return Request.hide(truth, key_frames(frames, *(known or (0, -1))))
    cond = maps_of(method, batch, frames)
    request = Request.hide(truth, key_frames(frames, *(known or (0,))), cond=cond)
    return replace(request, flow=torch.ones(batch, 2, *truth.shape[2:])) if hasattr(method, "needs_flow") else request


def draw(method: Synthesizer, request: Request, samples: int = 2, seed: int = 3) -> Tensor:
    return method.synthesize(request, samples, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("room", TABLES)
def test_every_file_has_a_row_and_every_row_a_file(room: str) -> None:
    files = {path.stem for path in (Path(douga.__file__).parent / room).glob("*.py")} - {"__init__"}
    if room == "data":
        files -= {"loader", "download"}
    modules = [row.target.partition(":")[0].split(".") for row in TABLES[room].values()]
    assert files == {parts[2] for parts in modules if parts[:2] == ["douga", room]}


@pytest.mark.parametrize("name", METHODS)
class TestMethod:
    def test_is_a_synthesizer(self, name: str) -> None:
        method = build(name)
        assert isinstance(method, Synthesizer)
        assert method.tasks
        assert method.tasks <= {"tween", "paint", "predict"}
        assert isinstance(method.stochastic, bool)
        assert METHODS[name].summary
        assert method.size is None or [type(side) for side in method.size] == [int, int]
        if isinstance(method, nn.Module):
            assert isinstance(method, Trainable)

    @pytest.mark.parametrize("frames", [3, 8, 21])
    def test_draws_any_number_of_frames_and_keeps_the_known_ones(self, name: str, frames: int) -> None:
        method = build(name)
        truth = moving(method, 2, frames)
        request = ask(method, truth)
        mask = request.mask
        drawn = draw(method, request, samples=3)
        assert drawn.shape == (3, *truth.shape)
        for sample in drawn:
            check_video(sample, name)
            assert torch.equal(sample[:, :, mask], truth[:, :, mask])

    @pytest.mark.parametrize("known", [(0,), (-1,), (2,), (0, 3, -1), (1, 2, 6), tuple(range(8))])
    def test_other_key_frames_are_kept_or_refused(self, name: str, known: tuple[int, ...]) -> None:
        method = build(name)
        truth, mask = moving(method, 1, 8), key_frames(8, *known)
        try:
            drawn = draw(method, ask(method, truth, *known))
        except ValueError as refusal:
            assert "\n" not in str(refusal)  # noqa: PT017
        else:
            check_video(drawn[0], name)
            assert torch.equal(drawn[0][:, :, mask], truth[:, :, mask])

    def test_the_same_generator_state_gives_the_same_bits(self, name: str) -> None:
        method = build(name)
        request = ask(method, moving(method, 2, 8))
        once = draw(method, request)
        assert torch.equal(draw(method, request), once)
        # Neither a caller's nor an earlier call's chance leaks in.
        torch.manual_seed(99)
        assert torch.equal(draw(method, request), once)
        assert torch.equal(draw(method, request, seed=4), once) is not method.stochastic

    def test_samples_differ_if_and_only_if_it_is_stochastic(self, name: str) -> None:
        method = build(name)
        drawn = draw(method, ask(method, moving(method, 1, 8)))
        assert torch.equal(drawn[0], drawn[1]) is not method.stochastic

    def test_clips_of_a_batch_do_not_touch_each_other(self, name: str) -> None:
        method = build(name)
        if method.stochastic:
            pytest.skip("the noise of a batch is not that of its clips one by one")
        truth = moving(method, 2, 8)
        both = draw(method, ask(method, truth))
        alone = [draw(method, ask(method, truth[i : i + 1])) for i in range(2)]
        torch.testing.assert_close(both, torch.cat(alone, dim=1), rtol=0, atol=1e-5)

    def test_times_say_where_a_frame_lies(self, name: str) -> None:
        method = build(name)
        if "tween" not in method.tasks:
            pytest.skip("it does not draw between key frames")
        even = ask(method, moving(method, 1, 16))
        same = draw(method, replace(even, times=torch.arange(16.0) * 3 + 5))
        torch.testing.assert_close(same, draw(method, even), rtol=0, atol=1e-5)
        late = torch.tensor([0.0] * 14 + [1, 15])  # waits at the first key frame, then begins
        drawn = draw(method, replace(even, times=late))
        assert all(torch.equal(drawn[:, :, :, t], drawn[:, :, :, 0]) for t in range(1, 14))
        # Not to the bit: a method may also look at the frames beside it.
        torch.testing.assert_close(drawn[:, :, :, 14], same[:, :, :, 1], rtol=0, atol=1e-3)

    def test_it_says_which_key_frames_and_planes_it_takes(self, name: str) -> None:
        method = build(name)
        if "tween" not in method.tasks:
            pytest.skip("it does not draw between key frames")
        truth = moving(method, 1, 8)
        with pytest.raises(ValueError) if hasattr(method, "one_pair") else nullcontext():  # noqa: PT011
            draw(method, ask(method, truth, 0, 3, -1))
        if hasattr(method, "any_planes"):
            with_alpha = torch.cat([truth, truth[:, :1]], dim=1)
            assert draw(method, ask(method, with_alpha)).shape == (2, *with_alpha.shape)

    def test_without_diversity_every_sample_is_the_same(self, name: str) -> None:
        method = build(name)
        if "tween" not in method.tasks:
            pytest.skip("it does not draw between key frames")
        request = replace(ask(method, moving(method, 1, 8)), diversity=0.0)
        drawn = draw(method, request)
        torch.testing.assert_close(drawn[0], drawn[1], rtol=0, atol=1e-5)
        torch.testing.assert_close(drawn, draw(method, request, seed=4), rtol=0, atol=1e-5)

    def test_another_size_is_refused_where_it_has_one(self, name: str) -> None:
        method = build(name)
        if method.size is None:
            pytest.skip("it draws at any size")
        h, w = method.size
        request = Request.tween(torch.zeros(1, 3, h, w + 16), torch.zeros(1, 3, h, w + 16), 6)
        with pytest.raises(ValueError, match=str(h)):
            draw(method, request)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_an_experiment_whose_config_survives_json(name: str) -> None:
    experiment = RECIPES.load(name)()
    assert isinstance(experiment, Experiment)
    assert experiment.name == name
    kind = METHODS.load(experiment.method)
    assert from_dict(kind.Config, json.loads(json.dumps(to_dict(experiment)))["model"]) == experiment.model
    assert experiment.data in SOURCES
    with torch.device("meta"):  # full size, without its memory
        model = kind(experiment.model)
    assert model.size in (None, experiment.size)
    assert model.phases()


@pytest.mark.parametrize("recipe", TINY)
class TestTraining:
    def batch(self, experiment: Any) -> Batch:
        shape = (experiment.batch, 3, experiment.frames, *experiment.size)
        video = torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
        batch = Batch(video, torch.arange(experiment.batch))
        model = tiny(experiment.name).model
        if hasattr(model, "learns_motion"):
            return replace(batch, flow=torch.zeros(len(video), 4, *video.shape[2:]))
        if "paint" not in model.tasks:
            return batch
        cond = maps_of(model, experiment.batch, experiment.frames)[..., : experiment.size[0], : experiment.size[1]]
        return replace(batch, cond=cond, flow=torch.zeros(len(video), 2, *video.shape[2:]))

    def test_one_step_moves_every_parameter_of_every_phase(self, recipe: str) -> None:
        run = tiny(recipe)
        before = {name: value.detach().clone() for name, value in run.model.named_parameters()}
        assert run.train_step(self.batch(run.experiment))
        assert [name for name, value in run.model.named_parameters() if torch.equal(value, before[name])] == []
        in_a_phase = {id(parameter) for phase in run.phases for parameter in phase.module.parameters()}
        assert in_a_phase == {id(parameter) for parameter in run.model.parameters()}

    def test_a_phase_gives_gradients_to_all_of_its_own_module_and_to_nothing_else(self, recipe: str) -> None:
        run = tiny(recipe)
        for window in run.model.windows(self.batch(run.experiment)):
            out, _ = run.model(window, None)  # one forward, gradients on everywhere, serves every phase
            for phase in run.phases:
                run.model.zero_grad(set_to_none=True)
                for other in run.phases:
                    other.module.requires_grad_(other.name == phase.name)
                terms = run.model.losses(phase.name, window, out)
                assert all(term.ndim == 0 for term in terms.values())
                sum(terms.values()).backward()
                own = {id(parameter) for parameter in phase.module.parameters()}
                for name, parameter in run.model.named_parameters():
                    reached = parameter.grad is not None and parameter.grad.any().item()
                    assert reached == (id(parameter) in own), (phase.name, name)
            break

    def test_the_release_file_reloads_to_equal_output(self, recipe: str, tmp_path: Path) -> None:
        run = tiny(recipe)
        run.train_step(self.batch(run.experiment))
        path, experiment = tmp_path / "weights.safetensors", run.experiment
        with run.averaged() as model:
            request = ask(model, moving(model, 2, 8))
            expected = draw(model, request)
            save_release(path, model, {"steps": 1}, experiment.method)
        reloaded, header = load_release(path)
        assert torch.equal(draw(reloaded, request), expected)  # type: ignore[arg-type]
        assert (header["method"], header["provenance"]) == (experiment.method, {"steps": 1})
        assert from_dict(METHODS.load(experiment.method).Config, header["config"]) == experiment.model


def needs_no_files(source: str) -> bool:
    return SOURCES.load(source).endless or source.startswith("teapot-")


# Sources of which a small set is written -> the test that writes it.
WRITTEN = {name: name for name in ("bair", "ucf101", "dsprites", "pairs", "cityscapes", "driving", "apolloscape")} | {
    "faces": "pairs",
    "pose": "pairs",
}
SIZE = (24, 40)  # (height, width), not square, so that a swap shows


@pytest.fixture
def root(
    name: str, request: pytest.FixtureRequest, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path | None:
    if needs_no_files(name):
        return None
    if name in ("folder", "layers", "clips", "mixture"):
        videos = tmp_path / "videos" if name in ("folder", "layers") else tmp_path / "videos" / "robot"
        for video in range(12):
            folder = videos / f"video-{video:02}"
            folder.mkdir(parents=True)
            for frame in range(6):
                pixels = np.random.default_rng((video, frame)).integers(0, 256, (30, 50, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{frame:03}.png")
        return tmp_path / "videos"
    if name in WRITTEN:  # the test of the source writes the official layout
        folder = tmp_path_factory.getbasetemp() / f"official-{name}"
        if not folder.exists():
            runpy.run_path(str(Path(__file__).parent / "data" / f"test_{WRITTEN[name]}.py"))["write_set"](folder)
        return folder
    folder = request.getfixturevalue("real_data") / name
    if not folder.is_dir():
        pytest.skip(f"DOUGA_CACHE has no folder {name}")
    return folder


@pytest.mark.parametrize("name", SOURCES)
class TestSource:
    def test_is_a_source_whose_splits_share_no_video(self, name: str, root: Path | None) -> None:
        kind = SOURCES.load(name)
        assert SOURCES[name].summary
        assert "train" in kind.splits
        assert kind.licence
        seen: set[str] = set()
        for split in kind.splits:
            source = kind(root, split, SIZE)
            assert isinstance(source, Source)
            names = [source.names[index] for index in range(min(len(source), 100))]
            assert names
            assert len(set(names)) == len(names)
            assert not seen & set(names)
            seen |= set(names)
            assert len(source) == len(source.lengths) == len(source.names)
            assert min(source.lengths[index] for index in range(len(names))) > 0

    def test_a_clip_keeps_its_contract(self, name: str, root: Path | None) -> None:
        source = SOURCES.load(name)(root, "train", SIZE)
        index = len(source) - 1
        length = min(source.lengths[index], 10)
        whole = source.clip(index, 0, length)
        assert whole.shape == (3, length, *SIZE)
        check_video(whole[None], name)
        assert whole.std() > 0.01
        assert torch.equal(source.clip(index, 2, 3), whole[:, 2:5])
        end = source.lengths[index]
        assert source.clip(index, end - 2, 2).shape == (3, 2, *SIZE)
        if len(source) > 1:
            assert not torch.equal(source.clip(0, 0, 3), whole[:, :3])

    def test_two_readers_give_the_same_bits(self, name: str, root: Path | None) -> None:
        kind = SOURCES.load(name)
        one, other = (kind(root, "train", SIZE) for _ in range(2))
        other.clip(len(other) - 1, 0, 1)  # what was read before makes no difference
        assert len(one) == len(other)
        for index in range(min(len(one), 100)):  # an endless source may name a great many
            assert (one.names[index], one.lengths[index]) == (other.names[index], other.lengths[index])
        assert torch.equal(one.clip(0, 1, 3), other.clip(0, 1, 3))

    def test_an_unknown_split_lists_those_there_are(self, name: str, root: Path | None) -> None:
        kind = SOURCES.load(name)
        with pytest.raises(ValueError, match="validatoin") as error:
            kind(root, "validatoin", SIZE)
        assert all(split in str(error.value) for split in kind.splits)
        assert "\n" not in str(error.value)

    def test_missing_files_are_named(self, name: str, tmp_path: Path) -> None:
        kind = SOURCES.load(name)
        if needs_no_files(name):
            pytest.skip("it needs no files")
        with pytest.raises((FileNotFoundError, ValueError), match="nowhere") as error:
            kind(tmp_path / "nowhere", "train", SIZE)
        assert "\n" not in str(error.value)
        with pytest.raises((FileNotFoundError, ValueError)):
            kind(None, "train", SIZE)


@pytest.fixture(scope="module")
def metric(request: pytest.FixtureRequest) -> Metric:
    if hasattr(METRICS.load(request.param), "painted"):
        pytest.skip("it learns from a source first: see its own test")
    try:
        return METRICS.load(request.param)(torch.device("cpu"))
    except FileNotFoundError as missing:
        pytest.skip(str(missing))


@pytest.mark.parametrize("metric", METRICS, indirect=True)
class TestMetric:
    MASK = key_frames(10, 0, -1)

    def truth(self) -> Tensor:
        """Three moving clips, (3, 3, T, H, W), with room for noise on both sides."""
        b, t, y, x = torch.meshgrid(*(torch.arange(n).float() for n in (3, 10, 32, 40)), indexing="ij")
        return torch.stack([torch.sin(0.3 * (x - t) + k + b) * torch.cos(0.2 * y) * 0.5 for k in range(3)], dim=1)

    def observed(self, metric: Metric, noise: float, samples: int = 2) -> dict[str, Tensor]:
        seen = []
        for index, truth in enumerate(self.truth()):
            chance = torch.Generator().manual_seed(index)
            drawn = truth + noise * torch.randn(samples, *truth.shape, generator=chance)
            drawn = torch.where(self.MASK[:, None, None], truth, drawn.clamp(-1, 1))
            seen.append(metric.observe(drawn, truth, self.MASK))
        return {part: torch.stack([one[part] for one in seen]) for part in seen[0]}

    def test_is_a_metric_whose_settings_are_plain(self, metric: Metric) -> None:
        assert isinstance(metric, Metric)
        assert json.loads(json.dumps(dict(metric.settings))) == dict(metric.settings)

    def test_observations_are_small_and_on_the_cpu_and_columns_are_figures_of_clips_or_of_the_set(
        self, metric: Metric
    ) -> None:
        observed = self.observed(metric, 0.1)
        for part in observed.values():
            assert part.device.type == "cpu"
            assert part[0].numel() <= 10_000
        figures = metric.compute(observed)
        assert figures
        for figure in figures.values():
            assert figure.values.shape in {(3,), ()}
            assert figure.values.isfinite().all()
        for curve in metric.curves(observed).values():
            assert curve.ndim == 1

    def test_the_truth_itself_is_best_and_more_noise_is_worse(self, metric: Metric) -> None:
        levels = [metric.compute(self.observed(metric, noise)) for noise in (0.0, 0.03, 0.2)]
        for column, figure in levels[0].items():
            if figure.higher_is_better is not None:
                values = [level[column].values.mean().item() for level in levels]
                assert values == sorted(values, reverse=figure.higher_is_better), column
                assert len(set(values)) == 3, column

    def test_the_order_of_the_clips_does_not_matter(self, metric: Metric) -> None:
        observed = self.observed(metric, 0.1)
        turned = metric.compute({part: values.flip(0) for part, values in observed.items()})
        for column, figure in metric.compute(observed).items():
            expected = figure.values.flip(0) if figure.values.ndim else figure.values
            torch.testing.assert_close(turned[column].values, expected)

    def test_a_method_with_one_sample_is_measured_too(self, metric: Metric) -> None:
        assert metric.compute(self.observed(metric, 0.1, samples=1))

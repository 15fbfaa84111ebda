"""What is typed, what is shown, which exit code, and what lies in the folder afterwards."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from douga import api
from douga.apps import cli
from douga.core.clip import Request
from douga.video import io

Douga = Callable[..., tuple[int, str, str]]


@pytest.fixture
def douga(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Douga) -> Douga:
    """Run a command in a folder with a.png, b.png (48x40): exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    for seed, name in enumerate(("a.png", "b.png")):
        Image.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 48, 3), dtype=np.uint8)).save(name)
    return command


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("train") / "run"
    api.train("inbetween/tiny", "shapes", steps=1, device="cpu", out=folder)
    return folder


def listing(folder: Path) -> dict[str, bytes | None]:
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def test_tween_by_a_method(douga: Douga) -> None:
    code, out, _ = douga("tween", "a.png", "b.png", "--method", "linear", "--frames", "3", "--out", "t.gif")
    assert code == 0
    assert re.findall(r"wrote (\S+)", out) == ["t.gif", "t-sheet.png"]
    assert io.read_video(Path("t.gif"))[0].shape[1] == 5


def test_tween_by_a_model_says_what_it_is_and_at_which_size(douga: Douga, run_folder: Path) -> None:
    model = str(run_folder / "weights.safetensors")
    code, out, _ = douga("tween", "a.png", "b.png", "--model", model, "--samples", "2", "--device", "cpu")
    assert code == 0
    assert "inbetween-gan, drew at 32x32" in out
    assert "pictures of 48x40 were" in out
    assert re.search(r"typical first .*: [12] \(\d+\.\d\), [12] \(", out)
    assert "spread of the samples, of 255:" in out
    wrote = ["tween-1.mp4", "tween-2.mp4", "tween-sheet.png", "tween-spread.png"]
    assert re.findall(r"wrote (\S+)", out) == wrote


def test_tween_of_a_storyboard_says_how_its_loop_closes(douga: Douga) -> None:
    Path("board.json").write_text(
        '{"keys": [{"picture": "a.png", "at": 0}, {"picture": "b.png", "at": 3}], "loop": true, "ease": "in-out"}'
    )
    code, out, _ = douga("tween", "board.json", "--method", "linear", "--out", "t")
    assert code == 0
    assert "seam of the loop: " in out
    assert len(list(Path("t").iterdir())) == 6
    assert douga("tween", "board.json", "--method", "linear", "--no-loop", "--out", "u")[0] == 0
    assert len(list(Path("u").iterdir())) == 4


def test_tween_says_which_frames_were_unsure(douga: Douga, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api.models, "load", lambda name, device: (Noise(), {"method": "noise"}))
    asked = ("tween", "a.png", "b.png", "--frames", "2", "--samples", "3", "--out", "t.gif")
    code, out, _ = douga(*asked, "--fallback", "hold", "--pick", "1")
    assert code == 0
    assert f"unsure above {api.UNSURE:g}, replaced by hold: frames 1, 2\n" in out
    assert re.findall(r"wrote (\S+)", out) == ["t.gif", "t-sheet.png", "t-spread.png"]
    frames = io.read_video(Path("t.gif"))[0]
    assert frames.shape[1] == 2  # a GIF joins equal frames


class Noise:
    """Draws nothing but chance, so that its seed is seen in every byte."""

    tasks = frozenset({"tween"})
    stochastic = True
    size = None

    def synthesize(self, request: Request, samples: int, generator: torch.Generator) -> torch.Tensor:
        return request.keep_known(torch.rand(samples, *request.known.shape, generator=generator) * 2 - 1)


@pytest.mark.parametrize("ending", [".mp4", ".gif"])
def test_the_same_seed_gives_the_same_bytes(douga: Douga, monkeypatch: pytest.MonkeyPatch, ending: str) -> None:
    monkeypatch.setattr(api.models, "load", lambda name, device: (Noise(), {"method": "noise"}))

    def drawn(name: str, seed: int) -> list[bytes]:
        code, out, _ = douga("tween", "a.png", "b.png", "--samples", "2", "--seed", str(seed), "--out", name + ending)
        assert code == 0
        return [Path(path).read_bytes() for path in re.findall(r"wrote (\S+)", out)]

    once = drawn("x", 5)
    assert len(set(once)) == 4
    assert once == drawn("y", 5)
    assert not set(once) & set(drawn("z", 6))


@pytest.mark.parametrize("kind", ["alpha", "grey16"])
def test_tween_takes_alpha_and_16_bits(douga: Douga, kind: str) -> None:
    shape, mode = ((20, 20, 4), np.uint8) if kind == "alpha" else ((20, 20), np.uint16)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, shape).astype(mode)).save("odd.png")
    code, _, _ = douga("tween", "odd.png", "odd.png", "--method", "hold", "--out", "t.gif")
    assert code == 0
    assert Path("t.gif").exists()


@pytest.fixture(scope="module")
def spoiled(tmp_path_factory: pytest.TempPathFactory, run_folder: Path) -> Path:
    """A folder with two good pictures and one of each bad file."""
    folder = tmp_path_factory.mktemp("spoiled")
    for name in ("a.png", "b.png"):
        Image.new("RGB", (48, 40)).save(folder / name)
    (folder / "empty.png").touch()
    (folder / "text.png").write_text("this is not a picture")
    Image.effect_noise((48, 40), 50).convert("RGB").save(folder / "whole.jpg")
    whole = (folder / "whole.jpg").read_bytes()
    (folder / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
    Image.new("1", (10_500, 10_000)).save(folder / "huge.png")
    Image.new("RGB", (20, 30)).save(folder / "small.png")
    weights = (run_folder / "weights.safetensors").read_bytes()
    (folder / "truncated.safetensors").write_bytes(weights[: len(weights) // 2])
    (folder / "stub.safetensors").write_bytes(weights[:5])
    (folder / "zero.safetensors").touch()
    (folder / "foreign.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    (folder / "pickle.pt").write_bytes(b"\x80\x04}\x94.")
    (folder / "file").touch()
    (folder / "full").mkdir()
    (folder / "full" / "mine.txt").touch()
    (folder / "locked").mkdir()
    return folder


LINEAR = ("--method", "linear")


BAD = [
    (("tween", "missing.png", "b.png", *LINEAR), "missing.png"),
    (("tween", "a.png", "missing.png", *LINEAR), "missing.png"),
    (("tween", "full", "b.png", *LINEAR), "full"),
    (("tween", "full", *LINEAR), "holds no pictures"),
    (("tween", "empty.png", "b.png", *LINEAR), "empty.png"),
    (("tween", "text.png", "b.png", *LINEAR), "text.png"),
    (("tween", "truncated.jpg", "b.png", *LINEAR), "truncated.jpg"),
    (("tween", "huge.png", "huge.png", *LINEAR), "huge.png has more than the .* pixels"),
    (("tween", "a.png", "small.png", *LINEAR), "48x40 .* 20x30"),
    (("tween", "a.png", "b.png", *LINEAR, "--frames", "0"), "frames must be 1 or more, not 0"),
    (("tween", "a.png", "b.png", *LINEAR, "--frames", "-3"), "frames must be 1 or more, not -3"),
    (("tween", "a.png", "b.png", *LINEAR, "--samples", "0"), "samples must be 1 or more"),
    (("tween", "a.png", "b.png", *LINEAR, "--fps", "0"), "fps"),
    (("tween", "a.png", *LINEAR), "two pictures or more, not 1"),
    (("tween", "a.png@0", "b.png", *LINEAR), "or none: b.png has none"),
    (("tween", "a.png@3", "b.png@3", *LINEAR), "frame numbers must grow"),
    (("tween", "a.png@0", "b.png@3", *LINEAR, "--frames", "3"), "leave out frames"),
    (("tween", "missing.json", *LINEAR), "no storyboard missing.json"),
    (("tween", "a.png", "b.png", *LINEAR, "--ease", "bounce"), "unknown ease 'bounce'"),
    (("tween", "a.png", "b.png", *LINEAR, "--fallback", "hold"), "can only be seen from"),
    (("tween", "a.png", "b.png", "--model", "vid2vid-blocks", "--device", "cpu"), "does paint, not tween|does .*paint"),
    (("tween", "a.png", "b.png", *LINEAR, "--model", "inbetween-weizmann"), "--model or --method, not both"),
    (("tween", "a.png", "b.png", "--method", "liner"), "did you mean 'linear'"),
    (("tween", "a.png", "b.png", "--model", "no-such-model"), "unknown model 'no-such-model'.*linear"),
    (("tween", "a.png", "b.png", "--model", "truncated.safetensors"), "truncated.safetensors"),
    (("tween", "a.png", "b.png", "--model", "stub.safetensors"), "stub.safetensors"),
    (("tween", "a.png", "b.png", "--model", "zero.safetensors"), "zero.safetensors"),
    (("tween", "a.png", "b.png", "--model", "foreign.safetensors"), "foreign.safetensors"),
    (("tween", "a.png", "b.png", "--model", "pickle.pt"), "pickle.pt"),
    (("tween", "a.png", "b.png", "--model", "a.png"), "a.png"),
    (("tween", "a.png", "b.png", *LINEAR, "--out", "t.avi"), "t.avi"),
    (("tween", "a.png", "b.png", *LINEAR, "--out", "file/t.mp4"), "file is not a folder"),
    (("tween", "a.png", "small.png", *LINEAR, "--out", "new/t.mp4"), "48x40 .* 20x30"),
    (("tween", "a.png", "b.png", *LINEAR, "--out", "full"), "full is not empty"),
    (("tween", "a.png", "b.png", *LINEAR, "--out", "locked/t.mp4"), "cannot write into the folder .*locked"),
    (("info", "truncated.safetensors"), "truncated.safetensors"),
    (("info", "foreign.safetensors"), "foreign.safetensors"),
    (("info", "no-such-model"), "unknown model"),
    (
        ("train", "inbetween/tiny", "--data", "shapes", "--steps", "1", "--set", "model.nonsense=1"),
        "valid here: model\\.",
    ),
    (("train", "inbetween/tiny", "--data", "shapes", "--steps", "1", "--set", "nonsense=1"), "valid here: .*batch"),
    (("train", "inbetween/tiny", "--data", "nowhere", "--steps", "1"), "unknown source 'nowhere'"),
    (("train", "inbetween/huge", "--steps", "1"), "unknown recipe"),
    (("train", "inbetween/tiny", "--steps", "1", "--minutes", "1"), "not both"),
    (("data", "check", "nowhere"), "unknown source 'nowhere'"),
]


@pytest.mark.parametrize(("arguments", "sentence"), BAD, ids=[" ".join(arguments) for arguments, _ in BAD])
def test_bad_input(
    douga: Douga, spoiled: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], sentence: str
) -> None:
    """One sentence, exit code 2, and no file left behind."""
    monkeypatch.chdir(spoiled)
    # Not chmod: it does not stop root, who runs the tests in many containers.
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "locked")
    before = listing(spoiled)
    code, out, err = douga(*arguments)
    assert code == 2
    assert err.startswith("douga: ")
    assert re.search(sentence, err)
    assert err.count("\n") == 1
    assert "[Errno" not in err
    assert out == ""
    assert listing(spoiled) == before


def test_a_training_checkpoint_is_no_release(douga: Douga, run_folder: Path, tmp_path: Path) -> None:
    others = [path for path in run_folder.rglob("*.safetensors") if path.name != "weights.safetensors"]
    assert others
    before = listing(tmp_path)
    code, _, err = douga("tween", "a.png", "b.png", "--model", str(others[0]))
    assert code == 2
    assert err.startswith("douga: ")
    assert err.count("\n") == 1
    assert listing(tmp_path) == before


@pytest.mark.parametrize("arguments", [("tween",), ("tween", "a.png", "b.png", "--frames", "x"), ("draw",)])
def test_bad_usage_is_2_as_well(douga: Douga, arguments: tuple[str, ...]) -> None:
    assert douga(*arguments)[0] == 2


def test_debug_shows_the_traceback(douga: Douga, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOUGA_DEBUG", "1")
    with pytest.raises(ValueError, match="frames"):
        douga("tween", "a.png", "b.png", "--method", "linear", "--frames", "0")


def test_train_then_info(douga: Douga) -> None:
    code, out, err = douga("train", "inbetween/tiny", "--data", "shapes", "--steps", "2", "--device", "cpu")
    assert code == 0
    assert "wrote runs/inbetween-tiny/weights.safetensors" in out
    assert "step 2/2" in err
    assert "clips/s" in err
    assert "left" in err
    code, out, _ = douga("info", "runs/inbetween-tiny/weights.safetensors")
    assert code == 0
    facts = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert facts["method"] == "inbetween-gan"
    assert int(facts["parameters"]) > 0
    assert facts["kind"] == "release"


def test_stopped_training_says_how_to_go_on(douga: Douga, monkeypatch: pytest.MonkeyPatch) -> None:
    train = api.train

    def interrupted(*arguments: Any, callbacks: list, **options: Any) -> Path:
        return train(*arguments, callbacks=[*callbacks, lambda _: signal.raise_signal(signal.SIGINT)], **options)

    monkeypatch.setattr(api, "train", interrupted)
    asked = ["train", "inbetween/tiny", "--data", "shapes", "--steps", "9", "--device", "cpu", "--out", "my run"]
    code, _, err = douga(*asked)
    assert code == 130
    last = err.splitlines()[-1]
    assert last.startswith("stopped; the checkpoint is in my run; go on with: ")
    assert last.endswith("--out 'my run' --resume")
    monkeypatch.setattr(api, "train", train)
    code, out, _ = douga(*asked, "--resume")
    assert code == 0
    assert "wrote my run/weights.safetensors" in out
    assert api.info("my run/weights.safetensors")["provenance"]["steps"] == 9


def test_stopped_before_the_first_step_promises_no_checkpoint(douga: Douga, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr(api, "train", interrupted)
    code, _, err = douga("train", "inbetween/tiny")
    assert code == 130
    assert err.splitlines()[-1] == "stopped before the first step: there is no checkpoint"


def test_a_loss_that_is_no_number_is_one_sentence(douga: Douga, monkeypatch: pytest.MonkeyPatch) -> None:
    def diverged(*_: object, **__: object) -> Path:
        raise FloatingPointError("the loss is NaN at step 7;\n the checkpoint of step 5 is kept")

    monkeypatch.setattr(api, "train", diverged)
    code, _, err = douga("train", "inbetween/tiny")
    assert code == 2
    assert err.splitlines()[-1] == "douga: the loss is NaN at step 7; the checkpoint of step 5 is kept"


def test_data_check_shows_every_split(douga: Douga) -> None:
    code, out, _ = douga("data", "check", "shapes")
    assert code == 0
    assert "splits.train.videos" in out
    assert "licence" in out


def test_list_names_every_row(douga: Douga, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "weights", lambda: {"some-weights": Path("a.png")})
    code, out, _ = douga("list")
    names = {line.split()[0] for line in out.splitlines() if line.startswith("  ")}
    assert code == 0
    assert names == {*cli.METHODS, *cli.SOURCES, *cli.RECIPES, *cli.METRICS, "some-weights"}


def test_version(douga: Douga) -> None:
    code, out, _ = douga("--version")
    assert code == 0
    assert re.fullmatch(r"douga \d+\.\d+\.\d+\S*\n", out)


@pytest.mark.parametrize("command", ["--help", "list"])
def test_answers_without_torch(command: str) -> None:
    found = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "douga", command], capture_output=True, text=True, check=True
    )
    imported = {
        line.rpartition("|")[2].strip() for line in found.stderr.splitlines() if line.startswith("import time:")
    }
    assert "douga.apps.cli" in imported
    assert not imported & {"torch", "cv2", "av"}


EVALUATION = ("--data", "shapes", "--clips", "3", "--samples", "2", "--size", "32", "--frames", "8")


class TestEvaluate:
    def test_a_table_a_page_and_rows(self, douga: Douga, tmp_path: Path) -> None:
        metrics = "ssim_hidden,spread"
        code, out, _ = douga("evaluate", "--methods", "hold,linear", *EVALUATION, "--metrics", metrics, "--out", "o")
        assert code == 0
        assert re.search(r"linear +0\.\d+ \[0\.\d+, 0\.\d+\]", out)
        assert re.search(r"Protocol [0-9a-f]{10}: tween, shapes test, 3 clips of 8 frames at 32x32", out)
        assert all(f"wrote o/{name}" in out for name in ("report.html", "table.md", "rows.jsonl"))
        rows = (tmp_path / "o" / "rows.jsonl").read_bytes()
        code, _, err = douga("evaluate", "--methods", "hold,linear", *EVALUATION, "--metrics", metrics, "--out", "o")
        assert (code, "--resume" in err) == (2, True)
        code, out, _ = douga(
            "evaluate", "--methods", "hold,linear", *EVALUATION, "--metrics", metrics, "--out", "o", "--resume"
        )
        assert code == 0
        assert (tmp_path / "o" / "rows.jsonl").read_bytes() == rows

    def test_tables_of_one_protocol_are_compared_and_of_two_are_not(self, douga: Douga) -> None:
        for method in ("hold", "linear"):
            assert douga("evaluate", "--methods", method, *EVALUATION, "--metrics", "spread", "--out", method)[0] == 0
        code, out, _ = douga("compare", "hold", "linear")
        assert code == 0
        assert "hold" in out and "linear" in out
        assert (
            douga("evaluate", "--methods", "hold", *EVALUATION, "--seed", "1", "--metrics", "spread", "--out", "c")[0]
            == 0
        )
        code, out, err = douga("compare", "hold", "c")
        assert (code, out) == (2, "")
        assert "cannot be compared: seed is 0 in one and 1 in the other" in err

    def test_a_missing_network_leaves_its_column_out_and_says_where_to_get_it(
        self, douga: Douga, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("DOUGA_CACHE", str(tmp_path / "empty"))
        code, out, _ = douga(
            "evaluate", "--methods", "hold", *EVALUATION, "--metrics", "spread,lpips_alex_hidden", "--out", "o"
        )
        assert code == 0
        assert "left out: lpips_alex_hidden" in out and "douga weights get lpips-alex" in out
        assert "lpips_alex_hidden ↓" not in out

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["--methods", "hodl", "--data", "shapes"], "unknown model 'hodl'"),
            (["--methods", "sdvi", "--data", "shapes"], "the method sdvi needs weights"),
            (["--methods", "hold", "--data", "nowhere"], "unknown source 'nowhere'"),
            (["--methods", "hold", "--data", "shapes", "--frames", "99"], "99 frames of a clip"),
            (["--methods", "hold", "--data", "shapes", "--clips", "0"], "clips must be 1 or more"),
            (["--methods", "hold", "--data", "shapes", "--samples", "0"], "samples must be 1 or more"),
            (["--methods", "hold", "--data", "shapes", "--frames", "2"], "frames must be 3 or more"),
            (
                ["--methods", "hold", "--data", "blocks", "--task", "paint", "--clips", "2", "--frames", "4"],
                "hold does predict, tween, not paint",
            ),
            (["--methods", "hold", "--data", "shapes", "--metrics", "ssim"], "unknown metric 'ssim'"),
            (["--methods", "hold,hold=hold", "--data", "shapes"], "each once"),
            (
                ["--methods", "inbetween-weizmann", "--data", "shapes", "--size", "32"],
                "draws at (64, 64), not at (32, 32)",
            ),
            (["--methods", "inbetween/tiny", "--data", "shapes", "--size", "32"], "inbetween/tiny is not trained"),
            (
                ["--methods", "linear", "--data", "shapes", "--size", "wide"],
                "takes two whole numbers like 64 or 256x128",
            ),
            (["--methods", "hold", "--data", "shapes", "--split", "tset"], "'tset'"),
            (["--methods", "hold", "--data", "shapes", "--seeds", "one"], "seeds are whole numbers"),
        ],
    )
    def test_what_cannot_be_evaluated_is_one_sentence(
        self, douga: Douga, tmp_path: Path, arguments: Any, said: str
    ) -> None:
        code, out, err = douga("evaluate", *arguments, "--out", "o")
        assert (code, out) == (2, "")
        assert said in err
        assert "Traceback" not in err
        assert not (tmp_path / "o").exists()

    def test_recipes_are_trained_and_seeds_are_runs_of_one_method(self, douga: Douga, tmp_path: Path) -> None:
        code, out, _ = douga(
            *("evaluate", "--methods", "inbetween/tiny,hold", "--seeds", "0,1", "--train-steps", "1", *EVALUATION),
            *("--metrics", "spread", "--out", "o", "--device", "cpu"),
        )
        assert code == 0
        assert "intervals over clips and runs" in " ".join(out.split())
        assert (tmp_path / "runs" / "inbetween-tiny-seed1" / "weights.safetensors").exists()
        rows = (tmp_path / "o" / "rows.jsonl").read_text().splitlines()
        assert len({re.search(r'"run": "(\w+)"', row)[1] for row in rows if "inbetween/tiny" in row}) == 2  # type: ignore[index]

    def test_a_published_table_stands_beside(self, douga: Douga, tmp_path: Path) -> None:
        rows = "full=linear,sdvi=hold,sepconv-t=flow,superslomo=hold"
        code, _, err = douga(
            *("reproduce", "table3", "--data", "shapes", "--methods", rows, "--clips", "2"),
            *("--metrics", "ssim_hidden", "--out", "o"),
        )
        assert (code, err.count("Traceback")) == (0, 0)
        assert "0.733 [0.729, 0.737]" in (tmp_path / "o" / "table.md").read_text()
        assert douga("reproduce", "table2", "--data", "shapes")[0] == 2
        for arguments, said in ((("--set", "steps=2", "--data", "shapes"), "for teapot alone"), ((), "say which data")):
            code, _, err = douga("reproduce", "table1", *arguments)
            assert (code, said in err) == (2, True)
        code, _, err = douga("reproduce", "table1", "--data", "shapes", "--methods", "fulll=hold")
        assert (code, "no row 'fulll'" in err) == (2, True)


def test_networks_and_sets_that_cannot_be_had_are_one_sentence(douga: Douga) -> None:
    code, out, err = douga("weights", "get", "i4d")
    assert (code, out) == (2, "")
    assert "unknown network 'i4d'" in err
    code, _, err = douga("data", "get", "weizmann")
    assert (code, "nothing to fetch for 'weizmann'" in err) == (2, True)


class TestLatent:
    @pytest.fixture
    def few(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A teapot of few videos, so that nothing takes long."""
        from douga.data import teapot

        monkeypatch.setattr(teapot, "VIDEOS", {split: (24, frames) for split, (_, frames) in teapot.VIDEOS.items()})

    def test_explore_measures_three_ways_and_draws_them(self, douga: Douga, few: None, tmp_path: Path) -> None:
        settings = ("--set", "model.widths=[4,4,4,4]", "--set", "batch=4")
        code, *_ = douga("train", "latent/teapot-1dof", "--steps", "2", *settings, "--device", "cpu", "--out", "run")
        assert code == 0
        code, out, _ = douga("explore")
        assert code == 2  # it is below `latent`
        weights = ("--model", "run/weights.safetensors")
        code, out, _ = douga("latent", "explore", "a.png", "b.png", *weights, "--frames", "3", "--out", "w.png")
        assert code == 0
        assert all(
            re.search(rf"^{way} +\d+\.\d+ +\d+\.\d+", out, re.M) for way in ("linear", "spherical", "density-aware")
        )
        assert re.search(r"^jump at the key frames, .* \d+\.\d and \d+\.\d of 255$", out, re.M)
        assert Image.open("w.png").width > 500
        for wrong, said in (
            (("--model", "linear"), "no latent space"),
            ((*weights, "--out", "w.pdf"), "must end in .png"),
            ((*weights, "--out", "nowhere/w.png"), "not there"),
            ((*weights, "--pictures", "5"), "more than 10 pictures"),
            ((*weights, "--frames", "0"), "1 or more"),
        ):
            before = listing(tmp_path)
            code, out, err = douga("latent", "explore", "a.png", "b.png", *wrong)
            assert (code, out) == (2, "")
            assert said in err
            assert listing(tmp_path) == before

    def test_triplets_without_a_middle_are_left_out_by_name(self, douga: Douga, tmp_path: Path) -> None:
        for number in range(8):
            (tmp_path / "triplets" / f"{number:02}").mkdir(parents=True)
            for name in ("first", "middle", "second") if number % 2 else ("first", "second"):
                shutil.copy(tmp_path / "a.png", tmp_path / "triplets" / f"{number:02}" / f"{name}.png")
        settings = ("--set", "frames=3", "--steps", "1", "--device", "cpu", "--out", "run")
        code, out, _ = douga("train", "latent/tiny", "--data", "triplets", *settings)
        assert code == 0
        left_out = re.findall(r"left out: (\d) videos with fewer frames than a clip has \((.*)\)", out)
        assert left_out and int(left_out[0][0]) == len(left_out[0][1].split(", ")) > 0
        assert all(int(name) % 2 == 0 for name in left_out[0][1].split(", "))
        for folder in (tmp_path / "triplets").iterdir():
            (folder / "middle.png").unlink(missing_ok=True)
        code, _, err = douga("train", "latent/tiny", "--data", "triplets", *settings[:-1], "run2")
        assert (code, "no video has the 3 frames of a clip (the longest has 2)" in err) == (2, True)

    def test_the_teapot_is_reproduced_and_gone_on_with(self, douga: Douga, few: None, tmp_path: Path) -> None:
        asked = (
            "reproduce",
            "teapot",
            "--data",
            "teapot-1dof",
            "--alphas",
            "0,5",
            "--train-steps",
            "1",
            "--clips",
            "4",
        )
        asked = (*asked, "--seeds", "0,1", "--set", "model.widths=[4,4,4,4]", "--set", "batch=8")
        code, out, _ = douga(*asked, "--out", "o", "--device", "cpu")
        assert code == 0
        for row in ("linear", "flow", "hold", "autoencoder", "alpha=0", "alpha=5"):
            assert re.search(rf"^\| {row} \| {1 if row in ('linear', 'flow', 'hold') else 2} \|", out, re.M)
        assert "alpha=5 against alpha=0" in out
        kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "o").rglob("weights.safetensors")}
        assert len(kept) == 6
        assert "is better than each of linear, flow, hold: by mse_hidden" in out
        pictures = {path.name for path in (tmp_path / "o" / "teapot-1dof").glob("*.png")}
        assert pictures == {"reconstruction.png", "in-between.png", "long-term.png", "latent.png"}
        again, out_again, _ = douga(*asked, "--out", "o", "--device", "cpu")
        assert (again, out_again) == (0, out)
        assert {path: path.stat().st_mtime_ns for path in kept} == kept

    @pytest.mark.parametrize(
        ("asked", "said"),
        [
            (("--data", "shapes"), "'shapes' is no teapot"),
            (("--alphas", "1,5"), "must hold 0"),
            (("--alphas", "a"), "alphas are numbers"),
            (("--metrics", "spread"), "leave these options out"),
        ],
    )
    def test_what_cannot_be_reproduced_is_one_sentence(
        self, douga: Douga, tmp_path: Path, asked: tuple[str, ...], said: str
    ) -> None:
        code, out, err = douga("reproduce", "teapot", *asked, "--out", "o")
        assert (code, out) == (2, "")
        assert said in err
        assert not (tmp_path / "o").exists()

"""`douga.api.paint`, `douga paint`: what is drawn from maps, which files it becomes, what is said of maps that are wrong."""

import gc
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from douga import api
from douga.core.config import to_dict
from douga.core.registry import METHODS, RECIPES
from douga.train.checkpoint import save_release
from douga.video import io, ops

EXAMPLE = Path(__file__).parents[1] / "examples" / "street-maps"
HEIGHT, WIDTH, FRAMES = 16, 32, 4  # what vid2vid/tiny is trained at
Douga = Callable[..., tuple[int, str, str]]
Paint = Callable[..., dict[str, Any]]
Drawn = Callable[..., torch.Tensor]


def release(path: Path, recipe: str, data: str = "street", **changes: Any) -> None:
    """Weights as the engine writes them, of a model that has learned nothing."""
    experiment = replace(RECIPES.load(recipe)(), data=data)
    experiment = replace(experiment, model=replace(experiment.model, **changes))
    torch.manual_seed(0)
    model = METHODS.load(experiment.method)(experiment.model)
    provenance = {"recipe": recipe, "experiment": to_dict(experiment), "clips_seen": 0}
    save_release(path, model, provenance, experiment.method)


def street(t: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels, of two cars that touch and drive and of a pixel that has no class, and which car is which."""
    labels, instances = np.zeros((2, HEIGHT, WIDTH), np.uint8)
    labels[8:] = 1
    labels[0, 0] = 255
    for number, left in ((1, 4), (2, 12)):
        labels[6:12, left + 2 * t : left + 2 * t + 8] = 5
        instances[6:12, left + 2 * t : left + 2 * t + 8] = number
    return labels, instances


def save_maps(folder: Path, maps: list[np.ndarray], **changed: Image.Image) -> None:
    """As 0.png, 1.png, ...; changed: others in the place of some, _3=... for 3.png."""
    folder.mkdir()
    for t, values in enumerate(maps):
        changed.get(f"_{t}", Image.fromarray(values)).save(folder / f"{t}.png")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with weights, good maps and bad ones."""
    top = tmp_path_factory.mktemp("place")
    release(top / "street.safetensors", "vid2vid/tiny", from_nothing=0.5)
    release(top / "goes-on.safetensors", "vid2vid/tiny")
    release(top / "drawings.safetensors", "vid2vid/tiny", classes=0, things=(), from_nothing=0.5)
    release(top / "single.safetensors", "pix2pixhd/tiny")
    release(top / "elsewhere.safetensors", "pix2pixhd/tiny", data="elsewhere")
    release(top / "moved.safetensors", "covst/tiny")
    release(top / "tween.safetensors", "inbetween/tiny")
    labels, instances = ([street(t)[part] for t in range(FRAMES)] for part in (0, 1))
    save_maps(top / "maps", labels)
    save_maps(top / "instances", instances)
    wide = Image.fromarray(labels[0]).resize((24, HEIGHT), Image.Resampling.NEAREST)
    save_maps(top / "rgb", labels, _0=Image.fromarray(labels[0]).convert("RGB"))
    save_maps(top / "rgba", labels, _0=Image.fromarray(labels[0]).convert("RGBA"))
    save_maps(top / "first-class", labels, _0=Image.fromarray(labels[0] + 3))
    save_maps(top / "last-class", labels, _3=Image.fromarray(np.full_like(labels[3], 7)))
    save_maps(top / "last-rgb", labels, _3=Image.fromarray(labels[3]).convert("RGB"))
    save_maps(top / "last-wide", labels, _3=wide)
    save_maps(top / "instances-last-wide", instances, _3=wide)
    save_maps(top / "instances-few", instances[:3])
    save_maps(top / "last-damaged", labels)
    (top / "last-damaged" / "3.png").write_bytes((top / "maps" / "3.png").read_bytes()[:60])
    (top / "empty").mkdir()
    (top / "full").mkdir()
    (top / "full" / "mine.txt").write_text("mine")
    (top / "old.mp4").write_text("mine")
    (top / "old-sheet.png").write_text("mine")
    noise = torch.rand(3, FRAMES, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0)) * 2 - 1
    io.write_video(top / "drawings", noise, 25.0)
    io.write_video(top / "drawings.mp4", noise, 12.0)
    (top / "cut.mp4").write_bytes((top / "drawings.mp4").read_bytes()[:-300])
    return top


@pytest.fixture
def paint(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Paint:
    """`api.paint` in `place`, into tmp_path; by default into a folder, which keeps every bit."""
    monkeypatch.chdir(place)

    def run(maps: str | Path = "maps", out: str = "out", model: str = "street", **options: Any) -> dict[str, Any]:
        return api.paint(maps, tmp_path / out, f"{model}.safetensors", device="cpu", **options)

    return run


@pytest.fixture
def drawn(paint: Paint) -> Drawn:
    """The frames that `paint` wrote, (3, T, H, W)."""
    count = iter(range(99))
    return lambda *a, **b: io.read_video(paint(*a, out=f"drawn-{next(count)}", **b)["written"][0])[0]


@pytest.fixture
def douga(place: Path, monkeypatch: pytest.MonkeyPatch, command: Douga) -> Douga:
    """`douga paint` in `place`: exit code, stdout, stderr."""
    monkeypatch.chdir(place)

    def run(*arguments: str) -> tuple[int, str, str]:
        model = () if "--model" in arguments else ("--model", "street.safetensors")
        return command("paint", *arguments, *model, "--device", "cpu")

    return run


def listing(folder: Path) -> dict[str, bytes | None]:
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@pytest.mark.parametrize(("out", "fps"), [("new/p.mp4", 10.0), ("p.gif", 10.0), ("p", 25.0)])
def test_the_command_writes_a_video_and_a_sheet(douga: Douga, tmp_path: Path, out: str, fps: float) -> None:
    written = tmp_path / out
    code, said, err = douga("maps", "--out", str(written), "--fps", "10")
    assert (code, err) == (0, "")
    assert f"street.safetensors: {FRAMES} frames, drawn at {WIDTH}x{HEIGHT}\n" in said
    sheet = written.with_name("p-sheet.png")
    assert re.findall(r"wrote (\S+)", said) == [str(written), str(sheet)]
    video, rate = io.read_video(written)
    assert (tuple(video.shape), rate) == ((3, FRAMES, HEIGHT, WIDTH), fps)
    assert (io.read_image(sheet) - ops.contact_sheet(video[None])).abs().mean() < 0.2  # what codecs lose
    assert {path.name for path in written.parent.iterdir()} == {written.name, sheet.name}


@pytest.mark.parametrize("ending", [".mp4", ".gif"])
def test_each_sample_has_its_own_seed_and_a_seed_its_bytes(paint: Paint, tmp_path: Path, ending: str) -> None:
    both = [path.read_bytes() for path in paint(out=f"a{ending}", samples=2, seed=4)["written"]]
    assert [path.name for path in sorted(tmp_path.iterdir())] == [f"a-1{ending}", f"a-2{ending}", "a-sheet.png"]
    assert len(set(both)) == 3
    assert Image.open(tmp_path / "a-sheet.png").size == (FRAMES * (WIDTH + 2) - 2, 2 * (HEIGHT + 2) - 2)
    assert both == [path.read_bytes() for path in paint(out=f"b{ending}", samples=2, seed=4)["written"]]
    assert both[1] == paint(out=f"c{ending}", seed=5)["written"][0].read_bytes()


def test_the_sheet_has_a_row_for_each_sample(paint: Paint, tmp_path: Path) -> None:
    made = paint(samples=2)
    videos = torch.stack([io.read_video(path)[0] for path in made["written"][:2]])
    assert made["written"] == [tmp_path / "out" / "sample-1", tmp_path / "out" / "sample-2", tmp_path / "out-sheet.png"]
    assert torch.allclose(io.read_image(made["written"][2]), ops.contact_sheet(videos), atol=1e-6)
    assert made["frames"] == FRAMES


def test_progress_counts_the_frames_of_all_samples(paint: Paint) -> None:
    told: list[tuple[int, int]] = []
    paint(samples=2, told=lambda done, of: told.append((done, of)))
    assert told == [(done, 2 * FRAMES) for done in range(1, 2 * FRAMES + 1)]


@pytest.mark.parametrize("size", ["33x19", "64x32", "17x40"])
def test_any_size_can_be_asked_for(douga: Douga, tmp_path: Path, size: str) -> None:
    width, height = map(int, size.split("x"))
    for out, sides in (("p", (height, width)), ("p.mp4", (height + height % 2, width + width % 2))):
        code, said, _ = douga("maps", "--size", size, "--out", str(tmp_path / out / out))
        assert (code, f"drawn at {size}" in said) == (0, True)
        assert io.read_video(tmp_path / out / out)[0].shape[2:] == sides


def test_the_example_is_brought_to_the_models_size(drawn: Drawn) -> None:
    video = drawn(EXAMPLE / "labels", instances=EXAMPLE / "instances", first_frame=EXAMPLE / "first.png")
    assert video.shape == (3, 24, HEIGHT, WIDTH)
    first = ops.fit(io.read_image(EXAMPLE / "first.png"), (HEIGHT, WIDTH))
    assert torch.allclose(video[:, 0], first, atol=1.01 / 255)


@pytest.mark.parametrize("swaps", [["1:5"], ["5:1"], ["1:5", "5:3"], ["0:6", "1:2", "1:5"]])
def test_swapped_classes_are_maps_in_which_they_are_swapped(
    douga: Douga, drawn: Drawn, tmp_path: Path, swaps: list[str]
) -> None:
    """One swap after the other."""
    maps = [street(t)[0] for t in range(FRAMES)]
    for one, other in (map(int, swap.split(":")) for swap in swaps):
        maps = [np.where(m == one, other, np.where(m == other, one, m)).astype(np.uint8) for m in maps]
    save_maps(tmp_path / "swapped", maps)
    options = [part for swap in swaps for part in ("--swap", swap)]
    code, *_ = douga("maps", "--out", str(tmp_path / "by-option"), *options)
    assert code == 0
    by_option = io.read_video(tmp_path / "by-option")[0]
    assert torch.equal(by_option, drawn(tmp_path / "swapped"))
    assert not torch.equal(by_option, drawn())


def test_swapping_twice_changes_nothing(drawn: Drawn) -> None:
    assert torch.equal(drawn(swap=[(1, 5), (5, 1)]), drawn())


def test_instances_tell_things_apart_that_touch(drawn: Drawn) -> None:
    # by a model without styles, so it is the outlines that change
    assert not torch.equal(drawn(model="single", instances="instances"), drawn(model="single"))


def test_the_first_frame_is_the_given_picture(drawn: Drawn, place: Path) -> None:
    picture = io.read_image(place / "drawings" / "0000.png")
    begun = drawn(first_frame=str(place / "drawings" / "0000.png"))
    assert torch.equal(begun[:, 0], picture)
    plain = drawn(first_frame="none")
    assert not torch.equal(begun[:, 1], plain[:, 1])  # it is gone on from
    assert torch.equal(drawn(model="goes-on", first_frame="drawings/0000.png")[:, 0], picture)


def test_pix2pixhd_paints_the_first_frame(drawn: Drawn, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = "tween", "elsewhere", "street", "single"
    monkeypatch.setattr(api.models, "weights", lambda: {name: place / f"{name}.safetensors" for name in names})
    begun, painted = drawn(first_frame="single"), drawn(model="single")
    assert torch.equal(begun[:, 0], painted[:, 0])
    assert begun.shape == painted.shape
    assert not torch.equal(begun[:, 1:], painted[:, 1:])
    assert torch.equal(begun, drawn(first_frame="single"))


def test_a_model_that_draws_one_version_says_so(douga: Douga, tmp_path: Path) -> None:
    code, said, _ = douga("maps", "--model", "single.safetensors", "--samples", "2", "--out", str(tmp_path / "p.mp4"))
    assert (code, "pix2pixhd draws the same every time, so there is 1 sample" in said) == (0, True)
    assert sorted(listing(tmp_path)) == ["p-sheet.png", "p.mp4"]


@pytest.mark.parametrize(("maps", "fps", "of"), [("drawings", 25.0, FRAMES), ("drawings.mp4", 12.0, 0)])
def test_a_model_of_pictures_takes_a_folder_and_a_video(paint: Paint, maps: str, fps: float, of: int) -> None:
    told: list[int] = []
    made = paint(maps, "p.mp4", "drawings", told=lambda _, of: told.append(of))
    video, rate = io.read_video(made["written"][0])
    assert (tuple(video.shape), rate) == ((3, FRAMES, HEIGHT, WIDTH), fps)
    assert told == [of] * FRAMES


BAD = [
    ("nowhere", "no file or folder nowhere"),
    ("empty", "empty holds no pictures"),
    ("maps/0.png", "a folder of label PNGs, not the file maps/0.png"),
    ("drawings.mp4", "a folder of label PNGs, not the file drawings.mp4"),
    ("rgb", r"rgb/0.png \(PNG, RGB\) is not a label map"),
    ("rgba", r"rgba/0.png \(PNG, RGBA\) is not a label map"),
    ("drawings", "drawings/0000.png .* is not a label map"),
    ("first-class", "first-class/0.png holds the class 8; there are 7 classes"),
    ("last-class", "last-class/3.png holds the class 7; there are 7 classes"),
    ("last-class --samples 2", "last-class/3.png"),
    ("last-class --out p.gif", "last-class/3.png"),
    ("last-class --out p", "last-class/3.png"),
    ("last-class --out new/and/newer/p", "last-class/3.png"),
    ("last-rgb", r"last-rgb/3.png \(PNG, RGB\) is not a label map"),
    ("last-wide", "last-wide/3.png is 24x16 .* 32x16"),
    ("last-damaged", "last-damaged/3.png is damaged"),
    ("maps --instances instances-few", "4 maps and 3 instance maps"),
    ("maps --instances instances-last-wide", "instances-last-wide/3.png is 24x16 .* 32x16"),
    ("maps --instances nowhere", "nowhere: No such file"),
    ("maps --instances drawings", "drawings/0000.png .* is not a label map"),
    ("maps --swap 1:7", "there is no class 7 to swap: this model has the classes 0 to 6"),
    ("maps --swap 1", "--swap takes two whole numbers like 21:11, not '1'"),
    ("maps --swap 1:2:3", "--swap takes .* not '1:2:3'"),
    ("maps --swap 1:2 --swap car:tree", "--swap takes .* not 'car:tree'"),
    ("maps --size 32", "--size takes two whole numbers like 256x128, not '32'"),
    ("maps --size 32x-16", "--size takes .* not '32x-16'"),
    ("maps --size 64x8", "size must be 16 or more on both sides, not 64x8"),
    ("maps --size 300000x200000", "300000x200000 has more than the 64,000,000 pixels"),
    ("maps --seed -1", "seed must be .* not -1"),
    ("maps --seed 4294967295 --samples 2", "seed must be .* not 4294967295"),
    ("maps --samples 0", "samples must be 1 or more, not 0"),
    ("maps --fps 0", "fps must be above 0 and at most 1000, not 0"),
    ("maps --fps nan", "fps must be"),
    ("maps --fps 0.001", "fps must"),
    ("maps --first-frame nowhere.png", "no file nowhere.png"),
    ("maps --first-frame maps", "maps is a folder, not a picture"),
    ("maps --first-frame single", "no pix2pixHD weights for street"),
    ("maps --model goes-on.safetensors", "give --first-frame single or a picture"),
    ("maps --model nowhere", "unknown model 'nowhere'"),
    ("maps --model tween.safetensors", "tween.safetensors does tween, not paint"),
    ("maps --model linear", "linear does .*tween, not paint"),
    ("maps --model moved.safetensors", "true motion"),
    ("drawings --model drawings.safetensors --swap 1:2", "no instances and has no classes to swap"),
    ("drawings --model drawings.safetensors --instances instances", "no instances and has no classes to swap"),
    ("cut.mp4 --model drawings.safetensors", "cut.mp4 is"),
    ("empty --model drawings.safetensors", "empty holds no pictures"),
    ("drawings/0000.png --model drawings.safetensors", "0000.png is not a video"),
    ("drawings.mp4 --model drawings.safetensors --out drawings.mp4", "written over its own maps, drawings.mp4"),
    ("maps --out full", "full is not empty"),
    ("maps --out maps", "maps is not empty"),
    ("maps --out p.avi", "p.avi: the name must end in .mp4 or .gif"),
    ("maps --out old-sheet.png/p.mp4", "old-sheet.png is not a folder"),
]


@pytest.mark.parametrize(("asked", "sentence"), BAD, ids=[asked for asked, _ in BAD])
def test_what_cannot_be_painted_is_one_sentence_and_leaves_nothing(
    douga: Douga, place: Path, monkeypatch: pytest.MonkeyPatch, asked: str, sentence: str
) -> None:
    monkeypatch.setattr(api.models, "weights", lambda: {"elsewhere": place / "elsewhere.safetensors"})
    before = listing(place)
    asked += "" if "--out" in asked else " --out old.mp4"
    code, out, err = douga(*asked.split())
    assert (code, out) == (2, "")
    assert err.startswith("douga: ")
    assert re.search(sentence, err)
    assert (err.count("\n"), "[Errno" in err) == (1, False)
    assert listing(place) == before


@pytest.mark.parametrize("out", ["old.mp4", "old.gif", "p", "new/and/newer/p.mp4"])
def test_a_stop_leaves_nothing(paint: Paint, tmp_path: Path, out: str) -> None:
    for name in ("old-1.mp4", "old-1.gif", "old-sheet.png"):
        (tmp_path / name).write_text("mine")
    before = listing(tmp_path)

    def stop(done: int, of: int) -> None:
        if done == FRAMES + 2:  # the first sample is complete
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        paint(out=out, samples=2, told=stop)
    assert listing(tmp_path) == before


def test_a_stopped_command_is_no_traceback(douga: Douga, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(done: int, of: int) -> None:
        raise KeyboardInterrupt

    whole = api.paint
    monkeypatch.setattr(api, "paint", lambda *a, **b: whole(*a, **b | {"told": stop}))
    code, out, err = douga("maps", "--out", str(tmp_path / "p.mp4"))
    assert (code, out, "Traceback" in err) == (130, "", False)
    assert listing(tmp_path) == {}


def test_memory_does_not_grow_with_the_frames(paint: Paint, tmp_path: Path) -> None:
    labels = [np.roll(street(0)[0], t % WIDTH, axis=1) for t in range(120)]
    save_maps(tmp_path / "long", labels)
    alive: dict[int, int] = {}

    def count(done: int, of: int) -> None:
        if done % 20 == 0:  # storages, since a frame and its slices share one
            tensors = [x for x in gc.get_objects() if type(x) is torch.Tensor and x.shape[-2:] == (HEIGHT, WIDTH)]
            alive[done] = len({x.untyped_storage().data_ptr() for x in tensors})

    assert paint(tmp_path / "long", "p.mp4", told=count)["frames"] == 120
    assert list(alive) == [20, 40, 60, 80, 100, 120]
    assert 16 <= alive[120] <= max(alive.values()) <= 45, alive  # the sheet keeps 31, the model 3 maps and 2 frames


class TestEvaluate:
    def test_painters_are_measured_on_maps_and_covst_is_told_the_motion(self, tmp_path: Path) -> None:
        names = ("vid2vid", "pix2pixhd", "covst")  # covst refuses to draw without it
        for name in names:
            release(tmp_path / f"{name}.safetensors", f"{name}/tiny", data="blocks")
        found = api.evaluate(
            [f"{name}={tmp_path / name}.safetensors" for name in names],
            "blocks",
            task="paint",
            samples=1,
            clips=2,
            frames=4,
            size=(HEIGHT, WIDTH),
            metrics=("mse_hidden", "warp_error"),
            out=tmp_path / "out",
        )
        assert set(names) < set(found.table.cells)
        assert (
            "paint, blocks test, 2 clips of 4 frames at 32x16, 1 of them given"
            in (found.folder / "table.md").read_text()
        )

    @pytest.mark.parametrize(
        ("data", "task", "metric", "said"),
        [
            ("shapes", "paint", "mse_hidden", "no maps to paint from"),
            ("shapes", "tween", "labels", "for the task paint, not tween"),
        ],
    )
    def test_what_cannot_be_measured_is_one_sentence(
        self, tmp_path: Path, data: str, task: str, metric: str, said: str
    ) -> None:
        release(tmp_path / "one.safetensors", "pix2pixhd/tiny", data="blocks")
        method = "linear" if task == "tween" else str(tmp_path / "one.safetensors")
        size = (HEIGHT, WIDTH)
        with pytest.raises(ValueError, match=said):
            api.evaluate(
                [method], data, task=task, clips=2, frames=4, size=size, metrics=[metric], out=tmp_path / "out"
            )
        assert not (tmp_path / "out").exists()

"""`slow`, `fill` and `replay`: what is drawn between the frames of a video, when, and that it can be drawn again."""

import json
import re
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from douga import api
from douga.video.io import from_uint8, read_picture, read_recipe, read_video, shown, to_uint8, write_video

Douga = Callable[..., tuple[int, str, str]]


def shot(seed: int, length: int, height: int = 24, width: int = 32, speed: int = 4) -> Tensor:
    """(3, T, H, W), of values that 8 bits hold: smooth colours, panned."""
    chance = torch.Generator().manual_seed(seed)
    wide = torch.nn.functional.interpolate(torch.rand(1, 3, 4, 12, generator=chance), (height, 300), mode="bicubic")[0]
    wide = (wide * 2 - 1).clamp(-1, 1)
    video = torch.stack([wide[..., speed * t : speed * t + width] for t in range(length)], 1)
    return from_uint8(to_uint8(video))


def fade(one: Tensor, other: Tensor, way: float) -> Tensor:
    """What `linear` draws, as 8 bits hold it."""
    return from_uint8(to_uint8(torch.lerp(one, other, way)[:, None]))[:, 0]


def listing(folder: Path) -> dict[str, bytes | None]:
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def with_sound(path: Path, times_ms: list[int], codec: str = "aac") -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=1000)
        stream.width, stream.height, stream.pix_fmt = 32, 24, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        tone = container.add_stream(codec, rate=8000, layout="mono")
        for time, pixels in zip(times_ms, to_uint8(shot(0, len(times_ms))), strict=True):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        kind = tone.codec_context.format.name
        samples = np.sin(np.arange(8 * (times_ms[-1] + 40)) / 5)[None]
        samples = samples.astype(np.float32) if kind == "fltp" else (samples * 9999).astype(np.int16)
        for i in range(0, samples.shape[1], 1024):
            piece = av.AudioFrame.from_ndarray(samples[:, i : i + 1024].copy(), format=kind, layout="mono")
            piece.sample_rate, piece.pts, piece.time_base = 8000, i, Fraction(1, 8000)
            container.mux(tone.encode(piece))
        container.mux(tone.encode(None))


def packets(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(audio=0) if packet.size]


# Slow


def test_every_known_frame_comes_back_and_the_others_lie_where_they_are_asked_for(tmp_path: Path) -> None:
    video = shot(0, 4)
    write_video(tmp_path / "in", video, 25)
    made = api.slow(tmp_path / "in", tmp_path / "out", 3, model="linear")
    drawn, _ = read_video(tmp_path / "out")
    expected = [fade(video[:, t // 3], video[:, min(t // 3 + 1, 3)], t % 3 / 3) for t in range(10)]
    assert (made["frames"], made["drawn"], made["fps"], made["drawn_at"]) == (10, 6, 25, [24, 32])
    assert torch.equal(drawn[:, ::3], video)
    assert (drawn - torch.stack(expected, 1)).abs().max() <= 1.01 / 127.5
    assert made["filled"] == [(1, 2), (4, 5), (7, 8)]
    assert [path.name for path in tmp_path.iterdir() if path.name not in ("in", "out")] == []


@pytest.mark.parametrize("factor", [2.5, "5/2", "2.5"])
def test_a_fraction_is_exact(tmp_path: Path, factor: float | str) -> None:
    video = shot(0, 5)
    write_video(tmp_path / "in", video, 25)
    assert api.slow(tmp_path / "in", tmp_path / "out", factor, model="linear")["frames"] == 11
    drawn, _ = read_video(tmp_path / "out")
    for k in range(11):
        t, way = divmod(k / 2.5, 1)
        expected = fade(video[:, int(t)], video[:, min(int(t) + 1, 4)], way)
        assert (drawn[:, k] - expected).abs().max() <= 1.01 / 127.5, k


def test_a_flow_moves_things(tmp_path: Path) -> None:
    """A pan: the drawing between is nearer to the truth than a cross-fade."""
    truth = shot(0, 9, 64, 80)
    write_video(tmp_path / "in", truth[:, ::2], 25)
    off = {}
    for model in ("flow", "linear"):
        api.slow(tmp_path / "in", tmp_path / model, 2, model=model)
        off[model] = (read_video(tmp_path / model)[0] - truth)[..., 8:-8].abs().mean().item()
    assert off["flow"] < off["linear"]


@pytest.mark.parametrize(("options", "fps", "frames"), [({}, 25, 19), ({"fps": 50.0}, 50, 37), ({"fps": 5.0}, 5, 4)])
def test_it_gets_twice_as_long_at_any_rate(tmp_path: Path, options: dict[str, Any], fps: float, frames: int) -> None:
    write_video(tmp_path / "in.mp4", shot(0, 10), 25)
    made = api.slow(tmp_path / "in.mp4", tmp_path / "out.mp4", 2, model="linear", **options)
    found = list(shown(tmp_path / "out.mp4"))
    assert (made["fps"], made["frames"], len(found)) == (fps, frames, frames)
    assert found[-1].seconds - found[0].seconds == Fraction(frames - 1) / Fraction(fps)
    assert [note[:36] for note in made["notes"]] == ["frames that come faster than the new"] * (fps == 5)


def test_times_that_are_uneven_are_heeded(tmp_path: Path) -> None:
    """Frames at 0, 40, 80, 240, 280 ms: the long gap gets as many more."""
    with_sound(tmp_path / "in.mkv", [0, 40, 80, 240, 280])
    made = api.slow(tmp_path / "in.mkv", tmp_path / "out", 2, model="linear")
    assert made["filled"] == [(1, 1), (3, 3), (5, 11), (13, 13)]
    known = [each.frame for each in shown(tmp_path / "in.mkv")]
    drawn, _ = read_video(tmp_path / "out")
    assert torch.equal(drawn[:, [0, 2, 4, 12, 14]], torch.stack(known, 1))
    assert (drawn[:, 6] - fade(known[2], known[3], 0.25)).abs().max() <= 1.01 / 127.5


def test_cuts_are_held_unless_the_user_says_otherwise(tmp_path: Path) -> None:
    video = torch.cat([shot(0, 8, speed=1), shot(1, 8, speed=1)], 1)
    write_video(tmp_path / "in", video, 25)
    made = api.slow(tmp_path / "in", tmp_path / "held", 3, model="linear")
    assert made["cuts"] == [8]
    drawn, _ = read_video(tmp_path / "held")
    assert torch.equal(drawn[:, [21, 22, 23, 24]], video[:, [7, 7, 7, 8]])
    assert api.slow(tmp_path / "in", tmp_path / "all", 3, model="linear", cuts=None)["cuts"] == []
    drawn, _ = read_video(tmp_path / "all")
    assert (drawn[:, 22] - fade(video[:, 7], video[:, 8], 1 / 3)).abs().max() <= 1.01 / 127.5


def test_sound_is_kept_where_it_fits(tmp_path: Path) -> None:
    with_sound(tmp_path / "in.mp4", [40 * i for i in range(20)])
    made = api.slow(tmp_path / "in.mp4", tmp_path / "kept.mp4", 2, model="linear", keep_duration=True)
    assert (made["fps"], made["frames"], made["notes"]) == (50, 39, [])
    assert packets(tmp_path / "kept.mp4") == packets(tmp_path / "in.mp4")
    assert packets(tmp_path / "kept.mp4")
    for out, options, text in (
        ("long.mp4", {}, r"sound \(aac\) is left out: the video has become longer"),
        ("a.gif", {"keep_duration": True}, r"sound \(aac\) is left out: only an \.mp4"),
    ):
        (note,) = api.slow(tmp_path / "in.mp4", tmp_path / out, 2, model="linear", **options)["notes"]
        assert re.search(text, note)
    with_sound(tmp_path / "in.mov", [0, 40, 80], "pcm_mulaw")
    made = api.slow(tmp_path / "in.mov", tmp_path / "b.mp4", 2, model="linear", keep_duration=True)
    assert made["notes"] == ["the sound is left out: an .mp4 cannot hold pcm_mulaw"]


def test_a_folder_keeps_alpha_and_16_bits(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    values = np.zeros((3, 8, 8, 4), np.uint16)
    for t in range(3):
        values[t, 2:5, 1 + t : 4 + t] = (100, 30_001, 65_535, 40_000)
        cv2.imwrite(str(tmp_path / "in" / f"{t}.png"), values[t])
    api.slow(tmp_path / "in", tmp_path / "out", 2, model="linear")
    drawn = [read_picture(path) for path in sorted((tmp_path / "out").iterdir())]
    assert {bits for _, bits in drawn} == {16}
    for t in range(3):
        kept = to_uint8(drawn[2 * t][0][:, None], 16)[0]
        assert np.array_equal(kept, values[t][..., [2, 1, 0, 3]])
    between = to_uint8(drawn[1][0][:, None], 16)[0]
    # Half of what is there now and of what will be: nowhere a darker colour, which would be a fringe.
    assert between[3, [1, 2, 4], 3].tolist() == [20_000, 40_000, 20_000]
    assert np.abs(between[3, [1, 2, 4], :3].astype(int) - [65_535, 30_001, 100]).max() <= 2


def test_samples_become_files_and_memory_is_let_go(tmp_path: Path) -> None:
    video = shot(0, 70, 8, 8)
    write_video(tmp_path / "in", video, 25)
    told: list[tuple[str, int, int]] = []
    made = api.slow(
        tmp_path / "in", tmp_path / "out.mp4", 2, model="linear", samples=3, told=lambda *now: told.append(now)
    )
    assert made["written"] == [tmp_path / "out.mp4"]
    assert made["notes"] == ["linear draws the same every time, so there is 1 sample, not 3"]
    assert [now for now in told if now[0] == "drawing"][-1] == ("drawing", 139, 139)
    assert ("looking", 70, 0) in told


def test_what_a_form_cannot_hold_is_said(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for t in range(2):
        cv2.imwrite(str(tmp_path / "in" / f"{t}.png"), np.full((16, 16, 4), 30_000 * t, np.uint16))
    notes = api.slow(tmp_path / "in", tmp_path / "out.mp4", 2, model="linear")["notes"]
    assert [note.partition(":")[0] for note in notes] == [
        "the transparency was laid on white",
        "the 16 bits of the pictures became 8",
    ]


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return api.train("inbetween/tiny", "shapes", steps=1, device="cpu", out=tmp_path_factory.mktemp("train") / "run")


def test_a_model_of_one_size_says_so_and_several_samples_differ(tmp_path: Path) -> None:
    weights = "inbetween-weizmann"  # what has learned nothing draws nearly the same from any noise
    write_video(tmp_path / "in", shot(0, 3, 70, 90), 25)
    made = api.slow(tmp_path / "in", tmp_path / "out.gif", 2, model=weights, samples=2, device="cpu")
    height, width = api.load(weights)[0].size or (0, 0)
    assert f"90x70 were centre-cropped and resized to {width}x{height}" in made["notes"][0]
    assert made["drawn_at"] == [height, width]
    one, two = (read_video(path)[0] for path in made["written"])
    assert [path.name for path in made["written"]] == ["out-1.gif", "out-2.gif"]
    assert one.shape == two.shape
    assert not torch.equal(one, two)
    found = api.replay(tmp_path / "out-2.gif")
    assert (found["equal"], found["frames"]) == ("bytes", one.shape[1])


# Stopped and resumed


def stopped_at(count: int) -> Callable[[str, int, int], None]:
    def told(what: str, done: int, of: int) -> None:
        if (what, done) == ("drawing", count):
            raise KeyboardInterrupt

    return told


@pytest.mark.parametrize("name", ["out.mp4", "out.gif", "out"])
def test_a_job_that_was_stopped_goes_on_and_gives_the_same(tmp_path: Path, name: str) -> None:
    video = torch.cat([shot(0, 50, 16, 16, speed=1), shot(1, 30, 16, 16, speed=1)], 1)
    write_video(tmp_path / "in", video, 25)
    whole, parts = tmp_path / "whole" / name, tmp_path / "parts" / name
    api.slow(tmp_path / "in", whole, 2, model="linear")
    for stop, resume in ((100, False), (140, True)):
        with pytest.raises(KeyboardInterrupt):
            api.slow(tmp_path / "in", parts, 2, model="linear", resume=resume, told=stopped_at(stop))
        assert [path.name for path in parts.parent.iterdir()] == [f"{name}.part"]
    with pytest.raises(FileExistsError, match="go on with --resume"):
        api.slow(tmp_path / "in", parts, 2, model="linear")
    for changed in ({"factor": 3}, {"model": "hold"}, {"seed": 1}):
        with pytest.raises(ValueError, match="begun with another video, other options"):
            api.slow(tmp_path / "in", parts, **{"factor": 2, "model": "linear", **changed}, resume=True)
    told: list[tuple[str, int, int]] = []
    made = api.slow(tmp_path / "in", parts, 2, model="linear", resume=True, told=lambda *now: told.append(now))
    assert (made["frames"], made["cuts"]) == (159, [50])
    assert listing(parts.parent) == listing(whole.parent)
    # The blocks that were finished were not drawn again.
    assert [done for what, done, _ in told if what == "drawing"] == [64, 128, *range(129, 160)]


def test_a_job_that_fails_before_anything_is_finished_leaves_nothing(tmp_path: Path) -> None:
    write_video(tmp_path / "in", shot(0, 5), 25)
    before = listing(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        api.slow(tmp_path / "in", tmp_path / "new" / "er" / "out.mp4", 2, model="linear", told=stopped_at(3))
    assert listing(tmp_path) == before
    with pytest.raises(ValueError, match="nothing to go on with"):
        api.slow(tmp_path / "in", tmp_path / "out.mp4", 2, model="linear", resume=True)


def test_ctrl_c_says_how_to_go_on(tmp_path: Path, command: Douga, monkeypatch: pytest.MonkeyPatch) -> None:
    write_video(tmp_path / "in", shot(0, 40, 8, 8), 25)
    arguments = ["slow", str(tmp_path / "in"), "--factor", "2", "--model", "linear", "--out", str(tmp_path / "a b")]
    real = api.slow
    monkeypatch.setattr(api, "slow", lambda *given, **options: real(*given, **{**options, "told": stopped_at(70)}))
    code, out, err = command(*arguments)
    assert (code, out) == (130, "")
    assert err.strip().endswith(f"--out '{tmp_path}/a b' --resume")
    monkeypatch.setattr(api, "slow", real)
    assert command(*arguments)[0] == 2
    code, out, _ = command(*arguments, "--resume")
    assert (code, "39 of 79 frames drawn at 8x8" in out) == (0, True)
    assert not (tmp_path / "a b.part").exists()


# Fill


def test_pictures_that_are_missing_are_drawn_and_keep_their_numbers(tmp_path: Path) -> None:
    video = shot(0, 8)
    (tmp_path / "in").mkdir()
    for t in (0, 1, 4, 7):
        Image.fromarray(to_uint8(video)[t]).save(tmp_path / "in" / f"scene_{t + 3:04d}.png")
    made = api.fill(tmp_path / "in", tmp_path / "out", model="linear")
    assert (made["frames"], made["drawn"], made["filled"]) == (8, 4, [(5, 6), (8, 9)])
    assert [path.name for path in sorted((tmp_path / "out").iterdir())] == [f"{t:04d}.png" for t in range(3, 11)]
    drawn, _ = read_video(tmp_path / "out")
    assert torch.equal(drawn[:, [0, 1, 4, 7]], video[:, [0, 1, 4, 7]])
    assert (drawn[:, 2] - fade(video[:, 1], video[:, 4], 1 / 3)).abs().max() <= 1.01 / 127.5
    assert api.fill(tmp_path / "in", tmp_path / "b.mp4", model="linear", fps=12)["fps"] == 12


def test_a_video_on_twos_is_filled_and_keeps_its_time_and_sound(tmp_path: Path) -> None:
    frames = shot(0, 20, speed=6)[:, [t for t in range(10) for _ in (0, 1)]]
    write_video(tmp_path / "silent.mp4", frames, 25)
    # Of so small a picture, the codec changes more than usual.
    made = api.fill(tmp_path / "silent.mp4", tmp_path / "out", model="linear", still=15)
    assert made["filled"] == [(t, t) for t in range(1, 19, 2)]  # the last one has nothing after it
    known, _ = read_video(tmp_path / "silent.mp4")
    drawn, _ = read_video(tmp_path / "out")
    assert drawn.shape == known.shape
    assert torch.equal(drawn[:, ::2], known[:, ::2])
    with_sound(tmp_path / "in.mp4", [40 * t for t in range(20) if t % 5 != 3])  # frames that were dropped
    made = api.fill(tmp_path / "in.mp4", tmp_path / "out.mp4", model="linear")
    assert (made["filled"], made["frames"], made["fps"]) == ([(t, t) for t in (3, 8, 13, 18)], 20, 25)
    assert packets(tmp_path / "out.mp4") == packets(tmp_path / "in.mp4")


def test_a_video_that_lacks_nothing_stays_as_it_is(tmp_path: Path, command: Douga) -> None:
    write_video(tmp_path / "in.mp4", shot(0, 6, speed=6), 25)
    code, out, _ = command("fill", str(tmp_path / "in.mp4"), "--out", str(tmp_path / "out"), "--model", "flow")
    assert (code, out.splitlines()[0]) == (0, "nothing to fill: no frame is missing or repeated")
    assert torch.equal(read_video(tmp_path / "out")[0], read_video(tmp_path / "in.mp4")[0])


# What cannot be done


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (["--factor", "1"], "factor must be above 1"),
        (["--factor", "two"], "factor must be a number like 4, 2.5 or 5/2, not 'two'"),
        (["--factor", "nan"], "factor must be"),
        (["--factor", "1/0"], "factor must be a number"),
        (["--fps", "0"], "fps must lie between"),
        (["--samples", "0"], "samples must be 1 or more"),
        (["--seed", "-1"], "seed must be"),
        (["--cuts", "0.5"], "the threshold of cuts must be above 1"),
        (["--model", "nobody"], "unknown model 'nobody'"),
        (["--model", "vid2vid-blocks"], "does paint, not tween"),
        (["--factor", "900", "--keep-duration"], "give fps, from 0.01 to 1000"),
        (["--out", "a.avi"], "must end in .mp4 or .gif"),
        (["--resume"], "there is nothing to go on with"),
        (["--device", "abacus"], "no device 'abacus'"),
    ],
)
def test_a_mistake_is_one_sentence_and_leaves_nothing(
    tmp_path: Path, command: Douga, monkeypatch: pytest.MonkeyPatch, wrong: list[str], sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "in.mp4", shot(0, 3), 25)
    before = listing(tmp_path)
    model = [] if "--model" in wrong or "--device" in wrong else ["--model", "linear"]
    if "--device" in wrong:
        model = ["--model", "inbetween-weizmann"]
    code, out, err = command("slow", "in.mp4", *model, *wrong)
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert sentence in err
    assert listing(tmp_path) == before


def test_bad_videos_are_refused_in_one_sentence(tmp_path: Path, command: Douga) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "empty").mkdir()
    write_video(tmp_path / "one", shot(0, 1), 25)
    write_video(tmp_path / "two.mp4", shot(0, 2), 25)
    (tmp_path / "names").mkdir()
    Image.new("L", (8, 8)).save(tmp_path / "names" / "a.png")
    before = listing(tmp_path)
    for arguments, sentence in (
        (["slow", "missing.mp4"], "there is no file"),
        (["slow", "text.mp4"], "is not a video"),
        (["slow", "empty"], "holds no pictures"),
        (["slow", "one"], "has only one frame"),
        (["slow", "two.mp4", "--out", str(tmp_path / "two.mp4")], "written over itself"),
        (["fill", "two.mp4", "--fps", "12"], "fps is for a folder"),
        (["fill", "two.mp4", "--still", "300"], "differ by 0 to 255"),
        (["fill", "two.mp4", "--longest", "1"], "2 frames or more"),
        (["replay", "two.mp4"], "does not say how it was made"),
        (["replay", "missing.mp4"], "there is no file"),
        (["replay", "empty"], "holds no pictures"),
    ):
        options = [] if arguments[0] == "replay" else ["--model", "linear"]
        given = [arguments[0], str(tmp_path / arguments[1]), *arguments[2:]]
        given += [] if "--out" in given or arguments[0] == "replay" else ["--out", str(tmp_path / "out.mp4")]
        code, out, err = command(*given, *options)
        assert (code, out, len(err.splitlines())) == (2, "", 1), arguments
        assert sentence in err
    assert listing(tmp_path) == before


# Replay


@pytest.mark.parametrize("name", ["out.mp4", "out.gif", "out"])
@pytest.mark.parametrize("task", ["slow", "fill", "tween"])
def test_what_was_drawn_can_be_drawn_again(
    tmp_path: Path, command: Douga, monkeypatch: pytest.MonkeyPatch, task: str, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_video("in", shot(0, 3), 25)
    keys = [str(path) for path in sorted(Path("in").iterdir())[:2]]
    given = keys if task == "tween" else ["in"]
    model = ["--method", "linear"] if task == "tween" else ["--model", "linear"]
    assert command(task, *given, *model, "--out", str(tmp_path / name))[0] == 0
    made = json.loads(read_recipe(tmp_path / name) or "")
    assert (made["command"], made["sample"], made["weights"]) == (task, 1, None)
    monkeypatch.chdir("/")
    code, out, _ = command("replay", str(tmp_path / name))
    assert code == 0
    assert "equal, byte for byte" in out


def test_what_was_painted_can_be_painted_again(tmp_path: Path) -> None:
    maps = Path(__file__).parents[1] / "examples" / "street-maps" / "labels"
    (tmp_path / "maps").mkdir()
    for path in sorted(maps.iterdir())[:3]:
        (tmp_path / "maps" / path.name).write_bytes(path.read_bytes())
    api.paint(tmp_path / "maps", tmp_path / "out.mp4", "vid2vid-blocks", samples=2, swap=[(3, 4)], device="cpu")
    assert api.replay(tmp_path / "out-2.mp4")["equal"] == "bytes"
    (tmp_path / "maps" / path.name).write_bytes((maps / "0000.png").read_bytes())
    with pytest.raises(ValueError, match="which has changed since"):
        api.replay(tmp_path / "out-1.mp4")


def test_what_differs_is_said_in_frames_and_levels(tmp_path: Path, command: Douga) -> None:
    write_video(tmp_path / "in", shot(0, 3), 25)
    api.slow(tmp_path / "in", tmp_path / "out", 2, model="linear")
    pixels = np.array(Image.open(tmp_path / "out" / "0003.png"))
    pixels[0, 0, 0] ^= 16
    Image.fromarray(pixels).save(tmp_path / "out" / "0003.png")
    code, out, _ = command("replay", str(tmp_path / "out"))
    assert code == 1
    assert "1 of 5 frames differ" in out
    assert "16 at most" in out
    (tmp_path / "out" / "0004.png").unlink()
    assert command("replay", str(tmp_path / "out"))[0] == 1


def test_the_same_pictures_in_another_file_are_equal_in_every_frame(tmp_path: Path) -> None:
    write_video(tmp_path / "in", shot(0, 3), 25)
    api.slow(tmp_path / "in", tmp_path / "out", 2, model="linear")
    last = tmp_path / "out" / "0004.png"
    Image.open(last).save(last, compress_level=0)
    assert api.replay(tmp_path / "out")["equal"] == "frames"


def test_what_is_missing_or_changed_is_named(tmp_path: Path, command: Douga, release: Path) -> None:
    write_video(tmp_path / "in", shot(0, 3), 25)
    weights = tmp_path / "my.safetensors"
    weights.write_bytes(release.read_bytes())
    api.slow(tmp_path / "in", tmp_path / "out.mp4", 2, model=weights, device="cpu")
    assert api.replay(tmp_path / "out.mp4")["equal"] == "bytes"
    key = tmp_path / "in" / "0001.png"
    kept = key.read_bytes()
    for change, sentence in (
        (lambda: Image.new("RGB", (32, 24)).save(key), "which has changed since"),
        (lambda: (key.write_bytes(kept), weights.write_bytes(kept)), "SHA-256 differs"),
        (lambda: weights.unlink(), "unknown model"),
        (lambda: (tmp_path / "in").rename(tmp_path / "elsewhere"), "which is no longer there"),
    ):
        change()
        code, out, err = command("replay", str(tmp_path / "out.mp4"))
        assert (code, out, len(err.splitlines())) == (2, "", 1)
        assert sentence in err


def test_a_recipe_that_is_incomplete_is_refused(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", shot(0, 2), 25, recipe='{"command": "slow"}')
    with pytest.raises(ValueError, match="is incomplete"):
        api.replay(tmp_path / "a.mp4")

"""Existing videos: slower, faster, whole again."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from douga.api import models
from douga.api.files import outputs, staged_beside
from douga.api.made import alone, recipe_of

if TYPE_CHECKING:
    from torch import Tensor

BLOCK = 32  # known frames: what is drawn at a time, and lost if a job is stopped
PIECE_VALUES = 2**26  # of frames in memory at a time while one gap is drawn: 256 MB


def slow(
    video: str | Path,
    out: str | Path,
    factor: float | str = 4,
    *,
    model: str | Path | None = None,
    samples: int = 1,
    seed: int = 0,
    diversity: float | None = None,
    fps: float | None = None,
    keep_duration: bool = False,
    cuts: float | None = 6.0,
    device: str = "auto",
    resume: bool = False,
    told: Callable[[str, int, int], object] = lambda what, done, of: None,
) -> dict[str, Any]:
    """Draw what lies between the frames of a video: slow motion, or more frames a second.

    video: a video file, an animated GIF, or a folder of pictures (25 a second). It is read as its own clock says, frame by frame:
        memory does not grow with its length. out, samples: see `outputs`; sample k is drawn with seed + k.
    factor: how many times as long it gets, above 1, at most 1000; "5/2" is exact. fps: of the new video; None: as before.
    keep_duration: it stays as long instead and has `factor` times as many frames a second, or `fps`; an MP4 keeps the sound.
    model: what `load` takes; None: DEFAULT_MODEL where it draws at any size, else "flow". One that draws at one size gets the
        frames cut and resized to it. diversity: see `Request`; None: 0 (the most typical drawing) for one sample, else 1.
    cuts: the score above which a new shot begins (see `douga.video.cuts`): there the frame before is held; None: nowhere.
    resume: go on with a job that was stopped. Until it is done, what is finished lies in OUT.part, and its result is the same.
    told: called with what is being done, how much of it is done, and of how much (0: not known).
    Returns "written" (paths), "frames" (of a sample) and how many of them were "drawn", "fps", "drawn_at" (height, width, px),
    "cuts" (the frames of `video` with which a new shot begins), "filled" (the runs that were drawn: first and last frame),
    "notes" (sentences) and "made", which `replay` reads from the file.
    All or nothing. Raises ValueError or OSError with one sentence for what cannot be read, drawn or written.
    """
    try:
        times = Fraction(str(factor))
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"factor must be a number like 4, 2.5 or 5/2, not {factor!r}") from None
    if not 1 < times <= 1000:
        raise ValueError(f"factor must be above 1 and at most 1000, not {factor}")
    if fps is not None and not 0.01 <= fps <= 1000:
        raise ValueError(f"fps must lie between 0.01 and 1000, not {fps}")
    options = {"factor": str(times), "fps": fps, "keep_duration": keep_duration, "cuts": cuts}

    def pace(before: Fraction) -> tuple[Fraction, Fraction]:
        rate = before * (times if keep_duration else 1) if fps is None else Fraction(fps)
        rate = rate.limit_denominator(1001)  # as it can be written
        return rate, 1 / rate / (1 if keep_duration else times)

    return _retime(
        "slow",
        video,
        out,
        options,
        pace,
        {"cut": cuts},
        model=model,
        samples=samples,
        seed=seed,
        diversity=diversity,
        device=device,
        resume=resume,
        told=told,
    )


def fill(
    video: str | Path,
    out: str | Path,
    *,
    model: str | Path | None = None,
    samples: int = 1,
    seed: int = 0,
    diversity: float | None = None,
    fps: float | None = None,
    still: float = 4.0,
    longest: int = 4,
    cuts: float | None = 6.0,
    device: str = "auto",
    resume: bool = False,
    told: Callable[[str, int, int], object] = lambda what, done, of: None,
) -> dict[str, Any]:
    """Draw the frames that a video lacks: pictures that are missing from a folder, and frames that only repeat the one before.

    video: a folder of pictures, in whose numbers there are gaps; or a video file or GIF, of which frames were dropped or on
        twos. Its length, its times and, in an MP4, its sound stay; frames that are known come back as they were decoded.
    still: frames that differ by no more than this, of 255, repeat the one before; longest: of 2 to so many of them all but the
        first are drawn anew, more are meant to stand still. Both, and cuts, for video files alone.
    fps: how fast the pictures of a folder are shown; None: 25. All else as in `slow`. Raises as `slow` does.
    """
    folder = Path(video).expanduser().is_dir()
    if fps is not None and not folder:
        raise ValueError("fps is for a folder of pictures: a video keeps its own")
    if fps is not None and not 0.01 <= fps <= 1000:
        raise ValueError(f"fps must lie between 0.01 and 1000, not {fps}")
    options = {"fps": fps, "still": still, "longest": longest, "cuts": cuts}
    look: dict[str, Any] = {"numbered": True} if folder else {"still": still, "longest": longest, "cut": cuts}

    def pace(before: Fraction) -> tuple[Fraction, Fraction]:
        rate = (before if fps is None else Fraction(fps)).limit_denominator(1001)
        return rate, 1 / (before if folder else rate)

    return _retime(
        "fill",
        video,
        out,
        options,
        pace,
        look,
        model=model,
        samples=samples,
        seed=seed,
        diversity=diversity,
        device=device,
        resume=resume,
        told=told,
    )


def _retime(
    command: str,
    video: str | Path,
    out: str | Path,
    options: dict[str, Any],
    pace: Callable[[Fraction], tuple[Fraction, Fraction]],
    look: dict[str, Any],
    *,
    model: str | Path | None,
    samples: int,
    seed: int,
    diversity: float | None,
    device: str,
    resume: bool,
    told: Callable[[str, int, int], object],
) -> dict[str, Any]:
    """What `slow` and `fill` are: known frames with times become frames at other times, drawn in each gap that is no cut.

    pace: from the video's rate to that of the new one and the seconds, of the old clock, from each of its frames to the next.
    look: what `douga.video.timeline.survey` takes.
    """
    path, out = Path(video).expanduser(), Path(out).expanduser().resolve()
    paths, part = outputs(out, samples), out.with_name(out.name + ".part")
    if samples < 1:
        raise ValueError(f"samples must be 1 or more, not {samples}")
    if not 0 <= seed <= 2**32 - samples:
        raise ValueError(f"seed must be a whole number from 0 to 2^32 - {samples}, not {seed}")
    if path.resolve() in paths:
        raise ValueError(f"the video would be written over itself, {video}: choose another output")
    if part.exists() and not resume:
        raise FileExistsError(f"a job that was stopped lies in {part}: go on with --resume, or take it away")
    if resume and not (part / "job.json").is_file():
        raise ValueError(f"there is nothing to go on with: no job that was stopped lies in {part}")

    import torch

    from douga.core.clip import Request
    from douga.video.io import read_picture, sound, write_video
    from douga.video.ops import fit, on_white, premultiply, unpremultiply
    from douga.video.timeline import numbers, survey

    made = recipe_of(command, {"video": path}, model or _any_size(), seed, samples, device)
    drawer, known = models.load(made["model"], made["device"])
    if "tween" not in drawer.tasks:
        raise ValueError(f"{made['model']} does {', '.join(sorted(drawer.tasks))}, not tween")
    notes = []
    if not drawer.stochastic and samples > 1:
        notes.append(f"{known['method']} draws the same every time, so there is 1 sample, not {samples}")
        samples, paths = 1, outputs(out, 1)
    diversity = (0.0 if samples == 1 else 1.0) if diversity is None else diversity
    made |= {"method": known["method"], "samples": samples, "diversity": diversity, **options}
    if resume and json.loads((part / "job.json").read_text(encoding="utf-8")) != made:
        raise ValueError(
            f"the job in {part} was begun with another video, other options or another version: take it away to begin anew"
        )

    seen = survey(path, told=lambda done: told("looking", done, 0), **look)
    rate, step = pace(seen.fps)
    if not 0.01 <= rate <= 1000:
        raise ValueError(f"the new video would have {float(rate):.6g} frames per second: give fps, from 0.01 to 1000")
    # Frames come back as they were, if need be a little early or late, except where the time itself is what is asked for.
    near = step / 2 if command == "fill" else Fraction(1, 1000)
    filled: list[list[int]] = []
    frames = drawn = skipped = 0
    for gap, (held, ways) in enumerate(zip([*seen.cut, True], seen.wanted(step, near), strict=True)):
        skipped += not ways and gap < len(seen.cut)
        for way in ways:
            if way and not held:
                drawn += 1
                if filled and filled[-1][1] == frames - 1:
                    filled[-1][1] += 1
                else:
                    filled.append([frames, frames])
            frames += 1
    if skipped:
        notes.append(f"frames that come faster than the new video shows them are left out: {skipped}")
    codec, fits = sound(path)
    heard = None
    if codec and step * rate != 1:
        notes.append(f"the sound ({codec}) is left out: the video has become longer")
    elif codec and out.suffix.lower() != ".mp4":
        notes.append(f"the sound ({codec}) is left out: only an .mp4 can keep it")
    elif codec and not fits:
        notes.append(f"the sound is left out: an .mp4 cannot hold {codec}")
    elif codec:
        heard = path, seen.start
    planes = seen.planes if hasattr(drawer, "any_planes") else 3
    if planes < seen.planes:
        notes.append(f"{known['method']} draws no transparency: it was laid on white")
    elif planes == 4 and out.suffix.lower() == ".mp4":
        notes.append("the transparency was laid on white: only a folder of PNGs keeps it, and a GIF as on or off")
    if seen.bits == 16 and out.suffix:
        notes.append("the 16 bits of the pictures became 8: only a folder of PNGs keeps them")
    height, width = drawer.size or seen.size
    if (height, width) != seen.size:
        notes.append(
            f"the frames of {seen.size[1]}x{seen.size[0]} were centre-cropped and resized to {width}x{height},"
            f" the size that {made['model']} draws at"
        )
    place = next(drawer.parameters()).device if isinstance(drawer, torch.nn.Module) else torch.device("cpu")
    most = max(1, PIECE_VALUES // (planes * height * width) - 2)

    def key(frame: Tensor) -> Tensor:
        frame = on_white(frame[:, None])[:, 0] if len(frame) > planes else frame
        return fit(frame, drawer.size) if drawer.size else frame

    def between(first: Tensor, last: Tensor, ways: list[Fraction], start: int) -> Iterator[Tensor]:
        ends = torch.stack([first, last], 1)[None]
        ends = premultiply(ends) if planes == 4 else ends
        for k in range(0, len(ways), most):
            some = ways[k : k + most]
            mask = torch.tensor([True, *(False for _ in some), True])
            given = ends.new_zeros(1, planes, len(mask), height, width)
            given[:, :, mask] = ends
            times = torch.tensor([0.0, *map(float, some), 1.0])
            request = Request(given.to(place), mask, None, float(rate), times=times, diversity=diversity)
            new = drawer.synthesize(request, 1, torch.Generator().manual_seed(start))[0].cpu()
            new = unpremultiply(new) if planes == 4 else new
            yield from new[0, :, 1:-1].unbind(1)

    written = 0

    def finished(pieces: list[Path]) -> Iterator[Tensor]:
        nonlocal written
        for file in (file for piece in pieces for file in sorted(piece.iterdir())):
            yield read_picture(file)[0]
            written += 1
            told("writing", written, frames * samples)

    new_folders = [folder for folder in (part, *part.parents) if not folder.exists()]  # the innermost first
    done = 0
    try:
        part.mkdir(parents=True, exist_ok=True)
        (part / "job.tmp").write_text(json.dumps(made), encoding="utf-8")
        os.replace(part / "job.tmp", part / "job.json")
        pieces: list[list[Path]] = []
        for sample in range(samples):
            pieces.append([])
            keys = map(key, seen.known(path))
            gaps = zip(range(len(seen.keys)), [*seen.cut, True], seen.wanted(step, near), strict=True)
            before = next(keys)

            def block_frames(block: list[Any], keys: Iterator[Tensor] = keys, sample: int = sample) -> Iterator[Tensor]:
                nonlocal before, done
                for number, held, ways in block:
                    after = next(keys, before)
                    inner = [] if held else [way for way in ways if way]
                    new = between(before, after, inner, (seed + sample + 1_000_003 * number) % 2**63)
                    for way in ways:
                        yield next(new) if way and not held else before
                        done += 1
                        told("drawing", done, frames * samples)
                    before = after

            while block := list(islice(gaps, BLOCK)):
                count = sum(len(ways) for _, _, ways in block)
                piece = part / f"{sample}-{block[0][0]:09d}"
                if count and not piece.exists():
                    with torch.no_grad():
                        write_video(piece, block_frames(block), 25, bits=seen.bits)
                else:
                    for _ in block:
                        before = next(keys, before)
                    done += count
                    told("drawing", done, frames * samples)
                if count:
                    pieces[-1].append(piece)

        number = numbers(path)[0] if "numbered" in look else 0
        with staged_beside(out) as stage:
            for sample, to in enumerate(paths):
                recipe = json.dumps(alone(made, sample))
                write_video(
                    stage / to.relative_to(out.parent),
                    finished(pieces[sample]),
                    float(rate),
                    bits=seen.bits,
                    recipe=recipe,
                    sound=heard,
                    number=number,
                )
    except BaseException:
        if part in new_folders and not any(part.glob("*-*")):  # nothing is finished: there is nothing to go on with
            shutil.rmtree(part, ignore_errors=True)
            for folder in new_folders[1:]:
                with suppress(OSError):  # somebody else has put something there
                    folder.rmdir()
        raise
    shutil.rmtree(part)
    return {
        "written": paths,
        "frames": frames,
        "drawn": drawn,
        "fps": float(rate),
        "drawn_at": [height, width],
        "cuts": [key for key, cut in zip(seen.keys[1:], seen.cut, strict=True) if cut],
        "filled": [(first + number, last + number) for first, last in filled],
        "notes": notes,
        "made": made,
    }


def _any_size() -> str:
    """The default for pictures of any size."""
    return models.DEFAULT_MODEL if models.load(models.DEFAULT_MODEL)[0].size is None else "flow"

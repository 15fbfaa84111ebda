"""The door: every face (the command line, notebooks, the studio) calls these functions and nothing else.

Importing this module imports no torch; the first call that draws or trains does.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from fractions import Fraction
from hashlib import file_digest, sha256
from itertools import chain, islice, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from douga import __version__
from douga.core.config import with_settings
from douga.core.registry import METHODS, METRICS, RECIPES, SOURCES, paper_of
from douga.core.timing import eased, read_ease

if TYPE_CHECKING:
    import torch
    from jaxtyping import Float
    from torch import Tensor

    from douga.core.clip import Clip, Request
    from douga.core.contracts import Source, Synthesizer
    from douga.evaluate.harness import Entry
    from douga.evaluate.report import Evaluation, Table
    from douga.train.engine import Progress

DEFAULT_MODEL = "inbetween-weizmann"
OUT_SUFFIXES = (".mp4", ".gif", "")  # no suffix: a folder of PNGs
FRAMES = 14  # between two key frames, if nobody says how many
FALLBACKS = {"hold": "hold", "fade": "linear"}  # of `tween`: which method draws it
# Of 255. In 1,288 frames of Weizmann's test split, drawn six times by inbetween-weizmann, spread and error go together (0.80);
# above 5 lie 16 of them, and in each a cross-fade is nearer to the truth.
UNSURE = 5.0
MEMORY_LIMIT_GIB = 8  # of finished frames; drawing takes a few times as much


Key: TypeAlias = "str | Path | Float[Tensor, 'c h w'] | tuple[str | Path | Float[Tensor, 'c h w'], int]"


def weights() -> dict[str, Path]:
    """The released weights that came with the package: name -> file."""
    return {path.stem: path for path in sorted((Path(__file__).parents[1] / "weights").glob("*.safetensors"))}


def load(name: str | Path, device: str = "cpu") -> tuple[Synthesizer, dict[str, Any]]:
    """Load something that draws.

    name: released weights ("inbetween-weizmann"), a weight file, or a method without weights ("hold", "linear",
    "flow"). device: where the model is put ("auto": the fastest there is); methods without weights stay on the CPU.
    Returns the model in eval mode and what is known of it: its "method" and, for weights, all that the file's header
    says, its "file" and "sha256". Raises ValueError for a name that is not there, a file that is not ours, truncated
    or no release, or a device that is not here.
    """
    if str(name) in METHODS and str(name) not in weights():
        kind = METHODS.load(str(name))
        if hasattr(kind, "phases"):
            raise ValueError(
                f"the method {name} needs weights: name a released model or a weight file ({_there_are()})"
            )
        return kind(), {"method": str(name)}
    path = _weight_file(name)

    from douga.train.checkpoint import load_release
    from douga.train.engine import pick_device

    where = pick_device(device)
    model, header = load_release(path)
    return cast("Synthesizer", model.to(where)), {**header, "file": str(path), "sha256": _sha256(path)}


def tween(
    *keys: Key,
    frames: int | None = None,
    samples: int = 4,
    seed: int = 0,
    model: str | Path = DEFAULT_MODEL,
    fps: float | None = None,
    device: str = "auto",
    ease: str | Path | Sequence[Sequence[float]] | None = None,
    loop: bool | None = None,
    diversity: float = 1.0,
    pick: int | None = None,
    fallback: str = "none",
    unsure: float | None = None,
) -> Clip:
    """Draw the frames between two key frames or more.

    keys: picture files, or (3, H, W) float32 RGB in [-1, 1] (4 planes with alpha), all of one size. With a frame number, as
        ("b.png", 12) or "b.png@12", they stand at these frames of the video, counted from the first one; a file of that very name
        wins. Or one folder, whose pictures are all key frames (2.png before 10.png); or one storyboard, a .json file:
        {"keys": [{"picture": "a.png", "at": 0}, ...], "fps": 25, "ease": "in-out", "loop": true}, of which only keys and picture
        must be there; paths are relative to it, and what is given here is stronger.
    frames: without frame numbers, how many are drawn between each two neighbours, 1 or more (None: 14).
    samples: how many versions, 1 or more (a method that draws the same every time gives one, and `made["note"]` says so).
        The most typical comes first: the one that differs least from the others on average.
    seed: 0 or more; the same seed gives the same frames. fps: above 0, at most 1000 (None: 25). device: what `load` takes.
    model: what `load` takes. A model that draws at one size gets the pictures centre-cropped and resized to it
        (`made["given_at"]` and `made["drawn_at"]`, height and width in px).
    ease: how time passes from each key frame to the next (see `douga.core.timing.read_ease`; None: linear).
    loop: draw from the last key frame back to the first, too. The way back takes the mean of the other ways, or is left out if
        the last picture is the first one again. The video ends just before its first frame would come again.
    diversity: 0 to 1, how far samples may differ. pick: keep the so many-th sample alone, 1 is the most typical.
    fallback: "hold" or "fade": what takes the place of frames that the samples disagree on: the nearest key frame, or a
        cross-fade. unsure: their spread from which on it does, of 255 (None: UNSURE). It needs two samples or more.
    Returns a Clip of (samples, 3, T, H, W) on the CPU, the key frames in it as given at that size. There are 4 planes if a
    picture has alpha and the method can draw it; else it is laid on white, and `made["note"]` says so.
    `made` holds all that `tween_options` needs to draw it again, and of several samples, where differences are of 255:
    "ranking" (which draw each was, counted from 1, and how far from the others on average), "spread_by_frame" (mean over
    pixels of the standard deviation over samples, before any fallback), "fallback_frames"; of a loop "seam": the difference
    between the last frame and the first, divided by the mean one of neighbours (1: it is like any other step).
    Raises ValueError or OSError with one sentence for a picture, a model or a number that cannot be used.
    """
    named, board = _named_keys(keys)
    rhythm = read_ease(board.get("ease", "linear") if ease is None else ease)
    closed = bool(board.get("loop", False) if loop is None else loop)
    rate: float = board.get("fps", 25.0) if fps is None else fps
    at = _indices(named, frames)
    for what, number in {"samples": samples, "pick": pick}.items():
        if number is not None and number < 1:
            raise ValueError(f"{what} must be 1 or more, not {number}")
    if pick is not None and pick > samples:
        raise ValueError(f"there are {samples} samples to pick from, so there is no sample {pick}")
    if not 0 <= seed < 2**32:  # torch takes no more of it on the CPU
        raise ValueError(f"seed must be a whole number from 0 to 2^32 - 1, not {seed}")
    if not 0 < rate <= 1000:
        raise ValueError(f"fps must be above 0 and at most 1000, not {rate}")
    if not 0 <= diversity <= 1:
        raise ValueError(f"diversity must lie between 0 and 1, not {diversity}")
    if fallback not in ("none", *FALLBACKS):
        raise ValueError(f"unknown fallback {fallback!r} (there are: none, {', '.join(FALLBACKS)})")
    if unsure is not None and (fallback == "none" or not 0 <= unsure < float("inf")):
        raise ValueError("unsure is a spread of 0 or more, of 255, for a fallback: hold or fade")

    import torch

    from douga.core.clip import Clip, Request
    from douga.evaluate import gallery
    from douga.video.ops import fit, on_white, premultiply, unpremultiply

    straight, bits, facts = _pictures([picture for picture, _ in named])  # (C, K, H, W)
    drawer, known = load(model, device)
    name, notes = known["method"], []
    if "tween" not in drawer.tasks:
        raise ValueError(
            f"{model} does {', '.join(sorted(drawer.tasks))}, not tween: give what draws between key frames"
        )
    if not drawer.stochastic and samples > 1:
        notes.append(f"{name} draws the same every time, so there is 1 sample, not {samples}")
        samples = 1
        if pick is not None and pick > 1:
            raise ValueError(f"{name} draws the same every time: there is no sample {pick} to pick")
    if fallback != "none" and (samples < 2 or diversity == 0):
        why = "two samples or more" if drawer.stochastic and diversity else "a method whose samples differ"
        raise ValueError(f"which frames are unsure can only be seen from {why}: leave out the fallback {fallback}")
    alpha = len(straight) == 4
    if alpha and not hasattr(drawer, "any_planes"):
        notes.append(f"{name} draws no transparency: the pictures were laid on white")
        straight, alpha = on_white(straight), False
    sizes = straight.shape[2:]
    shown = premultiply(straight) if alpha else straight
    if drawer.size and drawer.size != sizes:
        shown = fit(shown, drawer.size)
        straight = unpremultiply(shown) if alpha else shown
    if closed and not torch.equal(shown[:, 0], shown[:, -1]):
        at = [*at, at[-1] + max(1, round(at[-1] / (len(at) - 1)))]
        straight, shown = (torch.cat([video, video[:, :1]], dim=1) for video in (straight, shown))
    length = at[-1] + (not closed)
    planes, _, height, width = shown.shape
    gibibytes = 4 * planes * samples * length * height * width / 2**30
    if gibibytes > MEMORY_LIMIT_GIB:
        raise ValueError(
            f"{samples} x {length} frames of {width}x{height} would take {gibibytes:.1f} GiB, the limit is"
            f" {MEMORY_LIMIT_GIB}: ask for fewer samples or frames, or give smaller pictures"
        )
    times = None
    if rhythm != "linear":
        paced = [i + (j - i) * eased(k / (j - i), rhythm) for i, j in pairwise(at) for k in range(j - i)]
        times = torch.tensor([*paced, at[-1]], dtype=torch.float32)
    mask = torch.zeros(at[-1] + 1, dtype=torch.bool)
    mask[at] = True

    def asked(video: Tensor) -> Request:
        canvas = video.new_zeros(1, planes, len(mask), height, width)
        canvas[0, :, at] = video
        return Request(canvas, mask, fps=rate, times=times, diversity=diversity)

    request = asked(shown)
    place = next(drawer.parameters()).device if isinstance(drawer, torch.nn.Module) else torch.device("cpu")
    with torch.no_grad():
        there = replace(request, known=request.known.to(place))
        drawn = _drawn(drawer, there, samples, torch.Generator().manual_seed(seed))[:, 0].cpu()
    of_samples: dict[str, Any] = {}
    where = None
    if samples > 1:
        spread, apart = gallery.spread(drawn[:, :, :length]), gallery.distances(drawn[:, :, :length])
        order, where, by_frame = apart.argsort(stable=True), spread.mean(0), spread.mean((1, 2)).tolist()
        drawn = drawn[order]
        of_samples = {
            "ranking": [{"draw": n + 1, "apart": apart[n].item()} for n in order.tolist()],
            "spread_by_frame": by_frame,
            "spread_most": where.max().item(),
        }
        if fallback != "none":
            unsure = UNSURE if unsure is None else unsure
            unsure_frames = [frame for frame, value in enumerate(by_frame) if value > unsure]
            instead = METHODS.load(FALLBACKS[fallback])().synthesize(request, 1, torch.Generator())[0, 0]
            drawn[:, :, unsure_frames] = instead[:, unsure_frames]
            of_samples |= {"fallback_frames": unsure_frames}
    if pick is not None:
        drawn = drawn[pick - 1 : pick]
    if alpha:
        drawn = asked(straight).keep_known(unpremultiply(drawn)[:, None])[:, 0]
    drawn = drawn[:, :, :length]
    made = {
        "command": "tween",
        "method": name,
        "weights": {"name": Path(known["file"]).stem, "sha256": known["sha256"]} if "file" in known else None,
        "model": str(known.get("file", name)),
        "keys": [{**fact, "at": index} for fact, index in zip(facts, at, strict=False)],
        "seed": seed,
        "frames": frames or (None if named[0][1] is not None else FRAMES),
        "samples": samples,
        "fps": rate,
        "ease": rhythm,
        "loop": closed,
        "diversity": diversity,
        "pick": pick,
        "fallback": fallback,
        "unsure": unsure,
        "device": place.type,
        "version": __version__,
        "torch": torch.__version__,
        "given_at": list(sizes),
        "drawn_at": [height, width],
        "bits": bits,
        "alpha": alpha,
        **of_samples,
        **({"seam": gallery.seam(drawn)} if closed else {}),
        **({"note": "; ".join(notes)} if notes else {}),
    }
    return Clip(drawn.contiguous(), mask[:length], rate, made, where)


def tween_options(made: Mapping[str, Any]) -> tuple[list[Key], dict[str, Any]]:
    """The `made` of a tweened clip as arguments: `keys, options = tween_options(made); tween(*keys, **options)` draws it again.

    Pictures are looked for where they were. Raises ValueError if it was made from something else than files, or by something
    else than `tween`.
    """
    if made.get("command") != "tween":
        raise ValueError("this was not drawn between key frames by douga, so it cannot be drawn so again")
    if not all(key["file"] for key in made["keys"]):
        raise ValueError("its key frames were no files, so it cannot be drawn again without them")
    keys: list[Key] = [(key["file"], key["at"]) for key in made["keys"]]
    if made["frames"] is not None:
        keys = [key["file"] for key in made["keys"]]
    name = made["weights"] and made["weights"]["name"]
    model = name if name in weights() else made["model"]
    same = "frames", "samples", "seed", "fps", "device", "ease", "loop", "diversity", "pick", "fallback", "unsure"
    return keys, {**{option: made[option] for option in same}, "model": model}


def paint(
    maps: str | Path,
    out: str | Path,
    model: str | Path,
    *,
    samples: int = 1,
    seed: int = 0,
    first_frame: str | Path = "none",
    instances: str | Path | None = None,
    swap: Iterable[tuple[int, int]] = (),
    size: tuple[int, int] | None = None,
    fps: float | None = None,
    device: str = "auto",
    told: Callable[[int, int], None] = lambda done, of: None,
) -> dict[str, Any]:
    """Draw a video that follows maps, frame by frame into the file: memory does not grow with its length.

    maps: of a model that paints labels a folder of label PNGs (a pixel's value is its class, 255 is none); of one that paints
        pictures (edges, poses) a folder of pictures or a video. out, samples: see `outputs`; each sample has other colours, as
        sample k is drawn with seed + k. model: what `load` takes.
    first_frame: what the video begins with: "none" (the model begins from nothing), "single" (pix2pixHD, trained on the same
        data, paints it), or a picture file.
    instances: a folder of PNGs, as many as maps: which pixels are one thing (see `douga.data.pairs.Pairs`).
    swap: pairs of classes that change places in every map. size: (height, width) to draw at, to which maps are cut and resized by
        nearest neighbour; None: the size that the model was trained at. fps: None: that of the maps, 25 for a folder.
    told: called with the number of frames drawn and, where it is known, of how many (else 0).
    Returns "written" (paths; a contact sheet, a row for each sample, is the last), "frames" (of a sample), "drawn_at", "note" and
    "made", which each file holds for `replay`.
    All or nothing, as in `save`. Raises ValueError or OSError with one sentence that names the map and what is wrong with it.
    """
    out = Path(out).expanduser().resolve()
    paths = outputs(out, samples)
    if samples < 1:
        raise ValueError(f"samples must be 1 or more, not {samples}")
    if not 0 <= seed <= 2**32 - samples:
        raise ValueError(f"seed must be a whole number from 0 to 2^32 - {samples}, not {seed}")
    if fps is not None and not 0 < fps <= 1000:
        raise ValueError(f"fps must be above 0 and at most 1000, not {fps}")
    if size is not None and min(size) < 16:
        raise ValueError(f"size must be 16 or more on both sides, not {size[1]}x{size[0]}")
    if Path(maps).expanduser().resolve() in paths:
        raise ValueError(f"the video would be written over its own maps, {maps}: choose another output")

    import torch

    from douga.data.pairs import painted
    from douga.video.io import MAX_PIXELS, read_image, write_image, write_video
    from douga.video.ops import contact_sheet, fit

    if size is not None and size[0] * size[1] > MAX_PIXELS:
        raise ValueError(f"a size of {size[1]}x{size[0]} has more than the {MAX_PIXELS:,} pixels that are the limit")
    loaded, known = load(model, device)
    drawer: Any = loaded
    if not hasattr(drawer, "stream"):
        raise ValueError(f"{model} does {', '.join(sorted(drawer.tasks))}, not paint: give weights that paint maps")
    trained = known["provenance"]["experiment"]
    size = size or (trained["size"][0], trained["size"][1])
    classes = known["config"]["classes"]
    swap = [(a, b) for a, b in swap]
    count, rate, frames_of = painted(Path(maps).expanduser(), classes, size, instances, swap)
    note = ""
    if not drawer.stochastic and samples > 1:
        note, samples, paths = f"{known['method']} draws the same every time, so there is 1 sample", 1, outputs(out, 1)
    place = next(drawer.parameters()).device
    first: Any = None
    if str(first_frame) == "single":
        first = _single(trained["data"], classes, device)
    elif str(first_frame) != "none":
        first = fit(read_image(Path(first_frame).expanduser()), size)[None, :, None].to(place)
    elif known["config"].get("from_nothing") == 0:
        raise ValueError(
            f"{model} was trained to go on from a given first frame: give --first-frame single or a picture"
        )

    given_files = {"maps": maps, "instances": instances, "first_frame": first_frame}
    if str(first_frame) in ("none", "single"):
        del given_files["first_frame"]
    inputs = {what: Path(file).expanduser() for what, file in given_files.items() if file is not None}
    made = {
        **_made("paint", inputs, model, seed, len(paths), device),
        "method": known["method"],
        **{what: str(inputs[what].resolve()) if what in inputs else None for what in ("instances", "first_frame")},
        "swap": swap,
        "size": list(size),
        "fps": fps or rate,
        "drawn_at": list(size),
    }
    made["first_frame"] = made["first_frame"] or str(first_frame)
    done = 0
    rows: list[list[Any]] = []
    with torch.no_grad(), _staged(out) as stage:
        for number, path in enumerate(paths):
            rows.append([])

            def drawn(number: int = number) -> Iterator[Tensor]:
                nonlocal done
                kept, stride = rows[number], 1
                generator = torch.Generator().manual_seed(seed + number)
                given = first
                todo: Iterator[Tensor] = (cond[None].to(place) for cond in frames_of())
                if hasattr(first, "stream"):
                    begin = next(todo)
                    given = next(first.stream([begin], None, 1, generator))[0][:, :, None]
                    todo = chain([begin], todo)
                for index, frame in enumerate(drawer.stream(todo, given, 1, generator)):
                    picture = frame[0, 0].cpu()
                    if index % stride == 0:
                        kept.append(picture)
                        if len(kept) == 32:  # every other one: at the end 16 or more are left, evenly spaced
                            del kept[1::2]
                            stride *= 2
                    done += 1
                    told(done, count * len(paths))
                    yield picture

            recipe = json.dumps(_alone(made, number))
            write_video(stage / path.relative_to(out.parent), drawn(), fps or rate, recipe=recipe)
        write_image(
            stage / _sheet(out).name, contact_sheet(torch.stack([torch.stack(row, 1) for row in rows]), columns=16)
        )
    return {
        "written": [*paths, _sheet(out)],
        "frames": done // len(paths),
        "drawn_at": list(size),
        "note": note,
        "made": made,
    }


def outputs(out: str | Path, samples: int = 1) -> list[Path]:
    """Where `save` would put each sample: OUT; of several, OUT-1, OUT-2, ... before the suffix (folder: OUT/sample-1).

    Raises ValueError or OSError where it could not: a suffix other than .mp4, .gif or none, a place that is not
    writable, a folder in the place of a file or the other way round, a folder of PNGs that is not empty.
    """
    out = Path(out).expanduser().resolve()
    if out.suffix.lower() not in OUT_SUFFIXES:
        raise ValueError(
            f"cannot write {out.name}: the name must end in .mp4 or .gif, or have no ending (a folder of PNGs)"
        )
    place = next(folder for folder in out.parents if folder.exists())
    if not place.is_dir():
        raise NotADirectoryError(f"cannot write {out}: {place} is not a folder; choose another output")
    if not os.access(place, os.W_OK | os.X_OK):
        raise PermissionError(f"cannot write into the folder {place}: choose another output or change its permissions")
    if not out.suffix and out.exists() and not out.is_dir():
        raise FileExistsError(f"{out} is a file: a folder of PNGs cannot have its name; choose another output")
    if not out.suffix and out.is_dir() and any(out.iterdir()):
        raise FileExistsError(f"the folder {out} is not empty: choose another output or empty it")
    if samples == 1:
        paths = [out]
    elif out.suffix:
        paths = [out.with_name(f"{out.stem}-{number}{out.suffix}") for number in range(1, samples + 1)]
    else:
        paths = [out / f"sample-{number}" for number in range(1, samples + 1)]
    for path in (*paths, _sheet(out), _sheet(out, "spread")):
        if path.suffix and path.is_dir():
            raise IsADirectoryError(f"{path} is a folder: a file cannot have its name; choose another output")
    return paths


def save(clip: Clip, out: str | Path, *, sheet: bool = True) -> list[Path]:
    """Write a clip as .mp4, .gif or, without an ending, a folder of PNGs: one for each sample (see `outputs`).

    sheet: also a contact sheet OUT-sheet.png beside it, samples as rows, at most 16 frames of each as columns, and of a clip
        that knows where its samples differ a picture of that, OUT-spread.png.
    Each holds `clip.made` (`douga.video.io.read_recipe`) and, in it, which "sample" it is, counted from 1.
    Returns what was written. All or nothing: until everything is complete, nothing of this call is to be seen and
    files of the same names are untouched. Raises as `outputs` does, and OSError for a full disk.
    """
    from douga.video.io import write_image, write_video
    from douga.video.ops import contact_sheet, on_white

    out = Path(out).expanduser().resolve()
    made: Mapping[str, Any] = clip.made
    paths = outputs(out, len(clip.frames))
    with _staged(out) as stage:
        for number, (path, frames) in enumerate(zip(paths, clip.frames, strict=True), 1):
            recipe = json.dumps({**made, "sample": made.get("pick") or number}) if made else None
            place = stage / path.relative_to(out.parent)
            write_video(place, frames, clip.fps, bits=made.get("bits", 8), recipe=recipe)
        if sheet:
            paths = [*paths, _sheet(out)]
            rows = on_white(clip.frames) if clip.frames.shape[1] == 4 else clip.frames
            write_image(stage / _sheet(out).name, contact_sheet(rows, columns=16))
        if sheet and clip.spread is not None:
            from douga.evaluate import gallery

            paths = [*paths, _sheet(out, "spread")]
            keys = clip.mask.nonzero()[:, 0].tolist()
            gallery.picture(clip.spread, made["spread_by_frame"], keys, made.get("unsure"), stage / paths[-1].name)
    return paths


@contextmanager
def _staged(out: Path) -> Iterator[Path]:
    """A hidden folder beside `out`; all that is put there is moved beside `out` at the end, or nothing is."""
    new_folders = [folder for folder in out.parents if not folder.exists()]  # the innermost first
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=".douga-") as name:
            yield Path(name)
            for staged in sorted(Path(name).iterdir()):
                os.replace(staged, out.parent / staged.name)
    except BaseException:
        if new_folders:
            shutil.rmtree(new_folders[-1], ignore_errors=True)
        raise


def _single(data: str, classes: int, device: str) -> Any:
    """What paints a first frame: released pix2pixHD weights that were trained on the same data."""
    from douga.train.checkpoint import read_header

    for path in weights().values():
        header = read_header(path)
        of = header["provenance"]["experiment"]
        if header["method"] == "pix2pixhd" and of["data"] == data and header["config"]["classes"] == classes:
            return load(path, device)[0]
    raise ValueError(f"there are no pix2pixHD weights for {data} to paint a first frame: give a picture, or none")


def train(
    recipe: str,
    data: str | Path | None = None,
    *,
    steps: int | None = None,
    minutes: float | None = None,
    resume: bool = False,
    settings: Iterable[str] = (),
    device: str = "auto",
    compile: bool = False,
    out: str | Path | None = None,
    callbacks: Sequence[Callable[[Progress], None]] = (),
) -> Path:
    """Train a recipe and return the weight file.

    recipe: a name of `douga list`. data: what `open_source` takes; None: the recipe's own.
    steps, minutes: when to stop, one or the other; None: the recipe's number of steps. resume: go on with the run in
    `out`. settings: changes to the recipe, "model.channels=32". compile: let torch compile the model. out: the run's
    folder, by default `run_folder(recipe)`. callbacks: called with the Progress after each step that is reported.
    Ctrl-C leaves a checkpoint in `out` and raises KeyboardInterrupt. Raises ValueError for an unknown recipe, setting,
    source or device, or a run that is already there; FloatingPointError when the loss is no longer a number.
    """
    if steps is not None and minutes is not None:
        raise ValueError("give steps or minutes, not both")
    for what, number in {"steps": steps, "minutes": minutes}.items():
        if number is not None and not 0 < number < float("inf"):
            raise ValueError(f"{what} must be above 0, not {number}")
    experiment = with_settings(RECIPES.load(recipe)(), settings)
    if data is not None:
        experiment = replace(experiment, data=str(data))
    source = open_source(experiment.data, "train", experiment.size)
    preview = None  # the held-out split, unless it is missing, empty or damaged: training does not need it
    with suppress(ValueError, OSError):
        held_out = open_source(experiment.data, "test", experiment.size)
        preview = held_out if max(held_out.lengths, default=0) >= experiment.frames else None

    from douga.train import engine

    return engine.train(
        experiment,
        source,
        run_folder(recipe) if out is None else Path(out).expanduser(),
        preview=preview,
        steps=steps,
        minutes=minutes,
        resume=resume,
        device=device,
        compile=compile,
        callbacks=callbacks,
    )


def evaluate(
    methods: Sequence[str],
    data: str | Path,
    *,
    task: str = "tween",
    samples: int = 100,
    clips: int = 100,
    frames: int = 16,
    size: tuple[int, int] = (64, 64),
    split: str = "test",
    metrics: Iterable[str] | None = None,
    seed: int = 0,
    seeds: Sequence[int] = (0,),
    train_steps: int | None = None,
    train_minutes: float | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    device: str = "auto",
    published: str | None = None,
    told: Callable[[str, int, int], None] = lambda what, done, of: None,
) -> Evaluation:
    """Measure methods on the same clips under one protocol, with paired intervals.

    methods: each a name, a file, a recipe, or LABEL=one of these. Names are those of released weights, of methods without
        weights, and of methods that have released weights for this data ("sdvi" on weizmann is "sdvi-weizmann"). A recipe
        takes what was trained in its `run_folder`, once for each of `seeds`; what is not there is trained first, where
        train_steps or train_minutes says how long. Several with one label (by default the recipe's name) are runs of one method.
    data: what `open_source` takes, with `split`. clips: how many, of `frames` frames each, spread evenly over the split, at
        `size` (height, width) in px. samples: of each clip, by methods that are stochastic. seed: of all chance in drawing.
    metrics: names of the table METRICS; None: all but those that `douga list` marks "only if named". One whose network is
        missing is left out, and the result says so.
    out: a folder (default: runs/evaluate-DATA) for protocol.json, rows.jsonl, table.md, report.html and the observations.
        resume: go on there, perhaps with more methods; the protocol must be the same.
    published: a name of `douga.evaluate.published.TABLES`, to stand beside.
    told: called with what is being done, how much of it is done, and of how much.
    Under torchrun every process calls this with the same arguments; the first one writes. Raises ValueError for a method
    that is not there, of another task or another size, data without such clips, or a folder in use.
    """
    least = {
        "samples": (samples, 1),
        "clips": (clips, 1),
        "frames": (frames, 3),
        "height": (size[0], 1),
        "width": (size[1], 1),
    }
    for what, (number, smallest) in least.items():
        if number < smallest:
            raise ValueError(f"{what} must be {smallest} or more, not {number}")
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed must be a whole number from 0 to 2^32 - 1, not {seed}")
    if train_steps is not None and train_minutes is not None:
        raise ValueError("give train_steps or train_minutes, not both")
    named = [name for name, row in METRICS.items() if row.default] if metrics is None else metrics
    kinds = {name: METRICS.load(name) for name in dict.fromkeys(named)}

    from torch import distributed

    from douga.evaluate import harness, report
    from douga.evaluate.published import TABLES
    from douga.train import engine

    source = open_source(data, split, size)
    there = harness.choose(source, split, frames, clips, painted=task == "paint")
    name = Path(str(data).partition(":")[0]).name
    asked_for: list[tuple[str, str | Path]] = []  # label, what `load` takes
    for method in dict.fromkeys(methods):
        label, _, spec = method.rpartition("=")
        if spec in RECIPES:
            for number in seeds:
                asked_for.append((label, _trained(spec, data, number, train_steps, train_minutes, device, told)))
        elif f"{spec}-{name}" in weights() and spec not in weights():
            asked_for.append((label or spec, f"{spec}-{name}"))
        else:
            asked_for.append((label, spec))
    where, joined = engine.join(device)
    try:
        rank, world = engine.processes()
        entries = [_entry(label, spec, task, size, str(where)) for label, spec in asked_for]
        names = [(entry.method, entry.run) for entry in entries]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"name at least one method, and each once ({_there_are()})")
        left_out, built = {}, {}
        for metric, kind in kinds.items():
            try:
                if harness.painted(kind):
                    if task != "paint":
                        raise ValueError(f"the metric {metric} is for the task paint, not {task}")
                    built[metric] = kind(where, open_source(data, "train", size), size)
                else:
                    built[metric] = kind(where)
            except FileNotFoundError as missing:
                left_out[metric] = str(missing)
        protocol = harness.protocol(there, task, samples, seed, built)
        out = Path("runs") / f"evaluate-{name}" if out is None else Path(out).expanduser()
        if rank == 0:
            harness.begin(out, protocol, resume=resume)
        if world > 1:
            distributed.barrier()
        entries += harness.reference(there)
        total, done = len(entries) * len(protocol.clips), 0

        def step(entry: harness.Entry) -> None:
            nonlocal done
            done += world
            told(entry.method, min(total, done), total)

        harness.observe(protocol, there, entries, built, out, device=where, rank=rank, world=world, told=step)
        if world > 1:
            distributed.barrier()
        left_out |= there.left_out
        told("intervals", total, total)
        table, rows = report.measure([(out, entry) for entry in entries], protocol, built)
        if rank == 0:
            told("report", total, total)
            facts = {
                "data": f"{protocol.data}, split {split}; licence: {source.licence}",
                "device": f"{engine.device_name(where)}, {world} process{'es' * (world > 1)}, precision fp32",
                "douga": engine.commit(),
            }
            shown = {
                heading: {
                    protocol.clips[index]: harness.side_by_side(protocol, there, entries, index, where)
                    for index in indices
                }
                for heading, indices in report.cases(table).items()
            }
            report.write(out, table, rows, entries, shown, left_out, facts, TABLES[published] if published else None)
        if world > 1:
            distributed.barrier()
        return report.Evaluation(out, table, left_out)
    finally:
        if joined:
            distributed.destroy_process_group()


def compare(outs: Sequence[str | Path], device: str = "cpu") -> Table:
    """One table of the methods of several evaluations. Raises ValueError if their protocols differ, and says in what."""
    from douga.evaluate import harness, report
    from douga.train.engine import pick_device

    folders = [Path(out).expanduser() for out in outs]
    protocols = [harness.read_protocol(folder) for folder in folders]
    for folder, protocol in zip(folders, protocols, strict=True):
        if protocol != protocols[0]:
            raise ValueError(
                f"{folders[0]} (protocol {protocols[0].hash}) and {folder} ({protocol.hash}) cannot be compared:"
                f" {harness.differences(protocols[0], protocol)}"
            )
    found: dict[tuple[str, str], tuple[Path, Entry]] = {}
    for folder in folders:
        for entry in report.entries(folder):
            found.setdefault((entry.method, entry.run), (folder, entry))
    metrics = {name: METRICS.load(name)(pick_device(device)) for name in protocols[0].metrics}
    return report.measure(list(found.values()), protocols[0], metrics)[0]


def reproduce(
    table: str, data: str | Path, *, scale: str | None = None, methods: Sequence[str] = (), **options: Any
) -> Evaluation:
    """A paper's table with our figures beside it. `douga.evaluate.published.TABLES` names them: "table1", "vid2vid-table1", ...

    scale: which recipes stand for the paper's rows: "paper", "small" or "brief"; of vid2vid's tables "blocks"; None: the table's
    own. methods: what stands there instead, as ROW=..., the rows being those of the table's `recipes`. options: those of
    `evaluate`, by default those that the table's `protocol` names. Raises as `evaluate` does.
    """
    from douga.evaluate.published import TABLES

    if table not in TABLES:
        raise ValueError(f"unknown table {table!r} (there are: {', '.join(TABLES)})")
    known = TABLES[table]
    wanted = [row for row, _ in known.figures.values() if row]
    given = {method.partition("=")[0]: method for method in methods}
    if unknown := [label for label in given if label not in wanted]:
        raise ValueError(
            f"{table} has no row {unknown[0]!r} (there are: {', '.join(wanted)}); write ROW=NAME, FILE or RECIPE"
        )
    named = [given.get(row, f"{row}={known.recipes[row].format(scale=scale or known.scale)}") for row in wanted]
    return evaluate(named, data, published=table, **{**known.protocol, **options})


def reproduce_teapot(
    data: Sequence[str] = ("teapot-1dof", "teapot-2dof", "teapot-6dof"),
    *,
    alphas: Sequence[float] = (0, 1, 5, 10, 100),
    seeds: Sequence[int] = (0, 1, 2),
    train_steps: int | None = None,
    clips: int = 200,
    settings: Sequence[str] = (),
    out: str | Path | None = None,
    device: str = "auto",
    told: Callable[[str, int, int], None] = lambda what, done, of: None,
) -> Path:
    """The experiments of Cristovao et al. 2020: an autoencoder and VAEs of several alphas, trained and measured beside
    linear, flow and hold. Returns the report, `teapot.md`, which has pictures beside it, in a folder for each of `data`.

    data: sources named teapot-...; each has a recipe latent/NAME. train_steps: of each run, by default the recipe's.
    clips: of each split. settings: changes to all recipes. out: a folder, by default runs/reproduce-teapot; what is there
    already is kept and gone on with. Raises as `train` and `evaluate` do.
    """
    from douga.evaluate import latent, report, teapot

    out = Path("runs") / "reproduce-teapot" if out is None else Path(out).expanduser()
    if unknown := [name for name in data if not name.startswith("teapot-") or f"latent/{name}" not in RECIPES]:
        raise ValueError(f"{unknown[0]!r} is no teapot (there are: {', '.join(s for s in SOURCES if 'teapot' in s)})")
    variants = {"autoencoder": ["model.variational=false", "model.alpha=0"]}
    variants |= {f"alpha={alpha:g}": [f"model.alpha={alpha}"] for alpha in alphas}
    if "alpha=0" not in variants or len(variants) < 3:
        raise ValueError("alphas must hold 0, the plain VAE, and at least one other to compare with it")
    parts = []
    for name in data:
        steps = train_steps or with_settings(RECIPES.load(f"latent/{name}")(), settings).steps
        files: dict[str, list[Path]] = {}
        for label, changes in variants.items():
            for number in seeds:
                run = out / name / f"{label.replace('=', '')}-seed{number}"
                weight_file = run / "weights.safetensors"
                files.setdefault(label, []).append(weight_file)
                if weight_file.exists() and info(weight_file)["provenance"]["steps"] >= steps:
                    continue

                def show(now: Progress, named: str = f"{name}, {label}, seed {number}") -> None:
                    told(named, now.step, now.steps or 0)

                train(
                    f"latent/{name}",
                    name,
                    steps=steps,
                    resume=(run / "checkpoint.safetensors").exists(),
                    settings=[*changes, "model.spread=0", f"seed={number}", *settings],
                    device=device,
                    out=run,
                    callbacks=[show],
                )
        methods = [*teapot.UNTRAINED, *(f"{label}={path}" for label, paths in files.items() for path in paths)]
        tables: dict[str, Table] = {}
        for split, frames in teapot.SPLITS.items():
            tables[split] = evaluate(
                methods,
                name,
                samples=1,
                clips=clips,
                frames=frames,
                split=split,
                metrics=("mse_hidden", "lpips_alex_hidden", "position"),
                out=out / name / split,
                resume=(out / name / split / "protocol.json").exists(),
                device=device,
                told=told,
            ).table
        size = tables["test"].protocol.size
        sources = {split: open_source(name, split, size) for split in teapot.SPLITS}
        train_set, test_set = (latent.first_frames(sources[split], clips) for split in ("train", "test-large"))
        models: dict[str, list[Any]] = {
            label: [load(path, "cpu")[0] for path in paths] for label, paths in files.items()
        }
        rebuilt = {
            label: [(teapot.reconstruction(run, train_set), teapot.reconstruction(run, test_set)) for run in runs]
            for label, runs in models.items()
        }
        of_test: Any = sources["test"]
        names = list(of_test.names)
        distances = [of_test.distance(names.index(clip.partition("@")[0])) for clip in tables["test"].protocol.clips]
        shown: dict[str, Any] = {label: load(label)[0] for label in teapot.UNTRAINED}
        shown |= {label: runs[0] for label, runs in models.items()}
        told("poses", 1, 1)
        bank = teapot.Poses(sources["train"])
        posed = {label: bank.errors(model, sources["test-large"], clips) for label, model in shown.items()}
        parts.append(f"## {name}\n\n{teapot.report(tables, rebuilt, posed, distances)}\n")
        shown.pop("hold")
        told("pictures", 1, 1)
        training = latent.first_frames(sources["train"], 1_000)
        teapot.pictures(shown, sources["test-large"], sources["test-long"], training, out / name)
        trained = report.note(_entry("", files["alpha=0"][0], "tween", size, "cpu"))
        parts[-1] += f"\nEach run: {trained.removesuffix(' †')}; {info(files['alpha=0'][0])['provenance']['device']}.\n"
    path = out / "teapot.md"
    path.write_text("# The teapot of Cristovao et al. 2020\n\n" + "\n".join(parts))
    return path


def explore(
    first: str | Path | Float[Tensor, "3 h w"],
    last: str | Path | Float[Tensor, "3 h w"],
    model: str | Path = "vae-teapot",
    *,
    data: str | Path | None = None,
    frames: int = 9,
    pictures: int = 1_000,
    out: str | Path = "latent.png",
    device: str = "auto",
) -> dict[str, dict[str, float]]:
    """Walk from one key frame to another through a latent space in several ways; write a picture of them.

    first, last: as in `tween`. model: what `load` takes; it must have a latent space. data: what `open_source` takes, whose
    training pictures (at most so many as `pictures` says) tell what was learned; None: what the model was trained on.
    frames: points between the ends. out: a .png.
    Returns of each way (linear, spherical, density-aware): "latent" and "pixels", the distance travelled, "off_mean" and
    "off_most", how much less likely than the median training picture its points are, in nats, and "jump_first" and
    "jump_last", how far the reconstructions are from the key frames, of 255. Raises as `tween` does.
    """
    from douga.evaluate import latent
    from douga.video.ops import fit, on_white

    out = Path(out).expanduser().resolve()
    if out.suffix.lower() != ".png":
        raise ValueError(f"cannot write {out.name}: the name must end in .png")
    if frames < 1 or pictures < 1:
        raise ValueError("frames and pictures must be 1 or more")
    if not out.parent.is_dir() or out.is_dir():
        raise ValueError(f"cannot write {out}: {'it is a folder' if out.is_dir() else 'its folder is not there'}")
    keys, _, _ = _pictures([first, last])
    keys = on_white(keys) if len(keys) == 4 else keys
    drawer, known = load(model, device)
    coder: Any = drawer
    if not hasattr(coder, "encode"):
        raise ValueError(f"{model} has no latent space to walk through: give a latent-vae")
    place = next(coder.parameters()).device
    spec = known["provenance"]["experiment"]["data"] if data is None else data
    training = latent.first_frames(open_source(spec, "train", coder.size), pictures)
    density = latent.Density(coder.encode(training.to(place)).mean.cpu())
    ends = fit(keys.transpose(0, 1), coder.size)
    codes = coder.encode(ends.to(place)).mean.cpu()
    found = latent.ways(codes[0], codes[1], frames + 2, density, lambda z: coder.decode(z.to(place)).cpu())
    title = f"{Path(known.get('file', str(model))).stem}, among {len(training)} training pictures of {spec}"
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".douga-") as stage:
        latent.picture(found, density, ends, Path(stage) / "latent.png", title)
        os.replace(Path(stage) / "latent.png", out)
    return {
        name: {
            "latent": way.travelled[0],
            "pixels": way.travelled[1],
            "off_mean": way.off.mean().item(),
            "off_most": way.off.max().item(),
            **dict(zip(("jump_first", "jump_last"), latent.jumps(way, ends), strict=True)),
        }
        for name, way in found.items()
    }


def run_folder(recipe: str) -> Path:
    """Where a recipe's run goes by default: runs/inbetween-small for inbetween/small."""
    return Path("runs") / recipe.replace("/", "-")


def open_source(spec: str | Path, split: str, size: tuple[int, int]) -> Source:
    """Open one split of a set of videos at a size (height, width) in px.

    spec: a source's name ("shapes", "weizmann": its files are looked for in DOUGA_CACHE/weizmann, by default
    ~/.cache/douga/weizmann), "name:/path" for files elsewhere, or any folder of videos or of frame folders.
    Raises ValueError for an unknown source or split, FileNotFoundError that says where missing files come from.
    """
    kind, root = _source(spec)
    return kind(root, split, size)


def data_check(spec: str | Path) -> dict[str, Any]:
    """Open every split of a source and decode every video of it once, at 64x64 (8 of an endless one), and the maps beside it.

    Returns {"source", "licence", "splits": {split: {"videos", "frames", "shortest", "longest", "damaged"}}}: lengths in
    frames; damaged: {name: why it or its maps cannot be read whole}; "title" where a source can be incomplete; "maps" and
    "instances", in words, where there are maps. Raises as `open_source` does.
    """
    from douga.core.contracts import Paired

    kind, root = _source(spec)
    splits = {}
    for split in kind.splits:
        source = kind(root, split, (64, 64))
        damaged = dict(getattr(source, "damaged", ()))
        count = min(8, len(source)) if kind.endless else len(source)
        seen, numbered, brightest = set(), False, -1.0
        for index in range(count):
            try:
                source.clip(index, 0, source.lengths[index])
                if isinstance(source, Paired):
                    maps = source.maps(index, 0, source.lengths[index])
                    if source.classes:
                        seen |= set(maps[0].unique().tolist())
                        numbered |= bool(maps[1].any())
                    else:
                        brightest = max(brightest, float(maps.max()))
            except (ValueError, OSError) as error:
                damaged[source.names[index]] = str(error)
        words = {}
        if isinstance(source, Paired) and count:
            if source.classes:
                names = ", ".join(source.classes[number] for number in sorted(seen - {-1})) or "none"
                words["maps"] = f"label maps of {len(source.classes)} classes; seen: {names}"
                words["instances"] = "numbered" if numbered else "not numbered: things that touch look like one thing"
            else:
                dark = "" if brightest > -0.6 else ", nearly black: if they are label maps, they need a classes.txt"
                words["maps"] = f"pictures{dark}"
        lengths = [source.lengths[index] for index in range(count)]
        splits[split] = {
            **({"title": source.title} if hasattr(source, "title") else {}),
            "videos": count,
            "frames": sum(lengths),
            "shortest": min(lengths, default=0),
            "longest": max(lengths, default=0),
            **words,
            "damaged": damaged,
        }
    return {"source": str(spec), "licence": kind.licence, "splits": splits}


def data_prepare(
    kind: str,
    video: str | Path,
    out: str | Path | None = None,
    *,
    start: int = 0,
    frames: int | None = None,
    square: bool = False,
    told: Callable[[str, int, int], object] = lambda what, done, of: None,
) -> dict[str, Any]:
    """Make maps to paint from, beside the frames they belong to, as the sources pairs, faces and pose read them.

    kind: "edges" (of a face), "pose" (of a person), or "labels", which makes nothing and looks at a folder of label maps
        (see `douga.data.pairs.Pairs`) as `data_check` does. The first two need MediaPipe.
    video: a video, or a folder of videos. out: the folder that gets frames/NAME and maps/NAME; what is there already is
        kept. start, frames: of each video the first frame and how many; None: all to its end. square: cut the same square
        around the face or the person out of all frames of a video.
    told: called with a video's name, how many of its frames were looked at, and 0: their number is not known before.
    Returns {"out", "videos": {name: {"frames", "held"}}, "left_out": {name: why}}; held: the frames in which nothing was
    found, which got the map of the one before. Raises ValueError or OSError if no video could be prepared: nothing was
    found in it, it cannot be read, MediaPipe is missing, or the kind is unknown.
    """
    if kind == "labels":
        return data_check(f"pairs:{video}")
    if kind not in ("edges", "pose"):
        raise ValueError(f"unknown kind of maps {kind!r} (there are: edges, pose, labels)")
    if out is None:
        raise ValueError("say which folder gets the frames and their maps: --out FOLDER")
    if start < 0 or (frames is not None and frames < 1):
        raise ValueError(f"start must be 0 or more and frames 1 or more, not {start} and {frames}")

    from douga.data.folder import find
    from douga.video import landmarks
    from douga.video.io import is_video

    top, place = Path(video).expanduser(), Path(out).expanduser()
    if top.is_dir():
        found = {path.relative_to(top).as_posix(): path for path in sorted(find(top))}
        found = {top.resolve().name if name == "." else name: path for name, path in found.items()}
        if not found:
            raise FileNotFoundError(
                f"there are no videos and no pictures in the folder {top}, nor in folders inside it"
            )
    elif top.exists():
        found = {top.name: top}
    else:
        raise FileNotFoundError(f"there is no file or folder {top}")
    done: dict[str, Any] = {}
    left_out: dict[str, Exception] = {}
    for name, path in found.items():
        bare = str(Path(name).with_suffix("")) if is_video(path) and path.is_file() else name

        def looked(number: int, name: str = name) -> None:
            told(name, number, 0)

        try:
            count, held = landmarks.prepare(
                kind, path, place, bare, start=start, length=frames, square=square, told=looked
            )
            done[bare] = {"frames": count, "held": held}
        except (ValueError, OSError) as error:
            left_out[bare] = error
    if not done:
        raise next(iter(left_out.values()))
    return {"out": str(place), "videos": done, "left_out": {name: str(error) for name, error in left_out.items()}}


def data_get(spec: str, told: Callable[[str, int, int], object] | None = None) -> dict[str, str]:
    """Fetch the official files of a set that has an official address, and unpack them where its source looks for them.

    spec: "kth", "bair" or "ucf101", or "name:/path" for a folder elsewhere; what is there already is kept. told: called with a
    file's name, how many bytes are here, and of how many. Returns what was done and compared, by file. Raises ValueError
    for a set that has none, OSError that says what to do where a file cannot be had.
    """
    from douga.data.download import get

    _, root = _source(spec)
    return get(spec.partition(":")[0], root or Path(), told)


def weights_get(name: str) -> Path:
    """Bring the weights of a network that metrics need ("i3d", "lpips-alex", ...) into DOUGA_CACHE/weights; returns the file."""
    from douga.nn.pretrained import fetch

    return fetch(name)


def info(path: str | Path) -> dict[str, Any]:
    """What a weight file is and how it was made.

    path: a weight file or the name of released weights. Returns "file", "bytes", "sha256", and its header: kind
    ("release" or "training"), method, config, provenance, parameters (how many). Raises ValueError for a file that is
    not ours or is truncated.
    """
    from douga.train.checkpoint import read_header

    path = _weight_file(path)
    header = read_header(path)
    size = {"bytes": path.stat().st_size, "parameters": header["parameters"]}
    return {"file": str(path), "sha256": _sha256(path), **size, **header}


def _trained(
    recipe: str,
    data: str | Path,
    seed: int,
    steps: int | None,
    minutes: float | None,
    device: str,
    told: Callable[[str, int, int], None],
) -> Path:
    """The weights of a recipe's run, trained first if they are not there and it is said for how long."""
    run = run_folder(recipe)
    run = run.with_name(f"{run.name}-seed{seed}") if seed else run
    path = run / "weights.safetensors"
    if path.exists():
        return path
    if steps is None and minutes is None:
        command = f"douga train {recipe} --data {data}" + (f" --set seed={seed} --out {run}" if seed else "")
        raise ValueError(
            f"{recipe} is not trained ({path} is missing): say for how long with --train-steps, or run: {command}"
        )
    named = f"training {recipe}" + (f", seed {seed}" if seed else "")

    def show(now: Progress) -> None:
        told(named, now.step, now.steps or 0)

    settings = [f"seed={seed}"]
    return train(
        recipe, data, steps=steps, minutes=minutes, settings=settings, device=device, out=run, callbacks=[show]
    )


def _entry(label: str, spec: str | Path, task: str, size: tuple[int, int], device: str) -> Entry:
    """Something that draws, as the harness wants it: a function and what is known."""
    from douga.evaluate.harness import Entry

    drawer, known = load(spec, device)
    if task not in drawer.tasks:
        raise ValueError(f"{spec} does {', '.join(sorted(drawer.tasks))}, not {task}")
    if drawer.size not in (None, size):
        raise ValueError(f"{spec} draws at {drawer.size}, not at {size} (height, width)")
    provenance = known.get("provenance", {})
    if not label:
        label = str(spec) if str(spec) in {*weights(), *METHODS} else provenance["recipe"]
    facts: dict[str, Any] = {"method": known["method"]}
    if provenance:
        of_paper = paper_of(provenance["recipe"])
        paper = RECIPES.load(of_paper)() if of_paper in RECIPES else None
        facts |= {
            "weights": known["sha256"],
            "recipe": provenance["recipe"],
            "clips_seen": provenance["clips_seen"],
            "paper_clips": paper.steps * paper.batch if paper else None,
        }
    run, motion = known["sha256"][:8] if provenance else "", hasattr(drawer, "needs_flow")
    return Entry(label, run, drawer.synthesize, drawer.stochastic, facts, motion)


def _drawn(drawer: Synthesizer, request: Request, samples: int, generator: torch.Generator) -> Tensor:
    """What a method draws; of one that takes a single pair of key frames, pair after pair."""
    if not hasattr(drawer, "one_pair"):
        return drawer.synthesize(request, samples, generator)
    drawn = request.known.repeat(samples, 1, 1, 1, 1, 1)
    for start, stop in pairwise(request.mask.nonzero()[:, 0].tolist()):
        if stop > start + 1:
            span = slice(start, stop + 1)
            times = None if request.times is None else request.times[span]
            pair = replace(request, known=request.known[:, :, span], mask=request.mask[span], times=times)
            drawn[:, :, :, span] = drawer.synthesize(pair, samples, generator)
    return drawn


def _named_keys(keys: Sequence[Key]) -> tuple[list[tuple[Any, Any]], dict[str, Any]]:
    """The key frames of `tween`, each with its frame number if it has one, and what else a storyboard says."""
    board: dict[str, Any] = {}
    if len(keys) == 1 and isinstance(keys[0], (str, Path)):
        path = Path(keys[0]).expanduser()
        if path.is_dir():
            from douga.video.io import picture_files

            keys = picture_files(path)
        elif path.suffix.lower() == ".json":
            keys, board = _storyboard(path)
    named: list[tuple[Any, Any]] = []
    for key in keys:
        at = None
        if isinstance(key, tuple):
            key, at = key
        elif isinstance(key, (str, Path)) and not Path(key).expanduser().exists():
            name, mark, number = str(key).rpartition("@")
            if mark and number.isdecimal():
                key, at = name, int(number)
        named.append((key, at))
    if len(named) < 2:
        raise ValueError(f"tween draws between key frames: give two pictures or more, not {len(named) or 'none'}")
    return named, board


def _storyboard(path: Path) -> tuple[list[Key], dict[str, Any]]:
    if not path.is_file():
        raise FileNotFoundError(f"there is no storyboard {path}")
    try:
        board = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"the storyboard {path} is not JSON: {error}") from None
    kinds: dict[str, Any] = {"keys": list, "fps": (int, float), "ease": (str, list), "loop": bool}
    if not isinstance(board, dict) or not isinstance(board.get("keys"), list):
        raise ValueError(f'the storyboard {path} must be like {{"keys": [{{"picture": "a.png", "at": 0}}, ...]}}')
    for name, value in board.items():
        if name not in kinds:
            raise ValueError(f"the storyboard {path} holds the unknown {name!r} (there are: {', '.join(kinds)})")
        if not isinstance(value, kinds[name]) or (name == "fps" and isinstance(value, bool)):
            raise ValueError(f"the storyboard {path} says {name} is {value!r}, which is none")
    keys: list[Key] = []
    for key in board.pop("keys"):
        if not isinstance(key, dict) or not isinstance(key.get("picture"), str) or not key.keys() <= {"picture", "at"}:
            raise ValueError(
                f'the storyboard {path} holds {json.dumps(key)} in the place of {{"picture": "a.png", "at": 0}}'
            )
        picture = path.parent / Path(key["picture"]).expanduser()
        keys.append((picture, key["at"]) if "at" in key else picture)
    if "ease" in board:
        board["ease"] = read_ease(board["ease"], path.parent)
    return keys, board


def _indices(named: Sequence[tuple[Any, Any]], frames: int | None) -> list[int]:
    """At which frames the key frames stand; the first one at 0."""
    numbers = [at for _, at in named if at is not None]
    if not numbers:
        frames = FRAMES if frames is None else frames
        if frames < 1:
            raise ValueError(f"frames must be 1 or more, not {frames}")
        return [(frames + 1) * index for index in range(len(named))]
    if len(numbers) < len(named):
        without = next(_name(picture, index) for index, (picture, at) in enumerate(named) if at is None)
        raise ValueError(f"give all key frames a frame number (b.png@12) or none: {without} has none")
    if frames is not None:
        raise ValueError(
            f"the key frames have frame numbers, which say how many are drawn: leave out frames ({frames})"
        )
    for index, at in enumerate(numbers):
        if not isinstance(at, int) or isinstance(at, bool) or at < 0:
            raise ValueError(
                f"{_name(named[index][0], index)} stands at {at!r}: a frame number is a whole one, 0 or more"
            )
        if index and at <= numbers[index - 1]:
            before = _name(named[index - 1][0], index - 1)
            raise ValueError(
                f"{_name(named[index][0], index)} at frame {at} follows {before} at {numbers[index - 1]}:"
                " frame numbers must grow from key frame to key frame"
            )
    return [at - numbers[0] for at in numbers]


def _name(picture: Any, index: int) -> str:
    return str(picture) if isinstance(picture, (str, Path)) else f"key frame {index + 1}"


def _pictures(given: Sequence[Any]) -> tuple[Float[Tensor, "c k h w"], int, list[dict[str, Any]]]:
    """Pictures of one size, on the CPU, with alpha if one of them has it; their bits, 8 or 16; and what is known of each file.

    Raises ValueError or OSError where one can't be used or their sizes differ.
    """
    import torch

    from douga.video.io import read_picture

    planes: list[Any] = []
    depths, facts = [8], []
    for index, key in enumerate(given):
        fact: dict[str, Any] = {"picture": None, "file": None, "sha256": None}
        if isinstance(key, (str, Path)):
            path = Path(key).expanduser()
            picture, bits = read_picture(path)
            depths.append(bits)
            fact = {"picture": str(key), "file": str(path.resolve()), "sha256": _sha256(path)}
        else:
            picture = key.cpu()
        if picture.ndim != 3 or picture.shape[0] not in (3, 4):
            raise ValueError(
                f"a key frame must be a tensor of shape (3, H, W), or (4, H, W) with alpha, not {tuple(picture.shape)}"
            )
        if planes and picture.shape[1:] != planes[0].shape[1:]:
            (h0, w0), (h1, w1) = planes[0].shape[1:], picture.shape[1:]
            raise ValueError(
                f"{_name(given[0], 0)} is {w0}x{h0} and {_name(key, index)} is {w1}x{h1} (width x height):"
                " make all of them the same size"
            )
        planes.append(picture)
        facts.append(fact)
    if any(len(picture) == 4 for picture in planes):
        planes = [p if len(p) == 4 else torch.cat([p, torch.ones_like(p[:1])]) for p in planes]
    return torch.stack(planes, dim=1), max(depths), facts


def _weight_file(name: str | Path) -> Path:
    path = weights().get(str(name), Path(name).expanduser())
    if not path.is_file():
        raise ValueError(f"unknown model {str(name)!r}: no such file, and {_there_are()}")
    return path


def _there_are() -> str:
    free = [name for name in METHODS if name not in weights() and not hasattr(METHODS.load(name), "phases")]
    return f"there are the weights {', '.join(weights()) or '(none)'} and the methods {', '.join(free)}"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def _sheet(out: Path, kind: str = "sheet") -> Path:
    return out.with_name(f"{out.stem}-{kind}.png")


def _source(spec: str | Path) -> tuple[Any, Path | None]:
    name, colon, place = str(spec).partition(":")
    if name in SOURCES and (place or not colon):
        kind = SOURCES.load(name)
        if place or kind.endless:
            return kind, Path(place).expanduser() if place else None
        if name == "folder":
            raise ValueError("the source folder needs a place: write folder:/path, or the path alone")
        cache = Path(os.environ.get("DOUGA_CACHE", "~/.cache/douga")).expanduser()
        return kind, cache / getattr(kind, "folder", name)
    if Path(spec).expanduser().is_dir():
        return SOURCES.load("folder"), Path(spec).expanduser()
    raise ValueError(
        f"unknown source {str(spec)!r}: neither a folder nor one of {', '.join(SOURCES)} (name or name:/path)"
    )


# Existing videos, and drawing again what was drawn.


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

    drawing: dict[str, Any] = {
        "model": model,
        "samples": samples,
        "seed": seed,
        "diversity": diversity,
        "device": device,
    }
    return _retime("slow", video, out, options, pace, {"cut": cuts}, **drawing, resume=resume, told=told)


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

    drawing: dict[str, Any] = {
        "model": model,
        "samples": samples,
        "seed": seed,
        "diversity": diversity,
        "device": device,
    }
    return _retime("fill", video, out, options, pace, look, **drawing, resume=resume, told=told)


BLOCK = 32  # known frames: what is drawn at a time, and lost if a job is stopped
PIECE_VALUES = 2**26  # of frames in memory at a time while one gap is drawn: 256 MB


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

    made = _made(command, {"video": path}, model or _any_size(), seed, samples, device)
    drawer, known = load(made["model"], made["device"])
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
        with _staged(out) as stage:
            for sample, to in enumerate(paths):
                recipe = json.dumps(_alone(made, sample))
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
    return DEFAULT_MODEL if load(DEFAULT_MODEL)[0].size is None else "flow"


def _made(
    command: str, inputs: dict[str, Path], model: str | Path, seed: int, samples: int, device: str
) -> dict[str, Any]:
    """The beginning of every recipe: who draws from what. The device is the one that it is drawn on."""
    import torch

    from douga.train.engine import pick_device

    free = str(model) in METHODS and str(model) not in weights()
    file = None if free else _weight_file(model)
    return {
        "command": command,
        "version": __version__,
        "torch": torch.__version__,
        "inputs": {name: {"file": str(path.resolve()), "sha256": _digest(path)} for name, path in inputs.items()},
        "model": str(model) if free or str(model) in weights() else str(Path(model).expanduser().resolve()),
        "weights": file and {"name": file.stem, "sha256": _sha256(file)},
        "device": "cpu" if free else str(pick_device(device)),
        "seed": seed,
        "samples": samples,
    }


def _alone(made: dict[str, Any], number: int) -> dict[str, Any]:
    """The recipe of one sample: it is drawn with seed + number, so it can be drawn again without the others."""
    return {**made, "seed": made["seed"] + number, "samples": 1, "sample": 1}


def _digest(path: Path) -> str:
    """The SHA-256 of a file's bytes; of a folder's pictures, of their names and digests. Raises as `read_image` does."""
    from douga.video.io import picture_files

    if path.is_dir():
        listed = "".join(f"{file.name} {_sha256(file)}\n" for file in picture_files(path))
        return sha256(listed.encode()).hexdigest()
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}")
    return _sha256(path)


def replay(
    path: str | Path,
    *,
    device: str | None = None,
    told: Callable[[str, int, int], object] = lambda what, done, of: None,
) -> dict[str, Any]:
    """Draw again, from the recipe that it holds, a video that `tween`, `paint`, `slow` or `fill` made, and compare.

    path: the .mp4, .gif or folder of PNGs. device: None: that of the recipe, or "auto" where there is none such here.
    Returns "equal": "bytes", "frames" (the files differ, what they show does not) or "" (it differs); "frames" (how many),
    "different" (how many of them), "mean" and "most" (by how much they differ, of 255), "notes" and "made", the recipe.
    Raises ValueError or OSError with one sentence where it cannot be drawn again: there is no recipe, or an input or the
    weights are no longer there or no longer the same.
    """
    from itertools import zip_longest

    from douga.video.io import picture_files, read_recipe, shown

    path = Path(path).expanduser().resolve()
    recipe = read_recipe(path)
    made = json.loads(recipe) if recipe else {}
    draws = {"tween": _tween_again, "paint": paint, "slow": slow, "fill": fill}
    if made.get("command") not in draws:
        raise ValueError(f"{path} does not say how it was made: only what tween, paint, slow and fill wrote does")
    try:
        for given in (*made.get("keys", ()), *made.get("inputs", {}).values()):
            if given["file"] is None:
                raise ValueError(f"{path} was made from pictures that were no files: it cannot be drawn again")
            if not Path(given["file"]).exists():
                raise FileNotFoundError(f"{path} was made from {given['file']}, which is no longer there")
            if _digest(Path(given["file"])) != given["sha256"]:
                raise ValueError(f"{path} was made from {given['file']}, which has changed since")
        name = str(made["model"])
        if made["weights"]:
            name = made["weights"]["name"] if made["weights"]["name"] in weights() else name
            if _sha256(_weight_file(name)) != made["weights"]["sha256"]:
                raise ValueError(f"the weights {name} are not those that {path} was made with: their SHA-256 differs")
        notes = [
            f"it was made with {what} {made[key]}, this is {here}"
            for what, key, here in (("douga", "version", __version__), ("torch", "torch", _torch_version()))
            if made[key] != here
        ]
        where = device or made["device"]
        try:
            load(name, where)
        except ValueError:
            if device is not None:
                raise
            notes.append(f"it was made on {where}, which is not here")
            where = "auto"
        number, samples = made["sample"], made["samples"]
        options = {key: made[key] for key in REPLAYED[made["command"]]}
        if made["command"] == "paint":  # JSON knows no tuples
            options["swap"], options["size"] = [tuple(pair) for pair in options["swap"]], tuple(options["size"])
            options["told"] = lambda done, of: told("drawing", done, of)
        elif made["command"] != "tween":
            options["told"] = told
    except (KeyError, TypeError) as error:
        raise ValueError(f"the recipe in {path} is incomplete: {error} is missing") from None
    first = next(iter(made["inputs"].values()))["file"] if "inputs" in made else None
    with tempfile.TemporaryDirectory(prefix="douga-") as folder:
        out = Path(folder) / f"again{path.suffix}"
        draw: Any = draws[made["command"]]
        if first is None:
            written = draw(made, out, where)
        else:
            drawn = draw(first, out, model=name, samples=samples, seed=made["seed"], device=where, **options)
            written = drawn["written"]
        again = written[number - 1 if len(written) > 1 else 0]
        pairs = [(path, again)]
        if path.is_dir():
            pairs = list(zip_longest(picture_files(path), picture_files(again)))
        equal = "bytes" if all(a and b and a.read_bytes() == b.read_bytes() for a, b in pairs) else "frames"
        frames = different = 0
        mean = most = 0.0
        for one, two in zip_longest(shown(path), shown(again)):
            frames += 1
            if one is None or two is None or one.frame.shape != two.frame.shape:
                different, mean, most = different + 1, mean + 255, 255.0
                continue
            apart = (one.frame - two.frame).abs() * 127.5
            different += bool(apart.any())
            mean, most = mean + apart.mean().item(), max(most, apart.max().item())
    return {
        "equal": "" if different else equal,
        "frames": frames,
        "different": different,
        "mean": mean / frames,
        "most": most,
        "notes": notes,
        "made": made,
    }


# What of a recipe says how it is drawn, besides inputs, model, seed and samples.
REPLAYED: dict[str, tuple[str, ...]] = {
    "tween": (),
    "paint": ("first_frame", "instances", "swap", "size", "fps"),
    "slow": ("factor", "keep_duration", "fps", "cuts", "diversity"),
    "fill": ("fps", "still", "longest", "cuts", "diversity"),
}


def _tween_again(made: dict[str, Any], out: Path, device: str) -> list[Path]:
    keys, options = tween_options(made)
    clip = tween(*keys, **{**options, "device": device})
    # The recipe as it was: the same pictures may have been named otherwise.
    return save(replace(clip, made={what: value for what, value in made.items() if what != "sample"}), out, sheet=False)


def _torch_version() -> str:
    import torch

    return torch.__version__

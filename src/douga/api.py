"""The door: every face (the command line, notebooks, the studio) calls these functions and nothing else.

Importing this module imports no torch; the first call that draws or trains does.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from hashlib import file_digest
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from douga import __version__
from douga.core.config import with_settings
from douga.core.registry import METHODS, METRICS, RECIPES, SOURCES, paper_of

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from douga.core.clip import Clip
    from douga.core.contracts import Source, Synthesizer
    from douga.evaluate.harness import Entry
    from douga.evaluate.report import Evaluation, Table
    from douga.train.engine import Progress

DEFAULT_MODEL = "inbetween-weizmann"
OUT_SUFFIXES = (".mp4", ".gif", "")  # no suffix: a folder of PNGs
MEMORY_LIMIT_GIB = 8  # of finished frames; drawing takes a few times as much


def weights() -> dict[str, Path]:
    """The released weights that came with the package: name -> file."""
    return {path.stem: path for path in sorted((Path(__file__).parent / "weights").glob("*.safetensors"))}


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
    first: str | Path | Float[Tensor, "3 h w"],
    last: str | Path | Float[Tensor, "3 h w"],
    frames: int = 14,
    samples: int = 4,
    seed: int = 0,
    model: str | Path = DEFAULT_MODEL,
    fps: float = 25.0,
    device: str = "auto",
) -> Clip:
    """Draw the frames between two key frames.

    first, last: picture files, or (3, H, W) float32 RGB in [-1, 1]; both of one size.
    frames: how many are drawn between them, 1 or more. samples: how many versions, 1 or more (a method that
    draws the same every time gives one, and `made["note"]` says so). seed: 0 or more; the same seed gives the same
    frames. fps: above 0, at most 1000. device: what `load` takes.
    model: what `load` takes. A model that draws at one size gets the pictures centre-cropped and resized to it
    (`made["given_at"]` and `made["drawn_at"]`, height and width in px).
    Returns a Clip of (samples, 3, frames + 2, H, W) on the CPU: the key frames at the ends, as given at that size.
    Raises ValueError or OSError with one sentence for a picture, a model or a number that cannot be used.
    """
    for what, number in {"frames": frames, "samples": samples}.items():
        if number < 1:
            raise ValueError(f"{what} must be 1 or more, not {number}")
    if not 0 <= seed < 2**32:  # torch takes no more of it on the CPU
        raise ValueError(f"seed must be a whole number from 0 to 2^32 - 1, not {seed}")
    if not 0 < fps <= 1000:
        raise ValueError(f"fps must be above 0 and at most 1000, not {fps}")

    import torch

    from douga.core.clip import Clip, Request
    from douga.video.ops import fit

    keys = _key_frames(first, last)
    sizes = (keys[0].shape[-2], keys[0].shape[-1])
    drawer, known = load(model, device)
    note = {}
    if not drawer.stochastic and samples > 1:
        note = {"note": f"{known['method']} draws the same every time, so there is 1 sample, not {samples}"}
        samples = 1
    height, width = drawer.size or sizes
    gibibytes = 12 * samples * (frames + 2) * height * width / 2**30
    if gibibytes > MEMORY_LIMIT_GIB:
        raise ValueError(
            f"{samples} x {frames + 2} frames of {width}x{height} would take {gibibytes:.1f} GiB, the limit is"
            f" {MEMORY_LIMIT_GIB}: ask for fewer samples or frames, or give smaller pictures"
        )
    place = next(drawer.parameters()).device if isinstance(drawer, torch.nn.Module) else "cpu"
    start, end = ((fit(key, drawer.size) if drawer.size else key)[None].to(place) for key in keys)
    request = Request.tween(start, end, frames, fps)
    with torch.no_grad():
        drawn = drawer.synthesize(request, samples, torch.Generator().manual_seed(seed))
    made = {
        "method": known["method"],
        "weights": {"name": Path(known["file"]).stem, "sha256": known["sha256"]} if "file" in known else None,
        "seed": seed,
        "frames": frames,
        "samples": samples,
        "version": __version__,
        "given_at": list(sizes),
        "drawn_at": [height, width],
        **note,
    }
    return Clip(drawn[:, 0].cpu(), request.mask, fps, made)


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
    Returns "written" (paths; a contact sheet, a row for each sample, is the last), "frames" (of a sample), "drawn_at" and "note".
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

            write_video(stage / path.relative_to(out.parent), drawn(), fps or rate)
        write_image(
            stage / _sheet(out).name, contact_sheet(torch.stack([torch.stack(row, 1) for row in rows]), columns=16)
        )
    return {"written": [*paths, _sheet(out)], "frames": done // len(paths), "drawn_at": list(size), "note": note}


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
    for path in (*paths, _sheet(out)):
        if path.suffix and path.is_dir():
            raise IsADirectoryError(f"{path} is a folder: a file cannot have its name; choose another output")
    return paths


def save(clip: Clip, out: str | Path, *, sheet: bool = True) -> list[Path]:
    """Write a clip as .mp4, .gif or, without an ending, a folder of PNGs: one for each sample (see `outputs`).

    sheet: also a contact sheet OUT-sheet.png beside it, samples as rows, at most 16 frames of each as columns.
    Returns what was written. All or nothing: until everything is complete, nothing of this call is to be seen and
    files of the same names are untouched. Raises as `outputs` does, and OSError for a full disk.
    """
    from douga.video.io import write_image, write_video
    from douga.video.ops import contact_sheet

    out = Path(out).expanduser().resolve()
    paths = outputs(out, len(clip.frames))
    with _staged(out) as stage:
        for path, frames in zip(paths, clip.frames, strict=True):
            write_video(stage / path.relative_to(out.parent), frames, clip.fps)
        if sheet:
            paths = [*paths, _sheet(out)]
            write_image(stage / _sheet(out).name, contact_sheet(clip.frames, columns=16))
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
    table: str, data: str | Path, *, scale: str = "paper", methods: Sequence[str] = (), **options: Any
) -> Evaluation:
    """A paper's table with our figures beside it. `douga.evaluate.published.TABLES` names them: "table1", "table3".

    scale: which recipes stand for the paper's rows: "paper", "small" or "brief". methods: what stands there instead, as ROW=...,
    the rows being full, wo-fusion, naive, sdvi, sepconv-t, superslomo. options: those of `evaluate`. Raises as `evaluate` does.
    """
    from douga.evaluate.published import TABLES

    if table not in TABLES:
        raise ValueError(f"unknown table {table!r} (there are: {', '.join(TABLES)})")
    rows = {
        "full": f"inbetween/{scale}",
        "wo-fusion": f"inbetween/{scale}-wo-fusion",
        "naive": f"inbetween/{scale}-naive",
        "sdvi": f"sdvi/{scale}",
        "sepconv-t": f"sepconv/{scale}",
        "superslomo": f"superslomo/{scale}",
    }
    wanted = [row for row, _ in TABLES[table].figures.values() if row]
    given = {method.partition("=")[0]: method for method in methods}
    if unknown := [label for label in given if label not in wanted]:
        raise ValueError(
            f"{table} has no row {unknown[0]!r} (there are: {', '.join(wanted)}); write ROW=NAME, FILE or RECIPE"
        )
    named = [given.get(row, f"{row}={rows[row]}") for row in wanted]
    return evaluate(named, data, published=table, **options)


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
    import torch

    from douga.evaluate import latent
    from douga.video.ops import fit

    out = Path(out).expanduser().resolve()
    if out.suffix.lower() != ".png":
        raise ValueError(f"cannot write {out.name}: the name must end in .png")
    if frames < 1 or pictures < 1:
        raise ValueError("frames and pictures must be 1 or more")
    if not out.parent.is_dir() or out.is_dir():
        raise ValueError(f"cannot write {out}: {'it is a folder' if out.is_dir() else 'its folder is not there'}")
    keys = _key_frames(first, last)
    drawer, known = load(model, device)
    coder: Any = drawer
    if not hasattr(coder, "encode"):
        raise ValueError(f"{model} has no latent space to walk through: give a latent-vae")
    place = next(coder.parameters()).device
    spec = known["provenance"]["experiment"]["data"] if data is None else data
    training = latent.first_frames(open_source(spec, "train", coder.size), pictures)
    density = latent.Density(coder.encode(training.to(place)).mean.cpu())
    ends = torch.stack([fit(key, coder.size) for key in keys])
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


def _key_frames(
    first: str | Path | Float[Tensor, "3 h w"], last: str | Path | Float[Tensor, "3 h w"]
) -> list[Float[Tensor, "3 h w"]]:
    """Both pictures, on the CPU. Raises ValueError or OSError where one can't be used or their sizes differ."""
    from douga.video.io import read_image

    keys = []
    for given in (first, last):
        picture = read_image(Path(given).expanduser()) if isinstance(given, (str, Path)) else given
        if picture.ndim != 3 or picture.shape[0] != 3:
            raise ValueError(f"a key frame must be a tensor of shape (3, H, W), not {tuple(picture.shape)}")
        keys.append(picture.cpu())
    (h0, w0), (h1, w1) = (key.shape[1:] for key in keys)
    if (h0, w0) != (h1, w1):
        raise ValueError(
            f"the first picture is {w0}x{h0} and the last is {w1}x{h1} (width x height): make both the same size"
        )
    return keys


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


def _sheet(out: Path) -> Path:
    return out.with_name(f"{out.stem}-sheet.png")


def _source(spec: str | Path) -> tuple[Any, Path | None]:
    name, colon, place = str(spec).partition(":")
    if name in SOURCES and (place or not colon):
        kind = SOURCES.load(name)
        if place or kind.endless:
            return kind, Path(place).expanduser() if place else None
        if name == "folder":
            raise ValueError("the source folder needs a place: write folder:/path, or the path alone")
        return kind, Path(os.environ.get("DOUGA_CACHE", "~/.cache/douga")).expanduser() / name
    if Path(spec).expanduser().is_dir():
        return SOURCES.load("folder"), Path(spec).expanduser()
    raise ValueError(
        f"unknown source {str(spec)!r}: neither a folder nor one of {', '.join(SOURCES)} (name or name:/path)"
    )

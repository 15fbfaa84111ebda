"""The command line: parse, call the api, show. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import json
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import douga
from douga import api
from douga.core.registry import METHODS, METRICS, RECIPES, SOURCES

if TYPE_CHECKING:
    from douga.evaluate.report import Evaluation, Table
    from douga.train.engine import Progress

app = typer.Typer(
    help="Video from sparse conditions: give the few things you know, see what may lie between.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
data_app = typer.Typer(help="Get sets of videos, and look at them.", no_args_is_help=True)
app.add_typer(data_app, name="data")
weights_app = typer.Typer(help="Weights of the networks that metrics need.", no_args_is_help=True)
app.add_typer(weights_app, name="weights")

latent_app = typer.Typer(help="Look into the latent space of a model.", no_args_is_help=True)
app.add_typer(latent_app, name="latent")

Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps")]


def main() -> None:
    """Run the command in sys.argv. What a user can mend is one sentence on stderr and exit code 2.

    With DOUGA_DEBUG set, it is the traceback.
    """
    try:
        app(prog_name="douga")
    except (ValueError, OSError, FloatingPointError) as error:
        if os.environ.get("DOUGA_DEBUG"):
            raise
        sentence = str(error)
        if isinstance(error, OSError) and error.filename:  # the system's own: without its number
            sentence = f"{error.filename}: {error.strerror}"
        print("douga:", " ".join(sentence.split()) or type(error).__name__, file=sys.stderr)
        sys.exit(2)


def _version(wanted: bool) -> bool:
    if wanted:
        typer.echo(f"douga {douga.__version__}")
        raise typer.Exit
    return wanted


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    pass


@app.command()
def tween(
    keys: Annotated[
        list[str],
        typer.Argument(
            metavar="KEYS",
            help="key frames, pictures of one size: A.png B.png ..., with frame numbers A.png@0 B.png@12 ..., a folder of them,"
            " or a storyboard .json",
        ),
    ],
    frames: Annotated[
        int | None, typer.Option(help="how many to draw between each two", show_default=str(api.FRAMES))
    ] = None,
    samples: Annotated[int, typer.Option(help="how many different versions; the most typical comes first")] = 4,
    seed: Annotated[int, typer.Option(help="the same seed gives the same bytes")] = 0,
    model: Annotated[
        str | None,
        typer.Option(metavar="NAME|FILE", help="released weights or a weight file", show_default=api.DEFAULT_MODEL),
    ] = None,
    method: Annotated[
        str | None, typer.Option(metavar="linear|flow|hold", help="draw without weights, instead of --model")
    ] = None,
    fps: Annotated[float | None, typer.Option(help="frames per second", show_default="25")] = None,
    ease: Annotated[
        str | None,
        typer.Option(
            metavar="linear|in|out|in-out|hold:F|FILE.json",
            help="the pace from each key frame to the next; a file holds a list of points, time and way, from 0, 0 to 1, 1",
            show_default="linear",
        ),
    ] = None,
    loop: Annotated[
        bool | None, typer.Option("--loop/--no-loop", help="draw back to the first key frame, without a double frame")
    ] = None,
    diversity: Annotated[float, typer.Option(help="how far samples may differ, 0 to 1")] = 1.0,
    pick: Annotated[int | None, typer.Option(metavar="K", help="keep one sample alone; 1 is the most typical")] = None,
    fallback: Annotated[
        str,
        typer.Option(metavar="none|hold|fade", help="what takes the place of frames that the samples disagree on"),
    ] = "none",
    unsure: Annotated[
        float | None, typer.Option(help="their spread above which it does, of 255", show_default=f"{api.UNSURE:g}")
    ] = None,
    out: Annotated[Path, typer.Option(help=".mp4, .gif, or no ending for a folder of PNGs")] = Path("tween.mp4"),
    device: Device = "auto",
) -> None:
    """Draw the frames between key frames: a video for each sample, a contact sheet, and a picture of where samples differ."""
    if model and method:
        raise ValueError("give --model or --method, not both")
    if method:
        METHODS.load(method)  # an unknown one is an error that lists the methods, not the weights
    api.outputs(out)  # before the work, not after it
    from rich.console import Console

    with Console(stderr=True).status("drawing ..."):  # only where somebody looks at a terminal
        clip = api.tween(
            *keys,
            frames=frames,
            samples=samples,
            seed=seed,
            model=method or model or api.DEFAULT_MODEL,
            fps=fps,
            device=device,
            ease=ease,
            loop=loop,
            diversity=diversity,
            pick=pick,
            fallback=fallback,
            unsure=unsure,
        )
        written = api.save(clip, out)
    made: Mapping[str, Any] = clip.made
    given, drawn = (f"{width}x{height}" for height, width in (made["given_at"], made["drawn_at"]))
    if not method:
        typer.echo(f"{model or api.DEFAULT_MODEL}: {made['method']}, drew at {drawn}")
    if given != drawn:
        typer.echo(f"the pictures of {given} were centre-cropped and resized to {drawn}")
    if "note" in made:
        typer.echo(made["note"])
    if "ranking" in made:
        ranked = ", ".join(f"{sample['draw']} ({sample['apart']:.1f})" for sample in made["ranking"])
        typer.echo(f"draws, the most typical first (mean difference from the others, of 255): {ranked}")
        typer.echo(
            f"spread of the samples, of 255: {max(made['spread_by_frame']):.1f} in the frame that differs most,"
            f" {made['spread_most']:.1f} at the place that does"
        )
    if "fallback_frames" in made:
        unsure_frames = ", ".join(map(str, made["fallback_frames"])) or "none"
        typer.echo(f"unsure above {made['unsure']:g}, replaced by {made['fallback']}: frames {unsure_frames}")
    if "seam" in made:
        typer.echo(f"seam of the loop: {made['seam']:.2f} (1 is like any other step)")
    _wrote(written)


@app.command()
def paint(
    maps: Annotated[
        Path, typer.Argument(help="a folder of label PNGs; of edges or poses a folder of pictures or a video")
    ],
    model: Annotated[
        str, typer.Option(metavar="NAME|FILE", help="released weights or a weight file")
    ] = "vid2vid-blocks",
    out: Annotated[Path, typer.Option(help=".mp4, .gif, or no ending for a folder of PNGs")] = Path("paint.mp4"),
    samples: Annotated[int, typer.Option(help="how many versions, each in other colours")] = 1,
    seed: Annotated[int, typer.Option(help="the same seed gives the same bytes")] = 0,
    first_frame: Annotated[
        str,
        typer.Option(metavar="none|single|FILE", help="begin from nothing, from a painted picture, or from your own"),
    ] = "none",
    instances: Annotated[Path | None, typer.Option(help="a folder of PNGs: which pixels are one thing")] = None,
    swap: Annotated[
        list[str] | None, typer.Option(metavar="A:B", help="let two classes change places; may be repeated")
    ] = None,
    size: Annotated[
        str | None, typer.Option(metavar="WxH", help="by default the one that the model learned at")
    ] = None,
    fps: Annotated[
        float | None, typer.Option(help="frames per second; by default that of the maps, of a folder 25")
    ] = None,
    device: Device = "auto",
) -> None:
    """Draw a video that follows maps: labels, edges or poses. Frames go to the file as they are drawn."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    sides = _two(size, "x", "--size", "256x128") if size else None
    pairs = [_two(pair, ":", "--swap", "21:11") for pair in swap or ()]
    columns = "drawing", BarColumn(), MofNCompleteColumn(), "frames", TimeRemainingColumn()
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=None)
        made = api.paint(
            maps,
            out,
            model,
            samples=samples,
            seed=seed,
            first_frame=first_frame,
            instances=instances,
            swap=pairs,
            size=None if sides is None else (sides[1], sides[0]),
            fps=fps,
            device=device,
            told=lambda done, of: bar.update(task, completed=done, total=of or None),
        )
    height, width = made["drawn_at"]
    typer.echo(f"{model}: {made['frames']} frames, drawn at {width}x{height}")
    if made["note"]:
        typer.echo(made["note"])
    _wrote(made["written"])


def _wrote(paths: Iterable[Path]) -> None:
    for path in paths:
        typer.echo(f"wrote {path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}")


def _two(text: str, mark: str, option: str, example: str) -> tuple[int, int]:
    first, _, second = text.partition(mark)
    if not (first.isdecimal() and second.isdecimal()):
        raise ValueError(f"{option} takes two whole numbers like {example}, not {text!r}")
    return int(first), int(second)


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(help="see `douga list`")],
    data: Annotated[
        str | None, typer.Option(metavar="SOURCE", help="NAME, NAME:/PATH or a folder; by default the recipe's own")
    ] = None,
    minutes: Annotated[float | None, typer.Option(help="train by the clock")] = None,
    steps: Annotated[int | None, typer.Option(help="by default the recipe's own")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="go on with the run in --out")] = False,
    init: Annotated[
        str | None, typer.Option(metavar="WEIGHTS", help="a name or a file: weights of the same method to begin with")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="a.b=c", help="change a setting; may be repeated")
    ] = None,
    device: Device = "auto",
    compile: Annotated[bool, typer.Option("--compile", help="let torch compile the model")] = False,
    out: Annotated[Path | None, typer.Option(metavar="RUN", help="the run's folder; by default runs/RECIPE")] = None,
) -> None:
    """Train a recipe. Ctrl-C leaves a checkpoint; --resume goes on from it."""
    from rich import progress as rich_progress
    from rich.console import Console
    from rich.table import Column

    run = out or api.run_folder(recipe)
    text = rich_progress.TextColumn("{task.description}", markup=False, table_column=Column(overflow="fold"))
    started = time.monotonic()
    bar = rich_progress.Progress(rich_progress.BarColumn(bar_width=16), text, console=Console(stderr=True))
    task = bar.add_task("", total=1.0)
    try:
        with ExitStack() as shown:

            def show(now: Progress) -> None:
                if (
                    bar.console.is_terminal and not bar.live.is_started
                ):  # not before: a wrong argument is one line alone
                    shown.enter_context(bar)
                spent, left = time.monotonic() - started, now.seconds_left
                parts = [f"step {now.step}" + (f"/{now.steps}" if now.steps else "")]
                if left is not None:
                    parts.append(f"{timedelta(seconds=max(0, round(left)))} left")
                    bar.update(task, completed=spent / max(spent + left, 1e-9))
                parts += [f"{now.clips_per_second:.1f} clips/s", f"waiting {now.waiting:.0%}"]
                parts += [f"{term} {value:.3g}" for term, value in now.losses.items()]
                bar.update(task, description="  ".join(parts))
                if not bar.console.is_terminal:
                    typer.echo("  ".join(parts), err=True)

            weights = api.train(
                recipe,
                data,
                steps=steps,
                minutes=minutes,
                resume=resume,
                init=init,
                settings=settings or (),
                device=device,
                compile=compile,
                out=run,
                callbacks=[show],
            )
    except KeyboardInterrupt:
        if not (run / "checkpoint.safetensors").exists():
            typer.echo("stopped before the first step: there is no checkpoint", err=True)
            raise typer.Exit(130) from None
        again = [argument for argument in sys.argv[1:] if argument != "--resume"]
        typer.echo(
            f"stopped; the checkpoint is in {run}; go on with: {shlex.join(['douga', *again, '--resume'])}", err=True
        )
        raise typer.Exit(130) from None
    if short := api.info(weights)["provenance"]["left_out"]:
        named = ", ".join(short[:5]) + (", ..." if len(short) > 5 else "")
        typer.echo(f"left out: {len(short)} videos with fewer frames than a clip has ({named})")
    typer.echo(f"wrote {weights}")


Methods = Annotated[
    str, typer.Option(metavar="A,B,...", help="each a name, a weight file, a recipe, or LABEL=one of these")
]
Data = Annotated[str, typer.Option(metavar="SOURCE", help="NAME, NAME:/PATH or a folder")]
Samples = Annotated[int, typer.Option(help="of each clip, by methods that are stochastic")]
Clips = Annotated[int, typer.Option(help="spread evenly over the split")]
Frames = Annotated[int, typer.Option(help="of a clip, the given ones too")]
Side = Annotated[str, typer.Option(metavar="N|WxH", help="in pixels; one number is both sides")]
Metrics = Annotated[str | None, typer.Option(metavar="A,B,...", help="see `douga list`; by default all")]
Seeds = Annotated[
    str, typer.Option(metavar="0,1,...", help="a recipe is trained with each of these: runs of one method")
]
TrainSteps = Annotated[int | None, typer.Option(help="train a recipe that has no run yet for so many steps")]
TrainMinutes = Annotated[float | None, typer.Option(help="train a recipe that has no run yet by the clock")]
Out = Annotated[Path | None, typer.Option(metavar="FOLDER", help="by default runs/evaluate-SOURCE")]
Resume = Annotated[bool, typer.Option("--resume", help="go on in --out, perhaps with more methods")]


@app.command()
def evaluate(
    methods: Methods,
    data: Data,
    task: Annotated[str, typer.Option(help="what is asked of the methods")] = "tween",
    samples: Samples = 100,
    clips: Clips = 100,
    frames: Frames = 16,
    size: Side = "64",
    split: Annotated[str, typer.Option(help="of the source")] = "test",
    metrics: Metrics = None,
    seed: Annotated[int, typer.Option(help="of all chance in drawing")] = 0,
    seeds: Seeds = "0",
    train_steps: TrainSteps = None,
    train_minutes: TrainMinutes = None,
    out: Out = None,
    resume: Resume = False,
    device: Device = "auto",
) -> None:
    """Measure methods on the same clips under one protocol: a table here, report.html and rows.jsonl in --out."""
    _evaluate(
        api.evaluate,
        methods.split(","),
        data,
        task=task,
        samples=samples,
        clips=clips,
        frames=frames,
        size=_two(size if "x" in size else f"{size}x{size}", "x", "--size", "64 or 256x128")[::-1],
        split=split,
        seed=seed,
        seeds=_numbers(seeds),
        train_steps=train_steps,
        train_minutes=train_minutes,
        out=out,
        resume=resume,
        device=device,
        **({} if metrics is None else {"metrics": metrics.split(",")}),
    )


@app.command()
def reproduce(
    table: Annotated[
        str,
        typer.Argument(
            help="table1 (FVD of the ablations), table3 (SSIM, best of 100) of Li et al. 2019; teapot (Cristovao et al. 2020); "
            "vid2vid-table1 (the systems), vid2vid-table2 (the ablations) of Wang et al. 2018"
        ),
    ],
    data: Annotated[
        str | None, typer.Option(metavar="SOURCE", help="as for evaluate; teapot: teapot-1dof,teapot-2dof,teapot-6dof")
    ] = None,
    scale: Annotated[
        str | None,
        typer.Option(help="which recipes stand in the rows: paper, small or brief; of vid2vid's tables blocks"),
    ] = None,
    methods: Annotated[
        str | None, typer.Option(metavar="ROW=FILE,...", help="what stands in a row instead of the recipe's run")
    ] = None,
    samples: Annotated[int | None, typer.Option(help="as for evaluate; of vid2vid's tables 1")] = None,
    clips: Clips = 100,
    metrics: Metrics = None,
    seeds: Annotated[
        str | None, typer.Option(metavar="0,1,...", help="as for evaluate; by default 0, for teapot 0,1,2")
    ] = None,
    train_steps: TrainSteps = None,
    train_minutes: TrainMinutes = None,
    alphas: Annotated[
        str, typer.Option(help="teapot alone: weights of the in-between term, 0 among them")
    ] = "0,1,5,10,100",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="a.b=c", help="teapot alone: change a setting of all its recipes"),
    ] = None,
    out: Out = None,
    resume: Resume = False,
    device: Device = "auto",
) -> None:
    """A paper's table with our figures beside it, under one protocol. What teapot has made already it keeps and goes on with."""
    if table == "teapot":
        if methods or metrics or train_minutes:
            raise ValueError(
                "teapot has its own methods and metrics and is trained by --train-steps: leave these options out"
            )
        _teapot(data, alphas, seeds or "0,1,2", train_steps, clips, settings or [], out, device)
        return
    if data is None:
        raise ValueError("say which data: --data weizmann, for example")
    if settings:
        raise ValueError("--set is for teapot alone: train other recipes with douga train")
    _evaluate(
        api.reproduce,
        table,
        data,
        scale=scale,
        methods=methods.split(",") if methods else [],
        clips=clips,
        seeds=_numbers(seeds or "0"),
        train_steps=train_steps,
        train_minutes=train_minutes,
        out=out,
        resume=resume,
        device=device,
        **({} if samples is None else {"samples": samples}),
        **({} if metrics is None else {"metrics": metrics.split(",")}),
    )


@app.command()
def compare(
    folders: Annotated[list[Path], typer.Argument(metavar="FOLDER...", help="folders of `douga evaluate`")],
) -> None:
    """One table of several evaluations; refused where their protocols differ."""
    _tables(api.compare(folders))


def _teapot(
    data: str | None,
    alphas: str,
    seeds: str,
    steps: int | None,
    clips: int,
    settings: list[str],
    out: Path | None,
    device: str,
) -> None:
    try:
        weights = [float(alpha) for alpha in alphas.split(",")]
    except ValueError:
        raise ValueError(f"alphas are numbers with commas between, not {alphas!r}") from None
    named = {} if data is None else {"data": data.split(",")}
    with _told() as told:
        written = api.reproduce_teapot(
            **named,
            alphas=weights,
            seeds=_numbers(seeds),
            train_steps=steps,
            clips=clips,
            settings=settings,
            out=out,
            device=device,
            told=told,
        )
    typer.echo(written.read_text())
    typer.echo(f"wrote {written} and the pictures beside it")


def _numbers(text: str) -> list[int]:
    try:
        return [int(number) for number in text.split(",")]
    except ValueError:
        raise ValueError(f"seeds are whole numbers with commas between, not {text!r}") from None


@contextmanager
def _told() -> Iterator[Callable[[str, int, int], None]]:
    """A progress bar, fed by what is yielded; lines where nobody looks at a terminal; what to say after Ctrl-C."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    first = os.environ.get("RANK", "0") == "0"  # under torchrun one process speaks
    console = Console(stderr=True, quiet=not first)
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(24), MofNCompleteColumn(), TimeRemainingColumn(), console=console
    )
    task = bar.add_task("", total=None)
    said = ""

    def told(what: str, done: int, of: int) -> None:
        nonlocal said
        if console.is_terminal and not bar.live.is_started:
            bar.start()
        bar.update(task, description=what, completed=done, total=of)
        if what != said and not console.is_terminal and first:
            typer.echo(f"{what} ({done}/{of})", err=True)
        said = what

    try:
        yield told
    except KeyboardInterrupt:
        again = [argument for argument in sys.argv[1:] if argument != "--resume"]
        typer.echo(f"stopped; go on with: {shlex.join(['douga', *again, '--resume'])}", err=True)
        raise typer.Exit(130) from None
    finally:
        bar.stop()


def _evaluate(function: Callable[..., Evaluation], *arguments: Any, **options: Any) -> None:
    with _told() as told:
        result = function(*arguments, told=told, **options)
    if os.environ.get("RANK", "0") != "0":
        return
    _tables(result.table)
    for what, why in result.left_out.items():
        typer.echo(f"left out: {what} ({why})")
    for name in ("report.html", "table.md", "rows.jsonl"):
        typer.echo(f"wrote {result.folder / name}")


def _tables(table: Table) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table as Grid
    from rich.text import Text

    from douga.evaluate import report

    console = Console(width=None if sys.stdout.isatty() else 240)
    for group, columns in report.groups(table).items():
        shown = [c for c in columns if report.in_short(table, c)]
        grid = Grid(title=f"{group}", box=box.SIMPLE, title_justify="left")
        for head in ("method", *(report.title(column) for column in shown)):
            grid.add_column(head, overflow="fold")
        for method, cells in table.cells.items():
            if any(column.name in cells for column in shown):
                texts = [
                    Text(report.text(cells.get(column.name)) + report.mark(table, method, column)) for column in shown
                ]
                grid.add_row(Text(method), *texts)
        console.print(grid)
    console.print(Text(report.caption(table)))


@app.command("list")
def list_() -> None:
    """Methods, sources, recipes, metrics and released weights."""
    for title, rows in {
        "methods": {name: row.summary for name, row in METHODS.items()},
        "sources": {name: row.summary for name, row in SOURCES.items()},
        "recipes": {name: row.summary for name, row in RECIPES.items()},
        "metrics": {name: row.summary for name, row in METRICS.items()},
        "weights": {name: f"{path.stat().st_size / 1e6:.1f} MB" for name, path in api.weights().items()},
    }.items():
        typer.echo(f"{title}:")
        for name, text in rows.items():
            typer.echo(f"  {name:<29} {text}")


@app.command()
def info(
    file: Annotated[str, typer.Argument(metavar="FILE", help="a weight file or the name of released weights")],
) -> None:
    """What a weight file is and how it was made."""
    _show(api.info(file))


@data_app.command("check")
def check(source: Annotated[str, typer.Argument(help="NAME, NAME:/PATH or a folder")]) -> None:
    """Open every split of a source and decode every video of it once."""
    _show(api.data_check(source))


@data_app.command("prepare")
def data_prepare(
    kind: Annotated[str, typer.Argument(help="edges (of a face), pose (of a person), or labels: only look at them")],
    video: Annotated[Path, typer.Argument(help="a video or a folder of videos; of labels, the folder with maps/")],
    out: Annotated[Path | None, typer.Option(help="gets frames/NAME and maps/NAME")] = None,
    start: Annotated[int, typer.Option(help="the first frame of each video")] = 0,
    frames: Annotated[int | None, typer.Option(help="how many; by default all")] = None,
    square: Annotated[bool, typer.Option("--square", help="cut a square around the face or the person")] = False,
) -> None:
    """Make maps to paint from: the sources faces and pose read them. Needs MediaPipe, which the extra `maps` installs."""
    from rich.console import Console
    from rich.progress import Progress, TextColumn

    columns = TextColumn("{task.description}"), TextColumn("{task.completed} frames looked at")
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)

        def told(name: str, done: int, of: int) -> None:
            bar.update(task, description=name, completed=done)

        made = api.data_prepare(kind, video, out, start=start, frames=frames, square=square, told=told)
    _show(made)


@data_app.command("get")
def data_get(
    source: Annotated[str, typer.Argument(help="kth, bair or ucf101, or NAME:/PATH for a folder elsewhere")],
) -> None:
    """Fetch the official files of a set; what is there already is kept, and a broken download goes on."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.description}"), BarColumn(24), DownloadColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=None)

        def told(name: str, here: int, of: int) -> None:
            bar.update(task, description=name, completed=here, total=of)

        done = api.data_get(source, told)
    _show(done)


@weights_app.command("get")
def weights_get(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="i3d, lpips-alex, lpips-vgg16 or raft-small")],
) -> None:
    """Bring the weights of networks into DOUGA_CACHE/weights and check their digests."""
    for name in names:
        typer.echo(f"{name}: {api.weights_get(name)}")


@latent_app.command("explore")
def explore(
    first: Annotated[Path, typer.Argument(help="picture of the first key frame")],
    last: Annotated[Path, typer.Argument(help="picture of the last key frame, of the same size")],
    model: Annotated[str, typer.Option(metavar="NAME|FILE", help="one with a latent space")] = "vae-teapot",
    data: Annotated[
        str | None,
        typer.Option(metavar="SOURCE", help="tells what was learned; by default what the model was trained on"),
    ] = None,
    frames: Annotated[int, typer.Option(help="points between the ends")] = 9,
    pictures: Annotated[int, typer.Option(help="training pictures that tell what was learned")] = 1_000,
    out: Annotated[Path, typer.Option(help="a .png")] = Path("latent.png"),
    device: Device = "auto",
) -> None:
    """Three ways from one picture to another, decoded, measured and drawn among the training pictures."""
    found = api.explore(first, last, model, data=data, frames=frames, pictures=pictures, out=out, device=device)
    typer.echo(f"{'way':<16}{'latent':>10}{'pixels':>10}{'off, mean':>12}{'off, most':>12}")
    for name, way in found.items():
        typer.echo(
            f"{name:<16}{way['latent']:>10.2f}{way['pixels']:>10.3f}{way['off_mean']:>12.1f}{way['off_most']:>12.1f}"
        )
    typer.echo("latent, pixels: distance travelled; off: nats less likely than the median training picture")
    way = found["linear"]
    typer.echo(
        f"jump at the key frames, if they replace what is drawn: {way['jump_first']:.1f} and {way['jump_last']:.1f} of 255"
    )
    typer.echo(f"wrote {out}")


def _show(facts: Mapping[str, Any]) -> None:
    def lines(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
        for name, value in values.items():
            if isinstance(value, Mapping) and value:
                yield from lines(value, f"{prefix}{name}.")
            else:
                yield prefix + name, value if isinstance(value, str) else json.dumps(value)

    rows = list(lines(facts, ""))
    width = max(len(name) for name, _ in rows)
    for name, text in rows:
        typer.echo(f"{name:<{width}}  {text}")


# Existing videos, and drawing again what was drawn.

Model = Annotated[
    str | None,
    typer.Option(metavar="NAME|FILE", help="weights, or flow, linear, hold; by default what draws at any size"),
]
Versions = Annotated[int, typer.Option(help="how many different versions")]
Seed = Annotated[int, typer.Option(help="the same seed gives the same bytes")]
Diversity = Annotated[
    float | None, typer.Option(help="how far samples may differ, 0 to 1; by default 0 for one, 1 for several")
]
Cuts = Annotated[float, typer.Option(help="a new shot changes so many times as much as the frames around it")]
NoCuts = Annotated[bool, typer.Option("--no-cuts", help="draw between all frames, across cuts too")]
GoOn = Annotated[bool, typer.Option("--resume", help="go on with a job that was stopped")]


@app.command()
def slow(
    video: Annotated[Path, typer.Argument(help="a video file, a GIF or a folder of pictures")],
    factor: Annotated[str, typer.Option(help="how many times as long: 4, 2.5, 5/2")] = "4",
    out: Annotated[Path, typer.Option(help=".mp4, .gif, or no ending for a folder of PNGs")] = Path("slow.mp4"),
    model: Model = None,
    samples: Versions = 1,
    seed: Seed = 0,
    diversity: Diversity = None,
    fps: Annotated[float | None, typer.Option(help="of the new video; by default as before")] = None,
    keep_duration: Annotated[
        bool, typer.Option("--keep-duration", help="more frames a second instead of longer; an .mp4 keeps the sound")
    ] = False,
    cuts: Cuts = 6.0,
    no_cuts: NoCuts = False,
    resume: GoOn = False,
    device: Device = "auto",
) -> None:
    """Slow motion, or more frames a second: draw what lies between the frames of a video. Ctrl-C stops it, --resume goes on."""
    with _drawing(out) as told:
        made = api.slow(
            video,
            out,
            factor,
            model=model,
            samples=samples,
            seed=seed,
            diversity=diversity,
            fps=fps,
            keep_duration=keep_duration,
            cuts=None if no_cuts else cuts,
            device=device,
            resume=resume,
            told=told,
        )
    _drew(made)


@app.command()
def fill(
    video: Annotated[Path, typer.Argument(help="a folder of numbered pictures, or a video with repeated frames")],
    out: Annotated[Path, typer.Option(help=".mp4, .gif, or no ending for a folder of PNGs")] = Path("fill.mp4"),
    model: Model = None,
    samples: Versions = 1,
    seed: Seed = 0,
    diversity: Diversity = None,
    fps: Annotated[float | None, typer.Option(help="of the pictures of a folder; by default 25")] = None,
    still: Annotated[float, typer.Option(help="frames that differ by no more, of 255, repeat the one before")] = 4.0,
    longest: Annotated[int, typer.Option(help="more equal frames than this are meant to stand still")] = 4,
    cuts: Cuts = 6.0,
    no_cuts: NoCuts = False,
    resume: GoOn = False,
    device: Device = "auto",
) -> None:
    """Draw the pictures that are missing from a numbered folder, or the frames of a video that only repeat the one before."""
    with _drawing(out) as told:
        made = api.fill(
            video,
            out,
            model=model,
            samples=samples,
            seed=seed,
            diversity=diversity,
            fps=fps,
            still=still,
            longest=longest,
            cuts=None if no_cuts else cuts,
            device=device,
            resume=resume,
            told=told,
        )
    runs = [f"{first}" if first == last else f"{first}-{last}" for first, last in made["filled"]]
    shown = ", ".join(runs[:20]) + (f", ... ({len(runs)} places)" if len(runs) > 20 else "")
    typer.echo(
        f"filled {made['drawn']} frames: {shown}" if runs else "nothing to fill: no frame is missing or repeated"
    )
    _drew(made)


@app.command()
def replay(
    file: Annotated[Path, typer.Argument(help="an .mp4, .gif or folder of PNGs that douga wrote")],
    device: Annotated[str | None, typer.Option(help="by default the one that it was drawn on")] = None,
) -> None:
    """Draw a video again from the recipe that it holds, and compare: 0 if they are equal, 1 if they differ, 2 if it cannot be."""
    with _drawing(None) as told:
        found = api.replay(file, device=device, told=told)
    for note in found["notes"]:
        typer.echo(note)
    if not found["equal"]:
        typer.echo(
            f"{file}: {found['different']} of {found['frames']} frames differ, by {found['mean']:.3g} of 255 on average"
            f" and {found['most']:.3g} at most"
        )
        raise typer.Exit(1)
    what = "byte for byte" if found["equal"] == "bytes" else "in every pixel, though not as a file"
    typer.echo(f"{file}: equal, {what} ({found['made']['command']}, {found['frames']} frames)")


@contextmanager
def _drawing(out: Path | None) -> Iterator[Callable[[str, int, int], None]]:
    """A bar with the time left; Ctrl-C says how to go on with what would be `out`."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    console = Console(stderr=True)
    try:
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
            tasks: dict[str, Any] = {}

            def told(what: str, done: int, of: int) -> None:
                if what not in tasks:
                    for task in tasks.values():
                        bar.update(task, visible=False)
                    tasks[what] = bar.add_task(what, total=None)
                bar.update(tasks[what], completed=done, total=of or None)

            yield told
    except KeyboardInterrupt:
        part = out and out.with_name(out.name + ".part")
        if part and part.exists():
            again = shlex.join(
                ["douga", *(argument for argument in sys.argv[1:] if argument != "--resume"), "--resume"]
            )
            typer.echo(f"stopped; what is finished is in {part}; go on with: {again}", err=True)
        else:
            typer.echo("stopped; nothing was written", err=True)
        raise typer.Exit(130) from None


def _drew(made: Mapping[str, Any]) -> None:
    height, width = made["drawn_at"]
    typer.echo(
        f"{made['made']['model']}: {made['drawn']} of {made['frames']} frames drawn at {width}x{height},"
        f" {made['fps']:.6g} frames a second"
    )
    if made["cuts"]:
        shown = ", ".join(map(str, made["cuts"][:20])) + (", ..." if len(made["cuts"]) > 20 else "")
        typer.echo(f"cuts, where the frame before is held: at frames {shown} of the source")
    for note in made["notes"]:
        typer.echo(note)
    _wrote(made["written"])

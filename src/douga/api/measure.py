"""Training, and measuring what was trained: runs, evaluations, the tables of papers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from douga.api import models
from douga.api.sources import open_source
from douga.core.config import with_settings
from douga.core.registry import METHODS, METRICS, RECIPES, SOURCES, paper_of

if TYPE_CHECKING:
    from douga.evaluate.harness import Entry
    from douga.evaluate.report import Evaluation, Table
    from douga.train.engine import Progress


def run_folder(recipe: str) -> Path:
    """Where a recipe's run goes by default: runs/inbetween-small for inbetween/small."""
    return Path("runs") / recipe.replace("/", "-")


def train(
    recipe: str,
    data: str | Path | None = None,
    *,
    steps: int | None = None,
    minutes: float | None = None,
    resume: bool = False,
    init: str | Path | None = None,
    settings: Iterable[str] = (),
    device: str = "auto",
    compile: bool = False,
    out: str | Path | None = None,
    callbacks: Sequence[Callable[[Progress], None]] = (),
) -> Path:
    """Train a recipe and return the weight file.

    recipe: a name of `douga list`. data: what `open_source` takes; None: the recipe's own.
    steps, minutes: when to stop, one or the other; None: the recipe's number of steps. resume: go on with the run in
    `out`. init: weights of the same method, a name or a file, that a new run begins with. settings: changes to the recipe,
    "model.channels=32". compile: let torch compile the model. out: the run's folder, by default `run_folder(recipe)`.
    callbacks: called with the Progress after each step that is reported.
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
        init=None if init is None else models.weight_file(init),
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
        elif f"{spec}-{name}" in models.weights() and spec not in models.weights():
            asked_for.append((label or spec, f"{spec}-{name}"))
        else:
            asked_for.append((label, spec))
    where, joined = engine.join(device)
    try:
        rank, world = engine.processes()
        entries = [_entry(label, spec, task, size, str(where)) for label, spec in asked_for]
        names = [(entry.method, entry.run) for entry in entries]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"name at least one method, and each once ({models.there_are()})")
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
                if weight_file.exists() and models.info(weight_file)["provenance"]["steps"] >= steps:
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
        trained_models: dict[str, list[Any]] = {
            label: [models.load(path, "cpu")[0] for path in paths] for label, paths in files.items()
        }
        rebuilt = {
            label: [(teapot.reconstruction(run, train_set), teapot.reconstruction(run, test_set)) for run in runs]
            for label, runs in trained_models.items()
        }
        of_test: Any = sources["test"]
        names = list(of_test.names)
        distances = [of_test.distance(names.index(clip.partition("@")[0])) for clip in tables["test"].protocol.clips]
        shown: dict[str, Any] = {label: models.load(label)[0] for label in teapot.UNTRAINED}
        shown |= {label: runs[0] for label, runs in trained_models.items()}
        told("poses", 1, 1)
        bank = teapot.Poses(sources["train"])
        posed = {label: bank.errors(model, sources["test-large"], clips) for label, model in shown.items()}
        parts.append(f"## {name}\n\n{teapot.report(tables, rebuilt, posed, distances)}\n")
        shown.pop("hold")
        told("pictures", 1, 1)
        training = latent.first_frames(sources["train"], 1_000)
        teapot.pictures(shown, sources["test-large"], sources["test-long"], training, out / name)
        trained = report.note(_entry("", files["alpha=0"][0], "tween", size, "cpu"))
        parts[-1] += (
            f"\nEach run: {trained.removesuffix(' †')}; {models.info(files['alpha=0'][0])['provenance']['device']}.\n"
        )
    path = out / "teapot.md"
    path.write_text("# The teapot of Cristovao et al. 2020\n\n" + "\n".join(parts))
    return path


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

    drawer, known = models.load(spec, device)
    if task not in drawer.tasks:
        raise ValueError(f"{spec} does {', '.join(sorted(drawer.tasks))}, not {task}")
    if drawer.size not in (None, size):
        raise ValueError(f"{spec} draws at {drawer.size}, not at {size} (height, width)")
    provenance = known.get("provenance", {})
    if not label:
        label = str(spec) if str(spec) in {*models.weights(), *METHODS} else provenance["recipe"]
    facts: dict[str, Any] = {"method": known["method"]}
    if provenance:
        of_paper = paper_of(provenance["recipe"])
        paper = RECIPES.load(of_paper)() if of_paper in RECIPES else None
        facts |= {
            "weights": known["sha256"],
            "recipe": provenance["recipe"],
            "clips_seen": provenance["clips_seen"],
            "steps_before": sum(begun["steps"] for begun in models.begun_with(provenance)),
            "paper_clips": paper.steps * paper.batch if paper else None,
        }
    run, motion = known["sha256"][:8] if provenance else "", hasattr(drawer, "needs_flow")
    return Entry(label, run, drawer.synthesize, drawer.stochastic, facts, motion)

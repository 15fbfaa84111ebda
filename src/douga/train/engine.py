"""The training loop: every Trainable, every recipe, one process or many.

For each window of a batch the model draws once; then the phases are walked: gradients on for that phase's module only, sum
the terms, backward, average over processes, clip, step. Then the running averages. Nothing is random but by (seed, step), so
a run that stopped goes on bitwise as if it had not (CPU, same thread count).
"""

from __future__ import annotations

import json
import math
import os
import platform
import signal
import subprocess
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn

from douga import __version__
from douga.core.clip import Batch, Request
from douga.core.config import to_dict
from douga.core.contracts import Phase, Source
from douga.core.registry import METHODS, SOURCES
from douga.data.loader import Loader, Reference
from douga.nn.blocks import channels_last
from douga.train import checkpoint
from douga.train.runlog import Meter, Progress, RunLog
from douga.video.ops import colour_labels, contact_sheet


@dataclass(frozen=True)
class Experiment:
    """All that decides a run, but for where it runs. A recipe returns one."""

    name: str  # the recipe's public name
    method: str  # a row of METHODS, whose Config `model` is
    model: Any
    data: str  # default source
    size: tuple[int, int] = (64, 64)  # (height, width)
    frames: int = 16
    batch: int = 32  # clips of a step, over all processes
    steps: int = 500_000
    lr: float = 5e-5
    halve_steps: int = 0  # the learning rate halves, smoothly, over so many steps; 0: it stays
    betas: tuple[float, float] = (0.5, 0.999)
    clip_norm: float = 0.0  # largest gradient norm of a phase; 0: any
    ema: float = 0.999  # decay of the running average that is released
    seed: int = 0
    augment: tuple[str, ...] = ()  # of douga.data.loader.AUGMENTATIONS
    reference: Reference = "dis"  # who estimates the flow that a source does not know
    precision: Literal["auto", "bf16", "fp32"] = "auto"  # auto: bf16 where the device is quick at it
    log_steps: int = 20
    strip_steps: int = 500
    checkpoint_minutes: float = 2.0


def pick_device(name: str) -> torch.device:
    """ "auto" takes cuda, then mps, then cpu. Raises ValueError for a device that is not here."""
    here = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, there in here.items() if there))
    if not here.get(name.split(":")[0], False):
        raise ValueError(
            f"no device {name!r} here (there are: auto, {', '.join(k for k, there in here.items() if there)})"
        )
    return torch.device(name)


def device_name(device: torch.device) -> str:
    """What it is called by its maker, as far as the system tells."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    listing = Path("/proc/cpuinfo")
    lines = listing.read_text().splitlines() if listing.exists() else []
    named = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


def quick_bf16(device: torch.device) -> bool:
    """Whether bf16 pays: on GPUs, and on CPUs with bf16 instructions."""
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    return device.type == "cuda" or (device.type == "cpu" and supported())


class Run:
    """The state of a run: model, optimisers, running averages, and how far it has come."""

    def __init__(self, experiment: Experiment, device: torch.device) -> None:
        torch.manual_seed(experiment.seed)  # equal starting weights in every process
        self.experiment, self.device = experiment, device
        self.model: Any = METHODS.load(experiment.method)(experiment.model).to(device).train()
        channels_last(self.model)
        self.phases: Sequence[Phase] = self.model.phases()
        self.optimisers = {
            phase.name: torch.optim.Adam(
                phase.module.parameters(), experiment.lr * phase.lr_scale, experiment.betas, fused=device.type != "mps"
            )
            for phase in self.phases
        }
        self.averages = {
            phase.name: {name: value.detach().clone() for name, value in phase.module.state_dict().items()}
            for phase in self.phases
            if phase.ema
        }
        wide = experiment.precision == "fp32" or (experiment.precision == "auto" and not quick_bf16(device))
        self.autocast = nullcontext() if wide else torch.autocast(device.type, torch.bfloat16)
        self.precision = "fp32" if wide else "bf16"
        self.step = 0
        self.seconds = 0.0  # of training, over all resumes

    def train_step(self, batch: Batch) -> dict[str, Tensor]:
        """One step over all windows and phases. Raises FloatingPointError where a loss or a gradient is not finite."""
        rank, world = processes()
        # For models with dropout and the like; our noise comes from the batch.
        torch.manual_seed(((self.experiment.seed * 1_000_003 + self.step) * world + rank) % 2**63)
        decay = 0.5 ** (self.step / self.experiment.halve_steps) if self.experiment.halve_steps else 1.0
        for phase in self.phases:
            self.optimisers[phase.name].param_groups[0]["lr"] = self.experiment.lr * phase.lr_scale * decay
        losses: dict[str, Tensor] = {}
        carry = None
        for window in self.model.windows(batch):
            with self.autocast:
                out, carry = self.model(window, carry)
            for phase in self.phases:
                if self.step % phase.interval:
                    continue
                for other in self.phases:
                    other.module.requires_grad_(other.name == phase.name)
                with self.autocast:
                    terms = self.model.losses(phase.name, window, out)
                if not terms:  # the method sits this phase out
                    continue
                total = torch.stack([term.float() for term in terms.values()]).sum()
                optimiser = self.optimisers[phase.name]
                optimiser.zero_grad(set_to_none=True)
                total.backward()
                gradients = [p.grad for p in phase.module.parameters() if p.grad is not None]
                if world > 1:
                    average(gradients)
                norm = nn.utils.get_total_norm(gradients)
                if not (math.isfinite(total.item()) and math.isfinite(norm.item())):
                    named = ", ".join(f"{name} {term.item():.3g}" for name, term in terms.items())
                    raise FloatingPointError(
                        f"step {self.step}, phase {phase.name}: not finite any more (gradient norm {norm.item():.3g}; {named})"
                    )
                if self.experiment.clip_norm:
                    nn.utils.clip_grads_with_norm_(phase.module.parameters(), self.experiment.clip_norm, norm)
                optimiser.step()
                losses |= {name: term.detach() for name, term in terms.items()}
            for phase in self.phases:  # not the whole model: what is frozen outside the phases stays so
                phase.module.requires_grad_(True)
        self.step += 1
        memory = min(self.experiment.ema, self.step / (self.step + 10))  # short memory at first
        for phase in self.phases:
            for name, value in phase.module.state_dict().items() if phase.ema else ():
                mean = self.averages[phase.name][name]
                mean.lerp_(value, 1 - memory) if mean.is_floating_point() else mean.copy_(value)
        return losses

    @contextmanager
    def averaged(self) -> Iterator[Any]:
        """The model as it is released: running averages in place, eval mode."""
        kept = {}
        for phase in self.phases:
            if phase.ema:
                kept[phase.name] = {name: value.clone() for name, value in phase.module.state_dict().items()}
                phase.module.load_state_dict(self.averages[phase.name])
        self.model.eval()
        try:
            yield self.model
        finally:
            for phase in self.phases:
                if phase.ema:
                    phase.module.load_state_dict(kept[phase.name])
            self.model.train()

    def tensors(self) -> dict[str, Tensor]:
        """Everything that a run needs to go on; the rest is a function of (seed, step)."""
        all_of = {f"model/{name}": value for name, value in self.model.state_dict().items()}
        for phase, averages in self.averages.items():
            all_of |= {f"average/{phase}/{name}": value for name, value in averages.items()}
        for phase, optimiser in self.optimisers.items():
            for index, state in optimiser.state_dict()["state"].items():
                all_of |= {f"optimiser/{phase}/{index}/{name}": value for name, value in state.items()}
        return all_of

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Take over what `tensors` gave, in place, so that memory layouts stay."""
        state = self.model.state_dict()
        for name, value in tensors.items():
            kind, rest = name.split("/", 1)
            if kind == "model":
                state[rest].copy_(value)
            elif kind == "average":
                phase, rest = rest.split("/", 1)
                self.averages[phase][rest].copy_(value)
            else:
                phase, index, rest = rest.split("/")
                optimiser = self.optimisers[phase]
                parameter = optimiser.param_groups[0]["params"][int(index)]
                like = parameter if value.shape == parameter.shape else value
                moment = torch.empty_like(like, device=self.device).copy_(value)
                optimiser.state[parameter][rest] = moment


def join(device: str) -> tuple[torch.device, bool]:
    """This process's device, and whether it has just joined others that torchrun started: then it must leave them at the end."""
    where = pick_device(device)
    if where.type == "cuda":
        where = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) if where.index is None else where.index)
        torch.cuda.set_device(where)
        torch.backends.cudnn.benchmark = True
    joined = int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized()
    if joined:
        dist.init_process_group("nccl" if where.type == "cuda" else "gloo")
    return where, joined


def processes() -> tuple[int, int]:
    """(rank, world)."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def average(tensors: Sequence[Tensor]) -> None:
    """Replace each by its mean over processes, in one collective."""
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(part.view_as(tensor))


@contextmanager
def asked_to_stop() -> Iterator[threading.Event]:
    """Ctrl-C and SIGTERM set the event, so that a step is finished first; a second Ctrl-C stops at once."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return

    def asked(number: int, frame: object) -> None:
        event.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {number: signal.signal(number, asked) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield event
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def train(
    experiment: Experiment,
    source: Source,
    run: Path,
    *,
    preview: Source | None = None,
    steps: int | None = None,
    minutes: float | None = None,
    resume: bool = False,
    init: Path | None = None,
    device: str = "auto",
    compile: bool = False,
    callbacks: Sequence[Callable[[Progress], None]] = (),
) -> Path:
    """Train into the folder `run`; returns the release file there, `weights.safetensors`.

    preview: where the clips of the sample strips come from (a held-out split); without it, the training source.
    steps: stop at this step (default: the experiment's, or none where `minutes` is given). minutes: stop by the clock.
    resume: go on from the run's checkpoint. init: released weights of the same method that a new run begins with; optimisers,
        what is not released (critics), what does not fit (a warning names it) and the count of steps begin as ever.
    Under torchrun every process calls this; the first one writes and tells the callbacks.
    Raises ValueError for a run folder that is in use or a resume that does not fit, FloatingPointError where training
    breaks (the last good checkpoint stays), KeyboardInterrupt after Ctrl-C, once a checkpoint is written.
    """
    where, joined = join(device)
    rank, world = processes()
    if steps is None and minutes is None:
        steps = experiment.steps
    described = to_dict(experiment)

    state, commits = Run(experiment, where), [commit()]
    if resume:
        header = _resume(state, described, run)
        commits = [*header["provenance"]["commit"].split(", "), *commits]
        state.step, state.seconds = header["provenance"]["steps"], header["provenance"]["seconds"]
        begun = header["provenance"].get("init")
    elif _checkpoints(run) or (run.exists() and any(run.iterdir()) and not (run / "experiment.json").exists()):
        raise ValueError(f"{run} holds something already: go on with --resume, or give another folder with --out")
    else:
        begun = _begin(state, init) if init else None
    loader = Loader(
        source,
        size=experiment.size,
        frames=experiment.frames,
        batch=experiment.batch,
        seed=experiment.seed,
        augment=experiment.augment,
        painted="paint" in state.model.tasks,
        moved=hasattr(state.model, "learns_motion"),
        reference=experiment.reference,
        rank=rank,
        world=world,
    )
    name, _, _ = experiment.data.partition(":")
    provenance = {
        "recipe": experiment.name,
        # where on somebody's disk a set lay is nobody's business
        "experiment": {**described, "data": name} if name in SOURCES else described,
        # a source that can be incomplete has a title that says so: a score on a part of KTH is none on KTH
        "data": f"{getattr(source, 'title', type(source).__name__.lower())} ({len(source)} videos, {sum(source.lengths)} frames)",
        "data_digest": loader.digest,
        # videos that are too short for a clip, by name: nothing is left out silently
        "left_out": [
            name for name, length in zip(source.names, source.lengths, strict=True) if length < experiment.frames
        ],
        "licence": source.licence,
        "device": device_name(where),
        "threads": torch.get_num_threads(),
        "processes": world,
        "precision": state.precision,
        "torch": torch.__version__,
        "commit": ", ".join(dict.fromkeys(commits)),
    } | ({"init": begun} if begun else {})
    if compile:
        for phase in state.phases:
            phase.module.compile()
    if world > 1:
        dist.barrier()  # all have looked into the folder before the first one writes there
    if rank == 0:
        run.mkdir(parents=True, exist_ok=True)
        (run / "experiment.json").write_text(json.dumps(described, indent=2) + "\n")
    log = RunLog(run, state.step) if rank == 0 else None
    shown = _shown(preview or source, experiment, painted="paint" in state.model.tasks)

    def facts() -> dict[str, Any]:
        return provenance | {
            "steps": state.step,
            "clips_seen": state.step * experiment.batch,
            "seconds": round(state.seconds, 1),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        }

    def save() -> None:
        if rank:
            return
        path, previous = run / "checkpoint.safetensors", run / "previous.safetensors"
        header = {"kind": "training", "method": experiment.method, "config": described, "provenance": facts()}
        fresh = run / "fresh.safetensors"
        checkpoint.write(fresh, state.tensors(), header)
        if path.exists():
            os.replace(path, previous)
        os.replace(fresh, path)
        with state.averaged() as model:
            checkpoint.save_release(release, model, facts(), experiment.method)

    release = run / "weights.safetensors"
    if state.precision == "bf16":
        _check_bf16(state, loader.batch(state.step).to(where))
    stream = loader.stream(state.step)
    meter = Meter(experiment.batch, state.step, steps, minutes)
    before, saved_at = state.seconds, time.perf_counter()

    def report() -> None:
        progress = meter.report(state.step)
        for callback in callbacks if rank == 0 else ():
            callback(progress)
        if log:
            rates = {"clips_per_second": progress.clips_per_second, "waiting": progress.waiting}
            log.scalars(state.step, progress.losses | rates)

    try:
        with asked_to_stop() as stop:
            while steps is None or state.step < steps:
                over = minutes is not None and meter.spent() > minutes * 60
                if _agreed(stop=over or stop.is_set(), device=where):
                    break
                asked = time.perf_counter()
                batch = next(stream).to(where)
                waited = time.perf_counter() - asked
                try:
                    losses = state.train_step(_channels_last(batch))
                except FloatingPointError as error:
                    kept = ", ".join(map(str, _checkpoints(run)[:1])) or "not there yet"
                    hint = "a smaller lr (--set lr=...) or a clip_norm may help"
                    raise FloatingPointError(f"{error}; the last good checkpoint is {kept}; {hint}") from None
                meter.add(losses, waited)
                state.seconds = before + meter.spent()
                if state.step % experiment.log_steps == 0:
                    report()
                if log and state.step % experiment.strip_steps == 0:
                    log.strip(state.step, _strip(state, shown))
                if time.perf_counter() - saved_at > experiment.checkpoint_minutes * 60:
                    save()
                    saved_at = time.perf_counter()
            if state.step > meter.step:
                report()
            save()
            if log and state.step % experiment.strip_steps:  # else it was just drawn
                log.strip(state.step, _strip(state, shown))
            if stop.is_set():
                raise KeyboardInterrupt
        return release
    finally:
        stream.close()
        if log:
            log.close()
        if joined:
            dist.destroy_process_group()


def _checkpoints(run: Path) -> list[Path]:
    """Newest first."""
    return [path for path in (run / "checkpoint.safetensors", run / "previous.safetensors") if path.exists()]


def _begin(state: Run, path: Path) -> dict[str, Any]:
    """Take over those of released weights that fit, if they are most of them; returns what they were trained on."""
    tensors, header = checkpoint.read(path, "release")
    method = state.experiment.method
    wanted = state.model.state_dict()
    fitting = {name: value for name, value in tensors.items() if name in wanted and value.shape == wanted[name].shape}
    if header["method"] != method or 2 * len(fitting) < len(tensors):
        raise ValueError(f"{path} does not fit: wanted are weights of {method} with the settings of this recipe")
    state.restore({f"model/{name}": value for name, value in fitting.items()})
    for phase in state.phases:
        taken = phase.module.state_dict()
        for name, mean in state.averages.get(phase.name, {}).items():
            mean.copy_(taken[name])
    told = header["provenance"]
    begun = {name: told[name] for name in ("recipe", "data", "data_digest", "licence", "steps", "init") if name in told}
    if left_out := sorted(tensors.keys() - fitting.keys()):
        warnings.warn(f"{path}: {', '.join(left_out)} do not fit and are left out", stacklevel=3)
        begun["left_out"] = left_out
    return begun


def _resume(state: Run, described: dict[str, Any], run: Path) -> dict[str, Any]:
    """Restore the newest checkpoint that is whole; returns its header."""
    errors = []
    for path in _checkpoints(run):
        try:
            tensors, header = checkpoint.read(path, "training")
        except ValueError as error:  # a damaged one: the one before it is kept for this
            errors.append(str(error))
            continue
        if header["config"] != described:
            differing = [name for name in described if header["config"].get(name) != described[name]]
            raise ValueError(
                f"{path} was made with other settings of {', '.join(differing)}: resume with the same ones"
            )
        state.restore(tensors)
        return header
    raise ValueError("; ".join(errors) or f"nothing to resume: there is no checkpoint in {run}")


def _agreed(*, stop: bool, device: torch.device) -> bool:
    """Whether any process wants to stop: all must leave the loop at the same step."""
    if processes()[1] == 1:
        return stop
    flag = torch.tensor(float(stop), device=device)
    dist.all_reduce(flag, dist.ReduceOp.MAX)
    return bool(flag.item())


def _channels_last(batch: Batch) -> Batch:
    return replace(batch, video=batch.video.contiguous(memory_format=torch.channels_last_3d))


def _asked(model: Any, batch: Batch) -> Request:
    """What a batch's videos could have been drawn from: their first and last frames, or their maps and first frames."""
    mask = torch.zeros(batch.video.shape[2], dtype=torch.bool)
    mask[[0] if "paint" in model.tasks else [0, -1]] = True
    request = Request.hide(batch.video, mask, cond=batch.cond)
    return replace(request, flow=batch.flow) if hasattr(model, "needs_flow") else request


@torch.no_grad()
def _check_bf16(state: Run, batch: Batch) -> None:
    """Some builds of cuDNN compute 3-D convolutions wrongly in bf16 and say nothing: find out before the hour, not after."""
    if (
        "paint" in state.model.tasks
    ):  # one frame drawn: over many, each from the one before, roundings grow without any fault
        few = {name: getattr(batch, name)[:, :, :2] for name in ("video", "cond", "flow")}
        batch = replace(batch, **few)
    request = _asked(state.model, batch)
    state.model.eval()
    exact = state.model.synthesize(request, 1, torch.Generator().manual_seed(0))
    with state.autocast:
        quick = state.model.synthesize(request, 1, torch.Generator().manual_seed(0))
    state.model.train()
    error = ((quick.float() - exact).norm() / exact.norm()).item()
    if not error < 0.1:  # about 0.01 is usual
        raise FloatingPointError(
            f"bf16 is wrong by {error:.0%} on this device: use --set precision=fp32, or another torch"
        )


def _shown(source: Source, experiment: Experiment, *, painted: bool) -> Batch:
    """The four clips of the sample strips: always the same."""
    size, frames = experiment.size, experiment.frames
    reference = experiment.reference
    return Loader(source, size=size, frames=frames, batch=4, seed=1, painted=painted, reference=reference).batch(0)


@torch.no_grad()
def _strip(state: Run, shown: Batch) -> Tensor:
    """For each shown clip a row of its label maps, if it has some, one of truth and two of samples."""
    with state.averaged() as model:
        request = _asked(model, shown.to(state.device))
        drawn = model.synthesize(request, 2, torch.Generator().manual_seed(0)).cpu()
    rows = [shown.video[None], drawn]
    if shown.cond is not None:
        # Not the number of planes: two classes and their instances are three, as colours are.
        labelled = state.model.config.classes
        maps = [colour_labels(c[:-1].argmax(0)) for c in shown.cond] if labelled else [*shown.cond]
        rows = [torch.stack(maps)[None], *rows]
    return contact_sheet(torch.cat(rows).transpose(0, 1).flatten(0, 1))


def commit() -> str:
    """The commit of the code, where it runs from a checkout; marked where files differ from it. Else the version."""
    try:
        asked = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"]
        return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return f"version {__version__}"

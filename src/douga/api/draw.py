"""Drawing between key frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from douga import __version__
from douga.api import models
from douga.api.keys import FRAMES, Key, indices, key_pictures, named_keys
from douga.core.registry import METHODS
from douga.core.timing import eased, read_ease

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from douga.core.clip import Clip, Request
    from douga.core.contracts import Synthesizer

FALLBACKS = {"hold": "hold", "fade": "linear"}  # of `tween`: which method draws it
# Of 255. From a trial whose code was not kept: in 1,288 frames of Weizmann's test split, drawn six times by inbetween-weizmann,
# spread and error go together; above 5 lie 16 of them, and in each a cross-fade is nearer to the truth. So they do for tween-any,
# but no fallback is nearer to the truth there, however large the spread (benchmarks/results/fallback.md): a matter of taste.
UNSURE = 5.0
MEMORY_LIMIT_GIB = 8  # of finished frames; drawing takes a few times as much


def tween(
    *keys: Key,
    frames: int | None = None,
    samples: int = 4,
    seed: int = 0,
    model: str | Path = models.DEFAULT_MODEL,
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
    named, board = named_keys(keys)
    rhythm = read_ease(board.get("ease", "linear") if ease is None else ease)
    closed = bool(board.get("loop", False) if loop is None else loop)
    rate: float = board.get("fps", 25.0) if fps is None else fps
    at = indices(named, frames)
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

    straight, bits, facts = key_pictures([picture for picture, _ in named])  # (C, K, H, W)
    drawer, known = models.load(model, device)
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
    model = name if name in models.weights() else made["model"]
    same = "frames", "samples", "seed", "fps", "device", "ease", "loop", "diversity", "pick", "fallback", "unsure"
    return keys, {**{option: made[option] for option in same}, "model": model}


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

"""Write the card of released weights from what their file says and what they draw.

`python benchmarks/card.py NAME [--data SOURCE:FOLDER] [--samples 3] [--beside NAME]`

The strip shows test clips of the data that they were trained on: for each clip truth, linear (of weights that paint: the maps),
and samples of the model (seeds as in the caption). Writes docs/cards/NAME.md, NAME.png and NAME-short.png beside it. What an
animator sees in the strip is written by hand into docs/cards/NAME-notes.md, and taken over.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

import douga
from douga.api import open_source
from douga.api.models import begun_with
from douga.core.clip import Request
from douga.core.config import to_dict
from douga.core.registry import RECIPES, paper_of
from douga.data.loader import conditions
from douga.video.io import write_image
from douga.video.ops import colour_labels, contact_sheet

ROOT = Path(__file__).parent.parent
CLIPS = {  # of the data that the weights were trained on: split, [(video, first frame), ...]
    "weizmann": (
        "test",
        [
            ("person07_two_hands_wave", 10),
            ("person08_jumping_jack", 6),
            ("person07_bend", 15),
            ("person08_one_hand_wave", 20),
        ],
    ),
    "teapot": ("test-long", [(f"-test-long-{index:04}", 0) for index in range(4)]),
    "blocks": ("test", [(f"blocks-test-{index:06}", 0) for index in (3, 11, 19, 27)]),
    "clips": (
        "test",
        [
            ("person07_jumping_jack", 6),
            ("0aef6f94-b02a-4c29-b99f-06fcd48ac0a0_1.mp4", 4),
            ("dance.mp4", 200),
            ("SOX5yA1l24A.mp4", 100),
        ],
    ),
    "cityscapes": ("test", [("seq0004", 0), ("seq0004", 9)]),
    "faces": ("test", [("d6", 0), ("d6", 90)]),
    "pose": ("test", [("dance", 20), ("dance", 150)]),
}
SHOWN = {"clips": (96, 128)}  # (height, width), where the weights draw at any
UNSEEN = {
    "weizmann": "persons",
    "teapot": "places",
    "blocks": "worlds",
    "clips": "videos",
    "cityscapes": "streets",
    "faces": "moments of this face",
    "pose": "moments of this dance",
}
KEPT_APART = {
    "weizmann": "split train (persons 1-6, mirrored copies with their person); persons 7 and 8 were never trained on",
    "teapot": "split train; the test's places are others of the same range",
    "blocks": "split train; the test's worlds are others, drawn by the same program",
    "clips": "split train; a third of the videos of each set was never trained on (Weizmann, KTH, Cityscapes: their own test"
    " split; of a single video its last fifth), nor were stills of them",
    "cityscapes": "split train (sequences 0-3 of 30 frames); sequence 4 was never trained on",
    "faces": "one clip of one face: the first 840 frames; its last 148 were never trained on",
    "pose": "one video of one dancer: the first 1,300 frames; its last 231 were never trained on",
}
RIGHTS = {
    "weizmann": "the weights are Apache-2.0; the training data is for research use",
    "teapot": "the weights are Apache-2.0; the pictures are rendered from free numbers",
    "blocks": "the weights are Apache-2.0; the pictures are drawn from a formula",
    "clips": "the weights are Apache-2.0; most of the training data is for research use",
    "cityscapes": "the weights are for research use, as Cityscapes is (Cordts et al., CVPR 2016)",
    "faces": "the weights are for research use; the rights in the video of this face are not stated",
    "pose": "the weights are Apache-2.0; the video comes with a package under GPL-3",
}
EVERY = {"cityscapes": 2, "faces": 6, "pose": 8}  # of the frames drawn, each so many-th is shown
PAINTED = 9  # frames shown of what paints
FIGURES = {
    **dict.fromkeys(
        ("cityscapes", "faces", "pose"),
        "On frames that were never trained on: [paint-real.md](../../benchmarks/results/paint-real.md).",
    ),
    "weizmann": "Beside the other methods, under one protocol:"
    " [inbetweeners-weizmann.md](../../benchmarks/results/inbetweeners-weizmann.md).",
    "teapot": "Beside methods that move pixels: [vae-teapot.md](../../benchmarks/results/vae-teapot.md).",
    "blocks": "Beside the other methods, under one protocol: [paint-blocks.md](../../benchmarks/results/paint-blocks.md);"
    " long videos, swapped classes and speed: [paint.md](../../benchmarks/results/paint.md).",
    "clips": "On real video at its own size, beside flow and RIFE, and how fast:"
    " [tween_real.md](../../benchmarks/results/tween_real.md). Beside the methods that draw at 64x64:"
    " [Weizmann](../../benchmarks/results/inbetweeners-weizmann.md), [KTH](../../benchmarks/results/inbetweeners-kth14.md).",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name")
    parser.add_argument("--data", help="where the training data lies, if not in the cache: SOURCE:FOLDER")
    parser.add_argument("--samples", type=int, default=3, help="of what draws differently each time")
    parser.add_argument("--beside", help="other weights, drawn below")
    options = parser.parse_args()
    name = options.name
    model, header = douga.load(name)
    linear, _ = douga.load("linear")
    other = douga.load(options.beside)[0] if options.beside else None
    paints = "paint" in model.tasks
    size = f"{header['provenance']['experiment']['size'][1]}x{header['provenance']['experiment']['size'][0]}"
    made = header["provenance"]
    experiment = made["experiment"]
    data = experiment["data"].partition("-")[0]
    split, places = CLIPS[data]
    source = open_source(options.data or experiment["data"], split, SHOWN.get(data, experiment["size"]))
    rows, samples = [], options.samples if model.stochastic else 1
    every = EVERY.get(data, 1)
    for video, start in places:
        index = next(i for i, other in enumerate(source.names) if other.endswith(video))
        frames = min((PAINTED - 1) * every + 1 if paints else 16, source.lengths[index])
        truth = source.clip(index, start, frames)[None]
        if paints:
            cond = conditions(source, index, start, frames)[None]
            beside = colour_labels(source.maps(index, start, frames)[0])[None] if source.classes else cond
            request = Request.hide(truth, torch.arange(frames) == 0, cond=cond)
        else:
            request = Request.tween(truth[:, :, 0], truth[:, :, -1], frames - 2)
            beside = linear.synthesize(request, 1, torch.Generator())[:, 0]
        drawn = model.synthesize(request, samples, torch.Generator().manual_seed(0))[:, 0]
        rows += [video[:, :, ::every] for video in (truth, beside, drawn)]
        if other is not None:
            rows.append(other.synthesize(request, 1, torch.Generator().manual_seed(0))[:, 0, :, ::every])
    folder = ROOT / "docs" / "cards"
    folder.mkdir(parents=True, exist_ok=True)
    columns = 8 if data in SHOWN else None
    write_image(folder / f"{name}.png", contact_sheet(torch.cat(rows), columns=columns))
    write_image(
        folder / f"{name}-short.png", contact_sheet(torch.cat(rows[: len(rows) // 2]), columns=columns)
    )  # two clips, for the README
    paper = RECIPES.load(paper_of(made["recipe"]))()
    plain = to_dict(paper.model)
    terms = ", ".join(f"{key} {value}" for key, value in header["config"].items() if value != plain[key])
    does = f"draws {frames - 2} frames (or another number) between two key frames"
    if paints:
        does = f"paints {'label maps of its classes' if header['config']['classes'] else 'pictures of edges or poses'}"
    versions = "in as many versions as asked for" if model.stochastic else "always the same"
    wanted = paper.steps * paper.batch
    clips = "; ".join(f"`{video.strip('-')}` from frame {start}" for video, start in places)
    shown = "" if every == 1 else f"; one frame in {every} is shown"
    verdict = "Trained too little to compare" if made["clips_seen"] < wanted / 2 else "To compare"
    begun = begun_with(made)  # who has begun with other weights has no budget to compare
    budget = (
        f"- **{verdict}** with the {paper.steps:,} steps of {paper.batch} clips"
        f" of `{paper.name}`: this is {made['clips_seen'] / wanted:.2%} of that number of clips."
    )
    lines = [
        f"# {name}",
        "",
        "Written by `benchmarks/card.py`; the section *What one sees* is by hand.",
        "",
        f"- **What it does:** {does} at {size if model.size else 'the size of the pictures'}, {versions}.",
        f"- **Method:** `{header['method']}`, recipe `{made['recipe']}`; {header['parameters']:,} numbers,"
        f" {Path(header['file']).stat().st_size / 1e6:.1f} MB, sha256 `{header['sha256'][:16]}...`",
        f"- **Other than in the recipe `{paper.name}`:** {terms or 'nothing'}; augmentation {', '.join(experiment['augment'])}.",
        f"- **Data:** {made['data']}, {KEPT_APART[data]}; digest `{made['data_digest'][:16]}...`; licence: {made['licence']}.",
        f"- **Training:** {made['steps']:,} steps of {experiment['batch']} clips = {made['clips_seen']:,} clips,"
        f" {made['seconds'] / 60:.0f} minutes on {made['threads']} CPU threads in {made['precision']}, torch {made['torch']},"
        f" commit {made['commit']}, finished {made['finished']}.",
        *(f"- **Begun with** {one['steps']:,} steps of `{one['recipe']}` on {one['data']}." for one in begun),
        *([] if begun else [budget]),
        f"- **Rights:** {RIGHTS[data]}.",
        "",
        f"## What it draws for {UNSEEN[data]} that it has never seen",
        "",
        f"![truth, {'maps' if paints else 'linear'}, {samples} of the model]({name}.png)",
        "",
        f"For each clip: truth, {'its maps' if paints else 'linear cross-fade'}, then {samples} drawn with seed 0"
        f"{', the first frame given' if paints else ''}{f', then `{options.beside}`' if options.beside else ''}."
        f" Clips: {clips}{shown}.",
        "",
        "## Figures",
        "",
        FIGURES[data],
        "",
        "## What one sees",
        "",
        (folder / f"{name}-notes.md").read_text().strip(),
    ]
    (folder / f"{name}.md").write_text("\n".join(lines) + "\n")
    print(folder / f"{name}.md")


if __name__ == "__main__":
    main()

"""How many pictures of teapots a second, from (split, index) to a float tensor in [-1, 1]?

`python benchmarks/teapot_speed.py [--clips 300] [--repeats 5] [--vtk]`

Every teapot source at 64x64, clips of 3 frames as the cache of the loader reads them: in one process with one thread, and in
two processes at once. Beside it with --vtk, if `pip install vtk` was done: VTK off screen (through Mesa's software OpenGL if
there is no GPU), the same 32 patches as 4,096 triangles, a picture fetched as a float tensor after each move and turn, with
and without antialiasing.

Run it on an idle machine: nothing is timed beside another job. Figures are medians of `--repeats` runs. Writes
benchmarks/results/teapot_speed.md (committed) and prints it.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch

from douga.core.registry import SOURCES
from douga.data import teapot
from douga.train import engine

SIZE = (64, 64)
KINDS = (teapot.Teapot1, teapot.Teapot2, teapot.Teapot6, teapot.TeapotSeveral)


def read(kind: type[teapot.Teapot], first: int, clips: int) -> int:
    """Draw clips of 3 frames; how many pictures."""
    torch.set_num_threads(1)
    source = kind(None, "train", SIZE)
    return sum(source.clip(index, 0, 3).shape[1] for index in range(first, first + clips))


def a_second(action: Callable[[], int], repeats: int) -> float:
    action()  # warm-up
    speeds = []
    for _ in range(repeats):
        began = time.perf_counter()
        pictures = action()
        speeds.append(pictures / (time.perf_counter() - began))
    return statistics.median(speeds)


def vtk_drawer(samples: int, count: int) -> tuple[Callable[[], int], str]:
    """A function that draws `count` pictures of one teapot; and what draws."""
    import vtk
    from vtk.util.numpy_support import numpy_to_vtk, numpy_to_vtkIdTypeArray, vtk_to_numpy

    basis, _ = teapot._basis(9, ends=True)
    surface = np.einsum("ui,vj,pijc->puvc", basis, basis, teapot.patches())[..., [0, 2, 1]] * (1, 1, -1)
    places = surface.reshape(-1, 3)
    places = (places - (places.max(0) + places.min(0)) / 2) * teapot.WIDTH / np.ptp(places[:, 0])
    corner = np.arange(len(places)).reshape(32, 9, 9)
    a, b, c, d = corner[:, :-1, :-1], corner[:, 1:, :-1], corner[:, 1:, 1:], corner[:, :-1, 1:]
    triangles = np.stack([a, b, c, a, c, d], axis=-1).ravel()
    points, cells, mesh = vtk.vtkPoints(), vtk.vtkCellArray(), vtk.vtkPolyData()
    points.SetData(numpy_to_vtk(places.astype(np.float32), deep=1))
    cells.SetData(3, numpy_to_vtkIdTypeArray(triangles, deep=1))
    mesh.SetPoints(points)
    mesh.SetPolys(cells)
    normals, mapper, actor = vtk.vtkPolyDataNormals(), vtk.vtkPolyDataMapper(), vtk.vtkActor()
    normals.SetInputData(mesh)
    mapper.SetInputConnection(normals.GetOutputPort())
    actor.SetMapper(mapper)
    renderer, window, pixels = vtk.vtkRenderer(), vtk.vtkRenderWindow(), vtk.vtkUnsignedCharArray()
    renderer.AddActor(actor)
    window.SetOffScreenRendering(1)
    window.SetMultiSamples(samples)
    window.SetSize(SIZE[1], SIZE[0])
    window.AddRenderer(renderer)
    camera = renderer.GetActiveCamera()
    camera.SetPosition(0, 0, teapot.EYE)
    camera.SetViewAngle(2 * np.degrees(np.arctan(1 / teapot.EYE)))
    renderer.ResetCameraClippingRange()

    def draw() -> int:
        for index in range(count):
            actor.SetPosition(0.6 * np.sin(index), 0, 0)
            actor.SetOrientation(20, index, 0)
            window.Render()
            window.GetPixelData(0, 0, SIZE[1] - 1, SIZE[0] - 1, 0, pixels, 0)
            picture = vtk_to_numpy(pixels).reshape(*SIZE, 3)[::-1].transpose(2, 0, 1)
            tensor = torch.from_numpy(picture.astype(np.float32)) / 127.5 - 1
            assert tensor.std() > 0.05, "nothing was drawn"
        return count

    draw()
    lines = window.ReportCapabilities().splitlines()
    by = next((line.split(":")[1].strip() for line in lines if "renderer string" in line), "an unknown renderer")
    return draw, f"VTK {vtk.vtkVersion().GetVTKVersion()}, {by}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=300)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--vtk", action="store_true")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "teapot_speed.md")
    options = parser.parse_args()
    names = {row.target.rpartition(":")[2]: name for name, row in SOURCES.items()}
    rows = []
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:

        def both(kind: type[teapot.Teapot]) -> int:
            shares = [pool.submit(read, kind, first, options.clips) for first in (0, options.clips)]
            return sum(share.result() for share in shares)

        for kind in KINDS:
            one = a_second(lambda kind=kind: read(kind, 0, options.clips), options.repeats)
            two = a_second(lambda kind=kind: both(kind), options.repeats)
            name = names.get(kind.__name__, kind.__name__)
            rows.append(f"| `{name}` | {teapot.SAMPLES}x{teapot.SAMPLES} | {one:,.0f} | {two:,.0f} |")
    for samples in (0, 4) if options.vtk else ():
        draw, by = vtk_drawer(samples, options.clips)
        rows.append(f"| {by}, one teapot | {samples or 1} | {a_second(draw, options.repeats):,.0f} | |")
    lines = [
        "# Speed of drawing teapots",
        "",
        f"{engine.device_name(torch.device('cpu'))}, torch {torch.__version__}, numpy {np.__version__},"
        f" commit {engine.commit()}.",
        f"Command: `python benchmarks/teapot_speed.py --clips {options.clips} --repeats {options.repeats}"
        f"{' --vtk' * options.vtk}`",
        "",
        f"Pictures of {SIZE[0]}x{SIZE[1]} a second, each as a float32 tensor.",
        "",
        "| drawn | samples a pixel | one process | two processes |",
        "|---|---|---|---|",
        *rows,
    ]
    options.out.parent.mkdir(exist_ok=True)
    options.out.write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()

"""How many generated faces a core makes a second, beside a plain way to draw the same shapes.

    python benchmarks/bench_faces.py [--faces 512] [--runs 5] [--image-px 64]

"Complete" is all of `generate_faces`: identities, expressions, geometry, painting, light, camera and all labels.
"Painting" is its painting alone. The peer paints the same polygons with Pillow on a canvas four times as large, scaled
down with its box filter, the usual way to smooth edges there; it leaves out the soft folds of the skin, which ours
paints as well. Times are CPU seconds of one thread; medians of several runs, taken in turn.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from trainables.data.faces import faces as generator
from trainables.data.faces.render import paint
from trainables.data.faces.scene import Layer, Scene, build_scene
from trainables.data.table import Faces

BATCH = 128
SUPERSAMPLING = 4


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", type=int, default=512)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--image-px", type=int, default=64)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    batches = -(-args.faces // BATCH)
    scenes = [capture_scene(number, image_px=args.image_px) for number in range(batches)]
    works: dict[str, Callable[[], object]] = {
        "ours, complete": lambda: [generate(number, image_px=args.image_px) for number in range(batches)],
        "ours, painting": lambda: [paint(scene, image_px=args.image_px) for scene in scenes],
        "Pillow 4x, painting": lambda: [paint_with_pillow(scene, image_px=args.image_px) for scene in scenes],
    }
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(args.runs):
        for name, work in works.items():
            times[name].append(cpu_seconds(work))
    n_faces = batches * BATCH
    rates = {name: n_faces / statistics.median(seconds) for name, seconds in times.items()}
    print(f"{n_faces} wild faces of {args.image_px} px, median of {args.runs} runs, one core")
    for name, rate in rates.items():
        print(f"{name:20s} {rate:7.0f} faces/s   (runs {spread(n_faces, times[name])})")
    print(f"painting, ours to Pillow's {rates['ours, painting'] / rates['Pillow 4x, painting']:.2f}")


def generate(number: int, *, image_px: int) -> Faces:
    """One batch of wild faces, all classes."""
    rows = range(number * BATCH, (number + 1) * BATCH)
    expression = (np.arange(BATCH) % 6).astype(np.int8)
    subjects = [row // 4 for row in rows]
    return generator.generate_faces(expression, subjects=subjects, keys=rows, domain="wild", seed=0, image_px=image_px)


def capture_scene(number: int, *, image_px: int) -> Scene:
    """The scene that `generate` paints."""
    scenes: list[Scene] = []

    def keep(*args: Any, **kwargs: Any) -> Scene:
        scenes.append(build_scene(*args, **kwargs))
        return scenes[-1]

    with patch.object(generator, "build_scene", keep):
        generate(number, image_px=image_px)
    return scenes[0]


def paint_with_pillow(scene: Scene, *, image_px: int) -> list[NDArray[np.uint8]]:
    """The polygons of a scene, supersampled."""
    layers = scene.skin + scene.above
    rows = enumerate(scene.background)
    return [paint_one(layers, background, row=row, image_px=image_px) for row, background in rows]


def paint_one(layers: list[Layer], background: NDArray[np.float64], *, row: int, image_px: int) -> NDArray[np.uint8]:
    """One picture [image_px, image_px, 3]."""
    side = image_px * SUPERSAMPLING
    canvas = Image.new("RGB", (side, side), to_colour(background))
    pencil = ImageDraw.Draw(canvas)
    for layer in layers:
        if layer.shown[row]:
            pencil.polygon((layer.outline[row] * side).ravel().tolist(), fill=to_colour(layer.colour[row]))
    return np.asarray(canvas.resize((image_px, image_px), Image.Resampling.BOX))


def to_colour(values: NDArray[np.float64]) -> tuple[int, int, int]:
    """Red, green, blue as Pillow wants them."""
    red, green, blue = (int(value) for value in np.clip(values, 0, 255).round())
    return red, green, blue


def cpu_seconds(work: Callable[[], object]) -> float:
    """CPU seconds that this process spends on it."""
    started = time.process_time()
    work()
    return time.process_time() - started


def spread(n_faces: int, times: list[float]) -> str:
    """Slowest to fastest, faces a second."""
    return f"{n_faces / max(times):.0f} to {n_faces / min(times):.0f}"


if __name__ == "__main__":
    main()

"""How many generated faces a core makes a second, beside a plain way to draw the same shapes.

    python benchmarks/bench_faces.py [--faces 512] [--runs 5] [--image-px 64]

"Complete" is all of `generate_faces`: identities, expressions, geometry, painting, light, camera and all labels.
"Painting" is its painting alone. The peer paints the same polygons with Pillow on a canvas four times as large, scaled
down with its box filter, the usual way to smooth edges there; it leaves out the soft folds of the skin, which ours
paints as well. Times are CPU seconds of one thread; medians of several runs, taken in turn.
"""

import sys
from collections.abc import Callable
from functools import partial
from typing import Any
from unittest.mock import patch

import cv2
import numpy as np
from measure import bench_arguments, compare, cpu_seconds, medians_in_turn, report
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from trainables.data.faces import faces as generator
from trainables.data.faces.render import paint
from trainables.data.faces.scene import Layer, Scene, build_scene
from trainables.data.table import Faces

BATCH = 128
SUPERSAMPLING = 4


def main() -> int:
    """Measure and print."""
    arguments = bench_arguments(__doc__, runs=5, faces=512, image_px=64)
    cv2.setNumThreads(1)
    image_px, batches = arguments.image_px, range(-(-arguments.faces // BATCH))
    scenes = [capture_scene(number, image_px=image_px) for number in batches]
    n_faces = len(batches) * BATCH
    works: dict[str, Callable[[], object]] = {
        "complete": lambda: [generate(number, image_px=image_px) for number in batches],
        "painting": lambda: [paint(scene, image_px=image_px) for scene in scenes],
        "Pillow": lambda: [paint_with_pillow(scene, image_px=image_px) for scene in scenes],
    }
    turns = {name: partial(rate_of, work, n_faces=n_faces) for name, work in works.items()}
    rates = medians_in_turn(turns, runs=arguments.runs)
    rows = [
        compare(f"faces of {image_px} px drawn, with all labels", rates["complete"], "a CPU s"),
        compare(
            f"painting faces of {image_px} px", rates["painting"], "a CPU s",
            peer="Pillow, four times as large", peer_value=rates["Pillow"], is_smaller_better=False,
        ),
    ]  # fmt: skip
    return report(rows, arguments)


def rate_of(work: Callable[[], object], *, n_faces: int) -> float:
    """Faces a CPU second."""
    return n_faces / cpu_seconds(work)


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


if __name__ == "__main__":
    sys.exit(main())

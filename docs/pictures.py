"""Draws the pictures of the pages, from simulations and generated faces, into docs/pictures: `python docs/pictures.py`.

Screenshots are `screens.py`'s.
"""

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent))

from search.ensemble.blending import blend_curve  # noqa: E402
from search.report.canvas import BEST, FAINT, STOPPED, draw, legend_above  # noqa: E402
from trainables.data.contact_sheet import draw_sheet  # noqa: E402
from trainables.data.synth import write_synth_table  # noqa: E402
from trainables.scores import softmax  # noqa: E402

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from search.report.canvas import Drawing

SIZE = (7.0, 3.2)
N_TRIALS, N_VALID, N_REPEATS = 100, 300, 400
N_CLASSES, N_MANY = 6, 40_000


def draw_optimism() -> "Drawing":
    """The best of n trials: its score on the faces that it was chosen by, and on new ones."""
    generator = np.random.default_rng(0)
    true = generator.normal(0.60, 0.015, (N_REPEATS, N_TRIALS)).clip(0, 1)
    seen = generator.binomial(N_VALID, true) / N_VALID
    numbers = np.arange(1, N_TRIALS + 1)
    best = np.stack([seen[:, :n].argmax(axis=1) for n in numbers], axis=1)  # [repeats, trials]
    chosen, new = (np.take_along_axis(each, best, axis=1).mean(axis=0) for each in (seen, true))

    def paint(axes: "Axes") -> None:
        axes.plot(numbers, chosen, color=STOPPED, label="on the valid faces, by which it was chosen")
        axes.plot(numbers, new, color=BEST, label="on new faces of the same kind")
        axes.fill_between(numbers, new, chosen, color=FAINT, alpha=0.2, linewidth=0)
        axes.set_xlabel("trials")
        axes.set_ylabel("share of right answers")
        legend_above(axes)

    says = f"Simulated: {N_TRIALS} trials that are truly right in 57 to 63 % of all faces, chosen by {N_VALID} of them."
    return draw(paint, name="optimism", title="The best of many", says=says, size=SIZE)


def draw_blending() -> "Drawing":
    """Macro-F1 at every blending weight, on few faces and on many."""
    generator = np.random.default_rng(3)

    def simulate(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        labels = generator.integers(0, N_CLASSES, n)
        truth = 1.3 * np.eye(N_CLASSES)[labels]
        first, second = (truth * gain + generator.normal(0, 1, truth.shape) for gain in (0.9, 1.1))
        return softmax(first), softmax(second), labels

    few, many = blend_curve(*simulate(N_VALID)), blend_curve(*simulate(N_MANY))
    weights = np.linspace(0, 1, 501)

    def paint(axes: "Axes") -> None:
        axes.plot(weights, few.smoothed(weights, window=0), color=FAINT, linewidth=0.8, label=f"exact, {N_VALID} faces")
        axes.plot(weights, few.smoothed(weights, window=0.05), color=BEST, linewidth=2, label="smoothed by 0.05")
        axes.plot(weights, many.smoothed(weights, window=0), color=STOPPED, label=f"exact, {N_MANY:,} new faces")
        axes.set_xlabel("weight of the first of two networks")
        axes.set_ylabel("macro-F1")
        legend_above(axes)

    says = "Simulated: two networks of about the same worth."
    return draw(paint, name="blending", title="The exact blending curve", says=says, size=SIZE)


def _draw_faces(file: Path) -> None:
    """The beginning of the sheet that the tutorial makes."""
    with tempfile.TemporaryDirectory() as place:
        table = write_synth_table(Path(place) / "faces", n_train=300, n_valid=120, n_test=120, image_px=48)
        sheet = draw_sheet(table.split("train"), table.info.classes)
    sheet.crop((0, 0, sheet.width, round(sheet.height / 2))).convert("L").save(file, optimize=True)


def main() -> None:
    """Draw all."""
    folder = HERE / "pictures"
    folder.mkdir(exist_ok=True)
    for drawing in (draw_optimism(), draw_blending()):
        drawing.save(folder / f"{drawing.name}.svg")
    _draw_faces(folder / "faces.png")


if __name__ == "__main__":
    main()

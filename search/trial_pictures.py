"""Pictures of a trial for its page in MLflow: confusion, F1 by class, learning curves, the faces it got most wrong."""

import io
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from search.ensemble_charts import BLUE, GREY, ORANGE, draw_confusion
from search.folder import TrialRecord
from trainables.data.table import Split
from trainables.metrics import confusion_matrix, f1_per_class
from trainables.scores import Scores

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIZE_INCHES, DPI = (5.6, 4.4), 100
N_WRONG, PER_ROW = 24, 6
TILE_PX, CAPTION_PX, MARGIN_PX = 128, 30, 6


def draw_trial(record: TrialRecord, scores: Scores, faces: Split | None) -> dict[str, bytes]:
    """All pictures of a scored trial.

    Args:
        record: of the trial.
        scores: of its best epoch on the valid split.
        faces: that split; None where no face shall be seen.

    Returns:
        File name to its content.
    """
    preds = scores.logits.argmax(axis=1)
    counts = confusion_matrix(scores.labels, preds, len(scores.classes))
    confusion = {"confusion": counts, "classes": scores.classes}
    score = f"{record.trial_id}, macro-F1 {record.best_macro_f1 or 0.0:.4f} on the valid faces"
    pictures = {
        "confusion.png": _painted(lambda axes: draw_confusion(axes, confusion), title=f"Shares of each class, {score}"),
        "f1_by_class.png": _painted(lambda axes: _draw_f1(axes, counts, scores.classes), title=f"F1 by class, {score}"),
    }
    if len(record.history) > 1:
        pictures["learning_curves.png"] = _painted(lambda axes: _draw_curves(axes, record), title=f"Learning, {score}")
    wrong = draw_most_wrong(scores, faces) if faces is not None else None
    if wrong is not None:
        content = io.BytesIO()
        wrong.save(content, format="JPEG", quality=88)
        pictures["most_wrong.jpg"] = content.getvalue()
    return pictures


def most_wrong(scores: Scores, *, most: int = N_WRONG) -> NDArray[np.intp]:
    """Rows of labelled faces that got a wrong answer, the surest first: by the answer's probability less the truth's.

    Args:
        scores: of a split.
        most: of the rows.
    """
    probs, preds = scores.probs, scores.logits.argmax(axis=1)
    rows = np.flatnonzero((scores.labels >= 0) & (preds != scores.labels))
    lead = probs[rows, preds[rows]] - probs[rows, scores.labels[rows]]
    return rows[np.argsort(-lead, kind="stable")[:most]]


def draw_most_wrong(scores: Scores, faces: Split) -> Image.Image | None:
    """A grid of the faces that a trial got most wrong, each with its truth and the answer; None where all are right.

    Args:
        scores: of a split, in its order.
        faces: the split.
    """
    rows = most_wrong(scores)
    if len(rows) == 0 or tuple(faces.sample_ids) != scores.sample_ids:
        return None
    n_lines = -(-len(rows) // PER_ROW)
    width = PER_ROW * (TILE_PX + MARGIN_PX) + MARGIN_PX
    sheet = Image.new("RGB", (width, n_lines * (TILE_PX + CAPTION_PX + MARGIN_PX) + MARGIN_PX), "white")
    pen, probs = ImageDraw.Draw(sheet), scores.probs
    for place, row in enumerate(rows.tolist()):
        left = MARGIN_PX + place % PER_ROW * (TILE_PX + MARGIN_PX)
        top = MARGIN_PX + place // PER_ROW * (TILE_PX + CAPTION_PX + MARGIN_PX)
        pixels = faces.images[row]
        face = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).convert("RGB")
        sheet.paste(face.resize((TILE_PX, TILE_PX), Image.Resampling.BICUBIC), (left, top))
        truth, answer = int(scores.labels[row]), int(scores.logits[row].argmax())
        words = [("is", truth), ("not", answer)]
        lines = [f"{word} {scores.classes[index]} {probs[row, index]:.2f}"[:22] for word, index in words]
        pen.text((left, top + TILE_PX + 2), "\n".join(lines), fill="black", spacing=1)
    return sheet


def _draw_f1(axes: "Axes", counts: NDArray[np.int64], classes: tuple[str, ...]) -> None:
    places, scores = range(len(classes)), f1_per_class(counts)
    axes.barh(places, scores, color=BLUE, height=0.6)
    for place, score, n_faces in zip(places, scores.tolist(), counts.sum(axis=1).tolist(), strict=True):
        axes.text(score + 0.01, place, f"{score:.3f} of {n_faces:,} faces", va="center", fontsize=8)
    axes.set_yticks(places, classes)
    axes.invert_yaxis()
    axes.set_xlim(0.0, 1.25)
    axes.set_xlabel("F1")


def _draw_curves(axes: "Axes", record: TrialRecord) -> None:
    """Macro-F1 and the training loss by epoch, each with its own scale."""
    epochs = [epoch["epoch"] for epoch in record.history if "valid/macro_f1" in epoch]
    scores = [epoch["valid/macro_f1"] for epoch in record.history if "valid/macro_f1" in epoch]
    axes.plot(epochs, scores, "o-", color=BLUE, ms=4, label="macro-F1")
    axes.axvline(record.best_epoch, color=GREY, linewidth=0.8, linestyle="--")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("epoch (dashed: the best)")
    axes.set_ylabel("macro-F1 on the valid faces", color=BLUE)
    losses = [(epoch["epoch"], epoch["train/loss"]) for epoch in record.history if "train/loss" in epoch]
    if losses:
        other = axes.twinx()
        other.plot([epoch for epoch, _ in losses], [loss for _, loss in losses], "s-", color=ORANGE, ms=3)
        other.set_ylabel("training loss", color=ORANGE)


def _painted(draw: "Callable[[Axes], None]", *, title: str) -> bytes:
    figure = Figure(figsize=SIZE_INCHES, dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    draw(axes)
    axes.set_title(title, fontsize=10)
    content = io.BytesIO()
    figure.savefig(content, format="png", metadata={"Software": None})
    return content.getvalue()

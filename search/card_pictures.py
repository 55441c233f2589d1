"""The pictures of a model card, as PNG: confusion, calibration, the blending curve, score against time."""

import io
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from search.ensemble_charts import draw_calibration, draw_confusion, draw_curve, draw_options

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PICTURES_DIR = "pictures"
SIZE_INCHES = (5.0, 4.0)
DPI = 110


def card_pictures(ensemble: Mapping[str, Any]) -> dict[str, bytes]:
    """Pictures of what a final job found.

    Args:
        ensemble: the content of ensemble.json.

    Returns:
        File name within the artifact to PNG; those that can be drawn of what is known.
    """
    painters: dict[str, tuple[str, str, Callable[[Axes, Mapping[str, Any]], None]]] = {
        "confusion": ("confusion", "Share of each class, faces left out of choosing", draw_confusion),
        "calibration": ("calibration", _calibration_title(ensemble), draw_calibration),
        "blending": ("curve", "The ensemble mixed with the plain average", draw_curve),
        "options": ("options", "What a smaller ensemble costs", draw_options),
    }
    return {
        f"{PICTURES_DIR}/{name}.png": _painted(draw, ensemble, title=title)
        for name, (key, title, draw) in painters.items()
        if ensemble.get(key)
    }


def _calibration_title(ensemble: Mapping[str, Any]) -> str:
    calibration = ensemble.get("calibration")
    return f"Calibration, temperature {calibration['temperature']:.2f}" if calibration else ""


def _painted(draw: Callable[["Axes", Mapping[str, Any]], None], ensemble: Mapping[str, Any], *, title: str) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE_INCHES, dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    draw(axes, ensemble)
    axes.set_title(title, fontsize=10)
    content = io.BytesIO()
    figure.savefig(content, format="png", metadata={"Software": None})
    return content.getvalue()

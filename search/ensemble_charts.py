"""Charts of what a final job found, on axes that somebody else makes: for a model card, and for a report."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BLUE, ORANGE, GREY = "#1f5fa8", "#c8641e", "#6b7281"


def draw_confusion(axes: "Axes", ensemble: Mapping[str, Any]) -> None:
    """Share of each class that was answered as each; truth from top to bottom."""
    counts = np.array(ensemble["confusion"])
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1e-12)
    axes.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0)
    axes.grid(visible=False)
    classes = ensemble["classes"]
    axes.set_xticks(range(len(classes)), classes, rotation=45, ha="right")
    axes.set_yticks(range(len(classes)), classes)
    for row in range(len(classes)):
        for column in range(len(classes)):
            colour = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, f"{shares[row, column]:.2f}", ha="center", va="center", color=colour, fontsize=8)
    axes.set_xlabel("answer")
    axes.set_ylabel("truth")


def draw_calibration(axes: "Axes", ensemble: Mapping[str, Any]) -> None:
    """Share of right answers against their confidence, before and after the temperature."""
    calibration = ensemble["calibration"]
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle="--")
    labels = (f"as averaged, error {calibration['error'][0]:.3f}", f"shipped, error {calibration['error'][1]:.3f}")
    for bins, label, colour in zip(calibration["bins"], labels, (ORANGE, BLUE), strict=True):
        axes.plot([b["confidence"] for b in bins], [b["accuracy"] for b in bins], "o-", color=colour, label=label, ms=4)
    axes.set_xlabel("confidence of the answer")
    axes.set_ylabel("share of right answers")
    axes.legend(fontsize=8)


def draw_curve(axes: "Axes", ensemble: Mapping[str, Any]) -> None:
    """Macro-F1 of the ensemble mixed with the plain average, over the weight of that."""
    curve = ensemble["curve"]
    axes.plot(curve["weight"], curve["exact"], color=GREY, linewidth=0.8, label="exact")
    axes.plot(curve["weight"], curve["smoothed"], color=BLUE, linewidth=1.8, label="smoothed over 0.05")
    axes.set_xlabel("weight of the plain average (0: the ensemble alone)")
    axes.set_ylabel("macro-F1 on the valid faces")
    axes.legend(fontsize=8)


def draw_options(axes: "Axes", ensemble: Mapping[str, Any]) -> None:
    """Estimates of smaller ensembles against their milliseconds an image."""
    options = [option for option in ensemble["options"] if option["estimate"] is not None]
    for looks, colour in (("all", BLUE), ("one", ORANGE)):
        own = [option for option in options if option["looks"] == looks]
        if not own:
            continue
        ms, scores = [o["ms"] for o in own], [o["estimate"] for o in own]
        errors = [[o["estimate"] - o["low"] for o in own], [o["high"] - o["estimate"] for o in own]]
        label = "all looks at a face" if looks == "all" else "one look"
        axes.errorbar(ms, scores, yerr=errors, fmt="o", color=colour, ms=5, elinewidth=0.8, capsize=2, label=label)
        for option in own:
            place = (option["ms"], option["estimate"])
            axes.annotate(str(len(option["members"])), place, textcoords="offset points", xytext=(5, 4), fontsize=8)
    axes.set_xlabel("milliseconds an image (numbers: members)")
    axes.set_ylabel("macro-F1 to expect, 90 % interval")
    if options:
        axes.legend(fontsize=8)

"""Charts of a search's course: its trials, their learning curves, what they took, and how quick their networks are."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.ticker import MaxNLocator

from search.folder import TrialRecord
from search.report.canvas import BEST, FAINT, INK, SERIES, STOPPED, WIDE, WRONG, Drawing, draw, legend_above
from search.report.facts import SearchFacts
from search.report.speed import Timed
from search.report.troubles import TimeSpent

if TYPE_CHECKING:
    from matplotlib.axes import Axes

N_TOLD = 5
"""Trials whose curves are drawn in colours of their own."""
END_COLOURS = {"completed": BEST, "stopped": STOPPED, "diverged": WRONG, "failed": SERIES[3], "preempted": FAINT}


def draw_course(facts: SearchFacts) -> Drawing | None:
    """Every trial's score in the order of proposal, and the best so far; None where none was scored."""
    best = facts.best
    if best is None:
        return None
    ordered = sorted(facts.scored, key=lambda record: record.number)
    scores = np.maximum.accumulate([record.best_macro_f1 or 0.0 for record in ordered])

    def paint(axes: "Axes") -> None:
        for end in ("completed", "stopped", "preempted", None):
            own = [record for record in ordered if record.end == end]
            if own:
                hollow: Any = {"facecolors": "none"} if end != "completed" else {}
                axes.scatter(
                    [r.number for r in own],
                    [r.best_macro_f1 or 0.0 for r in own],
                    s=18,
                    color=END_COLOURS.get(end or "preempted"),
                    label=end or "running",
                    **hollow,
                )
        axes.step([record.number for record in ordered], scores, where="post", color=INK, linewidth=1, label="best yet")
        if facts.default is not None:
            axes.axhline(facts.default.best_macro_f1 or 0.0, color=FAINT, linewidth=1, linestyle="--", label="default")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("trial")
        axes.set_ylabel("macro-F1 on the valid faces")
        legend_above(axes, ncols=5)

    says = f"The best of {len(facts.records)} trials is {best.trial_id} with {best.best_macro_f1:.4f}"
    if facts.default is not None:
        says += f"; the default, trial 0, has {facts.default.best_macro_f1:.4f}"
    n_half = sum(record.number <= best.number / 2 for record in facts.records)
    says += f". It was proposed as number {best.number}, after {best.number} others." if n_half else "."
    return draw(paint, name="course", title="Trials in the order of proposal", says=says, size=WIDE)


def draw_learning_curves(facts: SearchFacts) -> Drawing | None:
    """Macro-F1 after each epoch, of all trials; the best in colours, and where the scheduler stopped others."""
    learned = [record for record in facts.records if len(_curve(record)) > 1]
    if not learned:
        return None
    told = [record for record in facts.scored if len(_curve(record)) > 1][:N_TOLD]
    named = {record.trial_id for record in told}
    others = [record for record in learned if record.trial_id not in named]
    stopped = [record for record in learned if record.end == "stopped"]

    def paint(axes: "Axes") -> None:
        axes.add_collection(LineCollection([_curve(r) for r in others], colors=FAINT, linewidths=0.6, alpha=0.5))
        if stopped:
            ends = np.array([_curve(record)[-1] for record in stopped])
            axes.scatter(ends[:, 0], ends[:, 1], s=16, marker="x", color=STOPPED, linewidths=1, label="stopped")
        for record, colour in zip(told, SERIES, strict=False):
            points = np.array(_curve(record))
            label = f"{record.trial_id} {record.best_macro_f1:.4f}"
            axes.plot(points[:, 0], points[:, 1], color=colour, linewidth=1.5, label=label)
        if facts.default is not None and facts.default.trial_id not in named and len(_curve(facts.default)) > 1:
            points = np.array(_curve(facts.default))
            axes.plot(points[:, 0], points[:, 1], color=INK, linewidth=1.2, linestyle="--", label="default")
        axes.autoscale_view()
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("epoch")
        axes.set_ylabel("macro-F1 on the valid faces")
        legend_above(axes, ncols=4)

    says = (
        f"The curves of {len(learned)} trials, the best {len(told)} in colours; the scheduler stopped {len(stopped)}, "
        "where the crosses are. A trial that completes looks at each face mirrored and moved as well, so its score can "
        "lie above its curve, or below."
    )
    return draw(paint, name="curves", title="Learning curves", says=says, size=WIDE)


def _curve(record: TrialRecord) -> list[tuple[float, float]]:
    """Epoch and macro-F1."""
    return [
        (float(epoch["epoch"]), float(epoch["valid/macro_f1"])) for epoch in record.history if "valid/macro_f1" in epoch
    ]


def draw_hours(times: Sequence[TimeSpent]) -> Drawing | None:
    """The trials' time by how they ended; None where none took any."""
    total_s = sum(time.seconds for time in times)
    if total_s <= 0.0:
        return None
    unit, unit_s = ("hours", 3600.0) if total_s > 7200.0 else ("minutes", 60.0)

    def paint(axes: "Axes") -> None:
        shown = list(reversed(times))
        hours = [time.seconds / unit_s for time in shown]
        axes.barh([time.end for time in shown], hours, color=[END_COLOURS[time.end] for time in shown], height=0.6)
        for place, time in enumerate(shown):
            words = f" {100 * time.seconds / total_s:.0f} %, {time.n_trials} trials"
            axes.text(hours[place], place, words, va="center", fontsize=8)
        axes.margins(x=0.35)
        axes.set_ylim(-0.6, max(len(shown), 4) - 0.4)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel(f"{unit} of trials")

    parts = [f"{100 * time.seconds / total_s:.0f} % for {time.n_trials} that were {time.end}" for time in times]
    says = f"{total_s / unit_s:.1f} {unit} of trials: {', '.join(parts)}."
    return draw(paint, name="hours", title="Time by how trials ended", says=says)


def draw_pareto(timed: Sequence[Timed]) -> Drawing | None:
    """Score against milliseconds an image; None where nothing was timed."""
    if not timed:
        return None
    front = [one for one in timed if one.is_on_front]

    def paint(axes: "Axes") -> None:
        ms, scores = [one.ms for one in timed], [one.record.best_macro_f1 or 0.0 for one in timed]
        axes.scatter(ms, scores, s=14, color=FAINT, label="trials")
        axes.plot(
            [one.ms for one in front],
            [one.record.best_macro_f1 or 0.0 for one in front],
            "o-",
            color=BEST,
            ms=5,
            drawstyle="steps-post",
            label="no other is as quick and as good",
        )
        for one in front:
            place = (one.ms, one.record.best_macro_f1 or 0.0)
            axes.annotate(one.record.trial_id, place, textcoords="offset points", xytext=(4, -10), fontsize=8)
        if max(ms) > 5 * min(ms):
            axes.set_xscale("log")
        axes.set_xlabel("milliseconds an image on this machine")
        axes.set_ylabel("macro-F1 on the valid faces")
        legend_above(axes, ncols=2)

    told = ", ".join(f"{o.record.trial_id} ({o.ms:.2f} ms, {o.record.best_macro_f1:.4f})" for o in front)
    says = f"Of {len(timed)} timed trials these are beaten by none in both: {told}."
    return draw(paint, name="pareto", title="Score against time", says=says)

"""What a report says of the ensemble: what to expect of it, who votes, and how that was chosen."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from search.comparison import ROWS
from search.ensemble_charts import draw_calibration, draw_confusion, draw_curve, draw_options
from search.report.canvas import BEST, FAINT, INK, STOPPED, Drawing, draw

if TYPE_CHECKING:
    from matplotlib.axes import Axes


SIZE = (4.6, 3.7)
_LEGEND = {name: name for name in ("90 % interval", "to expect", "it was chosen by", "sealed test")}


def draw_ensemble(ensemble: Mapping[str, Any]) -> list[Drawing]:
    """The charts of a final job that can be drawn of what is known.

    Args:
        ensemble: the content of ensemble.json.
    """
    found = [_draw_estimates(ensemble["scores"]), _draw_members(ensemble)]
    charts: list[tuple[str, str, str, Callable[[Axes, Mapping[str, Any]], None]]] = [
        ("curve", "Blending with the plain average", _says_curve(ensemble), draw_curve),
        ("calibration", "Calibration", _says_calibration(ensemble), draw_calibration),
        ("confusion", "Confusion", _says_confusion(ensemble), draw_confusion),
        ("options", "What a smaller ensemble costs", _says_options(ensemble), draw_options),
    ]
    found += [
        draw(_on(paint, ensemble), name=f"ensemble-{name}", title=title, says=says, size=SIZE)
        for name, title, says, paint in charts
        if ensemble.get(name)
    ]
    return [drawing for drawing in found if drawing is not None]


def _on(paint: "Callable[[Axes, Mapping[str, Any]], None]", ensemble: Mapping[str, Any]) -> "Callable[[Axes], None]":
    """A painter of one ensemble."""
    return lambda axes: paint(axes, ensemble)


def _draw_estimates(scores: Mapping[str, Mapping[str, Any]]) -> Drawing | None:
    """Chosen by, to expect, and sealed: side by side for each row."""
    rows = [(key, scores[key]) for key in reversed(ROWS) if key in scores]
    if not rows:
        return None

    def paint(axes: "Axes") -> None:
        for place, (_, row) in enumerate(rows):
            names: Mapping[str, str | None] = _LEGEND if place == 0 else dict.fromkeys(_LEGEND)
            if row.get("estimate") is not None:
                low, high = row.get("estimate_interval") or (row["estimate"], row["estimate"])
                axes.plot([low, high], [place, place], color=BEST, linewidth=2, label=names["90 % interval"])
                axes.plot(row["estimate"], place, "o", color=BEST, ms=7, label=names["to expect"])
            if row.get("valid") is not None:
                axes.plot(row["valid"], place, "x", color=STOPPED, ms=7, label=names["it was chosen by"])
            if row.get("test") is not None:
                axes.plot(row["test"], place, "D", color=INK, ms=5, label=names["sealed test"])
        axes.set_yticks(range(len(rows)), [ROWS[key] for key, _ in rows])
        axes.set_ylim(-0.6, len(rows) - 0.2)
        axes.set_xlabel("macro-F1")
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=4)

    parts = []
    for key, row in reversed(rows):
        if row.get("estimate") is not None:
            test = f", {row['test']:.4f} on the sealed test" if row.get("test") is not None else ""
            parts.append(f"{ROWS[key]} {row['estimate']:.4f}{test}")
    return draw(
        paint,
        name="estimates",
        title="What to expect",
        says=f"Macro-F1 to expect: {'; '.join(parts)}." if parts else "Nothing could be estimated.",
        size=(6.2, 3.1),
    )


def _draw_members(ensemble: Mapping[str, Any]) -> Drawing | None:
    members = sorted(ensemble["members"], key=lambda member: member["weight"])
    if not members:
        return None

    def paint(axes: "Axes") -> None:
        places = range(len(members))
        colours = [FAINT if member["member"].startswith("t") else BEST for member in members]
        axes.barh(places, [member["weight"] for member in members], color=colours, height=0.6)
        axes.set_yticks(places, [member["member"] for member in members])
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("weight (grey: trials as they were, blue: bags)")

    told = ", ".join(f"{member['member']} {member['weight']:.2f}" for member in reversed(members))
    size = (4.6, 1.1 + 0.25 * max(len(members), 3))
    return draw(paint, name="members", title="Who votes", says=f"Weights: {told}.", size=size)


def _says_curve(ensemble: Mapping[str, Any]) -> str:
    curve = ensemble.get("curve")
    if not curve:
        return ""
    return (
        f"The ensemble alone has {curve['exact'][0]:.4f} on the valid faces, the plain average "
        f"{curve['exact'][-1]:.4f}; in a flat curve the weights hardly matter, and a lone peak is luck."
    )


def _says_calibration(ensemble: Mapping[str, Any]) -> str:
    calibration = ensemble.get("calibration")
    if not calibration:
        return ""
    before, after = calibration["error"]
    return (
        f"Expected calibration error {before:.3f} as averaged, {after:.3f} as shipped, on faces left out of choosing."
    )


def _says_confusion(ensemble: Mapping[str, Any]) -> str:
    confusion = ensemble.get("confusion")
    if not confusion:
        return ""
    classes, worst = ensemble["classes"], (0.0, 0, 0)
    for truth, row in enumerate(confusion):
        for answer, count in enumerate(row):
            if truth != answer and sum(row) > 0:
                worst = max(worst, (count / sum(row), truth, answer))
    share, truth, answer = worst
    confused = f"{100 * share:.0f} % of {classes[truth]} with {classes[answer]}"
    return f"Most often confused, on faces left out of choosing: {confused}."


def _says_options(ensemble: Mapping[str, Any]) -> str:
    front = [
        option for option in ensemble.get("options", ()) if option["is_on_front"] and option["estimate"] is not None
    ]
    told = "; ".join(f"{len(o['members'])} in {o['ms']:.2f} ms, {o['estimate']:.4f}" for o in front)
    return f"Members, of those that none beats in score, time and size: {told}." if told else "Nothing was estimated."

"""Charts of the parameters: what each explains, slices along each, and all of them together."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.ticker import MaxNLocator, NullFormatter, NullLocator
from numpy.typing import NDArray

from search.folder import TrialRecord
from search.report.canvas import BEST, FAINT, GRID, INK, SERIES, WIDE, Drawing, draw, legend_above
from search.report.facts import SearchFacts, backbone_of
from search.report.importance import Importance
from search.settings_text import value_text
from spaces.domains import Choice, Integer, LogUniform, label_of
from spaces.parameters import Parameter

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_SLICES = 9
MOST_AXES = 7
SLICE_SIZE = (3.4, 2.5)
NOT_THERE = -0.12
"""Height at which a trial passes the axis of a parameter that it does not have."""
LONGEST_LABEL = 22
N_LOG_TICKS = 4


def draw_importance(importances: Sequence[Importance], *, of: str = "") -> Drawing | None:
    """What each parameter explains, with what chance would; None where nothing could be measured.

    Args:
        importances: largest excess first.
        of: the backbone whose trials they are of; empty for all trials.
    """
    if not importances:
        return None
    shown = list(reversed(importances[:12]))

    def paint(axes: "Axes") -> None:
        places = range(len(shown))
        colours = [BEST if each.stands_out else FAINT for each in shown]
        axes.barh(places, [each.share for each in shown], color=colours, height=0.6)
        axes.scatter(
            [each.by_chance for each in shown], places, marker="|", s=120, color=INK, label="by chance, at most"
        )
        axes.set_yticks(places, [shorten(each.name, 30) for each in shown])
        axes.set_xlim(left=0.0)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("share of the spread explained")
        legend_above(axes)

    strong = [f"{each.name} ({100 * each.share:.0f} %)" for each in importances if each.stands_out]
    says = (
        f"More than chance would (19 of 20 shuffles): {', '.join(strong)}."
        if strong
        else "None explains more than chance would (19 of 20 shuffles)."
    )
    name = "importance" + (f"-{_plain(of)}" if of else "")
    title = f"Importance among trials of {of}" if of else "Importance of the parameters"
    return draw(paint, name=name, title=title, says=says, size=(4.6, 1.1 + 0.22 * max(len(shown), 3)))


def draw_slices(facts: SearchFacts, importances: Sequence[Importance]) -> list[Drawing]:
    """Score over each of the parameters that explain most; other ones follow in the space's order."""
    told = [each.name for each in importances]
    rest = [each.name for each in facts.space.parameters if each.name not in told]
    names = [*told, *rest][:MOST_SLICES]
    return [found for name in names if (found := _draw_slice(facts, facts.space.parameter(name)))]


def backbone_colours(facts: SearchFacts) -> dict[str, str]:
    """The colours of the backbones in the slices; those of which there are too many have none."""
    return dict(zip(facts.backbones, SERIES, strict=False))


def _draw_slice(facts: SearchFacts, parameter: Parameter) -> Drawing | None:
    own = [record for record in facts.scored if parameter.name in record.values]
    if len(own) < 2:
        return None
    colours = backbone_colours(facts)
    generator = np.random.default_rng(0)

    def paint(axes: "Axes") -> None:
        for backbone in dict.fromkeys(map(backbone_of, own)):
            mine = [record for record in own if backbone_of(record) == backbone]
            places = _places(parameter, mine, generator)
            scores = [record.best_macro_f1 or 0.0 for record in mine]
            colour = colours.get(backbone, FAINT)
            axes.scatter(places, scores, s=14, color=colour, alpha=0.8)
        _scale(axes, parameter)
        axes.set_ylabel("macro-F1")

    best = own[0]
    value = value_text(best.values[parameter.name])
    says = f"{len(own)} scored trials have it; the best of them, {best.trial_id}, has {value}."
    name = f"slice-{_plain(parameter.name)}"
    return draw(paint, name=name, title=parameter.name, says=says, size=SLICE_SIZE)


def _places(parameter: Parameter, records: Sequence[TrialRecord], generator: np.random.Generator) -> NDArray[Any]:
    """Along the horizontal axis: a number itself, an option's place with some jitter."""
    values = [record.values[parameter.name] for record in records]
    if isinstance(parameter.domain, Choice):
        labels = _labels(parameter)
        at = [labels.index(label) if (label := _label(value)) in labels else -1 for value in values]
        return np.array(at) + generator.uniform(-0.12, 0.12, len(at))
    return np.asarray(values, dtype=np.float64)


def _scale(axes: "Axes", parameter: Parameter) -> None:
    if isinstance(parameter.domain, Choice):
        labels = [shorten(label) for label in _labels(parameter)]
        turned: Any = {"rotation": 30, "ha": "right"} if sum(map(len, labels)) > 30 else {}
        axes.set_xticks(range(len(labels)), labels, **turned)
        axes.set_xlim(-0.5, len(labels) - 0.5)
    elif is_log(parameter):
        axes.set_xscale("log")
        ticks = np.geomspace(float(parameter.domain.low), float(parameter.domain.high), N_LOG_TICKS)
        axes.set_xticks(
            ticks, [f"{tick:.0f}" if isinstance(parameter.domain, Integer) else f"{tick:.2g}" for tick in ticks]
        )
        axes.minorticks_off()
    elif isinstance(parameter.domain, Integer):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def draw_parallel(facts: SearchFacts, importances: Sequence[Importance]) -> Drawing | None:
    """Every scored trial as a line through the parameters that explain most, coloured by its score."""
    names = [each.name for each in importances][:MOST_AXES]
    if len(names) < 2 or len(facts.scored) < 3:
        return None
    parameters = [facts.space.parameter(name) for name in names]
    ordered = list(reversed(facts.scored))  # the best are drawn last, above the others
    scores = np.array([record.best_macro_f1 or 0.0 for record in ordered])
    span = Normalize(float(np.quantile(scores, 0.1)), float(scores.max()))
    colours = ListedColormap(colormaps["viridis"](np.linspace(0.25, 0.92, 64)))  # its ends vanish on black, on white

    def paint(axes: "Axes") -> None:
        heights = [
            [*(_height(each, record) for each in parameters), _height_of_score(score, span)]
            for record, score in zip(ordered, scores.tolist(), strict=True)
        ]
        lines = [list(enumerate(line)) for line in heights]
        widths = np.where(np.arange(len(lines)) >= len(lines) - 5, 2.0, 0.7)
        axes.add_collection(
            LineCollection(lines, array=scores, cmap="viridis", norm=span, linewidths=widths, alpha=0.8)
        )
        axes.set_xlim(-0.3, len(parameters) + 0.3)
        axes.set_ylim(NOT_THERE - 0.06, 1.14)
        axes.set_xticks(range(len(parameters) + 1), _staggered([*(shorten(p.name) for p in parameters), "macro-F1"]))
        axes.yaxis.set_major_locator(NullLocator())
        axes.yaxis.set_major_formatter(NullFormatter())
        axes.grid(visible=False)
        for place, each in enumerate(parameters):
            axes.axvline(place, color=GRID, linewidth=1, zorder=0)
            for height, text in _ends(each):
                axes.text(place, height, text, fontsize=7, ha="center", va="bottom", color=INK)
        axes.axvline(len(parameters), color=GRID, linewidth=1, zorder=0)
        axes.figure.colorbar(ScalarMappable(span, colours), ax=axes, label="macro-F1", pad=0.01, fraction=0.03)

    best = ", ".join(f"{each.name} = {value_text(facts.scored[0].values[each.name])}" for each in parameters
                     if each.name in facts.scored[0].values)  # fmt: skip
    says = f"Each line is one of {len(ordered)} scored trials, the best five bold. The best has {best}."
    return draw(paint, name="parallel", title="All together", says=says, size=WIDE)


def _staggered(labels: Sequence[str]) -> list[str]:
    """Every second one a line lower, so that neighbours do not meet."""
    return [f"\n{label}" if place % 2 else label for place, label in enumerate(labels)]


def _height_of_score(score: float, span: Normalize) -> float:
    low, high = span.vmin or 0.0, span.vmax or 0.0
    return max(NOT_THERE, (score - low) / (high - low)) if high > low else 0.5


def _height(parameter: Parameter, record: TrialRecord) -> float:
    """Of a value between the ends of its domain, 0..1; below where the trial has none."""
    if parameter.name not in record.values:
        return NOT_THERE
    value, domain = record.values[parameter.name], parameter.domain
    if isinstance(domain, Choice):
        labels = _labels(parameter)
        return labels.index(_label(value)) / max(len(labels) - 1, 1) if _label(value) in labels else NOT_THERE
    ends = np.array([domain.low, value, domain.high], dtype=np.float64)
    low, at, high = np.log(ends) if is_log(parameter) else ends
    return float((at - low) / max(high - low, 1e-12))


def _ends(parameter: Parameter) -> list[tuple[float, str]]:
    """What is written along a parameter's axis, and how high."""
    if isinstance(parameter.domain, Choice):
        labels = _labels(parameter)
        return [(i / max(len(labels) - 1, 1), shorten(label, 14)) for i, label in enumerate(labels)]
    return [(0.0, f"{parameter.domain.low:g}"), (1.0, f"{parameter.domain.high:g}")]


def is_log(parameter: Parameter) -> bool:
    """Whether its values are spread over orders of magnitude."""
    domain = parameter.domain
    return isinstance(domain, LogUniform) or (isinstance(domain, Integer) and domain.log)


def shorten(name: str, n_chars: int = LONGEST_LABEL) -> str:
    """A name that fits beside a chart; of a path, its end."""
    name = name.rsplit("/", 1)[-1]
    return name if len(name) <= n_chars else name[: n_chars - 3] + "..."


def _labels(parameter: Parameter) -> list[str]:
    assert isinstance(parameter.domain, Choice)
    return list(parameter.domain.labels)


def _label(value: Any) -> str:
    return label_of(tuple(value) if isinstance(value, list) else value)


def _plain(name: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in name).strip("-").lower()

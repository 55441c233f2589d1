"""Figures as a report shows them: SVG within the page, whose colours follow the reader's light or dark theme.

matplotlib draws with a few fixed colours. In the SVG each becomes a variable of the page's style sheet.
"""

import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, FAINT, GRID = "#1b1f25", "#6b7281", "#d1d5dc"
SERIES = ("#1f5fa8", "#c8641e", "#2e8b58", "#8a4fbf", "#b8860c", "#c2366b", "#1593a6", "#7a6a59")
"""Told apart by people who see colours differently, on white and on black."""
BEST, STOPPED, WRONG = SERIES[0], SERIES[1], SERIES[5]

ROLES = {INK: "ink", FAINT: "faint", GRID: "grid"} | {colour: f"s{i}" for i, colour in enumerate(SERIES, start=1)}
"""Colour to the variable that takes its place in a page."""

SMALL, WIDE = (4.6, 3.1), (9.2, 3.9)
"""Inches."""
PX_PER_INCH = 96
"""Of a page that is wide enough; a figure shrinks to two thirds before it has to be scrolled."""

_SETTINGS: Any = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9.0,
    "text.color": INK,
    "axes.edgecolor": FAINT,
    "axes.facecolor": "none",
    "axes.labelcolor": INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9.5,
    "figure.facecolor": "none",
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 8.0,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
}

_COLOUR = re.compile("|".join(ROLES), re.IGNORECASE)
_ID = re.compile(r'(\bid="|href="#|url\(#)')


@dataclass(frozen=True)
class Drawing:
    """A figure of a report.

    Attributes:
        name: within the page, of letters and dashes.
        title: short.
        says: what is to be seen in it, in a sentence or two, also for those who can't see it.
        figure: that was drawn.
    """

    name: str
    title: str
    says: str
    figure: Figure

    @property
    def width_px(self) -> int:
        """How wide it stands in a page that is wide enough."""
        return round(PX_PER_INCH * float(self.figure.get_figwidth()))

    def to_svg(self) -> str:
        """One `svg` element whose identifiers are the page's only ones of their kind."""
        content = io.StringIO()
        with matplotlib.rc_context({**_SETTINGS, "svg.hashsalt": self.name}):
            self.figure.savefig(content, format="svg", metadata={"Date": None, "Creator": None, "Type": None})
        text = content.getvalue()
        text = text[text.index("<svg") :]
        text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
        text = _ID.sub(lambda found: f"{found[0]}{self.name}-", text)
        text = _COLOUR.sub(lambda found: f"var(--{ROLES[found[0].lower()]})", text)
        width, height = (72 * inches for inches in self.figure.get_size_inches())
        style = f"width: {self.width_px}px; min-width: {2 * self.width_px // 3}px; max-width: 100%"
        head = f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-labelledby="{self.name}-says" '
        head += f'style="{style}" xmlns:xlink="http://www.w3.org/1999/xlink">'
        return head + text[text.index(">") + 1 :]

    def save(self, file: Path) -> None:
        """Write it as it is, on white: SVG, PNG or PDF by the file's ending."""
        with matplotlib.rc_context({**_SETTINGS, "svg.hashsalt": self.name}):
            metadata = {"Date": None} if file.suffix == ".svg" else None
            self.figure.savefig(file, dpi=PX_PER_INCH, facecolor="white", metadata=metadata)

    def _repr_png_(self) -> bytes:
        """As a notebook shows it, on white."""
        content = io.BytesIO()
        with matplotlib.rc_context(_SETTINGS):
            self.figure.savefig(content, format="png", dpi=PX_PER_INCH, facecolor="white")
        return content.getvalue()


def legend_above(axes: "Axes", *, ncols: int = 3) -> None:
    """Names of what is drawn, where they hide none of it."""
    axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=ncols, borderaxespad=0.2)


def draw(
    paint: "Callable[[Axes], None]", *, name: str, title: str, says: str, size: tuple[float, float] = SMALL
) -> Drawing:
    """A drawing on one pair of axes.

    Args:
        paint: puts it there.
        name, title, says: of the drawing.
        size: inches, width and height.
    """
    with matplotlib.rc_context(_SETTINGS):
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasSVG(figure)
        paint(figure.add_subplot())
    return Drawing(name, title, says, figure)

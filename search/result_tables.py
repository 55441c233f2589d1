"""The tables that end a final job: what searching gained, what to expect, what it costs."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from search.comparison import ROWS
from search.ensemble.selection import METHODS

FLATTERED = "valid chose the trials and the ensemble, so it flatters them; the sealed test had no part in choosing"


def print_scores(scores: Mapping[str, Mapping[str, Any]], *, console: Console) -> None:
    """Print the comparison that ends a search.

    Args:
        scores: by row (any may be missing): macro-F1 in 0..1 as `valid`, `estimate` and `test`, and `optimism`, each
            None or missing where unknown; `estimate_interval` is (low, high).
        console: where to print.
    """
    table = _table("macro-F1", "", "valid", "optimism", "estimate (90 %)", "test")
    for key, label in ROWS.items():
        if key in scores:
            row = scores[key]
            estimate = _number(row.get("estimate")) + _interval(row.get("estimate_interval"))
            cells = (_number(row.get("valid")), _signed(row.get("optimism")), estimate, _number(row.get("test")))
            table.add_row(label, *cells, style="bold" if key == "ensemble" else "")
    console.print(table)
    console.print(FLATTERED, style="dim")


def print_summary(summary: Mapping[str, Any], *, console: Console) -> None:
    """Print what a final job found: scores, gains, members, other faces, what to know."""
    print_scores(summary["scores"], console=console)
    for row, found in summary.get("differences", {}).items():
        console.print(f"ensemble against the {ROWS[row]}: {_difference(found)}", markup=False)
    others = summary.get("others")
    if others:
        print_others(others, console=console)
    unseen = summary.get("out_of_bag")
    if unseen:
        console.print(f"out of bag: {unseen['macro_f1']:.4f} on {unseen['n']:,} training faces that a bag did not see")
    members = ", ".join(f"{m['member']} {m['weight']:.2f}" for m in summary["members"])
    words = METHODS[summary["method"]].words
    console.print(f"members ({words}): {members}", markup=False)
    for note in summary.get("notes", ()):
        console.print(f"note: {note}", markup=False, style="dim")
    if summary["n_test_reads"] > 1:
        reads = f"the sealed test has now been read {summary['n_test_reads']} times for this search"
        console.print(reads, markup=False)


def print_methods(methods: Sequence[Mapping[str, Any]], *, console: Console) -> None:
    """Print what every way to choose gives, by how much it fits to the valid faces."""
    table = _table("ways to choose the members (* taken)", "", "valid", "optimism", "estimate (90 %)")
    for found in methods:
        estimate = _number(found["estimate"]) + _interval(found["estimate_interval"])
        words = METHODS[found["method"]].words
        mark = "* " if found["chosen"] else "  "
        cells = (_number(found["valid"]), _signed(found["optimism"]), estimate)
        table.add_row(mark + words, *cells, style="bold" if found["chosen"] else "")
    console.print(table)


def print_options(options: Sequence[Mapping[str, Any]], *, console: Console) -> None:
    """Print the ensembles to pick from that no other beats in score, time and size."""
    table = _table("what a smaller one costs", "members", "looks", "estimate (90 %)", "ms an image", "MB")
    for option in options:
        if option["is_on_front"]:
            interval = None if option["low"] is None else (option["low"], option["high"])
            estimate = _number(option["estimate"]) + _interval(interval)
            costs = (f"{option['ms']:.2f}", f"{option['megabytes']:.1f}")
            table.add_row(str(len(option["members"])), option["looks"], estimate, *costs)
    console.print(table)


def print_others(others: Mapping[str, Any], *, console: Console) -> None:
    """Print the rows on faces of another kind."""
    table = _table("", "", "estimate (90 %)" if others["is_joined"] else "score (90 %)")
    for key, label in ROWS.items():
        if key in others["scores"]:
            row = others["scores"][key]
            cell = _number(row["score"]) + _interval(row["interval"])
            table.add_row(label, cell, style="bold" if key == "ensemble" else "")
    console.print(f"macro-F1 on {others['n']:,} faces of {others['faces']}", markup=False, style="italic")
    console.print(table)
    for row, found in others["differences"].items():
        console.print(f"there, ensemble against the {ROWS[row]}: {_difference(found)}", markup=False)


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="dim")
    for place, column in enumerate(columns):
        table.add_column(column, justify="left" if place == 0 else "right", no_wrap=True)
    return table


def _difference(found: Mapping[str, float]) -> str:
    return f"{_signed(found['difference'])} ({found['low']:+.3f} to {found['high']:+.3f})"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.4f}"


def _interval(interval: Sequence[float] | None) -> str:
    return f" ({interval[0]:.3f} to {interval[1]:.3f})" if interval else ""

"""The page: the paper's figures beside ours, for a terminal and as Markdown, and what must be known to read it."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable

Document = Mapping[str, Any]

COLUMNS = ("row", "paper", "ours", "also", "note")
WIDTH = 100
"""Columns of the terminal's page."""


def print_page(document: Document, console: Console) -> None:
    """The page on a terminal, 100 columns wide."""
    table = RichTable(width=WIDTH, show_edge=False, pad_edge=False)
    for name in _columns(document):
        table.add_column(name, no_wrap=name not in ("row", "note"), overflow="fold", ratio=_RATIOS.get(name))
    for row in document["rows"]:
        table.add_row(*(escape(cell) for cell in _cells(row, document)))
    head = f"Paper {document['paper']}, table {document['table']}: {document['title']}"
    console.print(f"[bold]{escape(head)}[/bold]", width=WIDTH)
    for sentence in before(document):
        console.print(escape(sentence), width=WIDTH)
    console.print()
    console.print(table)
    console.print()
    for sentence in after(document):
        console.print(escape(sentence), width=WIDTH)


_RATIOS = {"row": 4, "note": 5}


def to_markdown(document: Document) -> str:
    """The page as Markdown."""
    head = f"# Paper {document['paper']}, table {document['table']}: {document['title']}"
    columns = _columns(document)
    lines = [head, "", *before(document), "", _line(columns), _line(["---"] * len(columns))]
    lines += [_line([cell.replace("\n", "<br>") for cell in _cells(row, document)]) for row in document["rows"]]
    return "\n".join([*lines, "", *(f"- {sentence}" for sentence in after(document))]) + "\n"


def before(document: Document) -> list[str]:
    """What has to be known before the figures are read."""
    data, also = document["data"], document["also"]
    sentences = [
        f"{document['citation']}.",
        f"The data differ. The paper's figures: {document['their_metric']}, {document['their_faces']}"
        + (f"; beside them {document['their_also_faces']}" if document["their_also_faces"] else "")
        + ". These faces are not public.",
        f"Ours: {_our_metric(document)}, on {_faces(data)}; train split: {data['n_train']} faces of {data['path']}.",
        "Compare the order of the rows and the steps between them, not the figures themselves.",
    ]
    if also:
        sentences.insert(3, f"Also: the same networks on {_faces(also)} of {also['path']}; nothing was chosen there.")
    return sentences


def after(document: Document) -> list[str]:
    """How the figures came about."""
    sentences = [*document["remarks"]]
    if document["random_start"]:
        sentences.append(
            "Every trained network started from random weights, the paper's from pre-trained ones: "
            "--fix model.weights=hub, or a file."
        )
    sentences.append(_intervals(document))
    sentences.append("Each trial's best epoch was chosen on the valid faces that it is scored on.")
    if document["n_seeds"] > 1:
        seeds = f"{document['first_seed']} to {document['first_seed'] + document['n_seeds'] - 1}"
        sentences.append(f"Mean of seeds {seeds}, +- their standard deviation; intervals are means of the seeds' ends.")
    sentences.append(_settings(document))
    sentences += [
        f"--fix {name} left alone the rows that set it themselves: {', '.join(keys)}."
        for name, keys in document["left_alone"].items()
    ]
    return sentences


def _columns(document: Document) -> list[str]:
    return [name for name in COLUMNS if name != "also" or document["also"]]


def _cells(row: Document, document: Document) -> list[str]:
    title = f"  {row['title']}" if row["is_member"] else row["title"]
    cells = {
        "row": title,
        "paper": _published(row),
        "ours": _score(row["ours"]),
        "also": _score(row["also"]),
        "note": _note(row, unit="people" if document["data"]["n_subjects"] > 1 else "faces"),
    }
    return [cells[name] for name in _columns(document)]


def _published(row: Document) -> str:
    figures = [row["published"], row["published_also"]]
    return " / ".join(_as_printed(figure) for figure in figures if figure is not None)


def _as_printed(figure: float) -> str:
    """Without noughts that the paper does not print: 0.5332, 0.71, 1.157."""
    return f"{figure:.4f}".rstrip("0").ljust(4, "0")


def _score(measured: Document | None) -> str:
    if measured is None:
        return "-"
    spread = "" if measured["spread"] is None else f"\n+- {measured['spread']:.4f}"
    return f"{measured['score']:.4f} [{measured['low']:.3f}, {measured['high']:.3f}]{spread}"


def _note(row: Document, *, unit: str) -> str:
    if row["no_score"]:
        return str(row["no_score"])
    notes = list(row["notes"])
    parts = row["ours"]["parts"] if row["ours"] else {}
    if parts:
        notes.append(", ".join(f"{name} {value:.3f}" for name, value in parts.items()))
    if row["chosen"]:
        notes.append(f"{row['chosen']}: chosen on these faces, {_expectation(row['expected'], unit)}")
    return "; ".join(notes)


def _expectation(expected: Document | None, unit: str) -> str:
    if expected is None:
        return "too high for others"
    interval = "" if expected["low"] is None else f" [{expected['low']:.3f}, {expected['high']:.3f}]"
    return f"on other {unit} expect {expected['score']:.4f}{interval}"


def _our_metric(document: Document) -> str:
    n_classes = len(document["data"]["classes"])
    if document["metric"] == "p_mtl":
        return f"P_MTL, the sum of those of its parts that are known (macro-F1 over {n_classes} classes first)"
    return f"macro-F1 over {n_classes} classes"


def _faces(data: Document) -> str:
    n_people = data["n_subjects"]
    people = f" of {n_people} {'people' if n_people > 1 else 'person'}" if n_people else ""
    return f"{data['n_valid']} valid faces{people} ({', '.join(data['classes'])})"


def _intervals(document: Document) -> str:
    scored = [row["ours"] for row in document["rows"] if row["ours"]]
    if not scored:
        return "No row has a score."
    what = "people" if scored[0]["unit"] == "subject" else "faces"
    return f"Intervals: 95 %, percentiles of a bootstrap that draws {what} ({scored[0]['n_units']})."


def _settings(document: Document) -> str:
    told = [f"{name}={value}" for name, value in document["fixes"].items()]
    told += [f"{row}:{name}={v}" for row, fixes in document["row_fixes"].items() for name, v in fixes.items()]
    if document["epochs"] is not None:
        told.append(f"epochs {document['epochs']}")
    changed = f", with {', '.join(told)}" if told else ""
    return f"Settings: the default of preset {document['preset']}{changed}, and what each row sets."


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

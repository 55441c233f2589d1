"""What a reproduction found, as plain values: the content of reproduce.json, from which the page is written."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from search.reproduce.measures import Faces, Measured, mean_of, measure
from search.reproduce.rows import Answers, Told
from search.reproduce.space import RowSpace, Wishes, labels_of, left_alone
from search.reproduce.tables import Paper, Row, Table
from trainables.data.table import FaceTable


@dataclass(frozen=True)
class Evidence:
    """What there is to compare with the published figures.

    Attributes:
        told: per repetition, what every row says, by key.
        valid: the faces of these answers.
        also: the other faces.
        faces: the table that was trained on.
        other: the table of the other faces.
    """

    told: Sequence[Mapping[str, Told]]
    valid: Faces
    also: Faces | None
    faces: FaceTable
    other: FaceTable | None


def page_document(
    paper: Paper, table: Table, wishes: Wishes, row_space: RowSpace, evidence: Evidence
) -> dict[str, Any]:
    """Everything that the page says, rows in the paper's order."""
    settings = [row_space.space.to_settings(point) for point in row_space.space.initial_points()]
    return {
        "paper": paper.number,
        "table": table.number,
        "title": table.title,
        "citation": paper.citation,
        "preset": table.preset,
        "metric": table.metric,
        "their_metric": table.metric_words,
        "their_faces": table.faces,
        "their_also_faces": table.also_faces,
        "data": _table_document(evidence.faces, evidence.valid),
        "also": None
        if evidence.other is None or evidence.also is None
        else _table_document(evidence.other, evidence.also),
        "n_seeds": wishes.n_seeds,
        "first_seed": wishes.seed,
        "epochs": wishes.epochs,
        "fixes": {name: _plain(value) for name, value in wishes.fixes.items()},
        "row_fixes": {row: {name: _plain(v) for name, v in fixes.items()} for row, fixes in wishes.row_fixes.items()},
        "left_alone": left_alone(table, wishes, labels=labels_of(evidence.faces)),
        "random_start": all(each[name] == "none" for each in settings for name in _ORIGINS),
        "remarks": list(table.remarks),
        "rows": [row_document(row, table, [told[row.key] for told in evidence.told], evidence) for row in table.rows],
    }


_ORIGINS = ("model.weights", "model.start", "branches.appearance_weights", "hand.weights")
"""Settings that bring weights."""


def row_document(row: Row, table: Table, told: Sequence[Told], evidence: Evidence) -> dict[str, Any]:
    """One row: the paper's figures, ours over all repetitions, and what to know.

    Args:
        row: of the table.
        table: of a paper.
        told: what the row says in each repetition.
        evidence: whose faces the answers are of.
    """
    there = [each for each in told if isinstance(each, Answers)]
    reasons = list(dict.fromkeys(each for each in told if isinstance(each, str)))
    notes = list(dict.fromkeys(note for each in there for note in each.notes))
    if there and reasons:
        notes.append(f"{len(there)} of {len(told)} seeds: {'; '.join(reasons)}")
    found: dict[str, Any] = {
        "key": row.key,
        "title": row.title.strip(),
        "is_member": row.title.startswith(" "),
        "published": row.published,
        "published_also": row.published_also,
        "ours": None,
        "also": None,
        "chosen": "",
        "expected": None,
        "notes": [*([row.note] if row.note else []), *notes],
        "no_score": "" if there else "; ".join(reasons),
    }
    if not there:
        return found
    metric = table.metric
    found["ours"] = asdict(mean_of([measure(each.valid, evidence.valid, metric=metric) for each in there]))
    found["also"] = _also(there, table, evidence)
    found["chosen"] = " / ".join(dict.fromkeys(each.chosen for each in there if each.chosen))
    found["expected"] = _expected(there)
    return found


def _also(there: Sequence[Answers], table: Table, evidence: Evidence) -> dict[str, Any] | None:
    if evidence.also is None:
        return None
    measures: list[Measured] = [
        measure(each.also, evidence.also, metric=table.metric) for each in there if each.also is not None
    ]
    return asdict(mean_of(measures)) if measures else None


def _expected(there: Sequence[Answers]) -> dict[str, float | None] | None:
    """Means over the repetitions."""
    found = [asdict(each.expected) for each in there if each.expected is not None]
    if not found:
        return None
    return {
        name: None if any(each[name] is None for each in found) else sum(each[name] for each in found) / len(found)
        for name in ("score", "low", "high")
    }


def _table_document(table: FaceTable, faces: Faces) -> dict[str, Any]:
    return {
        "path": table.origin,
        "content_hash": table.info.content_hash,
        "n_train": table.info.rows["train"],
        "n_valid": int((faces.labels >= 0).sum()),
        "n_subjects": len({faces.subjects[row] for row in np.flatnonzero(faces.labels >= 0)} - {None}),
        "classes": [faces.classes[index] for index in faces.counted],
    }


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value

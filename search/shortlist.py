"""Which candidates may vote: broken ones are refused by name, copies left out; and what is odd about the faces."""

from collections.abc import Sequence

import numpy as np

from search.candidates import Candidate
from search.ensemble.model_library import Kind
from spaces.errors import EnsembleError
from trainables.data.table import FaceTable


def shortlist(candidates: Sequence[Candidate], table: FaceTable) -> tuple[list[Candidate], list[str]]:
    """The candidates that can vote together, and a sentence for each that can't.

    Args:
        candidates: of one search.
        table: of the search.

    Raises:
        EnsembleError: none is left; it says why of each.
    """
    split = table.split("valid")
    samples, classes = tuple(split.sample_ids), tuple(table.info.classes)
    kept: list[Candidate] = []
    notes: list[str] = []
    seen: dict[bytes, str] = {}
    for candidate in candidates:
        reason = _fault(candidate, samples=samples, classes=classes)
        if reason:
            notes.append(f"{candidate.key} left out: {reason}")
            continue
        content = np.ascontiguousarray(candidate.scores.logits).tobytes()
        if content in seen:
            notes.append(f"{candidate.key} left out: it says the same as {seen[content]}")
            continue
        seen[content] = candidate.key
        kept.append(candidate)
    if not kept:
        why = "; ".join(notes) or "no trial has scores and weights"
        raise EnsembleError(f"an ensemble must have a candidate with usable scores, got none: {why}")
    return kept, notes


def notes_on_faces(kind: Kind, classes: Sequence[str]) -> list[str]:
    """What makes estimates on these faces less sure than they look, in sentences."""
    faces = kind.faces
    notes = []
    if kind.unit == "row":
        notes.append("people are not known: estimates and intervals are by face, as if each were another person")
    per_class = np.bincount(faces.labels, minlength=len(classes))
    absent = [name for name, count in zip(classes, per_class.tolist(), strict=True) if count == 0]
    if absent:
        notes.append(f"no valid face is {' or '.join(absent)}: its F1 counts as 0 in every score")
    if kind.unit == "subject":
        for index, name in enumerate(classes):
            owners = np.unique(kind.units[faces.labels == index])
            if len(owners) == 1:
                notes.append(
                    f"all valid faces that are {name} are of one person: how well others' are told is not known"
                )
    return notes


def notes_on_scores(candidates: Sequence[Candidate], alone: Sequence[float], default: str) -> list[str]:
    """What the candidates' own scores say of the search, in sentences."""
    trials = {c.key: score for c, score in zip(candidates, alone, strict=True) if c.is_trial}
    notes = []
    if len(candidates) == 1:
        notes.append(f"{candidates[0].key} is the only candidate: the ensemble is this one network")
    elif default in trials and len(trials) > 1 and max(trials, key=lambda key: trials[key]) == default:
        notes.append("no trial is better than the default on the valid faces")
    return notes


def _fault(candidate: Candidate, *, samples: tuple[str, ...], classes: tuple[str, ...]) -> str:
    """Why a candidate can't vote; empty where it can."""
    scores = candidate.scores
    if scores.classes != classes:
        missing = [name for name in classes if name not in scores.classes]
        if missing:
            return f"its scores must have every class of the table, got none for {', '.join(missing)}"
        return f"its scores must have the classes in the table's order, got {', '.join(scores.classes)}"
    if scores.sample_ids != samples:
        return "its scores must be of the valid faces of the search's table, got other faces"
    bad = int((~np.isfinite(scores.logits)).any(axis=1).sum())
    if bad:
        return f"its scores must be finite, got {bad} of {len(samples)} faces with NaN or infinity"
    return ""

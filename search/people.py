"""How an ensemble does by person, and by group of people where the face table tells groups apart."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from search.comparison import Choice
from search.ensemble.macro_f1 import macro_f1_of_confusions
from search.ensemble.model_library import Library

FEWEST_FACES = 5
"""Of a person, for an accuracy that means something."""
FEWEST_PEOPLE = 10
GROUP_MARK = "/"
"""Between a person's table and name, where tables were merged."""


def score_people(choice: Choice, library: Library, subjects: Sequence[str | None]) -> dict[str, Any] | None:
    """Scores by person and by group, on faces left out of choosing.

    Args:
        choice: with a judgement.
        library: that it was made in.
        subjects: [samples], of the labelled valid faces.

    Returns:
        `n` people with `fewest_faces` or more; accuracy of the worst tenth (`low`), the `median`, and the best tenth
        (`high`); `groups`: of tables that were merged, (faces, macro-F1) by name. None where too few people are known.
    """
    kind = library.kinds[0]
    if choice.judgement is None or kind.unit != "subject":
        return None
    cross = choice.judgement.cross
    confusions = cross.confusions[0][cross.place(choice.method)]  # [units, classes, classes]
    n_faces = confusions.sum(axis=(1, 2))
    enough = n_faces >= FEWEST_FACES - 0.5
    if enough.sum() < FEWEST_PEOPLE:
        return None
    right = np.trace(confusions[enough], axis1=1, axis2=2) / n_faces[enough]
    low, median, high = np.quantile(right, [0.1, 0.5, 0.9])
    groups = _groups(subjects)
    names = sorted({name for name in groups if name})
    members = {name: np.unique(kind.units[np.array(groups) == name]) for name in names} if len(names) > 1 else {}
    return {
        "n": int(enough.sum()),
        "fewest_faces": FEWEST_FACES,
        "low": float(low),
        "median": float(median),
        "high": float(high),
        "groups": {
            name: (round(float(n_faces[units].sum())), float(macro_f1_of_confusions(confusions[units].sum(axis=0))))
            for name, units in members.items()
        },
    }


def _groups(subjects: Sequence[str | None]) -> list[str]:
    """The table that each person comes from, empty where that is not told."""
    return [name.partition(GROUP_MARK)[0] if name and GROUP_MARK in name else "" for name in subjects]

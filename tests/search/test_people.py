"""How an ensemble does by person, and by group of people."""

from typing import Any

import numpy as np
import pytest

from search.comparison import Choice
from search.ensemble.crossfit import CrossFit, fixed_answers
from search.ensemble.estimate import judge
from search.ensemble.model_library import Library, make_kind, plain_traits
from search.people import FEWEST_PEOPLE, score_people
from trainables.metrics import macro_f1

N_PEOPLE, N_FACES = 20, 8
LABELS = np.arange(N_PEOPLE * N_FACES) % 2
PERSON = np.arange(N_PEOPLE * N_FACES) // N_FACES


def said(n_right: Any) -> Any:
    """Classes that are right about the first faces of each person, as many as are given for it."""
    place = np.arange(len(PERSON)) % N_FACES
    return np.where(place < np.asarray(n_right)[PERSON], LABELS, 1 - LABELS)


def choose(preds: Any, subjects: list[str | None] | None) -> tuple[Choice, Library]:
    kind = make_kind(np.eye(2)[preds][None] * 0.8 + 0.1, LABELS, subjects)
    library = Library((kind,), plain_traits(1))
    cross: CrossFit = fixed_answers(kind, {"ensemble": np.ones(1)})
    return Choice("ensemble", {}, {}, judgement=judge(cross, library, among=["ensemble"])), library


def names(prefix: str = "") -> list[str | None]:
    return [f"{prefix}p{person:02}" for person in PERSON.tolist()]


def test_people_are_told_by_their_worst_middle_and_best() -> None:
    n_right = np.array([2] * 3 + [4] * 9 + [8] * 8)
    subjects = names()

    found = score_people(*choose(said(n_right), subjects), subjects)

    assert found == {"n": 20, "fewest_faces": 5, "low": 0.25, "median": 0.5, "high": 1.0, "groups": {}}


def test_groups_of_merged_tables_are_told_apart() -> None:
    preds = said(np.where(np.arange(N_PEOPLE) < 5, 8, 5))
    subjects = [f"lab/{name}" if person < 5 else f"wild/{name}" for name, person in zip(names(), PERSON, strict=True)]

    found = score_people(*choose(preds, subjects), subjects)

    is_wild = PERSON >= 5
    assert found is not None
    assert list(found["groups"]) == ["lab", "wild"]
    assert found["groups"]["lab"] == (40, 1.0)
    n_faces, score = found["groups"]["wild"]
    assert n_faces == 120
    assert score == pytest.approx(macro_f1(LABELS[is_wild], preds[is_wild], 2))


def test_one_group_alone_is_none() -> None:
    subjects = names("lab/")

    found = score_people(*choose(said([8] * N_PEOPLE), subjects), subjects)

    assert found is not None and found["groups"] == {}


def test_people_without_a_group_are_in_none() -> None:
    subjects = [
        f"lab/{name}" if person < 6 else f"wild/{name}" if person < 12 else name
        for name, person in zip(names(), PERSON, strict=True)
    ]

    found = score_people(*choose(said([8] * N_PEOPLE), subjects), subjects)

    assert found is not None
    assert {name: n for name, (n, _) in found["groups"].items()} == {"lab": 48, "wild": 48}


def test_people_with_too_few_faces_do_not_count() -> None:
    subjects: list[str | None] = [
        f"{name}-{row % N_FACES // 4}" if person < 4 else name  # four people cut in halves of four faces
        for row, (name, person) in enumerate(zip(names(), PERSON, strict=True))
    ]

    found = score_people(*choose(said([8] * N_PEOPLE), subjects), subjects)

    assert found is not None and found["n"] == 16


@pytest.mark.parametrize("n_known", [0, FEWEST_PEOPLE - 1], ids=["nobody", "too few"])
def test_nothing_is_told_where_too_few_people_are_known(n_known: int) -> None:
    subjects = [name if person < n_known else None for name, person in zip(names(), PERSON, strict=True)]

    assert score_people(*choose(said([8] * N_PEOPLE), subjects), subjects) is None


def test_nothing_is_told_where_nothing_was_estimated() -> None:
    subjects = names()
    _, library = choose(said([8] * N_PEOPLE), subjects)

    assert score_people(Choice("uniform", {}, {}), library, subjects) is None

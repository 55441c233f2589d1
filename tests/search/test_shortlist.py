"""Who may vote: the broken and the doubled are left out by name, and what is odd is said."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from search.candidates import Candidate
from search.ensemble.model_library import make_kind
from search.shortlist import notes_on_faces, notes_on_scores, shortlist
from spaces.config import TrialConfig
from spaces.errors import EnsembleError
from trainables.data.table import FaceTable
from trainables.scores import Scores


def candidate(key: str, table: FaceTable, *, seed: int = 0) -> Candidate:
    split, classes = table.split("valid"), tuple(table.info.classes)
    logits = np.random.default_rng(seed).normal(size=(len(split), len(classes))).astype(np.float32)
    scores = Scores(tuple(split.sample_ids), tuple(split.subjects), split.expression, logits, classes)
    return Candidate(key, Path(key), dict(TrialConfig().to_flat()), scores, is_complete=True)


def with_scores(whole: Candidate, **changes: object) -> Candidate:
    return replace(whole, scores=replace(whole.scores, **changes))  # type: ignore[arg-type]


def with_classes(whole: Candidate, columns: Sequence[int]) -> Candidate:
    classes = tuple(whole.scores.classes[column] for column in columns)
    return with_scores(whole, classes=classes, logits=whole.scores.logits[:, list(columns)])


def broken(kind: str, table: FaceTable) -> Candidate:
    whole = candidate("t0007", table, seed=7)
    logits = whole.scores.logits.copy()
    logits[[3, 5], 1] = np.nan if kind == "nan" else np.inf
    return {
        "nan": with_scores(whole, logits=logits),
        "infinite": with_scores(whole, logits=logits),
        "class missing": with_classes(whole, [0, 1, 2, 3, 4]),
        "other order": with_classes(whole, [1, 0, 2, 3, 4, 5]),
        "other faces": with_scores(whole, sample_ids=whole.scores.sample_ids[::-1]),
        "fewer faces": with_scores(whole, sample_ids=whole.scores.sample_ids[1:], logits=whole.scores.logits[1:]),
    }[kind]


REASONS = {
    "nan": "its scores must be finite, got 2 of 96 faces with NaN or infinity",
    "infinite": "its scores must be finite, got 2 of 96 faces with NaN or infinity",
    "class missing": "its scores must have every class of the table, got none for surprise",
    "other order": "its scores must have the classes in the table's order, "
    "got disgust, anger, fear, happiness, sadness, surprise",
    "other faces": "its scores must be of the valid faces of the search's table, got other faces",
    "fewer faces": "its scores must be of the valid faces of the search's table, got other faces",
}


@pytest.mark.parametrize("kind", REASONS)
def test_candidate_that_can_not_vote_is_left_out_by_name(face_table: FaceTable, kind: str) -> None:
    kept, notes = shortlist([broken(kind, face_table), candidate("t0000", face_table)], face_table)

    assert [one.key for one in kept] == ["t0000"]
    assert notes == [f"t0007 left out: {REASONS[kind]}"]


def test_candidate_that_says_the_same_as_another_is_left_out(face_table: FaceTable) -> None:
    first, other = candidate("t0000", face_table), candidate("t0001", face_table, seed=1)

    kept, notes = shortlist([first, other, replace(first, key="t0002")], face_table)

    assert kept == [first, other]
    assert notes == ["t0002 left out: it says the same as t0000"]


def test_shortlist_of_sound_candidates_is_all_of_them(face_table: FaceTable) -> None:
    listed = [candidate(f"t000{seed}", face_table, seed=seed) for seed in range(3)]

    assert shortlist(listed, face_table) == (listed, [])


def test_nobody_left_is_an_error_that_names_them_all(face_table: FaceTable) -> None:
    listed = [broken("nan", face_table), replace(broken("other faces", face_table), key="b001")]

    with pytest.raises(EnsembleError) as caught:
        shortlist(listed, face_table)

    reasons = f"t0007 left out: {REASONS['nan']}; b001 left out: {REASONS['other faces']}"
    assert str(caught.value) == f"an ensemble must have a candidate with usable scores, got none: {reasons}"


def test_nobody_to_begin_with_is_an_error(face_table: FaceTable) -> None:
    with pytest.raises(EnsembleError, match="usable scores, got none: no trial has scores and weights"):
        shortlist([], face_table)


def faces(labels: Sequence[int], subjects: Sequence[str | None] | None) -> list[str]:
    kind = make_kind(np.full((1, len(labels), 3), 1 / 3), labels, subjects)
    return notes_on_faces(kind, ("anger", "fear", "joy"))


def test_faces_of_known_people_and_of_every_class_need_no_note() -> None:
    assert faces([0, 1, 2, 0, 1, 2], ["ann", "ann", "ann", "bob", "bob", "bob"]) == []


def test_unknown_people_are_noted() -> None:
    (note,) = faces([0, 1, 2], None)

    assert note == "people are not known: estimates and intervals are by face, as if each were another person"


def test_classes_without_a_face_are_noted() -> None:
    assert faces([0, 0], ["ann", "bob"]) == ["no valid face is fear or joy: its F1 counts as 0 in every score"]


def test_class_of_one_person_is_noted() -> None:
    (note,) = faces([0, 1, 2, 2, 0, 1], ["ann", "ann", "ann", "ann", "bob", "bob"])

    assert note == "all valid faces that are joy are of one person: how well others' are told is not known"


def test_only_candidate_is_noted(face_table: FaceTable) -> None:
    (note,) = notes_on_scores([candidate("t0004", face_table)], [0.4], "t0000")

    assert note == "t0004 is the only candidate: the ensemble is this one network"


@pytest.mark.parametrize(
    ("alone", "notes"),
    [([0.5, 0.4, 0.9], ["no trial is better than the default on the valid faces"]), ([0.4, 0.5, 0.9], [])],
    ids=["best", "beaten"],
)
def test_default_that_no_trial_beats_is_noted(face_table: FaceTable, alone: list[float], notes: list[str]) -> None:
    listed = [candidate(key, face_table) for key in ("t0000", "t0001", "b000")]  # a bag is no trial

    assert notes_on_scores(listed, alone, "t0000") == notes


def test_lone_default_among_bags_is_not_said_to_be_unbeaten(face_table: FaceTable) -> None:
    listed = [candidate(key, face_table) for key in ("t0000", "b000")]

    assert notes_on_scores(listed, [0.5, 0.4], "t0000") == []

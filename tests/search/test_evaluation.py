"""Counting truth against answers."""

import json

import numpy as np
import pytest

from search.evaluation import Tally
from spaces.errors import DataError

CLASSES = ("anger", "fear", "happiness")


def test_evaluation_tells_precision_recall_and_f1_of_each_class() -> None:
    tally = Tally(CLASSES)
    tally.add(np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1]), [None] * 4)

    evaluation = tally.evaluation()

    assert evaluation.confusion.tolist() == [[2, 1, 0], [0, 1, 0], [0, 0, 0]]
    anger = {"precision": 1.0, "recall": 2 / 3, "f1": pytest.approx(0.8), "support": 3}
    assert evaluation.per_class()["anger"] == anger
    assert evaluation.per_class()["happiness"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 0}
    assert evaluation.macro_f1 == pytest.approx((0.8 + 2 / 3 + 0) / 3)
    assert evaluation.accuracy == 0.75


def test_evaluation_is_one_json_document() -> None:
    tally = Tally(CLASSES)
    tally.add(np.array([0, 1]), np.array([0, 1]), ["ann", "bob"])
    tally.leave_out("no image")

    document = json.loads(json.dumps(tally.evaluation().to_document()))

    assert document["macro_f1"] == pytest.approx(2 / 3)
    assert len(document["interval"]) == 2
    assert document["interval_unit"] == "subject"
    assert (document["n"], document["left_out"]) == (2, 1)
    assert document["classes"] == list(CLASSES)
    assert document["confusion"] == [[1, 0, 0], [0, 1, 0], [0, 0, 0]]


def test_tally_knows_other_spellings_of_a_class() -> None:
    tally = Tally(CLASSES)

    assert tally.indices_of(["Anger", " fear", "happy"]).tolist() == [0, 1, 2]


def test_tally_counts_labels_that_are_no_class_by_name() -> None:
    tally = Tally(CLASSES)

    indices = tally.indices_of(["neutral", None, "fear", "neutral"])

    assert indices.tolist() == [-1, -1, 1, -1]
    assert tally.left_out == {"label 'neutral'": 2, "no label": 1}


def test_evaluation_of_nothing_says_what_was_left_out() -> None:
    tally = Tally(CLASSES)
    tally.indices_of(["neutral"])

    with pytest.raises(
        DataError, match=r"of the model's classes \(anger, fear, happiness\), got none: 1 with label 'neutral'"
    ):
        tally.evaluation()

"""A trial's page shows what it confuses, how it learned, and which faces it got most wrong."""

import io
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from search.folder import TrialRecord
from search.trial_pictures import draw_most_wrong, draw_trial, most_wrong
from trainables.scores import Scores, split_scores

if TYPE_CHECKING:
    from trainables.data.table import FaceTable


@pytest.fixture
def scores(face_table: "FaceTable") -> Scores:
    """Of a network that is right on some of the valid faces."""
    split = face_table.split("valid")
    logits = np.random.default_rng(0).normal(size=(len(split.expression), len(face_table.info.classes)))
    logits[np.arange(len(logits)), split.expression] += 1.5
    return split_scores(split, face_table.info.classes, logits.astype(np.float32), extras={})


def record(n_epochs: int) -> TrialRecord:
    made = TrialRecord("t0004", 4, {}, {})
    for epoch in range(1, n_epochs + 1):
        made.add_epoch(
            {"epoch": epoch, "valid/macro_f1": 0.1 * epoch, "best/macro_f1": 0.1 * epoch, "best/epoch": epoch,
             "train/loss": 1.0 / epoch}
        )  # fmt: skip
    return made


def test_surest_mistakes_come_first_and_right_answers_never(scores: Scores) -> None:
    rows = most_wrong(scores, most=10)

    probs = scores.probs
    answers = scores.logits.argmax(axis=1)
    lead = [probs[row, answers[row]] - probs[row, scores.labels[row]] for row in rows]
    assert len(rows) == 10 and all(answers[row] != scores.labels[row] for row in rows)
    assert lead == sorted(lead, reverse=True)
    assert lead[-1] >= max(
        probs[row, answers[row]] - probs[row, scores.labels[row]]
        for row in range(len(answers))
        if answers[row] != scores.labels[row] and row not in rows
    )


def test_every_picture_of_a_trial_can_be_looked_at(scores: Scores, face_table: "FaceTable") -> None:
    pictures = draw_trial(record(3), scores, face_table.split("valid"))

    assert sorted(pictures) == ["confusion.png", "f1_by_class.png", "learning_curves.png", "most_wrong.jpg"]
    for content in pictures.values():
        pixels = np.asarray(Image.open(io.BytesIO(content)).convert("L"))
        assert min(pixels.shape) > 200 and pixels.std() > 10


def test_one_epoch_is_no_curve_and_a_perfect_network_has_no_mistakes(scores: Scores, face_table: "FaceTable") -> None:
    split = face_table.split("valid")
    right = np.eye(len(scores.classes), dtype=np.float32)[split.expression]
    perfect = split_scores(split, scores.classes, right, extras={})

    assert sorted(draw_trial(record(1), perfect, split)) == ["confusion.png", "f1_by_class.png"]


def test_scores_of_other_faces_show_none(scores: Scores, face_table: "FaceTable") -> None:
    assert draw_most_wrong(scores, face_table.split("train")) is None


def test_no_face_is_shown_where_none_shall_be(scores: Scores) -> None:
    assert sorted(draw_trial(record(1), scores, None)) == ["confusion.png", "f1_by_class.png"]

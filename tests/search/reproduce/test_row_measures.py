"""Scores of answers: over the classes that count, with an interval over people, averaged over seeds."""

from dataclasses import replace

import numpy as np
import pytest

from search.reproduce.measures import Answer, Faces, Measured, mean_of, measure
from trainables.metrics import macro_f1


def test_macro_f1_is_that_of_the_metrics_with_an_interval_over_people(faces: Faces, answers: list[Answer]) -> None:
    found = measure(answers[0], faces, metric="macro_f1")

    assert found.score == pytest.approx(macro_f1(faces.labels, answers[0].logits.argmax(axis=1), 3))
    assert found.low < found.score < found.high
    assert (found.unit, found.n_units) == ("subject", 20)


def test_class_that_does_not_count_is_never_predicted(faces: Faces, answers: list[Answer]) -> None:
    labels = np.where(faces.labels == 1, -1, faces.labels).astype(np.int8)

    found = measure(answers[0], replace(faces, labels=labels, counted=(0, 2)), metric="macro_f1")

    known = labels >= 0
    preds = answers[0].logits[known][:, [0, 2]].argmax(axis=1)
    assert found.score == pytest.approx(macro_f1(labels[known] // 2, preds, 2))


def test_p_mtl_is_the_sum_of_its_parts(faces: Faces, answers: list[Answer]) -> None:
    found = measure(answers[0], faces, metric="p_mtl")

    assert set(found.parts) == {"P_EXPR", "P_VA", "P_AU"}
    assert found.score == pytest.approx(sum(found.parts.values()))
    assert found.low < found.score < found.high


def test_p_mtl_is_of_what_is_known(faces: Faces, answers: list[Answer]) -> None:
    found = measure(answers[0], replace(faces, valence_arousal=None, action_units=None), metric="p_mtl")

    assert found.parts == {"P_EXPR": pytest.approx(measure(answers[0], faces, metric="macro_f1").score)}
    assert found.score == pytest.approx(found.parts["P_EXPR"])


def test_seeds_are_averaged_and_their_spread_is_told() -> None:
    seeds = [Measured(score, score - 0.1, score + 0.1, "subject", 9) for score in (0.3, 0.4, 0.5)]

    found = mean_of(seeds)

    assert [found.score, found.low, found.high, found.spread] == pytest.approx([0.4, 0.3, 0.5, 0.1])
    assert found.n_seeds == 3
    assert mean_of(seeds[:1]) == seeds[0]

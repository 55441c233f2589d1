"""Rows that are computed from stored answers: means, blends, hand rules, thresholds, and what is missing."""

from dataclasses import replace

import numpy as np
import pytest

from search.ensemble.macro_f1 import macro_f1_of_probs
from search.reproduce.measures import Answer, Faces, measure
from search.reproduce.rows import GRID, Answers, Told, answer_rows
from search.reproduce.tables import Row, Table
from trainables.scores import softmax


def table_of(*rows: dict[str, object]) -> Table:
    """A table of trained rows a, b, c and what is computed from them."""
    trained = [Row(key=key, title=f"row {key}", train={}) for key in "abc"]  # type: ignore[arg-type]
    computed = [Row(title=f"row {row['key']}", **row) for row in rows]  # type: ignore[arg-type]
    return Table(number="1", title="t", preset="core", faces="f", metric_words="m", rows=tuple([*trained, *computed]))


def known(answers: list[Answer], **others: Told) -> dict[str, Told]:
    """The trained rows; their answers on another set are those of the next network."""
    found: dict[str, Told] = {key: Answers(answers[i], also=answers[i + 1]) for i, key in enumerate("abc")}
    return {**found, **others}


def one(told: Told) -> Answers:
    assert isinstance(told, Answers), told
    return told


def test_mean_is_of_probabilities_on_both_sets(faces: Faces, answers: list[Answer]) -> None:
    table = table_of({"key": "m", "mean": {"of": ["a", "b"]}})

    told = one(answer_rows(table, known(answers), faces)["m"])

    assert np.allclose(softmax(told.valid.logits), (softmax(answers[0].logits) + softmax(answers[1].logits)) / 2)
    assert told.also is not None
    assert np.allclose(softmax(told.also.logits), (softmax(answers[1].logits) + softmax(answers[2].logits)) / 2)
    assert not told.chosen


def test_mean_of_means_gives_every_network_one_vote(faces: Faces, answers: list[Answer]) -> None:
    table = table_of({"key": "ab", "mean": {"of": ["a", "b"]}}, {"key": "all", "mean": {"of": ["ab", "c"]}})

    told = one(answer_rows(table, known(answers), faces)["all"])

    assert np.allclose(softmax(told.valid.logits), np.mean([softmax(a.logits) for a in answers[:3]], axis=0))


def test_mean_goes_without_a_failed_row_and_says_so(faces: Faces, answers: list[Answer]) -> None:
    table = table_of({"key": "m", "mean": {"of": ["a", "b", "c"]}})

    told = one(answer_rows(table, known(answers, b="diverged in epoch 1"), faces)["m"])

    assert told.notes == ("without b",)
    assert np.allclose(softmax(told.valid.logits), (softmax(answers[0].logits) + softmax(answers[2].logits)) / 2)


def test_mean_of_one_row_is_none(faces: Faces, answers: list[Answer]) -> None:
    table = table_of({"key": "m", "mean": {"of": ["a", "b"]}})

    told = answer_rows(table, known(answers, b="failed: disk is full"), faces)["m"]

    assert told == "not run: needs two of its 2 members, got 1: failed: disk is full"


def test_mean_says_once_that_it_was_not_run(faces: Faces, answers: list[Answer]) -> None:
    table = table_of({"key": "m", "mean": {"of": ["a", "b"]}})

    told = answer_rows(table, known(answers, b="not run: needs a model"), faces)["m"]

    assert told == "not run: needs two of its 2 members, got 1: needs a model"


@pytest.mark.parametrize("space", ["logits", "probs"])
def test_blend_takes_the_best_of_eleven_weights_and_says_what_to_expect(
    faces: Faces, answers: list[Answer], space: str
) -> None:
    blend = {"partner": ["a"], "fine_tuned": "b", "weight": "grid", "space": space}
    table = table_of({"key": "ab", "blend": blend})

    told = one(answer_rows(table, known(answers), faces)["ab"])

    mix = (lambda a: a.logits) if space == "logits" else (lambda a: softmax(a.logits))
    curve = [macro_f1_of_probs((w * mix(answers[0]) + (1 - w) * mix(answers[1]))[None], faces.labels)[0] for w in GRID]
    assert measure(told.valid, faces, metric="macro_f1").score == pytest.approx(max(curve))
    assert told.chosen == f"w = {GRID[int(np.argmax(curve))]:.2f}"
    assert told.expected is not None and told.expected.low is not None and told.expected.high is not None
    assert told.expected.low < told.expected.score < told.expected.high


def test_blend_uses_the_weight_of_the_valid_faces_on_the_other_set(faces: Faces, answers: list[Answer]) -> None:
    blend = {"partner": ["a"], "fine_tuned": "b", "weight": "exact", "space": "logits"}
    table = table_of({"key": "ab", "blend": blend})

    told = one(answer_rows(table, known(answers), faces)["ab"])

    weight = np.linalg.lstsq(
        (answers[0].logits - answers[1].logits).reshape(-1, 1),
        (told.valid.logits - answers[1].logits).reshape(-1),
        rcond=None,
    )[0][0]
    assert told.also is not None
    assert np.allclose(told.also.logits, weight * answers[1].logits + (1 - weight) * answers[2].logits)


def test_blend_with_a_fixed_weight_was_not_chosen(faces: Faces, answers: list[Answer]) -> None:
    blend = {"partner": ["a"], "fine_tuned": "b", "weight": 0.5, "space": "logits"}

    told = one(answer_rows(table_of({"key": "ab", "blend": blend}), known(answers), faces)["ab"])

    assert np.allclose(told.valid.logits, (answers[0].logits + answers[1].logits) / 2)
    assert (told.chosen, told.expected) == ("", None)


def test_blend_takes_the_next_partner_and_says_so(faces: Faces, answers: list[Answer]) -> None:
    blend = {"partner": ["a", "c"], "fine_tuned": "b", "weight": 1.0, "space": "logits"}

    told = one(answer_rows(table_of({"key": "x", "blend": blend}), known(answers, a="not run: no file"), faces)["x"])

    assert np.allclose(told.valid.logits, answers[2].logits)
    assert told.notes == ("partner: 'row c' for want of 'row a'",)


def test_blend_without_any_partner_passes_the_reason_on(faces: Faces, answers: list[Answer]) -> None:
    blend = {"partner": ["a"], "fine_tuned": "b", "weight": "grid", "space": "logits"}

    told = answer_rows(table_of({"key": "x", "blend": blend}), known(answers, a="not run: no file"), faces)["x"]

    assert told == "not run: no file"


def test_hand_rule_calls_faces_with_a_hand_fear_except_for_exceptions(faces: Faces, answers: list[Answer]) -> None:
    hand = {"of": ["a"], "target": "fear", "threshold": 0.6}
    table = table_of({"key": "h", "hand": hand}, {"key": "x", "hand": {**hand, "exceptions": ["happiness"]}})
    seen = answers[0].extras["hand"] >= 0.6
    before = answers[0].logits.argmax(axis=1)

    told = answer_rows(table, known(answers), faces)

    assert (one(told["h"]).valid.logits.argmax(axis=1) == np.where(seen, 1, before)).all()
    spared = np.where(seen & (before != 2), 1, before)
    assert (one(told["x"]).valid.logits.argmax(axis=1) == spared).all()
    assert one(told["h"]).also is not None


def test_tuned_hand_rule_is_marked_and_cross_fitted(faces: Faces, answers: list[Answer]) -> None:
    hand = {"of": ["a"], "target": "fear", "threshold": "tuned"}

    told = one(answer_rows(table_of({"key": "h", "hand": hand}), known(answers), faces)["h"])

    plain = measure(answers[0], faces, metric="macro_f1").score
    tuned = measure(told.valid, faces, metric="macro_f1").score
    assert told.chosen.startswith("hand from ")
    assert told.expected is not None
    assert plain < tuned
    assert told.expected.score <= tuned + 1e-9


def test_hand_rule_is_not_run_when_no_hand_was_seen_or_no_class_is_fear(faces: Faces, answers: list[Answer]) -> None:
    hand = {"of": ["a"], "target": "fear", "threshold": 0.5}
    table = table_of({"key": "h", "hand": hand})
    blind: Told = Answers(Answer(answers[0].logits))
    others = replace(faces, classes=("anger", "neutral", "happiness"))

    assert answer_rows(table, known(answers, a=blind), faces)["h"] == (
        "not run: needs the label hand, which the face table does not have"
    )
    assert answer_rows(table, known(answers), others)["h"] == (
        "not run: hand rule needs class 'fear', got none; there are anger, happiness, neutral"
    )


def test_thresholds_of_units_raise_the_score_they_are_chosen_by(faces: Faces, answers: list[Answer]) -> None:
    table = table_of({"key": "u", "units": {"of": "a"}})

    told = one(answer_rows(table, known(answers), faces)["u"])

    before, after = (measure(each, faces, metric="p_mtl") for each in (answers[0], told.valid))
    assert after.parts["P_AU"] > before.parts["P_AU"]
    assert after.parts["P_VA"] == before.parts["P_VA"]
    assert told.expected is not None and before.score < told.expected.score <= after.score


def test_row_of_the_given_model_waits_for_it(faces: Faces, answers: list[Answer]) -> None:
    table = table_of(
        {"key": "p", "partner": {"backbone": "x", "joint": False}}, {"key": "n", "not_run": {"reason": "not public"}}
    )

    told = answer_rows(table, known(answers), faces)

    assert told["p"] == "not run: needs a pre-trained model, --partner FILE"
    assert told["n"] == "not run: not public"
    assert isinstance(answer_rows(table, known(answers, p=Answers(answers[3])), faces)["p"], Answers)

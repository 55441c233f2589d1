"""Scoring of the valid split: metrics by hand, the hand rule as fixed or tuned, the partner blended in."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from spaces.config import TrialConfig
from trainables.affect_metrics import concordance, f1_per_unit
from trainables.data.table import FaceTable
from trainables.losses.expression import ExpressionLoss
from trainables.metrics import macro_f1
from trainables.models.architectures.answers import HandRuleByName
from trainables.scores import softmax
from trainables.scoring import Scored, ValidScorer

MakeConfig = Callable[..., TrialConfig]
Outputs = dict[str, np.ndarray[Any, np.dtype[np.float32]]]

CLASSES = ("anger", "fear", "joy")
HAND = {"hand.backbone": "test_efficientnet", "hand.target": "fear", "hand.exceptions": "joy"}


def build_scorer(table: FaceTable, config: TrialConfig) -> ValidScorer:
    return ValidScorer(table.split("valid"), CLASSES, config, ExpressionLoss(torch.ones(3), config.loss))


def score(table: FaceTable, config: TrialConfig, outputs: Outputs) -> Scored:
    scored = build_scorer(table, config).score(outputs)
    assert scored is not None
    return scored


def draw_outputs(n: int = 24, **shapes: tuple[int, ...]) -> Outputs:
    """Logits, and what else is named, from N(0, 1)."""
    generator = np.random.default_rng(3)
    wanted = {"logits": (n, 3), **shapes}
    return {name: generator.normal(size=shape).astype(np.float32) for name, shape in wanted.items()}


def test_score_is_macro_f1_over_the_fixed_classes_of_the_labelled_faces(
    labelled_table: FaceTable, make_config: MakeConfig
) -> None:
    outputs, labels = draw_outputs(), labelled_table.split("valid").expression
    config = make_config({"loss.label_smoothing": 0.0})

    scored = score(labelled_table, config, outputs)

    known = labels >= 0
    assert scored.macro_f1 == scored.metrics["valid/macro_f1"] == macro_f1(labels, outputs["logits"].argmax(1), 3)
    assert scored.macro_f1 == pytest.approx(np.mean([scored.metrics[f"valid/f1/{name}"] for name in CLASSES]))
    own = softmax(outputs["logits"])[known, labels[known]]
    assert scored.metrics["valid/loss"] == pytest.approx(-np.log(own).mean(), rel=1e-5)
    assert (scored.rule, scored.extras) == (None, {})
    np.testing.assert_array_equal(scored.logits, outputs["logits"])


@pytest.mark.parametrize("name", ["logits", "valence_arousal"])
def test_nothing_is_scored_once_a_number_is_not_finite(
    labelled_table: FaceTable, make_config: MakeConfig, name: str
) -> None:
    outputs = draw_outputs(valence_arousal=(24, 2))
    outputs[name][7, 0] = np.nan

    assert build_scorer(labelled_table, make_config()).score(outputs) is None


@pytest.mark.parametrize("space", ["probs", "logits"])
def test_partner_is_blended_in_by_its_weight(labelled_table: FaceTable, make_config: MakeConfig, space: str) -> None:
    config = make_config({"blend.partner": "some.safetensors", "blend.weight": 0.3, "blend.space": space})
    outputs, partner = draw_outputs(), draw_outputs(other=(24, 3))["other"]
    scorer = build_scorer(labelled_table, config)
    scorer.partner = partner

    scored = scorer.score(outputs)

    assert scored is not None
    if space == "logits":
        np.testing.assert_allclose(scored.logits, 0.3 * partner + 0.7 * outputs["logits"], rtol=1e-5, atol=1e-6)
    else:
        expected = 0.3 * softmax(partner) + 0.7 * softmax(outputs["logits"])
        np.testing.assert_allclose(softmax(scored.logits), expected, rtol=1e-5, atol=1e-6)
    labels = labelled_table.split("valid").expression
    assert scored.macro_f1 == macro_f1(labels, scored.logits.argmax(axis=1), 3)


def hand_outputs(table: FaceTable) -> Outputs:
    """A network that takes every fear for anger, and sees a hand on faces of fear alone."""
    labels = np.arange(24) % 3
    seen = labels == 1
    logits = np.eye(3, dtype=np.float32)[np.where(seen, 0, labels)] * 2
    hand = np.stack([np.zeros(24), np.where(seen, 1.5, -1.5)], axis=1).astype(np.float32)
    return {"logits": logits, "hand": hand}


def test_fixed_rule_is_that_of_the_config(labelled_table: FaceTable, make_config: MakeConfig) -> None:
    outputs = hand_outputs(labelled_table)
    config = make_config({**HAND, "hand.rule": "fixed", "hand.threshold": 0.6, "hand.exceptions": "joy"})

    scored = score(labelled_table, config, outputs)

    assert scored.rule == HandRuleByName("fear", 0.6, ("joy",))
    assert scored.macro_f1 == 1.0
    probs = 1 / (1 + np.exp(-1.5 * np.where(np.arange(24) % 3 == 1, 1, -1)))
    np.testing.assert_allclose(scored.extras["hand"], probs, rtol=1e-5)
    np.testing.assert_array_equal(scored.extras["plain_logits"], outputs["logits"])
    assert "valid/hand_cross_fitted_f1" not in scored.metrics


@pytest.mark.parametrize("rule", ["tune_threshold", "tune_all"])
def test_tuned_rule_finds_the_threshold_and_says_what_to_expect_of_it(
    labelled_table: FaceTable, make_config: MakeConfig, rule: str
) -> None:
    outputs = hand_outputs(labelled_table)
    config = make_config({**HAND, "hand.rule": rule, "hand.threshold": 0.99})

    scored = score(labelled_table, config, outputs)

    assert scored.rule is not None
    assert 0.18 < scored.rule.threshold < 0.82
    assert scored.rule.target == "fear" and "anger" not in scored.rule.exceptions
    assert scored.macro_f1 == scored.metrics["valid/hand_cross_fitted_f1"] == 1.0


def test_tuned_threshold_keeps_the_exceptions_of_the_config(labelled_table: FaceTable, make_config: MakeConfig) -> None:
    config = make_config({**HAND, "hand.rule": "tune_threshold", "hand.exceptions": "anger"})

    scored = score(labelled_table, config, hand_outputs(labelled_table))

    assert scored.rule is not None
    assert scored.rule.exceptions == ("anger",)
    assert scored.macro_f1 < 0.7


def test_rule_is_tuned_without_an_estimate_where_all_faces_are_of_one_person(
    make_table: Callable[..., FaceTable], make_config: MakeConfig
) -> None:
    table = make_table(valid=[0, 1, 2], columns={"valid": {"subjects": ["the same"] * 3}})
    outputs = {name: numbers[:3] for name, numbers in hand_outputs(table).items()}

    scored = score(table, make_config({**HAND, "hand.rule": "tune_all"}), outputs)

    assert scored.macro_f1 == 1.0
    assert "valid/hand_cross_fitted_f1" not in scored.metrics


def test_hand_module_is_right_on_faces_where_the_truth_is_known(
    labelled_table: FaceTable, make_config: MakeConfig
) -> None:
    truth = labelled_table.split("valid").column("hand")
    assert truth is not None
    outputs = hand_outputs(labelled_table)

    scored = score(labelled_table, make_config(HAND), outputs)

    seen, known = outputs["hand"][:, 1] > 0, truth >= 0
    assert scored.rule is None
    assert scored.metrics["valid/hand_accuracy"] == pytest.approx((seen == (truth == 1))[known].mean())
    np.testing.assert_array_equal(scored.logits, outputs["logits"])


def test_affect_is_scored_on_the_faces_where_it_is_known(labelled_table: FaceTable, make_config: MakeConfig) -> None:
    split = labelled_table.split("valid")
    outputs = draw_outputs(valence_arousal=(24, 2), action_units=(24, 12))

    scored = score(labelled_table, make_config({"affect.heads": "separate"}), outputs)

    truth = [split.column(name) for name in ("valence", "arousal", "action_units")]
    assert truth[0] is not None and truth[1] is not None and truth[2] is not None
    va = np.mean([concordance(outputs["valence_arousal"][:, i], truth[i]) for i in range(2)])  # type: ignore[arg-type]
    units = np.nanmean(f1_per_unit(np.minimum(truth[2], 1), outputs["action_units"] >= 0))
    assert scored.metrics["valid/p_va"] == pytest.approx(va)
    assert scored.metrics["valid/p_au"] == pytest.approx(units)
    assert scored.metrics["valid/p_mtl"] == pytest.approx(va + units + scored.macro_f1)
    assert scored.metrics["valid/p_au_tuned"] >= scored.metrics["valid/p_au"]
    np.testing.assert_allclose(scored.extras["action_units"], 1 / (1 + np.exp(-outputs["action_units"])), rtol=1e-5)
    np.testing.assert_array_equal(scored.extras["valence_arousal"], outputs["valence_arousal"])


def test_affect_goes_unscored_where_the_valid_split_does_not_know_it(
    toy_table: FaceTable, make_config: MakeConfig
) -> None:
    outputs = draw_outputs(valence_arousal=(24, 2), action_units=(24, 12))

    scored = score(toy_table, make_config({"affect.heads": "separate"}), outputs)

    assert not {"valid/p_va", "valid/p_au", "valid/p_au_tuned"} & set(scored.metrics)
    assert scored.metrics["valid/p_mtl"] == scored.macro_f1
    assert set(scored.extras) == {"valence_arousal", "action_units"}

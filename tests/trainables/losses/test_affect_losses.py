"""Concordance of valence and arousal, and the balanced cross-entropy of action units."""

from typing import Any

import numpy as np
import pytest
import torch

from trainables.losses.affect import UnitLoss, affect_loss, concordance

NAN = float("nan")
TRUTH = torch.tensor([[0.5, -0.2], [NAN, 0.4], [-0.7, NAN], [0.1, 0.9], [NAN, NAN], [0.3, -0.6]], dtype=torch.float64)
UNIT_COUNTS = np.array([[90, 10], [50, 50], [8, 0]])
UNIT_TRUTH = torch.tensor([[0, 1, -1], [1, -1, 1], [-1, -1, -1], [0, 0, 0]])


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def concordance_reference(pred: Any, truth: Any) -> float:
    """By correlation: 2 r s_x s_y / (s_x^2 + s_y^2 + (m_x - m_y)^2)."""
    pred, truth = pred[~np.isnan(truth)], truth[~np.isnan(truth)]
    r = np.corrcoef(pred, truth)[0, 1]
    return float(2 * r * pred.std() * truth.std() / (pred.var() + truth.var() + (pred.mean() - truth.mean()) ** 2))


def unit_reference(logits: Any, truth: Any) -> float:
    losses = []
    for row, labels in zip(logits, truth, strict=True):
        for unit, label in enumerate(labels):
            if label >= 0:
                p = 1 / (1 + np.exp(-row[unit]))
                weight = UNIT_COUNTS[unit].sum() / (2 * max(UNIT_COUNTS[unit][label], 1))
                losses.append(-weight * np.log(p if label else 1 - p))
    return float(np.mean(losses))


def test_concordance_equals_the_formula_by_hand() -> None:
    pred, truth = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([2.0, 2.0, 5.0])

    # means 2 and 3, variances 2/3 and 2, covariance ((-1)(-1) + 0 + (1)(2)) / 3 = 1
    assert float(concordance(pred, truth)) == pytest.approx(2 * 1 / (2 / 3 + 2 + 1))


def test_concordance_equals_a_slow_reference_over_the_known_rows() -> None:
    pred = draw(6)

    expected = concordance_reference(pred.numpy(), TRUTH[:, 0].numpy())

    assert float(concordance(pred, TRUTH[:, 0])) == pytest.approx(expected, rel=1e-5)


def test_concordance_is_one_for_the_truth_and_minus_one_for_its_mirror_image() -> None:
    truth = draw(50) - draw(50).mean()

    assert float(concordance(truth, truth)) == pytest.approx(1)
    assert float(concordance(-truth, truth)) == pytest.approx(-1)


@pytest.mark.parametrize(
    ("pred", "truth"),
    [([0.3, 0.3], [0.3, 0.3]), ([0.3, 0.3], [0.1, 0.9]), ([0.1, 0.9], [0.3, 0.3]), ([0.4, 0.2], [NAN, 0.2])],
    ids=["both constant", "constant prediction", "constant truth", "one row"],
)
def test_concordance_is_zero_with_finite_gradients_when_something_is_constant(
    pred: list[float], truth: list[float]
) -> None:
    leaf = torch.tensor(pred).requires_grad_()

    value = concordance(leaf, torch.tensor(truth))
    value.backward()  # type: ignore[no-untyped-call]

    assert float(value.detach()) == pytest.approx(0, abs=1e-4)
    assert leaf.grad is not None and leaf.grad.isfinite().all()


def test_affect_loss_equals_a_slow_reference() -> None:
    pred = draw(6, 2)

    both = [concordance_reference(pred[:, i].numpy(), TRUTH[:, i].numpy()) for i in range(2)]

    assert float(affect_loss(pred, TRUTH)) == pytest.approx(1 - 0.5 * (both[0] + both[1]), rel=1e-5)


def test_affect_loss_has_the_gradient_of_its_value() -> None:
    assert torch.autograd.gradcheck(lambda pred: affect_loss(pred, TRUTH), draw(6, 2).requires_grad_())


def test_affect_loss_is_that_of_arousal_when_no_valence_is_known() -> None:
    pred, truth = draw(6, 2), TRUTH.clone()
    truth[:, 0] = NAN

    torch.testing.assert_close(affect_loss(pred, truth), 1 - concordance(pred[:, 1], truth[:, 1]))


def test_affect_loss_passes_over_rows_without_truth() -> None:
    pred = draw(6, 2).requires_grad_()

    affect_loss(pred, TRUTH).backward()  # type: ignore[no-untyped-call]

    assert pred.grad is not None and torch.equal(pred.grad.eq(0), TRUTH.isnan())


def test_affect_loss_is_zero_and_has_a_graph_when_nothing_is_known() -> None:
    pred = draw(6, 2).requires_grad_()

    loss = affect_loss(pred, torch.full((6, 2), NAN))
    loss.backward()  # type: ignore[no-untyped-call]

    assert float(loss.detach()) == 0
    assert pred.grad is not None and pred.grad.eq(0).all()


def test_affect_loss_is_computed_in_float32_when_predictions_are_half() -> None:
    pred = draw(6, 2).half()

    torch.testing.assert_close(affect_loss(pred, TRUTH.float()), affect_loss(pred.float(), TRUTH.float()))


def test_unit_loss_equals_a_slow_reference() -> None:
    logits = draw(4, 3)

    loss = UnitLoss(UNIT_COUNTS)(logits, UNIT_TRUTH)

    assert float(loss) == pytest.approx(unit_reference(logits.numpy(), UNIT_TRUTH.numpy()), rel=1e-5)


def test_unit_loss_has_the_gradient_of_its_value() -> None:
    loss = UnitLoss(UNIT_COUNTS)

    assert torch.autograd.gradcheck(lambda logits: loss(logits, UNIT_TRUTH), draw(4, 3).requires_grad_())


def test_unit_loss_weighs_presence_and_absence_the_same_over_the_training_faces() -> None:
    loss = UnitLoss(UNIT_COUNTS)

    np.testing.assert_allclose(loss.weights[0] * torch.from_numpy(UNIT_COUNTS[0]), [50, 50], rtol=1e-6)


def test_unit_loss_counts_a_class_without_a_face_as_one_with_one() -> None:
    np.testing.assert_allclose(UnitLoss(UNIT_COUNTS).weights[2], [0.5, 4.0])


def test_unit_loss_passes_over_truths_that_are_missing() -> None:
    logits = draw(4, 3).requires_grad_()

    UnitLoss(UNIT_COUNTS)(logits, UNIT_TRUTH).backward()

    assert logits.grad is not None and torch.equal(logits.grad.eq(0), UNIT_TRUTH < 0)


def test_unit_loss_is_zero_and_has_a_graph_when_nothing_is_known() -> None:
    logits = draw(4, 3).requires_grad_()

    loss = UnitLoss(UNIT_COUNTS)(logits, torch.full((4, 3), -1))
    loss.backward()

    assert float(loss.detach()) == 0
    assert logits.grad is not None and logits.grad.eq(0).all()


def test_unit_loss_is_computed_in_float32_when_logits_are_half() -> None:
    logits = draw(4, 3).half()

    assert UnitLoss(UNIT_COUNTS)(logits, UNIT_TRUTH).dtype is torch.float32

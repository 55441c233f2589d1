"""The loss: label smoothing and class weights, each as the papers write them, and both together."""

import numpy as np
import pytest
import torch

from spaces.errors import ConfigError
from spaces.training_sections import LossConfig
from trainables.losses import SmoothedCrossEntropy, class_weights


def draw_logits(n: int = 7, n_classes: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(n, n_classes, generator=generator)
    return logits, torch.randint(n_classes, (n,), generator=generator)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.6])
def test_loss_is_torchs_own_when_weights_are_equal(smoothing: float) -> None:
    logits, labels = draw_logits()

    loss = SmoothedCrossEntropy(torch.ones(4), label_smoothing=smoothing)(logits, labels)

    torch.testing.assert_close(loss, torch.nn.CrossEntropyLoss(label_smoothing=smoothing)(logits, labels))


def test_loss_weights_the_whole_smoothed_loss_of_a_sample_by_its_own_class() -> None:
    logits, labels = draw_logits()
    weights, a = np.array([0.2, 1.0, 2.5, 0.3]), 0.3

    loss = SmoothedCrossEntropy(torch.from_numpy(weights), label_smoothing=a)(logits, labels)

    expected = []
    for row, label in zip(logits.double().numpy(), labels.numpy(), strict=True):
        log_probs = row - np.log(np.exp(row).sum())
        target = np.full(4, a / 4)
        target[label] += 1 - a
        expected.append(-weights[label] * (target * log_probs).sum())
    assert float(loss) == pytest.approx(np.mean(expected), rel=1e-5)


def test_loss_has_the_gradient_of_its_formula() -> None:
    logits, labels = draw_logits()
    weights, a = torch.tensor([0.2, 1.0, 2.5, 0.3]), 0.3
    logits.requires_grad_()

    SmoothedCrossEntropy(weights, label_smoothing=a)(logits, labels).backward()

    targets = torch.nn.functional.one_hot(labels, 4) * (1 - a) + a / 4
    expected = weights[labels, None] * (logits.softmax(1) - targets) / len(labels)
    torch.testing.assert_close(logits.grad, expected)


def test_loss_is_computed_in_float32_when_logits_are_half() -> None:
    logits, labels = draw_logits()

    loss = SmoothedCrossEntropy(torch.ones(4), label_smoothing=0.1)(logits.half(), labels)

    assert loss.dtype is torch.float32


def test_class_weights_are_the_papers_ratios_with_mean_one() -> None:
    counts = np.array([18_286, 15_150, 10_923, 73_285, 144_631, 14_976])

    weights = class_weights(counts, LossConfig(class_weight_exponent=1.0))

    assert weights.mean() == pytest.approx(1.0)
    np.testing.assert_allclose(weights / weights[4], [7.91, 9.55, 13.24, 1.97, 1.00, 9.66], rtol=2e-3)


@pytest.mark.parametrize(("exponent", "ratio"), [(0.0, 1.0), (0.5, 3.0), (1.5, 27.0)])
def test_class_weights_follow_the_exponent(exponent: float, ratio: float) -> None:
    weights = class_weights(np.array([90, 10]), LossConfig(class_weight_exponent=exponent))

    assert weights[1] / weights[0] == pytest.approx(ratio)


def test_class_weights_are_finite_when_a_class_has_no_face() -> None:
    weights = class_weights(np.array([8, 0, 1]), LossConfig(class_weight_exponent=1.0))

    assert weights[1] == weights[2] == pytest.approx(8 * weights[0])


def test_class_weights_given_outright_win_over_the_exponent() -> None:
    config = LossConfig(class_weights=(1, 3, 5, 1, 1, 1), class_weight_exponent=1.0)

    weights = class_weights(np.array([1, 2, 3, 4, 5, 6]), config)

    np.testing.assert_allclose(weights, np.array([1, 3, 5, 1, 1, 1]) / 2.0)


def test_class_weights_refuse_another_number_of_classes() -> None:
    with pytest.raises(ConfigError, match=r"loss\.class_weights must have one weight a class \(3\), got 2"):
        class_weights(np.array([1, 2, 3]), LossConfig(class_weights=(1.0, 2.0)))

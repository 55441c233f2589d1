"""The loss on the expression: against a slow reference, against torch's own, and where labels are missing."""

from typing import Any

import numpy as np
import pytest
import torch

from spaces.training_sections import LossConfig
from trainables.losses.expression import ExpressionLoss

WEIGHTS = torch.tensor([0.25, 1.0, 2.5, 0.375])
LABELS = torch.tensor([3, 0, -1, 2, 1, 2, -1])
LABELS_B = torch.tensor([0, -1, 1, 3, 3, 0, -1])

FORMS: dict[str, dict[str, Any]] = {
    "plain": {"label_smoothing": 0.0},
    "smoothed by sample": {"label_smoothing": 0.3},
    "smoothed by class": {"label_smoothing": 0.3, "smoothing_by": "class"},
    "divided by weights": {"label_smoothing": 0.3, "reduction": "weights"},
    "torch's": {"label_smoothing": 0.3, "smoothing_by": "class", "reduction": "weights"},
    "focal": {"name": "focal", "label_smoothing": 0.0, "gamma": 2.0},
    "focal by weights": {"name": "focal", "label_smoothing": 0.0, "gamma": 0.7, "reduction": "weights"},
}

each_form = pytest.mark.parametrize("settings", FORMS.values(), ids=FORMS)


def draw_logits(n: int = 7) -> torch.Tensor:
    return torch.randn(n, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def build_loss(weights: torch.Tensor = WEIGHTS, **settings: Any) -> ExpressionLoss:
    return ExpressionLoss(weights, LossConfig.model_validate(settings))


def face_loss(row: np.ndarray[Any, Any], label: int, config: LossConfig) -> float:
    """One face's weighted loss, class by class."""
    weights, a = WEIGHTS.double().numpy(), config.label_smoothing
    probs = np.exp(row) / np.exp(row).sum()
    if config.name == "focal":
        return float(weights[label] * (1 - probs[label]) ** config.gamma * -np.log(probs[label]))
    total = 0.0
    for j, p in enumerate(probs):
        target = (1 - a) * (j == label) + a / len(probs)
        total += weights[j if config.smoothing_by == "class" else label] * target * -np.log(p)
    return float(total)


def reference(logits: torch.Tensor, labels: torch.Tensor, config: LossConfig) -> float:
    """The loss, face by face; faces without a label are passed over."""
    total, divisor = 0.0, 0.0
    for row, label in zip(logits.numpy(), labels.tolist(), strict=True):
        if label >= 0:
            total += face_loss(row, label, config)
            divisor += float(WEIGHTS[label]) if config.reduction == "weights" else 1.0
    return total / divisor


@each_form
def test_loss_equals_a_slow_reference(settings: dict[str, Any]) -> None:
    loss = build_loss(**settings)(draw_logits(), LABELS)

    assert loss.dtype is torch.float64
    assert float(loss) == pytest.approx(reference(draw_logits(), LABELS, LossConfig(**settings)), rel=1e-9)


@each_form
def test_loss_has_the_gradient_of_its_value(settings: dict[str, Any]) -> None:
    loss = build_loss(**settings)

    assert torch.autograd.gradcheck(lambda logits: loss(logits, LABELS), draw_logits().requires_grad_())


@each_form
def test_faces_without_a_label_change_nothing(settings: dict[str, Any]) -> None:
    loss, logits = build_loss(**settings), draw_logits().requires_grad_()

    loss(logits, LABELS).backward()

    known = LABELS >= 0
    torch.testing.assert_close(loss(logits, LABELS), loss(logits[known], LABELS[known]))
    assert logits.grad is not None and logits.grad[~known].eq(0).all()


@each_form
def test_loss_of_a_batch_without_labels_is_zero_and_has_a_graph(settings: dict[str, Any]) -> None:
    logits = draw_logits().requires_grad_()

    loss = build_loss(**settings)(logits, torch.full((7,), -1))
    loss.backward()

    assert float(loss.detach()) == 0
    assert logits.grad is not None and logits.grad.eq(0).all()


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.6])
@pytest.mark.parametrize("by", ["sample", "class"])
@pytest.mark.parametrize("reduction", ["faces", "weights"])
def test_loss_is_torchs_own_when_weights_are_one(smoothing: float, by: str, reduction: str) -> None:
    logits, labels = draw_logits(), LABELS.clamp(min=0)
    loss = build_loss(torch.ones(4), label_smoothing=smoothing, smoothing_by=by, reduction=reduction)

    expected = torch.nn.CrossEntropyLoss(label_smoothing=smoothing)(logits, labels)

    torch.testing.assert_close(loss(logits, labels), expected)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_loss_smoothed_by_class_and_divided_by_weights_is_torchs_own(smoothing: float) -> None:
    logits = draw_logits()
    loss = build_loss(label_smoothing=smoothing, smoothing_by="class", reduction="weights")

    torchs = torch.nn.CrossEntropyLoss(WEIGHTS.double(), label_smoothing=smoothing, ignore_index=-1)

    torch.testing.assert_close(loss(logits, LABELS), torchs(logits, LABELS))


def test_loss_divided_by_faces_is_torchs_own_times_the_batchs_mean_weight() -> None:
    logits, labels = draw_logits(), LABELS.clamp(min=0)
    loss = build_loss(label_smoothing=0.1, smoothing_by="class", reduction="faces")

    torchs = torch.nn.CrossEntropyLoss(WEIGHTS.double(), label_smoothing=0.1)

    torch.testing.assert_close(loss(logits, labels), torchs(logits, labels) * WEIGHTS.double()[labels].mean())


def test_loss_smoothed_by_sample_has_the_gradient_of_its_formula() -> None:
    logits, labels, a = draw_logits().requires_grad_(), LABELS.clamp(min=0), 0.3

    build_loss(label_smoothing=a)(logits, labels).backward()

    targets = torch.nn.functional.one_hot(labels, 4) * (1 - a) + a / 4
    expected = WEIGHTS.double()[labels, None] * (logits.softmax(1) - targets) / len(labels)
    torch.testing.assert_close(logits.grad, expected)


def test_focal_loss_is_cross_entropy_when_gamma_is_zero() -> None:
    focal = build_loss(name="focal", gamma=0.0, label_smoothing=0.0)(draw_logits(), LABELS)

    torch.testing.assert_close(focal, build_loss(label_smoothing=0.0)(draw_logits(), LABELS))


@pytest.mark.parametrize("gamma", [0.0, 0.3, 1.0, 2.0])
def test_focal_loss_has_finite_gradients_when_a_face_is_certain(gamma: float) -> None:
    logits = torch.tensor([[200.0, 0.0, 0.0, 0.0], [0.0, 200.0, 0.0, 0.0]]).requires_grad_()

    loss = build_loss(name="focal", gamma=gamma, label_smoothing=0.0)(logits, torch.tensor([0, 0]))
    loss.backward()

    assert loss.item() == pytest.approx(0.25 * 200 / 2)
    assert logits.grad is not None and logits.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_loss_is_computed_in_float32_when_logits_are_no_wider(dtype: torch.dtype) -> None:
    logits = draw_logits().to(dtype)

    loss = build_loss()(logits, LABELS)

    assert loss.dtype is torch.float32
    torch.testing.assert_close(loss, build_loss()(logits.float(), LABELS))


def test_loss_is_finite_when_all_faces_of_a_batch_have_weight_zero() -> None:
    loss = build_loss(torch.tensor([0.0, 2.0]), reduction="weights")

    assert float(loss(torch.ones(3, 2), torch.zeros(3, dtype=torch.int64))) == 0


@each_form
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_mixed_loss_is_the_mixture_of_each_faces_two_losses(settings: dict[str, Any], share: float) -> None:
    config, logits, labels_b = LossConfig(**settings), draw_logits(), LABELS_B

    mixed = build_loss(**settings).mixed(logits, LABELS, labels_b, share)

    total, divisor = 0.0, 0.0
    for labels, part in ((LABELS, share), (labels_b, 1 - share)):
        for row, label in zip(logits.numpy(), labels.tolist(), strict=True):
            if label >= 0:
                total += part * face_loss(row, label, config)
                divisor += part * (float(WEIGHTS[label]) if config.reduction == "weights" else 1.0)
    assert float(mixed) == pytest.approx(total / divisor, rel=1e-9)


def test_mixed_loss_takes_a_share_for_each_face() -> None:
    logits, labels_a, labels_b = draw_logits(), LABELS.clamp(min=0), LABELS_B.clamp(min=0)
    shares = torch.linspace(0, 1, 7)
    loss = build_loss(label_smoothing=0.2)

    mixed = loss.mixed(logits, labels_a, labels_b, shares)

    rows = [loss.mixed(logits[[i]], labels_a[[i]], labels_b[[i]], float(shares[i])) for i in range(7)]
    torch.testing.assert_close(mixed, torch.stack(rows).mean())


def test_mixed_loss_is_the_plain_loss_when_all_of_a_face_is_a() -> None:
    loss = build_loss(reduction="weights")

    mixed = loss.mixed(draw_logits(), LABELS, LABELS_B, 1.0)

    torch.testing.assert_close(mixed, loss(draw_logits(), LABELS))


def test_mixed_loss_has_the_gradient_of_its_value() -> None:
    loss, shares = build_loss(), torch.linspace(0, 1, 7)

    assert torch.autograd.gradcheck(
        lambda logits: loss.mixed(logits, LABELS, LABELS_B, shares), draw_logits().requires_grad_()
    )

"""DAN's affinity and partition loss: values, gradients, half precision, and the two ways to write the second."""

from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import nn

from trainables.losses.attention import AffinityLoss, partition_loss

Form = Literal["log_of_mean", "mean_of_log"]
each_form = pytest.mark.parametrize("form", ["log_of_mean", "mean_of_log"])
LABELS = torch.tensor([2, 0, -1, 1, 2])


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def build_affinity(n_classes: int = 3, width: int = 4) -> AffinityLoss:
    return AffinityLoss(n_classes, width, generator=torch.Generator().manual_seed(1))


def affinity_reference(features: Any, labels: list[int], centres: Any) -> float:
    distances = [sum((x - centres[y]) ** 2) for x, y in zip(features, labels, strict=True) if y >= 0]
    spread = 0.0
    for column in centres.T:
        spread += sum((column - np.mean(column)) ** 2) / (len(column) - 1)
    return float(np.mean(distances) / spread)


def partition_reference(heads: Any, form: Form) -> float:
    n, k, width = heads.shape
    variances = np.zeros((n, width))
    for i in range(n):
        for j in range(width):
            values = heads[i, :, j]
            variances[i, j] = sum((values - values.mean()) ** 2) / (k - 1)
    if form == "log_of_mean":
        return float(np.log(1 + k / (variances.mean() + 1e-6)))
    return float(np.mean([np.log(1 + k / (v + 1e-6)) for v in variances.ravel()]))


def test_affinity_equals_a_slow_reference() -> None:
    loss, features = build_affinity().double(), draw(5, 4)

    expected = affinity_reference(features.numpy(), LABELS.tolist(), loss.centres.detach().numpy())

    assert loss(features, LABELS).item() == pytest.approx(expected, rel=1e-9)


def test_affinity_has_the_gradient_of_its_value_through_the_divisor_too() -> None:
    loss = build_affinity().double()

    def value(features: torch.Tensor, centres: torch.Tensor) -> Any:
        return torch.func.functional_call(loss, {"centres": centres}, (features, LABELS))

    assert torch.autograd.gradcheck(value, (draw(5, 4).requires_grad_(), draw(3, 4, seed=2).requires_grad_()))


def test_affinity_learns_its_centres_and_saves_them() -> None:
    loss = build_affinity()

    assert isinstance(loss.centres, nn.Parameter)
    assert list(loss.state_dict()) == ["centres"]


def test_affinity_starts_from_the_same_centres_when_the_generator_is_the_same() -> None:
    torch.testing.assert_close(build_affinity().centres, build_affinity().centres, rtol=0, atol=0)


def test_affinity_starts_about_one_and_a_half_on_non_negative_features() -> None:
    loss, features = build_affinity(n_classes=8, width=512), draw(64, 512).relu()

    value = loss(features, torch.arange(64) % 8).item()

    assert value == pytest.approx(1.5, abs=0.1)


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_affinity_does_not_depend_on_the_scale_of_features_and_centres(scale: float) -> None:
    loss, scaled, features = build_affinity(), build_affinity(), draw(5, 4).float()

    with torch.no_grad():
        scaled.centres.mul_(scale)

    torch.testing.assert_close(scaled(features * scale, LABELS), loss(features, LABELS))


def test_affinity_is_not_rounded_away_when_a_face_is_close_to_its_centre() -> None:
    loss = build_affinity()
    with torch.no_grad():
        loss.centres.add_(100)
    features = (loss.centres.detach()[[0]] + 1e-3).requires_grad_()

    value = loss(features, torch.tensor([0]))
    value.backward()

    assert value.item() > 0
    assert features.grad is not None and features.grad.gt(0).all()


def test_affinity_passes_over_faces_without_a_label() -> None:
    loss, features = build_affinity().double(), draw(5, 4).requires_grad_()

    value = loss(features, LABELS)
    value.backward()

    known = LABELS >= 0
    torch.testing.assert_close(value, loss(features[known], LABELS[known]))
    assert features.grad is not None and features.grad[~known].eq(0).all()


def test_affinity_of_a_batch_without_labels_is_zero_and_has_a_graph() -> None:
    loss, features = build_affinity(), draw(5, 4).float().requires_grad_()

    value = loss(features, torch.full((5,), -1))
    value.backward()

    assert float(value.detach()) == 0
    assert features.grad is not None and features.grad.eq(0).all()
    assert loss.centres.grad is not None and loss.centres.grad.eq(0).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_both_losses_are_computed_in_float32_under_autocast(dtype: torch.dtype) -> None:
    features, heads = draw(5, 4).to(dtype), draw(5, 2, 4).to(dtype)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        affinity, partition = build_affinity()(features, LABELS), partition_loss(heads, "mean_of_log")

    torch.testing.assert_close(affinity, build_affinity()(features.float(), LABELS), rtol=0, atol=0)
    torch.testing.assert_close(partition, partition_loss(heads.float(), "mean_of_log"), rtol=0, atol=0)


@each_form
@pytest.mark.parametrize("k", [2, 4])
def test_partition_equals_a_slow_reference(form: Form, k: int) -> None:
    heads = draw(3, k, 5)

    assert float(partition_loss(heads, form)) == pytest.approx(partition_reference(heads.numpy(), form), rel=1e-9)


@each_form
def test_partition_has_the_gradient_of_its_value(form: Form) -> None:
    assert torch.autograd.gradcheck(lambda heads: partition_loss(heads, form), draw(3, 4, 5).requires_grad_())


@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0])
def test_partition_of_the_code_is_below_that_of_the_papers(scale: float) -> None:
    heads = scale * draw(8, 4, 16) * torch.logspace(-1, 0.5, 16, dtype=torch.float64)

    assert float(partition_loss(heads, "log_of_mean")) < float(partition_loss(heads, "mean_of_log"))


def test_partition_of_code_and_papers_are_equal_when_all_variances_are() -> None:
    heads = draw(1, 4, 1).expand(3, 4, 5)

    torch.testing.assert_close(partition_loss(heads, "log_of_mean"), partition_loss(heads, "mean_of_log"))


def test_partition_of_the_papers_pulls_more_on_a_channel_that_has_collapsed() -> None:
    heads = draw(8, 4, 2) * torch.tensor([0.05, 1.0], dtype=torch.float64)
    slopes = {}
    for form in ("log_of_mean", "mean_of_log"):
        leaf = heads.clone().requires_grad_()
        partition_loss(leaf, form).backward()  # type: ignore[no-untyped-call]
        assert leaf.grad is not None
        slopes[form] = float(leaf.grad[..., 0].norm())

    assert slopes["mean_of_log"] > 10 * slopes["log_of_mean"]


@each_form
def test_partition_of_one_head_is_zero_and_has_a_graph(form: Form) -> None:
    heads = draw(3, 1, 5).requires_grad_()

    loss = partition_loss(heads, form)
    loss.backward()  # type: ignore[no-untyped-call]

    assert float(loss.detach()) == 0
    assert heads.grad is not None and heads.grad.eq(0).all()


@each_form
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_partition_and_its_gradient_are_finite_when_heads_are_equal(form: Form, dtype: torch.dtype) -> None:
    heads = draw(3, 1, 5).to(dtype).repeat(1, 4, 1).requires_grad_()

    loss = partition_loss(heads, form)
    loss.backward()  # type: ignore[no-untyped-call]

    assert float(loss.detach()) == pytest.approx(np.log(1 + 4 / 1e-6), rel=1e-4)
    assert heads.grad is not None and heads.grad.isfinite().all()

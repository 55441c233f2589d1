"""Class weights: each form as its paper writes it, on the numbers that the papers print."""

import numpy as np
import pytest

from spaces.errors import ConfigError
from spaces.training_sections import LossConfig
from trainables.losses.class_weights import class_weights

LSD_COUNTS = np.array([18_286, 15_150, 10_923, 73_285, 144_631, 14_976])


def test_class_weights_have_mean_one_and_the_papers_ratios() -> None:
    weights = class_weights(LSD_COUNTS, LossConfig(class_weight_exponent=1.0))

    assert weights.mean() == pytest.approx(1.0)
    np.testing.assert_allclose(weights / weights[4], [7.91, 9.55, 13.24, 1.97, 1.00, 9.66], atol=0.005)


def test_class_weights_are_the_published_ratios_to_the_largest_class() -> None:
    config = LossConfig(class_weight_form="max_ratio", class_weight_exponent=1.0)

    weights = class_weights(LSD_COUNTS, config)

    np.testing.assert_allclose(weights, [7.91, 9.55, 13.24, 1.97, 1.00, 9.66], atol=0.005)


def test_class_weights_are_the_published_ratios_to_the_mean_class() -> None:
    config = LossConfig(class_weight_form="mean_ratio", class_weight_exponent=1.0)

    weights = class_weights(LSD_COUNTS, config)

    np.testing.assert_allclose(weights, [2.527, 3.050, 4.230, 0.631, 0.319, 3.086], atol=0.0006)
    assert weights.mean() == pytest.approx(2.3071, abs=1e-3)


def test_class_weights_follow_the_effective_number_of_faces() -> None:
    counts, beta = np.array([1, 2, 4]), 0.5

    weights = class_weights(counts, LossConfig(class_weight_form="effective_number", effective_beta=beta))

    sums = np.array([1.0, 1 + 0.5, 1 + 0.5 + 0.25 + 0.125])  # 1 + beta + ... + beta^(N - 1)
    np.testing.assert_allclose(weights, (1 / sums) / (1 / sums).mean())


@pytest.mark.parametrize(("beta", "expected"), [(0.0, [1.0, 1.0]), (1 - 1e-9, [0.2, 1.8])])
def test_effective_number_lies_between_no_weights_and_the_inverse_count(beta: float, expected: list[float]) -> None:
    config = LossConfig(class_weight_form="effective_number", effective_beta=beta)

    weights = class_weights(np.array([90, 10]), config)

    np.testing.assert_allclose(weights, expected, rtol=1e-5)


@pytest.mark.parametrize(("exponent", "ratio"), [(0.0, 1.0), (0.5, 3.0), (1.5, 27.0)])
@pytest.mark.parametrize("form", ["mean_one", "max_ratio", "mean_ratio"])
def test_class_weights_follow_the_exponent(form: str, exponent: float, ratio: float) -> None:
    config = LossConfig.model_validate({"class_weight_form": form, "class_weight_exponent": exponent})

    weights = class_weights(np.array([90, 10]), config)

    assert weights[1] / weights[0] == pytest.approx(ratio)


@pytest.mark.parametrize("form", ["mean_one", "max_ratio", "mean_ratio", "effective_number"])
def test_class_without_a_face_weighs_as_one_with_one(form: str) -> None:
    config = LossConfig.model_validate({"class_weight_form": form, "class_weight_exponent": 1.0})

    weights = class_weights(np.array([8, 0, 1]), config)

    assert weights[1] == weights[2] > weights[0] > 0
    assert np.isfinite(weights).all()


def test_class_weights_are_equal_when_no_face_has_a_label() -> None:
    np.testing.assert_array_equal(class_weights(np.array([0, 0]), LossConfig()), [1.0, 1.0])


@pytest.mark.parametrize(
    ("form", "expected"), [("mean_one", [0.5, 1.5, 2.5, 0.5, 0.5, 0.5]), ("max_ratio", [1, 3, 5, 1, 1, 1])]
)
def test_class_weights_given_outright_win_over_the_counts(form: str, expected: list[float]) -> None:
    config = LossConfig.model_validate({"class_weights": (1, 3, 5, 1, 1, 1), "class_weight_form": form})

    weights = class_weights(np.array([1, 2, 3, 4, 5, 6]), config)

    assert weights.dtype == np.float64
    np.testing.assert_allclose(weights, expected)


def test_class_weights_refuse_another_number_of_classes() -> None:
    with pytest.raises(ConfigError, match=r"loss\.class_weights must have one weight a class \(3\), got 2"):
        class_weights(np.array([1, 2, 3]), LossConfig(class_weights=(1.0, 2.0)))

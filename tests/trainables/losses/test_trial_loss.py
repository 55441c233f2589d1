"""The terms of a trial's loss: which there are, their weights, and rows without labels."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from spaces.config import TrialConfig
from spaces.errors import ConfigError
from trainables.losses.affect import UnitLoss, affect_loss
from trainables.losses.attention import partition_loss
from trainables.losses.landmarks import landmark_loss
from trainables.losses.total import TrialLoss

CLASS_COUNTS = np.array([60, 30, 10])
UNIT_COUNTS = np.tile([[70, 30]], (12, 1))
WIDTH, N = 5, 6
EVERYTHING = {
    "loss.affinity_weight": 2.0,
    "loss.partition_weight": 3.0,
    "loss.va_weight": 0.5,
    "loss.unit_weight": 4.0,
    "loss.landmark_weight": 10.0,
    "loss.hand_weight": 0.25,
}


def build_loss(settings: dict[str, Any] | None = None, *, units: bool = True) -> TrialLoss:
    config = TrialConfig.from_flat(settings or {}, alone=True)
    unit_counts = UNIT_COUNTS if units else None
    return TrialLoss(config, class_counts=CLASS_COUNTS, feature_width=WIDTH, unit_counts=unit_counts)


def draw_outputs(dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = {
        "logits": (N, 3),
        "base_logits": (N, 3),
        "features": (N, WIDTH),
        "attention": (N, 4, 7),
        "valence_arousal": (N, 2),
        "base_valence_arousal": (N, 2),
        "action_units": (N, 12),
        "landmarks": (N, 136),
        "hand": (N, 2),
    }
    return {name: torch.randn(*shape, generator=generator).to(dtype).requires_grad_() for name, shape in shapes.items()}


def draw_targets() -> dict[str, torch.Tensor]:
    """Labels of six faces; the last has none, the one before some."""
    generator = torch.Generator().manual_seed(1)
    targets = {
        "expression": torch.tensor([0, 1, 2, 1, 0, -1]),
        "valence_arousal": torch.rand(N, 2, generator=generator) * 2 - 1,
        "action_units": torch.randint(2, (N, 12), generator=generator),
        "landmarks": torch.rand(N, 136, generator=generator),
        "hand": torch.tensor([0, 1, 1, 0, -1, -1]),
    }
    targets["valence_arousal"][5], targets["landmarks"][5] = float("nan"), float("nan")
    targets["valence_arousal"][4, 0], targets["landmarks"][4, :10] = float("nan"), float("nan")
    targets["action_units"][5], targets["action_units"][4, :6] = -1, -1
    return targets


def only(tensors: dict[str, torch.Tensor], *names: str) -> dict[str, torch.Tensor]:
    return {name: tensors[name] for name in names}


def test_terms_are_the_losses_times_their_weights() -> None:
    loss, outputs, targets = build_loss(EVERYTHING), draw_outputs(), draw_targets()
    assert loss.affinity is not None

    terms = loss(outputs, targets)

    labels = targets["expression"]
    expected = {
        "expression": loss.expression(outputs["logits"], labels),
        "base_expression": loss.expression(outputs["base_logits"], labels),
        "affinity": 2.0 * loss.affinity(outputs["features"], labels),
        "partition": 3.0 * partition_loss(outputs["attention"], "log_of_mean"),
        "affect": 0.5 * affect_loss(outputs["valence_arousal"], targets["valence_arousal"]),
        "base_affect": 0.5 * affect_loss(outputs["base_valence_arousal"], targets["valence_arousal"]),
        "units": 4.0 * UnitLoss(UNIT_COUNTS)(outputs["action_units"], targets["action_units"]),
        "landmarks": 10.0 * landmark_loss(outputs["landmarks"], targets["landmarks"]),
        "hand": 0.25 * F.cross_entropy(outputs["hand"][:4], targets["hand"][:4]),
    }
    assert terms.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(terms[name], value, msg=name)


def test_expression_has_the_class_weights_of_the_config() -> None:
    settings = {"loss.class_weight_form": "max_ratio", "loss.class_weight_exponent": 1.0}

    torch.testing.assert_close(build_loss(settings).expression.weights, torch.tensor([1.0, 2.0, 6.0]))


def test_partition_follows_the_config_in_its_form() -> None:
    settings = {"loss.partition_weight": 1.0, "loss.partition_form": "mean_of_log"}
    outputs = draw_outputs()

    terms = build_loss(settings)(outputs, {})

    torch.testing.assert_close(terms["partition"], partition_loss(outputs["attention"], "mean_of_log"))


def test_default_config_has_the_expression_alone_for_a_plain_network() -> None:
    loss = build_loss(units=False)

    terms = loss(only(draw_outputs(), "logits", "features"), draw_targets())

    assert list(terms) == ["expression"]
    assert loss.affinity is None and loss.units is None
    assert list(loss.parameters()) == []


@pytest.mark.parametrize(
    ("name", "term"),
    [
        ("loss.affinity_weight", "affinity"),
        ("loss.partition_weight", "partition"),
        ("loss.va_weight", "affect"),
        ("loss.unit_weight", "units"),
        ("loss.landmark_weight", "landmarks"),
        ("loss.hand_weight", "hand"),
    ],
)
def test_term_is_left_out_when_its_weight_is_zero(name: str, term: str) -> None:
    outputs, targets = draw_outputs(), draw_targets()
    full = build_loss(EVERYTHING)(outputs, targets)

    terms = build_loss({**EVERYTHING, name: 0.0})(outputs, targets)

    assert full.keys() - terms.keys() == {term, f"base_{term}"} & full.keys()


@pytest.mark.parametrize(
    ("target", "gone"),
    [
        ("expression", {"expression", "base_expression", "affinity"}),
        ("valence_arousal", {"affect", "base_affect"}),
        ("action_units", {"units"}),
        ("landmarks", {"landmarks"}),
        ("hand", {"hand"}),
    ],
)
def test_term_is_left_out_when_its_target_is_absent(target: str, gone: set[str]) -> None:
    loss, outputs, targets = build_loss(EVERYTHING), draw_outputs(), draw_targets()
    full = loss(outputs, targets)

    del targets[target]

    assert full.keys() - loss(outputs, targets).keys() == gone


@pytest.mark.parametrize("output", draw_outputs())
def test_term_is_left_out_when_its_output_is_absent(output: str) -> None:
    loss, outputs, targets = build_loss(EVERYTHING), draw_outputs(), draw_targets()
    full = loss(outputs, targets)

    del outputs[output]

    assert len(full) - len(loss(outputs, targets)) == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_row_without_any_label_moves_nothing_but_the_attention_heads(dtype: torch.dtype) -> None:
    outputs = draw_outputs(dtype)

    sum(build_loss(EVERYTHING)(outputs, draw_targets()).values()).backward()

    for name, output in outputs.items():
        assert output.grad is not None and output.grad.isfinite().all(), name
        assert bool(output.grad[5].eq(0).all()) == (name != "attention"), name


def test_batch_without_any_label_costs_nothing_but_the_partition() -> None:
    loss, outputs = build_loss(EVERYTHING), draw_outputs()
    targets = {
        name: torch.full_like(values, float("nan") if values.is_floating_point() else -1)
        for name, values in draw_targets().items()
    }

    terms = loss(outputs, targets)
    sum(terms.values()).backward()

    assert {name for name, value in terms.items() if value.item() != 0} == {"partition"}
    assert all(output.grad is not None and output.grad.isfinite().all() for output in outputs.values())
    assert all(parameter.grad is not None and parameter.grad.eq(0).all() for parameter in loss.parameters())


def test_sum_of_terms_has_the_gradient_of_its_value() -> None:
    loss, targets = build_loss(EVERYTHING).double(), draw_targets()
    leaves = {name: output.detach().double().requires_grad_() for name, output in draw_outputs().items()}
    targets = {name: values.double() if values.is_floating_point() else values for name, values in targets.items()}

    def total(*values: torch.Tensor) -> Any:
        return sum(loss(dict(zip(leaves, values, strict=True)), targets).values())

    assert torch.autograd.gradcheck(total, tuple(leaves.values()), fast_mode=True)


def test_mixed_loss_is_that_of_the_expression() -> None:
    loss, outputs = build_loss(), draw_outputs()
    a, b = draw_targets()["expression"], draw_targets()["expression"].flip(0)

    mixed = loss.mixed(only(outputs, "logits"), a, b, 0.3)

    torch.testing.assert_close(mixed, loss.expression.mixed(outputs["logits"], a, b, 0.3))


def test_mixed_loss_adds_the_joint_heads_below_separate_ones() -> None:
    loss, outputs = build_loss(), draw_outputs()
    a, b = draw_targets()["expression"], draw_targets()["expression"].flip(0)

    mixed = loss.mixed(outputs, a, b, 0.3)

    parts = [loss.expression.mixed(outputs[name], a, b, 0.3) for name in ("logits", "base_logits")]
    torch.testing.assert_close(mixed, parts[0] + parts[1])


def test_first_centres_follow_the_trials_seed() -> None:
    first, again, other = (
        build_loss({"loss.affinity_weight": 1.0, "train.seed": seed}).state_dict()["affinity.centres"]
        for seed in (0, 0, 1)
    )

    assert torch.equal(first, again) and not torch.equal(first, other)


def test_state_brings_the_centres_back() -> None:
    saved = build_loss({**EVERYTHING, "train.seed": 1})
    resumed = build_loss(EVERYTHING)

    resumed.load_state_dict(saved.state_dict())

    assert saved.affinity is not None and resumed.affinity is not None
    assert torch.equal(resumed.affinity.centres, saved.affinity.centres)


def test_class_weights_of_another_length_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"loss\.class_weights must have one weight a class \(3\), got 2"):
        build_loss({"loss.class_weights": (1.0, 2.0)})

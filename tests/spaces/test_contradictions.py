"""Settings that contradict each other: a sentence for each pair, and none for a setting looked at by itself."""

import re
from typing import Any

import pytest

from spaces import contradictions
from spaces.config import TrialConfig
from spaces.contradictions import contradiction, has_attention
from spaces.errors import ConfigError
from spaces.parameters import check_setting

CASES: list[tuple[dict[str, Any], str]] = [
    (
        {"train.epochs": 0, "train.head_epochs": 0},
        "train.epochs and train.head_epochs must not both be 0",
    ),
    (
        {"train.head_views": 4, "train.head_batch_norm": "train"},
        "train.head_views must be 1 where train.head_batch_norm is 'train', which alters faces anew in every epoch, "
        "got 4",
    ),
    (
        {"blend.partner": "head"},
        "train.head_epochs must be above 0 where blend.partner is 'head', got 0",
    ),
    (
        {"model.start": "old.safetensors", "model.weights": "hub"},
        "model.weights must be none where model.start is a saved model, got 'hub'",
    ),
    (
        {"loss.name": "focal", "loss.label_smoothing": 0.2},
        "loss.label_smoothing must be 0 where loss.name is 'focal', which is not defined with it, got 0.2",
    ),
    (
        {"loss.class_weights": [1, 2], "loss.class_weight_form": "mean_ratio"},
        "loss.class_weight_form must be mean_one or max_ratio where loss.class_weights are given outright, got "
        "'mean_ratio'",
    ),
    (
        {"loss.class_weights": [1, 2], "loss.class_weight_form": "effective_number"},
        "loss.class_weight_form must be mean_one or max_ratio where loss.class_weights are given outright, got "
        "'effective_number'",
    ),
    (
        {"loss.partition_weight": 1.5},
        "loss.partition_weight must be 0 where the network has no attention heads (model.encoder is 'pooled'), got 1.5",
    ),
    (
        {"model.encoder": "two_branch", "branches.emotion": "pooled", "loss.partition_weight": 1.0},
        "loss.partition_weight must be 0 where the network has no attention heads (model.encoder is 'two_branch'), "
        "got 1.0",
    ),
    (
        {"model.encoder": "dan", "attention.heads": 1, "loss.partition_weight": 1.0},
        "attention.heads must be at least 2 where loss.partition_weight is above 0 (one head has no variance), got 1",
    ),
    (
        {"loss.landmark_weight": 1.0},
        "model.encoder must be two_branch where loss.landmark_weight is above 0, got 'pooled'",
    ),
    (
        {"hand.rule": "fixed"},
        "hand.backbone must name a network where hand.rule is 'fixed', got 'none'",
    ),
    (
        {"hand.rule": "tune_all", "hand.backbone": "resnet18", "blend.partner": "head", "train.head_epochs": 1},
        "hand.rule must be none or fixed beside a blend.partner, since it is tuned on the network's own answers, got "
        "'tune_all'",
    ),
    (
        {"hand.backbone": "resnet18", "train.epochs": 0, "train.head_epochs": 2},
        "train.epochs must be above 0 where there is a hand module, which the head-only epochs do not train "
        "(hand.backbone is 'resnet18'), got 0",
    ),
    (
        {"hand.backbone": "resnet18", "loss.hand_weight": 0.0},
        "loss.hand_weight must be above 0 where a hand module begins untrained (hand.backbone is 'resnet18'), got 0",
    ),
    (
        {"model.encoder": "deviation", "train.frozen_share": 1.0},
        "train.frozen_share must be below 1 where model.encoder is 'deviation', whose trained twin must move, got 1",
    ),
    (
        {"model.encoder": "deviation", "train.head_epochs": 2},
        "train.head_epochs must be 0 where model.encoder is 'deviation', whose twins are equal until one has been "
        "trained, got 2",
    ),
    (
        {"train.frozen_share": 0.8, "train.frozen_stages": 3},
        "train.frozen_share and train.frozen_stages must not both be given, got 0.8 and 3",
    ),
    (
        {"lr_schedule.epoch_gamma": 0.9},
        "lr_schedule.name must be exponential where epoch_gamma is given, got 'cosine'",
    ),
    (
        {"optimiser.sam_rho": 0.05, "train.precision": "float16"},
        "train.precision must be auto, bfloat16 or float32 where optimiser.sam_rho is above 0, got 'float16'",
    ),
    *(
        (
            {"augment.mix": "mixup", **settings},
            f"augment.mix must be none or mix_augment beside {name}, since mixed faces are judged by their expression "
            "alone, got 'mixup'",
        )
        for name, settings in (
            ("affect.heads", {"affect.heads": "joint"}),
            ("loss.affinity_weight", {"loss.affinity_weight": 1.0}),
            ("loss.partition_weight", {"model.encoder": "dan", "loss.partition_weight": 1.0}),
            ("loss.landmark_weight", {"model.encoder": "two_branch", "loss.landmark_weight": 1.0}),
            ("hand.backbone", {"hand.backbone": "resnet18"}),
        )
    ),
]


@pytest.mark.parametrize(("settings", "sentence"), CASES, ids=["-".join(settings) for settings, _ in CASES])
def test_contradiction_is_refused_with_its_sentence(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(sentence)}: s.yaml$"):
        TrialConfig.from_flat(settings, where="s.yaml")


@pytest.mark.parametrize(("settings", "sentence"), CASES, ids=["-".join(settings) for settings, _ in CASES])
def test_each_setting_passes_by_itself(settings: dict[str, Any], sentence: str) -> None:
    for name, value in settings.items():
        checked = check_setting(name, value)
        assert checked == (tuple(value) if isinstance(value, list) else value)


def test_every_rule_has_a_sentence_here() -> None:
    broken = {
        rule.__name__
        for settings, _ in CASES
        for rule in contradictions._RULES
        if rule(TrialConfig.from_flat(settings, alone=True).to_flat())
    }

    assert broken == {rule.__name__ for rule in contradictions._RULES}


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"train.epochs": 0, "train.head_epochs": 3},
        {"blend.partner": "head", "train.head_epochs": 1},
        {"model.start": "old.safetensors"},
        {"loss.name": "focal", "loss.label_smoothing": 0.0},
        {"loss.class_weights": [1, 2], "loss.class_weight_form": "max_ratio"},
        {"model.encoder": "dan", "loss.partition_weight": 1.0, "loss.affinity_weight": 1.0},
        {"model.encoder": "two_branch", "loss.partition_weight": 1.0, "loss.landmark_weight": 1.0},
        {"hand.rule": "tune_all", "hand.backbone": "resnet18"},
        {"hand.backbone": "resnet18", "train.epochs": 0, "train.head_epochs": 1, "model.start": "old.safetensors"},
        {"model.encoder": "deviation"},
        {"lr_schedule.name": "exponential", "lr_schedule.epoch_gamma": 0.9},
        {"optimiser.sam_rho": 0.05, "train.precision": "bfloat16"},
        {"augment.mix": "mix_augment", "affect.heads": "separate", "hand.backbone": "resnet18"},
        {"augment.mix": "mixup"},
    ],
    ids=lambda settings: "-".join(settings) or "defaults",
)
def test_settings_that_hold_together_pass(settings: dict[str, Any]) -> None:
    assert contradiction(TrialConfig.from_flat(settings).to_flat()) is None


@pytest.mark.parametrize(
    ("encoder", "emotion", "expected"),
    [("dan", "pooled", True), ("two_branch", "dan", True), ("two_branch", "pooled", False), ("pooled", "dan", False)],
)
def test_attention_heads_are_dans_wherever_it_stands(encoder: str, emotion: str, expected: bool) -> None:
    assert has_attention({"model.encoder": encoder, "branches.emotion": emotion}) == expected

"""Which heads can be trained together, and which settings have a say in them."""

from typing import Any

import pytest

from spaces.config import FIELDS, TrialConfig
from trainables.heads import HEAD_SETTINGS, why_not_packable, why_stage_not_packable


def config(settings: dict[str, Any]) -> TrialConfig:
    return TrialConfig.from_flat({"train.epochs": 0, "train.head_epochs": 2, **settings})


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({}, ""),
        ({"model.head_width": 32, "loss.name": "focal", "loss.label_smoothing": 0.0, "train.head_views": 3}, ""),
        ({"loss.affinity_weight": 1.0}, ""),
        ({"train.epochs": 1}, "train.epochs"),
        ({"train.head_batch_norm": "train"}, "train.head_batch_norm"),
        ({"model.encoder": "dan"}, "model.encoder"),
        ({"affect.heads": "joint"}, "affect.heads"),
        ({"blend.partner": "head"}, "blend.partner"),
        ({"blend.partner": "other.safetensors"}, "blend.partner"),
        ({"optimiser.sam_rho": 0.05}, "optimiser.sam_rho"),
        ({"hand.backbone": "resnet18", "model.start": "saved.safetensors"}, "hand.backbone"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_setting_that_stands_in_the_way_is_named(settings: dict[str, Any], name: str) -> None:
    assert why_not_packable(config(settings)) == name


def test_head_stage_of_a_longer_trial_may_have_a_partner_and_a_hand_module() -> None:
    settings = {"train.epochs": 3, "blend.partner": "head", "hand.backbone": "resnet18"}

    assert why_stage_not_packable(config(settings)) == ""


def test_trial_without_a_head_stage_has_none_to_train() -> None:
    assert why_stage_not_packable(config({"train.epochs": 1, "train.head_epochs": 0})) == "train.head_epochs"


def test_settings_of_heads_are_settings() -> None:
    assert set(FIELDS) >= HEAD_SETTINGS
    assert not any(name.startswith(("augment.", "affect.", "hand.")) for name in HEAD_SETTINGS)

"""TrialConfig: complete by default, strict about names and ranges, the same after a round trip."""

import json
import re
from typing import Any

import pytest
from pydantic import ValidationError

from spaces.config import FIELDS, TrialConfig, check_field_name
from spaces.errors import ConfigError


def test_config_comes_back_from_its_flat_form_through_json() -> None:
    config = TrialConfig.from_flat({"loss.class_weights": [1, 3, 5], "optimiser.lr": 3e-4, "model.image_px": None})

    flat = json.loads(json.dumps(config.to_flat()))

    assert TrialConfig.from_flat(flat) == config
    assert set(flat) == set(FIELDS)


def test_config_says_what_every_setting_means() -> None:
    assert [name for name, meaning in FIELDS.items() if not meaning] == []


def test_config_is_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        TrialConfig().train.epochs = 3  # type: ignore[misc]


def test_config_replaces_settings_in_a_copy() -> None:
    config = TrialConfig()

    changed = config.with_settings({"train.seed": 9})

    assert (config.train.seed, changed.train.seed) == (0, 9)
    assert changed.with_settings({"train.seed": 0}) == config


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"loss.label_smoothin": 0.1}, "setting 'loss.label_smoothin' is unknown: s.yaml; did you mean 'loss.label_sm"),
        ({"lr": 0.1}, "setting 'lr' is unknown: s.yaml"),
        ({"train.a.b": 0.1}, "setting 'train.a.b' is unknown: s.yaml"),
        ({"loss.label_smoothing": 1.0}, "loss.label_smoothing: input should be less than 1, got 1.0: s.yaml"),
        ({"optimiser.lr": 0}, "optimiser.lr: input should be greater than 0, got 0: s.yaml"),
        ({"optimiser.lr": float("nan")}, "optimiser.lr: input should be"),
        ({"train.batch_size": 1}, "train.batch_size: input should be greater than or equal to 2, got 1: s.yaml"),
        ({"train.epochs": 1.5}, "train.epochs: input should be a valid integer"),
        (
            {"optimiser.name": "rmsprop"},
            "optimiser.name: input should be 'adam', 'adamw' or 'sgd', got 'rmsprop': s.yaml",
        ),
        ({"loss.class_weights": [1, -1]}, "class_weights must be non-negative with a positive sum, got [1.0, -1.0]"),
        ({"loss.class_weights": [0, 0]}, "class_weights must be non-negative with a positive sum, got [0.0, 0.0]"),
        ({"loss.class_weights": []}, "class_weights must be non-negative with a positive sum, got []"),
        ({"loss.class_weights": [1, float("inf")]}, "loss.class_weights.1: input should be a finite number, got inf"),
        ({"train.epochs": 0}, "train.epochs and train.head_epochs must not both be 0: s.yaml"),
        ({"blend.partner": "head"}, "train.head_epochs must be above 0 where blend.partner is 'head', got 0: s.yaml"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_config_refuses_with_a_sentence(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        TrialConfig.from_flat(settings, where="s.yaml")


def test_field_name_is_checked_by_itself() -> None:
    check_field_name("train.seed")

    with pytest.raises(ConfigError, match=r"setting 'train\.sed' is unknown; did you mean 'train\.seed'"):
        check_field_name("train.sed")

"""TrialConfig: every knob of one trial, typed, with its meaning, unit and range.

A space names a field by its dotted path (`loss.label_smoothing`). The same object is the library's API, the
command line's `--fix` and what MLflow shows as parameters.
"""

import sys
from collections.abc import Mapping
from typing import Any, Self

from pydantic import ValidationError, ValidationInfo, model_validator

from spaces.contradictions import contradiction
from spaces.errors import ConfigError, near_miss, shown
from spaces.network_sections import (
    AffectConfig,
    AttentionConfig,
    BlendConfig,
    BranchesConfig,
    DeviationConfig,
    HandConfig,
    ModelConfig,
    Section,
)
from spaces.training_sections import (
    AugmentConfig,
    DataConfig,
    LossConfig,
    LrScheduleConfig,
    OptimiserConfig,
    TrainConfig,
)

Value = None | bool | int | float | str | tuple[float, ...]


class TrialConfig(Section):
    """One point of the space, complete."""

    model: ModelConfig = ModelConfig()
    attention: AttentionConfig = AttentionConfig()
    deviation: DeviationConfig = DeviationConfig()
    branches: BranchesConfig = BranchesConfig()
    affect: AffectConfig = AffectConfig()
    hand: HandConfig = HandConfig()
    data: DataConfig = DataConfig()
    loss: LossConfig = LossConfig()
    blend: BlendConfig = BlendConfig()
    optimiser: OptimiserConfig = OptimiserConfig()
    lr_schedule: LrScheduleConfig = LrScheduleConfig()
    train: TrainConfig = TrainConfig()
    augment: AugmentConfig = AugmentConfig()

    @model_validator(mode="after")
    def _holds_together(self, info: ValidationInfo) -> Self:
        alone = bool(info.context and info.context.get("alone"))
        sentence = None if alone else contradiction(self.to_flat())
        if sentence:
            raise ValueError(sentence)
        return self

    @classmethod
    def from_flat(cls, settings: Mapping[str, Any], *, where: str = "", alone: bool = False) -> "TrialConfig":
        """A config from dotted names, defaults for the rest.

        Args:
            settings: dotted field name to value.
            where: file or command the settings come from, for the error.
            alone: each setting is looked at by itself; what contradicts another one is let pass.

        Raises:
            ConfigError: a name is unknown (the near miss is offered), a value is out of its range, or two contradict
                each other.
        """
        nested: dict[str, dict[str, Any]] = {}
        for name, value in settings.items():
            check_field_name(name, where=where)
            section, field = name.split(".")
            nested.setdefault(section, {})[field] = value
        try:
            return cls.model_validate(nested, context={"alone": alone})
        except ValidationError as error:
            raise ConfigError(_first_problem(error) + (f": {where}" if where else "")) from None

    def to_flat(self) -> dict[str, Value]:
        """Every setting by its dotted name, sections in their order."""
        return {
            sys.intern(f"{section}.{field}"): getattr(getattr(self, section), field)  # one name for all trials
            for section, settings in TrialConfig.model_fields.items()
            for field in _fields_of(settings.annotation)
        }

    def with_settings(self, settings: Mapping[str, Any]) -> "TrialConfig":
        """A copy with some dotted settings replaced, checked again."""
        return TrialConfig.from_flat({**self.to_flat(), **settings})


def _fields_of(section: Any) -> dict[str, Any]:
    return dict(section.model_fields)


FIELDS: dict[str, str] = {
    f"{section}.{field}": info.description or ""
    for section, settings in TrialConfig.model_fields.items()
    for field, info in _fields_of(settings.annotation).items()
}
"""Dotted name to meaning, of every setting there is."""


def check_field_name(name: str, *, where: str = "") -> None:
    """Raise ConfigError with the near miss where no setting has this dotted name."""
    if name not in FIELDS:
        place = f": {where}" if where else ""
        raise ConfigError(f"setting {shown(name)} is unknown{place}{near_miss(name, FIELDS)}")


def _first_problem(error: ValidationError) -> str:
    problem = error.errors()[0]
    name = ".".join(str(part) for part in problem["loc"])
    message = problem["msg"].removeprefix("Value error, ")
    if not name or problem["type"] == "value_error":
        return message
    rule = message[0].lower() + message[1:]
    return f"{name}: {rule}, got {shown(problem['input'])}"

"""TrialConfig: every knob of one trial, typed, with its meaning, unit and range.

A space names a field by its dotted path (`loss.label_smoothing`). The same object is the library's API, the
command line's `--fix` and what MLflow shows as parameters.
"""

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from spaces.errors import ConfigError, near_miss

Value = None | bool | int | float | str | tuple[float, ...]


class Section(BaseModel):
    """One group of settings: frozen, and deaf to unknown names."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ModelConfig(Section):
    """Which network is trained, and from what."""

    backbone: str = Field(default="tf_efficientnet_lite0", description="timm name of the feature extractor")
    weights: str = Field(
        default="none",
        description="where its weights come from: none (random), hub (timm's own), or a safetensors file",
    )
    image_px: int | None = Field(
        default=None, ge=16, le=1024, description="side the network sees, pixels; table's own if empty"
    )
    mirror: bool = Field(default=True, description="answer with the mean of a face's logits and its mirror image's")
    drop_rate: float = Field(default=0.2, ge=0, lt=1, description="dropout before the classifier")
    drop_path_rate: float = Field(default=0.0, ge=0, lt=1, description="stochastic depth, where the backbone has it")


class DataConfig(Section):
    """Which training faces are seen, and in which numbers."""

    subsample_ratio: float = Field(
        default=1.0, gt=0, le=1, description="share of the training faces, stratified by class"
    )
    normalise: Literal["auto", "backbone", "table"] = Field(
        default="auto",
        description="whose mean and std: the backbone's, the table's, or auto (backbone's if it has weights)",
    )


class LossConfig(Section):
    """Weighted cross-entropy with label smoothing."""

    label_smoothing: float = Field(default=0.1, ge=0, lt=1, description="mass spread over all classes")
    class_weight_exponent: float = Field(
        default=0.5, ge=0, le=3, description="b in w_c = (max N / N_c)^b, mean 1, counted on the trial's own subsample"
    )
    class_weights: tuple[float, ...] | None = Field(
        default=None, description="weights given outright, in the order of the classes; the exponent is then not used"
    )

    @model_validator(mode="after")
    def _weights_are_usable(self) -> Self:
        weights = self.class_weights
        if weights is not None and (min(weights, default=0) < 0 or sum(weights) <= 0):
            raise ValueError(f"class_weights must be non-negative with a positive sum, got {list(weights)}")
        return self


class BlendConfig(Section):
    """Mixing the fine-tuned network's probabilities with a partner's."""

    partner: str = Field(
        default="none",
        description="none, head (the trial's own network after its head-only epochs), or a saved model's path",
    )
    weight: float = Field(default=0.5, ge=0, le=1, description="w in w * partner + (1 - w) * fine-tuned")


class OptimiserConfig(Section):
    """How weights move."""

    name: Literal["adam", "adamw"] = Field(default="adamw", description="optimiser")
    lr: float = Field(default=2e-3, gt=0, le=1, description="peak learning rate of the backbone")
    head_lr_ratio: float = Field(default=1.0, gt=0, le=1000, description="the head's learning rate over the backbone's")
    head_only_lr: float = Field(default=1e-2, gt=0, le=1, description="peak learning rate of the head-only epochs")
    weight_decay: float = Field(
        default=0.02, ge=0, le=1, description="decay of weight matrices; biases and norms have none"
    )
    grad_clip: float = Field(default=5.0, ge=0, description="largest gradient norm; 0 does not clip")


class LrScheduleConfig(Section):
    """How the learning rate changes within a trial."""

    name: Literal["cosine", "linear", "exponential", "constant"] = Field(
        default="cosine", description="shape after warm-up"
    )
    warmup_ratio: float = Field(default=0.1, ge=0, lt=1, description="share of the steps spent rising to the peak")
    final_ratio: float = Field(default=0.01, ge=0, le=1, description="learning rate at the end over the peak")


class TrainConfig(Section):
    """How long and how a trial trains."""

    epochs: int = Field(default=10, ge=0, le=1000, description="passes over the subsample with all weights trained")
    head_epochs: int = Field(default=0, ge=0, le=1000, description="passes before, with only the head trained")
    batch_size: int = Field(default=64, ge=2, le=65536, description="faces a step")
    ema_decay: float = Field(default=0.0, ge=0, lt=1, description="averaging of weights over steps; 0 does not average")
    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        default="auto",
        description="arithmetic on a GPU; auto takes bfloat16 where the GPU has it; a CPU computes in float32",
    )
    seed: int = Field(default=0, ge=0, lt=2**31, description="subsample, initialisation, order and augmentation")


class AugmentConfig(Section):
    """What may happen to a training face; all strengths suit small, roughly centred faces."""

    flip_p: float = Field(default=0.5, ge=0, le=1, description="probability of a mirror image")
    affine_p: float = Field(default=0.6, ge=0, le=1, description="probability of shift, scale and rotation")
    max_shift: float = Field(default=0.06, ge=0, le=0.5, description="largest shift, share of the side")
    max_scale: float = Field(default=0.1, ge=0, lt=1, description="largest change of size, share")
    max_rotate_deg: float = Field(default=10.0, ge=0, le=180, description="largest rotation, degrees")
    light_p: float = Field(default=0.5, ge=0, le=1, description="probability of changed brightness and contrast")
    max_light: float = Field(default=0.2, ge=0, le=1, description="largest change of brightness and contrast, share")
    erase_p: float = Field(default=0.1, ge=0, le=1, description="probability that a rectangle is blotted out")


class TrialConfig(Section):
    """One point of the space, complete."""

    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    loss: LossConfig = LossConfig()
    blend: BlendConfig = BlendConfig()
    optimiser: OptimiserConfig = OptimiserConfig()
    lr_schedule: LrScheduleConfig = LrScheduleConfig()
    train: TrainConfig = TrainConfig()
    augment: AugmentConfig = AugmentConfig()

    @model_validator(mode="after")
    def _stages_fit(self) -> Self:
        if self.train.epochs + self.train.head_epochs == 0:
            raise ValueError("train.epochs and train.head_epochs must not both be 0")
        if self.blend.partner == "head" and self.train.head_epochs == 0:
            raise ValueError("train.head_epochs must be above 0 where blend.partner is 'head', got 0")
        return self

    @classmethod
    def from_flat(cls, settings: Mapping[str, Any], *, where: str = "") -> "TrialConfig":
        """A config from dotted names, defaults for the rest.

        Args:
            settings: dotted field name to value.
            where: file or command the settings come from, for the error.

        Raises:
            ConfigError: a name is unknown (the near miss is offered) or a value is out of its range.
        """
        nested: dict[str, dict[str, Any]] = {}
        for name, value in settings.items():
            check_field_name(name, where=where)
            section, field = name.split(".")
            nested.setdefault(section, {})[field] = value
        try:
            return cls.model_validate(nested)
        except ValidationError as error:
            raise ConfigError(_first_problem(error) + (f": {where}" if where else "")) from None

    def to_flat(self) -> dict[str, Value]:
        """Every setting by its dotted name, sections in their order."""
        return {
            f"{section}.{field}": getattr(getattr(self, section), field)
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
        raise ConfigError(f"setting {name!r} is unknown{place}{near_miss(name, FIELDS)}")


def _first_problem(error: ValidationError) -> str:
    problem = error.errors()[0]
    name = ".".join(str(part) for part in problem["loc"])
    message = problem["msg"].removeprefix("Value error, ")
    if not name or problem["type"] == "value_error":
        return message
    rule = message[0].lower() + message[1:]
    return f"{name}: {rule}, got {problem['input']!r}"

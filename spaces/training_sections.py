"""The settings that say how a trial trains: data, loss, optimiser, schedule, epochs, augmentation."""

from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, model_validator

from spaces.network_sections import Section
from spaces.registries import EXPRESSION_LOSSES, SAMPLERS, describe

if TYPE_CHECKING:
    ExpressionLossName = str
    SamplerName = str
else:
    ExpressionLossName = Literal[tuple(EXPRESSION_LOSSES)]
    SamplerName = Literal[tuple(SAMPLERS)]


class DataConfig(Section):
    """Which training faces are seen, and in which numbers."""

    subsample_ratio: float = Field(
        default=1.0, gt=0, le=1, description="share of the training faces, stratified by class"
    )
    subsample_by: Literal["faces", "subjects"] = Field(
        default="faces",
        description="what a subsample draws: faces one by one, or subjects with all their faces, each class as near to "
        "its share as they allow; a face without a subject is drawn by itself",
    )
    sampler: SamplerName = Field(default="shuffle", description=describe(SAMPLERS))
    sampler_power: float = Field(default=1.0, ge=0, le=2, description="power of the weighted sampler; 1 balances")
    normalise: Literal["auto", "backbone", "table"] = Field(
        default="auto",
        description="whose mean and std: the backbone's, the table's, or auto (those of model.start; else the "
        "backbone's if it has weights; else the table's)",
    )


class LossConfig(Section):
    """The loss on the expression, and the terms beside it with their weights."""

    name: ExpressionLossName = Field(
        default="cross_entropy", description=f"loss on the expression; {describe(EXPRESSION_LOSSES)}"
    )
    gamma: float = Field(default=2.0, ge=0, le=10, description="focal loss: power of (1 - p)")
    label_smoothing: float = Field(default=0.1, ge=0, lt=1, description="mass spread over all classes")
    class_weight_exponent: float = Field(
        default=0.5, ge=0, le=3, description="b in w_c = (max N / N_c)^b, counted on the trial's own subsample"
    )
    class_weights: tuple[float, ...] | None = Field(
        default=None, description="weights given outright, in the order of the classes; the exponent is then not used"
    )
    class_weight_form: Literal["mean_one", "max_ratio", "mean_ratio", "effective_number"] = Field(
        default="mean_one",
        description="scale of the weights: mean 1 over classes; (max N / N_c)^b or a list as they stand; "
        "(mean N / N_c)^b; or (1 - beta) / (1 - beta^N_c) with mean 1",
    )
    effective_beta: float = Field(default=0.999, ge=0, lt=1, description="beta of the effective number of samples")
    smoothing_by: Literal["sample", "class"] = Field(
        default="sample",
        description="how weights meet smoothing: a face's whole loss by its own class's weight, or each class's term "
        "by that class's (torch's and the papers' way)",
    )
    reduction: Literal["faces", "weights"] = Field(
        default="faces", description="the weighted sum over a batch is divided by its faces, or by their weights"
    )
    affinity_weight: float = Field(default=0.0, ge=0, le=100, description="DAN's affinity loss: faces to class centres")
    partition_weight: float = Field(default=0.0, ge=0, le=100, description="DAN's partition loss: heads apart")
    partition_form: Literal["log_of_mean", "mean_of_log"] = Field(
        default="log_of_mean", description="partition loss as the published code computes it, or as the papers write it"
    )
    va_weight: float = Field(default=1.0, ge=0, le=100, description="1 - mean CCC of valence and arousal")
    unit_weight: float = Field(default=1.0, ge=0, le=100, description="balanced cross-entropy of the action units")
    landmark_weight: float = Field(default=0.0, ge=0, le=10000, description="mean squared error of the landmarks")
    hand_weight: float = Field(default=1.0, ge=0, le=100, description="cross-entropy of the hand module")

    @model_validator(mode="after")
    def _weights_are_usable(self) -> Self:
        weights = self.class_weights
        if weights is not None and (min(weights, default=0) < 0 or sum(weights) <= 0):
            raise ValueError(f"class_weights must be non-negative with a positive sum, got {list(weights)}")
        return self


class OptimiserConfig(Section):
    """How weights move."""

    name: Literal["adam", "adamw", "sgd"] = Field(default="adamw", description="optimiser; sgd with momentum 0.9")
    lr: float = Field(default=2e-3, gt=0, le=1, description="peak learning rate of the backbone")
    head_lr_ratio: float = Field(default=1.0, gt=0, le=1000, description="the head's learning rate over the backbone's")
    head_only_lr: float = Field(default=1e-2, gt=0, le=1, description="peak learning rate of the head-only epochs")
    weight_decay: float = Field(default=0.02, ge=0, le=1, description="decay of weights in full epochs; adam's is L2")
    decay_on: Literal["matrices", "all"] = Field(
        default="matrices", description="what decays: weight matrices alone, or biases and norms too"
    )
    grad_clip: float = Field(default=5.0, ge=0, description="largest gradient norm; 0 does not clip")
    sam_rho: float = Field(
        default=0.0, ge=0, le=1, description="radius of sharpness-aware minimisation; 0 takes plain steps"
    )
    sam_batch_norm: Literal["both", "first"] = Field(
        default="first", description="which of a SAM step's two passes update batch norm's running statistics"
    )


class LrScheduleConfig(Section):
    """How the learning rate changes within a trial."""

    name: Literal["cosine", "linear", "exponential", "constant"] = Field(
        default="cosine", description="shape after warm-up"
    )
    warmup_ratio: float = Field(default=0.1, ge=0, lt=1, description="share of the steps spent rising to the peak")
    final_ratio: float = Field(default=0.01, ge=0, le=1, description="learning rate at the end over the peak")
    epoch_gamma: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="exponential: factor an epoch, in steps of whole epochs; final_ratio is then not used",
    )


class TrainConfig(Section):
    """How long and how a trial trains."""

    epochs: int = Field(default=10, ge=0, le=1000, description="passes over the subsample with all weights trained")
    head_epochs: int = Field(default=0, ge=0, le=1000, description="passes before, with only the head trained")
    head_batch_norm: Literal["eval", "train"] = Field(
        default="eval",
        description="batch norm of the frozen backbone in the head-only epochs; train lets its statistics drift, needs "
        "a forward pass an epoch and augments",
    )
    head_views: int = Field(
        default=1,
        ge=1,
        le=64,
        description="looks of each training face that head-only epochs draw from, each embedded once: the face as it "
        "is, the others altered as under augment",
    )
    batch_norm: Literal["train", "eval"] = Field(
        default="train", description="batch norm of the backbone while it trains; eval keeps its statistics"
    )
    frozen_share: float = Field(
        default=0.0, ge=0, le=1, description="share of the backbone's blocks, from the stem on, that stand still"
    )
    frozen_stages: int = Field(
        default=0, ge=0, le=16, description="stages of the backbone, from the stem on, that stand still"
    )
    batch_size: int = Field(default=64, ge=2, le=65536, description="faces a step")
    micro_batch: int | None = Field(
        default=None,
        ge=2,
        le=65536,
        description="faces at once where a step's do not fit into memory; gradients add up, batch norm sees the part",
    )
    ema_decay: float = Field(default=0.0, ge=0, lt=1, description="averaging of weights over full steps; 0 is off")
    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        default="auto",
        description="arithmetic on a GPU; auto takes bfloat16 where the GPU has it, float32 for a deviation; a CPU "
        "computes in float32",
    )
    compile: Literal["auto", "on", "off"] = Field(
        default="auto",
        description="torch.compile of the network; auto compiles where a measurement on this GPU (made by "
        "--gpus-per-trial auto) says that it saves more over the trial's steps than it "
        "costs, and nowhere else; where compiling fails the trial goes on without",
    )
    snapshots: int = Field(
        default=0,
        ge=0,
        le=16,
        description="last epochs whose weights and scores are kept beside the best one's, where the trial completes",
    )
    seed: int = Field(default=0, ge=0, lt=2**31, description="subsample, initialisation, order and augmentation")


class AugmentConfig(Section):
    """What may happen to a training face; all strengths suit small, roughly centred faces."""

    policy: Literal["each", "alternatives"] = Field(
        default="each",
        description="each by its own probability; or always one of: colour jitter, crop, flip, jitter and crop, crop "
        "and flip, whatever their probabilities and those of affine and light",
    )
    flip_p: float = Field(default=0.5, ge=0, le=1, description="probability of a mirror image")
    affine_p: float = Field(default=0.6, ge=0, le=1, description="probability of shift, scale and rotation")
    max_shift: float = Field(default=0.06, ge=0, le=0.5, description="largest shift, share of the side")
    max_scale: float = Field(default=0.1, ge=0, lt=1, description="largest change of size, share")
    max_rotate_deg: float = Field(default=10.0, ge=0, le=180, description="largest rotation, degrees")
    crop_p: float = Field(default=0.0, ge=0, le=1, description="probability of a random crop, brought back to size")
    crop_min_scale: float = Field(default=0.8, gt=0, le=1, description="smallest area of a crop, share of the image")
    light_p: float = Field(default=0.5, ge=0, le=1, description="probability of changed brightness and contrast")
    max_light: float = Field(default=0.2, ge=0, le=1, description="largest change of brightness and contrast, share")
    jitter_p: float = Field(default=0.0, ge=0, le=1, description="probability of colour jitter")
    max_jitter: float = Field(
        default=0.3, ge=0, le=1, description="colour jitter of brightness, contrast and saturation, share"
    )
    max_hue: float = Field(default=0.1, ge=0, le=0.5, description="colour jitter of the hue, turns")
    erase_p: float = Field(default=0.1, ge=0, le=1, description="probability that a rectangle is blotted out")
    rand_p: float = Field(default=0.0, ge=0, le=1, description="probability of RandAugment, anew each epoch")
    rand_ops: int = Field(default=2, ge=1, le=12, description="RandAugment: operations drawn for a face")
    rand_magnitude: int = Field(default=9, ge=0, le=30, description="RandAugment: strength, of 30")
    mix: Literal["none", "mixup", "mix_augment"] = Field(
        default="none",
        description="none; mixup: mixed faces alone; mix_augment: the loss on mixed faces plus the loss on the real",
    )
    mix_alpha: float = Field(default=1.0, gt=0, le=10, description="alpha of Beta(alpha, alpha) of shares")

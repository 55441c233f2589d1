"""Which settings act on a head alone, and which stand in the way of training heads together."""

from spaces.config import TrialConfig

BATCHED_LOSSES = ("cross_entropy", "focal")
"""Losses that are written for many heads at once (`batched_loss.py`); a head with another one is trained by itself."""

HEAD_SETTINGS = frozenset(
    {
        "data.normalise",
        "data.sampler",
        "data.sampler_power",
        "data.subsample_by",
        "data.subsample_ratio",
        "loss.class_weight_exponent",
        "loss.class_weight_form",
        "loss.class_weights",
        "loss.effective_beta",
        "loss.gamma",
        "loss.label_smoothing",
        "loss.name",
        "loss.reduction",
        "loss.smoothing_by",
        "lr_schedule.epoch_gamma",
        "lr_schedule.final_ratio",
        "lr_schedule.name",
        "lr_schedule.warmup_ratio",
        "model.backbone",
        "model.drop_rate",
        "model.head_width",
        "model.image_px",
        "model.min_map",
        "model.mirror",
        "model.start",
        "model.weights",
        "optimiser.grad_clip",
        "optimiser.head_only_lr",
        "optimiser.name",
        "train.batch_size",
        "train.head_epochs",
        "train.head_views",
        "train.seed",
    }
)
"""Settings that change what a head learns while the backbone stands still. Those of `augment` do with several views."""


def why_not_packable(config: TrialConfig) -> str:
    """The setting because of which a trial's head can't be trained beside others; empty where it can."""
    reasons = {
        "train.epochs": config.train.epochs > 0,
        "blend.partner": config.blend.partner != "none",
        "hand.backbone": config.hand.backbone != "none",
    }
    return next((name for name, stands in reasons.items() if stands), why_stage_not_packable(config))


def why_stage_not_packable(config: TrialConfig) -> str:
    """The same for the head-only epochs of a trial, whatever comes after them and stands beside the head.

    Losses on what a pooled encoder's head does not say (affinity, landmarks, a hand) do not act there.
    """
    reasons = {
        "train.head_epochs": config.train.head_epochs == 0,
        "train.head_batch_norm": config.train.head_batch_norm != "eval",
        "model.encoder": config.model.encoder != "pooled",
        "affect.heads": config.affect.heads != "none",
        "optimiser.sam_rho": config.optimiser.sam_rho > 0,
        "loss.name": config.loss.name not in BATCHED_LOSSES,
    }
    return next((name for name, stands in reasons.items() if stands), "")

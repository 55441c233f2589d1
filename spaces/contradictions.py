"""Settings that are fine alone and make no sense together, each said in a sentence that names both."""

from collections.abc import Callable, Mapping
from typing import Any

Flat = Mapping[str, Any]
Rule = Callable[[Flat], str | None]


def contradiction(settings: Flat) -> str | None:
    """The first rule that complete settings break, as a sentence; None where they hold together."""
    found = (rule(settings) for rule in _RULES)
    return next((sentence for sentence in found if sentence), None)


def has_attention(settings: Flat) -> bool:
    """Whether the network has DAN's attention heads somewhere."""
    encoder = settings["model.encoder"]
    return bool(encoder == "dan" or (encoder == "two_branch" and settings["branches.emotion"] == "dan"))


def _epochs(s: Flat) -> str | None:
    if s["train.epochs"] + s["train.head_epochs"] == 0:
        return "train.epochs and train.head_epochs must not both be 0"
    return None


def _partner(s: Flat) -> str | None:
    if s["blend.partner"] == "head" and s["train.head_epochs"] == 0:
        return "train.head_epochs must be above 0 where blend.partner is 'head', got 0"
    return None


def _origin(s: Flat) -> str | None:
    if s["model.start"] != "none" and s["model.weights"] != "none":
        return f"model.weights must be none where model.start is a saved model, got {s['model.weights']!r}"
    return None


def _focal(s: Flat) -> str | None:
    if s["loss.name"] == "focal" and s["loss.label_smoothing"]:
        got = s["loss.label_smoothing"]
        return f"loss.label_smoothing must be 0 where loss.name is 'focal', which is not defined with it, got {got}"
    return None


def _class_weights(s: Flat) -> str | None:
    form = s["loss.class_weight_form"]
    if s["loss.class_weights"] is not None and form in ("mean_ratio", "effective_number"):
        rule = "must be mean_one or max_ratio where loss.class_weights are given outright"
        return f"loss.class_weight_form {rule}, got {form!r}"
    return None


def _partition(s: Flat) -> str | None:
    weight = s["loss.partition_weight"]
    if not weight:
        return None
    if not has_attention(s):
        where = f"model.encoder is {s['model.encoder']!r}"
        return f"loss.partition_weight must be 0 where the network has no attention heads ({where}), got {weight}"
    if s["attention.heads"] < 2:
        rule = "must be at least 2 where loss.partition_weight is above 0 (one head has no variance)"
        return f"attention.heads {rule}, got {s['attention.heads']}"
    return None


def _landmarks(s: Flat) -> str | None:
    weight = s["loss.landmark_weight"]
    if weight and s["model.encoder"] != "two_branch":
        rule = "must be two_branch where loss.landmark_weight is above 0"
        return f"model.encoder {rule}, got {s['model.encoder']!r}"
    return None


def _hand(s: Flat) -> str | None:
    if s["hand.rule"] != "none" and s["hand.backbone"] == "none":
        return f"hand.backbone must name a network where hand.rule is {s['hand.rule']!r}, got 'none'"
    if s["hand.rule"].startswith("tune") and s["blend.partner"] != "none":
        rule = "must be none or fixed beside a blend.partner, since it is tuned on the network's own answers"
        return f"hand.rule {rule}, got {s['hand.rule']!r}"
    return None


def _hand_trained(s: Flat) -> str | None:
    if s["hand.backbone"] == "none" or s["model.start"] != "none":
        return None
    if not s["loss.hand_weight"]:
        rule = "must be above 0 where a hand module begins untrained"
        return f"loss.hand_weight {rule} (hand.backbone is {s['hand.backbone']!r}), got 0"
    if s["train.epochs"] == 0:
        rule = "must be above 0 where there is a hand module, which the head-only epochs do not train"
        return f"train.epochs {rule} (hand.backbone is {s['hand.backbone']!r}), got 0"
    return None


def _deviation(s: Flat) -> str | None:
    if s["model.encoder"] == "deviation" and s["train.frozen_share"] == 1:
        return (
            "train.frozen_share must be below 1 where model.encoder is 'deviation', whose trained twin must move, got 1"
        )
    if s["model.encoder"] == "deviation" and s["train.head_epochs"]:
        rule = "must be 0 where model.encoder is 'deviation', whose twins are equal until one has been trained"
        return f"train.head_epochs {rule}, got {s['train.head_epochs']}"
    return None


def _frozen(s: Flat) -> str | None:
    if s["train.frozen_share"] and s["train.frozen_stages"]:
        got = f"{s['train.frozen_share']:g} and {s['train.frozen_stages']}"
        return f"train.frozen_share and train.frozen_stages must not both be given, got {got}"
    return None


def _views(s: Flat) -> str | None:
    if s["train.head_views"] > 1 and s["train.head_batch_norm"] == "train":
        rule = "must be 1 where train.head_batch_norm is 'train', which alters faces anew in every epoch"
        return f"train.head_views {rule}, got {s['train.head_views']}"
    return None


def _gamma(s: Flat) -> str | None:
    if s["lr_schedule.epoch_gamma"] is not None and s["lr_schedule.name"] != "exponential":
        return f"lr_schedule.name must be exponential where epoch_gamma is given, got {s['lr_schedule.name']!r}"
    return None


def _sam(s: Flat) -> str | None:
    if s["optimiser.sam_rho"] and s["train.precision"] == "float16":
        return "train.precision must be auto, bfloat16 or float32 where optimiser.sam_rho is above 0, got 'float16'"
    return None


def _mix(s: Flat) -> str | None:
    others = [
        name
        for name, present in (
            ("affect.heads", s["affect.heads"] != "none"),
            ("loss.affinity_weight", s["loss.affinity_weight"] > 0),
            ("loss.partition_weight", s["loss.partition_weight"] > 0),
            ("loss.landmark_weight", s["loss.landmark_weight"] > 0),
            ("hand.backbone", s["hand.backbone"] != "none"),
        )
        if present
    ]
    if s["augment.mix"] == "mixup" and others:
        rule = f"must be none or mix_augment beside {others[0]}, since mixed faces are judged by their expression alone"
        return f"augment.mix {rule}, got 'mixup'"
    return None


_RULES: tuple[Rule, ...] = (
    _epochs,
    _partner,
    _origin,
    _focal,
    _class_weights,
    _partition,
    _landmarks,
    _hand,
    _hand_trained,
    _deviation,
    _frozen,
    _views,
    _gamma,
    _sam,
    _mix,
)

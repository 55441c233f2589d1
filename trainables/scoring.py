"""What a network's outputs on the valid split are worth: the hand rule fitted, the partner blended in, all measured."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from spaces.config import TrialConfig
from trainables.affect_metrics import affect_scores, p_au
from trainables.data.batches import split_targets
from trainables.data.needs import needed_labels
from trainables.data.table import Split
from trainables.hand_tuning import best_hand_rule, best_hand_threshold, cross_fitted_hand_rule
from trainables.losses.expression import ExpressionLoss
from trainables.metrics import confusion_matrix, f1_per_class
from trainables.models.architectures.answers import HandRuleByName, decide
from trainables.scores import blend_logits
from trainables.thresholds import best_thresholds

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Scored:
    """One scoring of the valid split.

    Attributes:
        macro_f1: of the blended answer.
        logits: [samples, classes]; the rule applied, the partner blended in.
        extras: what else the network says of each face: `hand` [samples], probability of a hand; `plain_logits`
            [samples, classes], before the hand rule; `valence_arousal` [samples, 2]; `action_units` [samples, 12],
            probabilities. Only those it has heads for.
        rule: the hand rule that was applied.
        metrics: by name, for the report.
    """

    macro_f1: float
    logits: FloatArray
    extras: dict[str, FloatArray]
    rule: HandRuleByName | None
    metrics: dict[str, float] = field(default_factory=dict)


class ValidScorer:
    """Scores outputs on the valid split.

    Attributes:
        partner: logits [samples, classes] that are blended in; None for none.
    """

    def __init__(self, split: Split, classes: tuple[str, ...], config: TrialConfig, loss: ExpressionLoss) -> None:
        self.partner: FloatArray | None = None
        self._split = split
        self._classes = classes
        self._config = config
        self._loss = loss
        rows = np.arange(len(split))
        self._targets = split_targets(split, rows, tuple(needed_labels(config)))
        people = [split.subjects[row] for row in np.flatnonzero(split.expression >= 0)]
        self._n_subjects = len(set(people) - {None}) + people.count(None)  # a face without a person is one by itself

    @torch.no_grad()
    def score(self, outputs: dict[str, FloatArray]) -> Scored | None:
        """Measure outputs of `predict_outputs`; None where a number is not finite."""
        logits = outputs["logits"]
        labels = self._split.expression
        labelled = torch.from_numpy(labels >= 0)
        device = self._loss.weights.device
        known = torch.from_numpy(labels.astype(np.int64))[labelled].to(device)
        loss = float(self._loss(torch.from_numpy(logits)[labelled].to(device), known))
        if not (np.isfinite(loss) and all(np.isfinite(numbers).all() for numbers in outputs.values())):
            return None
        rule = self._rule(outputs)
        tensors = {name: torch.from_numpy(numbers) for name, numbers in outputs.items()}
        blended = self._blend(decide(tensors, rule, self._classes).numpy())
        preds = blended.argmax(axis=1)
        f1 = f1_per_class(confusion_matrix(labels, preds, len(self._classes)))
        extras = extras_of(outputs)
        metrics = {"valid/loss": loss, "valid/macro_f1": float(f1.mean())}
        metrics |= {f"valid/f1/{name}": float(value) for name, value in zip(self._classes, f1, strict=True)}
        metrics |= self._affect_metrics(preds, extras) | self._hand_metrics(extras)
        return Scored(macro_f1=float(f1.mean()), logits=blended, extras=extras, rule=rule, metrics=metrics)

    def _rule(self, outputs: dict[str, FloatArray]) -> HandRuleByName | None:
        """The hand rule as fixed, or as it does best on these faces: then the score is one that was chosen by."""
        hand = self._config.hand
        if hand.rule == "none" or "hand" not in outputs:
            return None
        if hand.rule == "fixed":
            return HandRuleByName(hand.target, hand.threshold, hand.exception_names)
        labels, preds = self._split.expression, outputs["logits"].argmax(axis=1)
        probs = _hand_probs(outputs["hand"])
        n_classes, target = len(self._classes), self._classes.index(hand.target)
        if hand.rule == "tune_all":
            best, _ = best_hand_rule(labels, preds, probs, n_classes=n_classes, target=target)
        else:
            exceptions = tuple(self._classes.index(name) for name in hand.exception_names)
            best, _ = best_hand_threshold(
                labels, preds, probs, n_classes=n_classes, target=target, exceptions=exceptions
            )
        return HandRuleByName(hand.target, best.threshold, tuple(self._classes[i] for i in best.exceptions))

    def _blend(self, logits: FloatArray) -> FloatArray:
        """w * partner + (1 - w) * fine-tuned, of logits or of probabilities (then as their logarithm)."""
        if self.partner is None:
            return logits
        blend = self._config.blend
        return blend_logits(logits, self.partner, weight=blend.weight, space=blend.space)

    def _affect_metrics(self, preds: npt.NDArray[np.intp], extras: dict[str, FloatArray]) -> dict[str, float]:
        """P_VA, P_AU (units shown from 0.5 on) and P_MTL, where there are heads and labels for them.

        `valid/p_au_tuned` is P_AU with each unit's best threshold on these very faces.
        """
        if "valence_arousal" not in extras:
            return {}
        units = extras.get("action_units")
        truth = self._known("action_units")
        affect = affect_scores(
            self._split.expression,
            preds,
            n_classes=len(self._classes),
            va_pred=extras["valence_arousal"],
            va_truth=self._known("valence_arousal"),
            units_shown=None if units is None else units >= 0.5,
            units_truth=truth,
        )
        found = {"valid/p_va": affect.p_va, "valid/p_au": affect.p_au, "valid/p_mtl": affect.p_mtl}
        if units is not None and truth is not None:
            found["valid/p_au_tuned"] = p_au(truth, units >= best_thresholds(units, truth))
        return {name: value for name, value in found.items() if value is not None}

    def _hand_metrics(self, extras: dict[str, FloatArray]) -> dict[str, float]:
        """How often the hand module is right; and, where its rule is tuned here, what tuning elsewhere would give."""
        found: dict[str, float] = {}
        truth, hand = self._known("hand"), self._config.hand
        if "hand" in extras and truth is not None and (truth >= 0).any():
            right = (extras["hand"] >= 0.5) == (truth == 1)
            found["valid/hand_accuracy"] = float(right[truth >= 0].mean())
        if hand.rule in ("tune_threshold", "tune_all") and "hand" in extras and self._n_subjects > 1:
            names = hand.exception_names if hand.rule == "tune_threshold" else None
            found["valid/hand_cross_fitted_f1"] = cross_fitted_hand_rule(
                self._split.expression,
                extras["plain_logits"].argmax(axis=1),
                extras["hand"],
                self._split.subjects,
                n_classes=len(self._classes),
                target=self._classes.index(hand.target),
                exceptions=None if names is None else tuple(self._classes.index(name) for name in names),
            )
        return found

    def _known(self, target: str) -> Any:
        """A label's truth as an array, None where it is not asked for."""
        tensor = self._targets.get(target)
        return None if tensor is None else tensor.numpy()


def _hand_probs(logits: FloatArray) -> FloatArray:
    """[samples]: probability of a hand, in the arithmetic of the rule, so that a tuned threshold cuts as meant."""
    return torch.from_numpy(logits).float().softmax(dim=1)[:, 1].numpy()


def extras_of(outputs: dict[str, FloatArray]) -> dict[str, FloatArray]:
    """What `predict_outputs` found beside the logits, as it is stored with scores; see `Scored`."""
    extras: dict[str, FloatArray] = {}
    if "hand" in outputs:
        extras["hand"] = _hand_probs(outputs["hand"])
        extras["plain_logits"] = outputs["logits"]
    if "valence_arousal" in outputs:
        extras["valence_arousal"] = outputs["valence_arousal"]
    if "action_units" in outputs:
        extras["action_units"] = (1.0 / (1.0 + np.exp(-outputs["action_units"].astype(np.float64)))).astype(np.float32)
    return extras

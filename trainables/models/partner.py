"""A saved model as the partner of a blend: its scores, mapped to the task's classes by name."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from spaces.errors import ModelError
from trainables.checkpoint import load_network, load_spec
from trainables.data.table import Split
from trainables.models.inputs import predict_logits
from trainables.scores import softmax

FloatArray = npt.NDArray[np.float64]


def check_partner(path: Path, classes: Sequence[str]) -> None:
    """Raise ModelError where a saved model can't score these classes."""
    spec = load_spec(path)
    missing = sorted(set(classes) - set(spec.classes))
    if missing:
        raise ModelError(
            f"blend.partner must know every class of the table, got {', '.join(spec.classes)} "
            f"without {', '.join(missing)}: {path}"
        )


def map_classes(probs: FloatArray, *, known: Sequence[str], wanted: Sequence[str]) -> FloatArray:
    """Keep the wanted classes' probabilities, in their order, and let them sum to 1 again.

    Args:
        probs: [samples, known classes].
        known: the columns' names.
        wanted: names to keep, all of them known.

    Returns:
        [samples, wanted classes].
    """
    kept = probs[:, [list(known).index(name) for name in wanted]]
    return np.asarray(kept / np.maximum(kept.sum(axis=1, keepdims=True), 1e-12), dtype=np.float64)


def partner_probs(path: Path, split: Split, classes: Sequence[str], *, device: torch.device) -> FloatArray:
    """A saved model's probabilities for a split, computed on a device.

    Returns:
        [samples, classes].

    Raises:
        ModelError: it is no model of ours, or does not know every class.
    """
    check_partner(path, classes)
    network, spec = load_network(path)
    probs = softmax(predict_logits(network.to(device), split.images, spec))
    return map_classes(probs, known=spec.classes, wanted=classes)

"""A saved model as the partner of a blend: its logits, those of the task's classes chosen by name."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from spaces.errors import ModelError
from trainables.checkpoint import load_network, load_spec
from trainables.data.label_orders import columns_for
from trainables.data.table import Split
from trainables.models.inputs import predict_logits


def check_partner(path: Path, classes: Sequence[str]) -> None:
    """Raise ModelError where a saved model can't score these classes."""
    spec = load_spec(path)
    missing = sorted(set(classes) - set(spec.classes))
    if missing:
        raise ModelError(
            f"blend.partner must know every class of the table, got {', '.join(spec.classes)} "
            f"without {', '.join(missing)}: {path}"
        )


def partner_logits(
    path: Path, split: Split, classes: Sequence[str], *, device: torch.device
) -> npt.NDArray[np.float32]:
    """A saved model's logits for a split, computed on a device; those of other classes are left out.

    Their softmax are its probabilities of the task's classes, brought back to the sum 1.

    Returns:
        [samples, classes].

    Raises:
        ModelError: it is no model of ours, or does not know every class.

    Source: Savchenko 2022 keeps six of a pre-trained model's eight scores in this way.
    """
    check_partner(path, classes)
    network, spec = load_network(path)
    logits = predict_logits(network.to(device), split.images, spec)
    return logits[:, columns_for(spec.classes, classes)]

"""Going on from a model that was trained before: what pre-training on another set, or transfer, means here."""

from pathlib import Path

import torch

from spaces.errors import ModelError
from trainables.checkpoint import NetworkSpec, load_spec, load_weights
from trainables.models.architectures.network import ExpressionNetwork


def check_start(path: Path, *, backbone: str) -> None:
    """Raise ModelError where a saved model can't be the start of a network on this backbone."""
    spec = load_spec(path)
    if spec.backbone.split(".")[0] != backbone.split(".")[0]:  # what stands behind the dot names weights
        raise ModelError(f"model.start must be on the backbone {backbone!r}, got {spec.backbone!r}: {path}")


def load_start(network: ExpressionNetwork, spec: NetworkSpec, path: Path) -> list[str]:
    """Take over every tensor of the same name and shape from a saved model.

    A plain model or a DAN also starts the emotion branch of two. Heads are taken over where the classes are the same,
    in the same order, and so is the encoder, whose embeddings they read; else they begin anew. The expression's is
    taken over where its hidden units are as many.

    Args:
        network: filled in place.
        spec: of the network.
        path: a saved model.

    Returns:
        The names of the tensors that were taken over.

    Raises:
        ModelError: it is no model of ours, or of another backbone.
    """
    check_start(path, backbone=spec.backbone)
    start = load_spec(path)
    heads_fit = start.classes == spec.classes and start.design.encoder == spec.design.encoder
    head_fits = heads_fit and start.design.head_width == spec.design.head_width
    stored = load_weights(path)
    taken: dict[str, torch.Tensor] = {}
    for name, own in network.state_dict().items():
        if name.startswith("heads.") and not heads_fit:
            continue
        if name.startswith(("heads.hidden.", "heads.linear.")) and not head_fits:
            continue
        source = name if name in stored else name.replace("encoder.emotion.", "encoder.", 1)
        if source in stored and stored[source].shape == own.shape:
            taken[name] = stored[source]
    network.load_state_dict(taken, strict=False)
    return sorted(taken)

"""A trained network as one safetensors file that says itself how to be rebuilt and fed."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from spaces.errors import ModelError
from trainables.models.backbones import build_network
from trainables.outputs import new_file


@dataclass(frozen=True)
class NetworkSpec:
    """How a network is rebuilt, and how a face becomes its input.

    Attributes:
        backbone: timm name.
        classes: names, in the order of the logits.
        image_px: side that the network sees.
        table_px: side that images are decoded to before (they are resized where the two differ).
        channels: of the decoded image; 1 (grey, repeated to 3 for the network) or 3.
        mean: per channel, of images in 0..1.
        std: per channel, of images in 0..1.
        mirror: the answer is the mean of the logits of a face and of its mirror image.
    """

    backbone: str
    classes: tuple[str, ...]
    image_px: int
    table_px: int
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    mirror: bool = False


def save_network(path: Path, state: Mapping[str, torch.Tensor], spec: NetworkSpec) -> None:
    """Write a network's state dict and its spec; the file appears whole or not at all."""
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()}
    with new_file(path) as staging:
        save_file(tensors, staging, metadata={"affectune": json.dumps(asdict(spec))})


def load_spec(path: Path) -> NetworkSpec:
    """Read how a saved network is rebuilt, without its weights.

    Raises:
        ModelError: the file is missing, broken, or not a network of ours.
    """
    try:
        with safe_open(path, framework="pt") as file:
            stored = (file.metadata() or {}).get("affectune")
        if stored is None:
            raise ModelError(f"saved model must be one that affectune wrote, got bare weights: {path}")
        fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in json.loads(stored).items()}
        return NetworkSpec(**fields)
    except (OSError, SafetensorError, ValueError, TypeError, AttributeError) as error:
        if isinstance(error, ModelError):
            raise
        raise ModelError(f"saved model could not be read, {_first_line(error)}: {path}") from error


def load_network(path: Path) -> tuple[nn.Module, NetworkSpec]:
    """Rebuild a saved network, in eval mode.

    Raises:
        ModelError: the file is missing, broken, or not a network of ours.
    """
    spec = load_spec(path)
    network = build_network(spec.backbone, n_classes=len(spec.classes))
    try:
        network.load_state_dict(load_file(path))
    except RuntimeError as error:
        raise ModelError(
            f"saved model must have the weights of its backbone {spec.backbone!r}, got others: {path}"
        ) from error
    return network.eval(), spec


def state_on_cpu(network: nn.Module) -> dict[str, torch.Tensor]:
    """A copy of all weights and statistics in main memory."""
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in network.state_dict().items()}


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__

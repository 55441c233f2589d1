"""A trained network as one safetensors file that says itself how to be rebuilt and fed."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from spaces.errors import ModelError
from trainables.models.architectures.answers import HandRuleByName
from trainables.models.architectures.design import Design
from trainables.models.architectures.network import ExpressionNetwork
from trainables.models.backbones import build_network
from trainables.outputs import new_file


@dataclass(frozen=True)
class NetworkSpec:
    """How a network is rebuilt, and how a face becomes its input.

    Attributes:
        backbone: timm name, or torchvision/googlenet.
        classes: names, in the order of the logits.
        image_px: side that the network sees.
        table_px: side that images are decoded to before (they are resized where the two differ).
        channels: of the decoded image; 1 (grey, repeated to 3 for the network) or 3.
        mean: per channel, of images in 0..1.
        std: per channel, of images in 0..1.
        mirror: the answer is the mean of the logits of a face and of its mirror image.
        shift_px: and of the face moved by so many pixels in four directions; 0 for not.
        design: what stands around the backbone.
        hand_rule: how the hand module's word counts; None where it does not.
    """

    backbone: str
    classes: tuple[str, ...]
    image_px: int
    table_px: int
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    mirror: bool = False
    shift_px: int = 0
    design: Design = field(default_factory=Design)
    hand_rule: HandRuleByName | None = None


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
    if not path.is_file():
        reason = "it is a folder" if path.is_dir() else "there is no such file"
        raise ModelError(f"saved model could not be read, {reason}: {path}")
    try:
        with safe_open(path, framework="pt") as file:
            stored = (file.metadata() or {}).get("affectune")
        if stored is None:
            raise ModelError(f"saved model must be one that affectune wrote, got bare weights: {path}")
        return _spec_from(json.loads(stored))
    except (OSError, SafetensorError, ValueError, TypeError, AttributeError) as error:
        if isinstance(error, ModelError):
            raise
        raise ModelError(f"saved model could not be read, {_first_line(error)}: {path}") from error


def _spec_from(stored: dict[str, Any]) -> NetworkSpec:
    fields = _tuples(stored)
    fields["design"] = Design(**fields.get("design", {}))
    rule = fields.get("hand_rule")
    fields["hand_rule"] = HandRuleByName(**_tuples(rule)) if rule else None
    return NetworkSpec(**fields)


def _tuples(stored: dict[str, Any]) -> dict[str, Any]:
    """JSON's lists as the tuples they were."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in stored.items()}


def load_network(path: Path) -> tuple[ExpressionNetwork, NetworkSpec]:
    """Rebuild a saved network, in eval mode.

    Raises:
        ModelError: the file is missing, broken, or not a network of ours.
    """
    spec = load_spec(path)
    network = build_network(spec.backbone, n_classes=len(spec.classes), design=spec.design)
    try:
        network.load_state_dict(load_weights(path))
    except RuntimeError as error:
        raise ModelError(
            f"saved model must have the weights of its backbone {spec.backbone!r}, got others: {path}"
        ) from error
    return network.eval(), spec


def load_weights(path: Path) -> dict[str, torch.Tensor]:
    """A saved network's tensors by their present names.

    Networks that were saved before there were encoders and heads have timm's names; they are renamed.
    """
    state = load_file(path)
    if any(name.startswith("encoder.") for name in state):
        return state
    settings: Any = timm.get_pretrained_cfg(load_spec(path).backbone)
    classifier = settings.classifier if settings and isinstance(settings.classifier, str) else ""
    return {_present_name(name, classifier): tensor for name, tensor in state.items()}


def _present_name(name: str, classifier: str) -> str:
    if classifier and name.startswith(f"{classifier}."):
        return "heads.linear." + name.removeprefix(f"{classifier}.")
    return f"encoder.backbone.net.{name}"


def state_on_cpu(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """A copy of all weights and statistics in main memory."""
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in network.state_dict().items()}


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__

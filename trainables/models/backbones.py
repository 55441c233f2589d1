"""timm backbones: built by name, filled from nothing, a hub or a file."""

import os
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import timm
import torch
from huggingface_hub import try_to_load_from_cache
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from spaces.errors import BackboneError, ModelError, near_miss

HEAD_INIT_STD = 0.01
"""Spread of a new classifier's weights. timm's default gives this family first losses near 5 and slow starts."""


def check_backbone(name: str) -> None:
    """Raise BackboneError with the near miss where timm has no such backbone."""
    architecture = name.split(".")[0]
    if not timm.is_model(architecture):
        hint = near_miss(architecture, timm.list_models())
        raise BackboneError(f"backbone must be a timm model, got {name!r}" + (hint if len(hint) < 200 else ""))


def build_network(backbone: str, *, n_classes: int, drop_rate: float = 0.0, drop_path_rate: float = 0.0) -> nn.Module:
    """A backbone with a fresh linear classifier, random weights throughout.

    Returns:
        A module from float32 [batch, 3, px, px] to logits [batch, classes].

    Raises:
        ModelError: timm has no such backbone.
    """
    check_backbone(backbone)
    options: dict[str, Any] = {"num_classes": n_classes, "drop_rate": drop_rate}
    if drop_path_rate:
        options["drop_path_rate"] = drop_path_rate
    network = _create(backbone, options)
    for layer in head_layers(network):
        nn.init.normal_(layer.weight, std=HEAD_INIT_STD)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    return network


def _create(backbone: str, options: dict[str, Any]) -> nn.Module:
    try:
        network: nn.Module = timm.create_model(backbone, pretrained=False, **options)
        return network
    except (TypeError, RuntimeError, AssertionError) as error:
        if "'drop_path_rate'" in str(error):  # a backbone without stochastic depth goes without
            return _create(backbone, {k: v for k, v in options.items() if k != "drop_path_rate"})
        raise ModelError(f"backbone {backbone!r} can't be built with {options}: {error}") from error


def check_image_px(network: nn.Module, *, backbone: str, image_px: int) -> None:
    """Raise ModelError where a backbone, such as most transformers, takes one size of image and this is another."""
    settings: dict[str, Any] = getattr(network, "pretrained_cfg", {}) or {}
    if settings.get("fixed_input_size") and image_px != settings["input_size"][-1]:
        wanted = settings["input_size"][-1]
        raise ModelError(f"model.image_px must be {wanted} for backbone {backbone!r}, got {image_px}")


def check_size(*, backbone: str, image_px: int) -> None:
    """Raise ModelError before a search starts where a backbone does not take images of this side."""
    with torch.device("meta"):
        network = _create(backbone, {"num_classes": 2})
    check_image_px(network, backbone=backbone, image_px=image_px)


def head_modules(network: nn.Module) -> tuple[nn.Module, ...]:
    """The classifiers: one, or two of a distilled transformer."""
    head = network.get_classifier()  # type: ignore[operator]
    return head if isinstance(head, tuple) else (head,)


def head_layers(network: nn.Module) -> list[nn.Linear | nn.Conv2d]:
    """The layers with weights of all classifiers."""
    layers = [layer for head in head_modules(network) for layer in head.modules()]
    return [layer for layer in layers if isinstance(layer, nn.Linear | nn.Conv2d)]


def load_backbone_weights(network: nn.Module, *, backbone: str, weights: str) -> None:
    """Fill a network's backbone in place; its classifier is left as it is.

    Args:
        network: from `build_network`.
        backbone: timm name.
        weights: `none`, `hub` (timm's own, downloaded), or the path of a safetensors file with timm's keys.

    Raises:
        ModelError: the file does not fit (the first keys are named), or the hub does not answer.
    """
    if weights == "none":
        return
    state = _hub_weights(backbone) if weights == "hub" else _file_weights(Path(weights).expanduser())
    network.load_state_dict(_fitting(state, network, backbone=backbone, weights=weights), strict=False)


def check_weights(*, backbone: str, weights: str) -> None:
    """Raise ModelError before a search starts where a trial could not load these weights."""
    check_backbone(backbone)
    if weights == "none":
        return
    if weights == "hub":
        _hub_weights(backbone)
        return
    state = _file_weights(Path(weights).expanduser())
    with torch.device("meta"):
        network = timm.create_model(backbone, pretrained=False, num_classes=2)
    _fitting(state, network, backbone=backbone, weights=weights)


def backbone_normalisation(network: nn.Module) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and std, per colour, that the backbone's published weights were trained with."""
    settings: dict[str, Any] = getattr(network, "pretrained_cfg", {}) or {}
    mean = tuple(float(v) for v in settings.get("mean", (0.5, 0.5, 0.5)))
    std = tuple(float(v) for v in settings.get("std", (0.5, 0.5, 0.5)))
    return mean, std


def _fitting(
    state: dict[str, torch.Tensor], network: nn.Module, *, backbone: str, weights: str
) -> dict[str, torch.Tensor]:
    """The backbone's part of a state dict; raises where it is not exactly this backbone's."""
    own = network.state_dict()
    head = {name for name in own if name.startswith(_head_prefixes(network))}
    unknown = sorted(set(state) - set(own))
    missing = sorted(k for k in set(own) - set(state) - head if not k.endswith("num_batches_tracked"))
    misshapen = sorted(k for k in set(state) & set(own) - head if state[k].shape != own[k].shape)
    for rule, keys in (
        ("must all belong to", unknown),
        ("must be complete for", missing),
        ("must have the shapes of", misshapen),
    ):
        if keys:
            found = {"must be complete for": "without"}.get(rule, "got")
            some = ", ".join(keys[:3]) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")
            raise ModelError(f"keys in the weights {rule} backbone {backbone!r}, {found} {some}: {weights}")
    return {key: tensor for key, tensor in state.items() if key not in head}


def _head_prefixes(network: nn.Module) -> tuple[str, ...]:
    heads = head_modules(network)
    return tuple(f"{name}." for name, module in network.named_modules() if name and any(module is h for h in heads))


def _file_weights(path: Path) -> dict[str, torch.Tensor]:
    if not path.is_file():
        raise ModelError(f"weights must be none, hub or a safetensors file that exists, got {str(path)!r}")
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"weights must be a safetensors file, got {str(path)!r}: {error}") from error


def _hub_weights(backbone: str) -> dict[str, torch.Tensor]:
    """timm's published weights for this name; from its local cache where they were fetched before."""
    if not timm.is_model_pretrained(backbone):
        raise ModelError(f"backbone {backbone!r} has no weights on the hub; set model.weights to none or a file")
    if not _hub_answers() and not _is_cached(backbone):
        raise ModelError(
            f"hub weights of backbone {backbone!r} could not be fetched, the hub does not answer; "
            f"give a file instead: model.weights=FILE"
        )
    try:
        state: dict[str, torch.Tensor] = timm.create_model(backbone, pretrained=True).state_dict()
    except Exception as error:  # the hub's client raises a dozen kinds, from socket to HTTP
        reason = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
        raise ModelError(
            f"hub weights of backbone {backbone!r} could not be fetched, {reason}; give a file: model.weights=FILE"
        ) from error
    return state


def _hub_answers(timeout_s: float = 5.0) -> bool:
    endpoint = urlsplit(os.environ.get("HF_ENDPOINT", "https://huggingface.co"))
    try:
        socket.create_connection((endpoint.hostname or "", endpoint.port or 443), timeout=timeout_s).close()
    except OSError:
        return False
    return True


def _is_cached(backbone: str) -> bool:
    settings: Any = timm.get_pretrained_cfg(backbone)
    repository = getattr(settings, "hf_hub_id", None)
    return isinstance(repository, str) and isinstance(try_to_load_from_cache(repository, "model.safetensors"), str)

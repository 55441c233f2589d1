"""Where a backbone's weights come from: nothing, a hub, a file, or a model that was trained before."""

import os
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import timm
import torch
import torchvision
from huggingface_hub import try_to_load_from_cache
from safetensors import SafetensorError
from safetensors.torch import load_file

from spaces.errors import ModelError
from trainables.models.architectures.backbone import OTHER_BACKBONES, Backbone
from trainables.models.backbones import build_backbone, check_backbone

GOOGLENET = "torchvision/googlenet"
"""The one backbone outside timm whose weights are on a hub."""


def load_backbone_weights(backbone: Backbone, *, name: str, weights: str) -> None:
    """Fill a backbone in place.

    Args:
        backbone: to fill.
        name: timm's, or torchvision/googlenet.
        weights: `none`, `hub` (timm's or torchvision's own, downloaded), or the path of a safetensors file with their
            keys; a classifier in it is left aside.

    Raises:
        ModelError: the file does not fit (the first keys are named), or the hub does not answer.
    """
    if weights == "none":
        return
    state = _hub_weights(name) if weights == "hub" else _file_weights(Path(weights).expanduser())
    backbone.net.load_state_dict(_fitting(state, backbone, name=name, weights=weights), strict=False)


def check_weights(*, backbone: str, weights: str, setting: str = "") -> None:
    """Raise ModelError before a search starts where a trial could not load these weights.

    Args:
        backbone: timm's name, or torchvision/googlenet.
        weights: as `load_backbone_weights` takes them.
        setting: dotted name of the setting that names the backbone, for the error.
    """
    check_backbone(backbone, setting=setting)
    if weights == "none":
        return
    if weights == "hub":
        _hub_weights(backbone)
        return
    state = _file_weights(Path(weights).expanduser())
    with torch.device("meta"):
        built = build_backbone(backbone)
    _fitting(state, built, name=backbone, weights=weights)


def _fitting(state: dict[str, torch.Tensor], backbone: Backbone, *, name: str, weights: str) -> dict[str, torch.Tensor]:
    """The backbone's part of a state dict; raises where it is not exactly this backbone's."""
    own = backbone.net.state_dict()
    prefixes = _classifier_prefixes(name)
    left_out = _left_out(backbone, name)
    state = {
        key: tensor for key, tensor in state.items() if key in own or not (key.startswith(prefixes) or key in left_out)
    }
    unknown = sorted(set(state) - set(own))
    missing = sorted(k for k in set(own) - set(state) if not k.endswith("num_batches_tracked"))
    misshapen = sorted(k for k in set(state) & set(own) if state[k].shape != own[k].shape)
    for rule, keys in (
        ("must all belong to", unknown),
        ("must be complete for", missing),
        ("must have the shapes of", misshapen),
    ):
        if keys:
            found = {"must be complete for": "without"}.get(rule, "got")
            some = ", ".join(keys[:3]) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")
            raise ModelError(f"keys in the weights {rule} backbone {name!r}, {found} {some}: {weights}")
    return state


def _left_out(backbone: Backbone, name: str) -> set[str]:
    """Keys of the stages that a cut backbone is without."""
    if not backbone.is_cut:
        return set()
    with torch.device("meta"):
        return set(build_backbone(name).net.state_dict()) - set(backbone.net.state_dict())


def _classifier_prefixes(name: str) -> tuple[str, ...]:
    """What the names of a published classifier's weights begin with."""
    with torch.device("meta"):
        if name in OTHER_BACKBONES:
            settings: Any = OTHER_BACKBONES[name]().pretrained_cfg
            return tuple(f"{each}." for each in settings["classifier"])
        network = timm.create_model(name, pretrained=False, num_classes=2)
    head = network.get_classifier()  # type: ignore[operator]
    heads = head if isinstance(head, tuple) else (head,)
    return tuple(f"{key}." for key, module in network.named_modules() if key and any(module is h for h in heads))


def _file_weights(path: Path) -> dict[str, torch.Tensor]:
    if not path.is_file():
        raise ModelError(f"weights must be none, hub or a safetensors file that exists, got {str(path)!r}")
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"weights must be a safetensors file, got {str(path)!r}: {error}") from error


def _hub_weights(backbone: str) -> dict[str, torch.Tensor]:
    """The published weights for this name; from the local cache where they were fetched before."""
    if backbone != GOOGLENET and (backbone in OTHER_BACKBONES or not timm.is_model_pretrained(backbone)):
        raise ModelError(f"backbone {backbone!r} has no weights on the hub; set model.weights to none or a file")
    if not _is_cached(backbone) and not _hub_answers(backbone):
        raise ModelError(
            f"hub weights of backbone {backbone!r} could not be fetched, the hub does not answer; "
            f"give a file instead: model.weights=FILE"
        )
    try:
        if backbone == GOOGLENET:
            return dict(torchvision.models.GoogLeNet_Weights.IMAGENET1K_V1.get_state_dict(check_hash=True))
        return dict(timm.create_model(backbone, pretrained=True).state_dict())
    except Exception as error:  # the hubs' clients raise a dozen kinds, from socket to HTTP
        reason = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
        raise ModelError(
            f"hub weights of backbone {backbone!r} could not be fetched, {reason}; give a file: model.weights=FILE"
        ) from error


def _hub_answers(backbone: str, timeout_s: float = 5.0) -> bool:
    hub = "https://download.pytorch.org" if backbone == GOOGLENET else "https://huggingface.co"
    endpoint = urlsplit(hub if backbone == GOOGLENET else os.environ.get("HF_ENDPOINT", hub))
    try:
        socket.create_connection((endpoint.hostname or "", endpoint.port or 443), timeout=timeout_s).close()
    except OSError:
        return False
    return True


def _is_cached(backbone: str) -> bool:
    if backbone == GOOGLENET:
        file = urlsplit(torchvision.models.GoogLeNet_Weights.IMAGENET1K_V1.url).path.rpartition("/")[2]
        return Path(str(torch.hub.get_dir()), "checkpoints", file).is_file()
    settings: Any = timm.get_pretrained_cfg(backbone)
    repository = getattr(settings, "hf_hub_id", None)
    return isinstance(repository, str) and isinstance(try_to_load_from_cache(repository, "model.safetensors"), str)

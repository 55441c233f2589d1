"""From decoded faces to what a network sees, and from a network to logits."""

from functools import cache

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from trainables.checkpoint import NetworkSpec
from trainables.models.architectures.answers import answer, decide
from trainables.models.architectures.network import ExpressionNetwork

GREY_SHARES = (0.299, 0.587, 0.114)
"""Of red, green and blue in grey, as Pillow mixes them (ITU-R 601-2)."""


def to_inputs(images: torch.Tensor, spec: NetworkSpec) -> torch.Tensor:
    """Resize, repeat grey and normalise.

    Args:
        images: uint8 [batch, height, width, 1 or 3]; colour becomes grey for a network of grey faces.
        spec: of the network.

    Returns:
        float32 [batch, 3, px, px], channels last in memory.
    """
    inputs = images.permute(0, 3, 1, 2).float().div_(255.0)
    if inputs.shape[1] == 3 and spec.channels == 1:
        inputs = (inputs * _constants(GREY_SHARES, images.device)).sum(dim=1, keepdim=True)
    if inputs.shape[1] == 1:
        inputs = inputs.expand(-1, 3, -1, -1)
    if inputs.shape[-1] != spec.image_px:
        size = (spec.image_px, spec.image_px)
        inputs = F.interpolate(inputs, size=size, mode="bilinear", antialias=True, align_corners=False)
    mean, std = _constants(spec.mean, images.device), _constants(spec.std, images.device)
    return ((inputs - mean) / std).contiguous(memory_format=torch.channels_last)


@cache
def _constants(per_channel: tuple[float, ...], device: torch.device) -> torch.Tensor:
    """[1, channels, 1, 1], made once a device: making them at every step would make a GPU wait for the processor."""
    with torch.inference_mode(mode=False):
        return torch.tensor(per_channel, device=device).view(1, -1, 1, 1)


@torch.inference_mode()
def predict_outputs(
    network: ExpressionNetwork, images: npt.NDArray[np.uint8], spec: NetworkSpec, *, batch_size: int = 128
) -> dict[str, npt.NDArray[np.float32]]:
    """All that a network says of decoded faces, in eval mode; no rule is applied.

    Args:
        network: on any device.
        images: uint8 [samples, height, width, channels].
        spec: of the network.
        batch_size: faces at once.

    Returns:
        `logits` [samples, classes], and `valence_arousal`, `action_units`, `hand` where there are such heads.
    """
    was_training = network.training
    network.eval()
    device = next(network.parameters()).device
    batches: list[dict[str, torch.Tensor]] = []
    for i in range(0, len(images), batch_size):
        inputs = to_inputs(torch.from_numpy(images[i : i + batch_size].copy()).to(device), spec)
        batches.append({name: numbers.cpu() for name, numbers in answer(network, inputs, mirror=spec.mirror).items()})
    network.train(was_training)
    return {name: torch.cat([batch[name] for batch in batches]).numpy() for name in batches[0]}


def predict_logits(
    network: ExpressionNetwork, images: npt.NDArray[np.uint8], spec: NetworkSpec, *, batch_size: int = 128
) -> npt.NDArray[np.float32]:
    """Logits of decoded faces in eval mode, the hand rule applied where the network has one; [samples, classes]."""
    outputs = predict_outputs(network, images, spec, batch_size=batch_size)
    return decided_logits(outputs, spec)


def decided_logits(outputs: dict[str, npt.NDArray[np.float32]], spec: NetworkSpec) -> npt.NDArray[np.float32]:
    """What `predict_outputs` found, with the hand rule of the spec applied; [samples, classes]."""
    tensors = {name: torch.from_numpy(numbers) for name, numbers in outputs.items()}
    return decide(tensors, spec.hand_rule, spec.classes).numpy()

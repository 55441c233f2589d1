"""From decoded faces to what a network sees, and from a network to logits."""

from functools import cache

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from trainables.checkpoint import NetworkSpec
from trainables.memory import in_pieces
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
    faces = images.float()  # [batch, height, width, channels]
    if faces.shape[-1] == 3 and spec.channels == 1:
        faces = (faces * _grey_shares(images.device)).sum(dim=-1, keepdim=True)
    if faces.shape[2] != spec.image_px:
        size = (spec.image_px, spec.image_px)
        maps = F.interpolate(faces.permute(0, 3, 1, 2), size=size, mode="bilinear", antialias=True, align_corners=False)
        faces = maps.permute(0, 2, 3, 1)
    batch, height, width, _ = faces.shape
    rows = faces.expand(-1, -1, -1, 3).reshape(batch, height, width * 3)
    factors, offsets = _affine(spec.mean, spec.std, width, images.device)
    return torch.addcmul(offsets, rows, factors).view(batch, height, width, 3).permute(0, 3, 1, 2)


@cache
def _affine(
    mean: tuple[float, ...], std: tuple[float, ...], width: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """What pixels 0..255 of one row, [width * 3], are multiplied by, and what is added then.

    Over whole rows a processor is ten times as quick as over three channels again and again. Made once a device: making
    them at every step would make a GPU wait for the processor.
    """
    with torch.inference_mode(mode=False):
        means, stds = torch.tensor(mean, device=device), torch.tensor(std, device=device)
        return (1.0 / (255.0 * stds)).repeat(width), (-means / stds).repeat(width)


@cache
def _grey_shares(device: torch.device) -> torch.Tensor:
    with torch.inference_mode(mode=False):
        return torch.tensor(GREY_SHARES, device=device)


@torch.inference_mode()
def predict_outputs(
    network: ExpressionNetwork, images: npt.NDArray[np.uint8], spec: NetworkSpec, *, batch_size: int = 128
) -> dict[str, npt.NDArray[np.float32]]:
    """All that a network says of decoded faces, in eval mode; no rule is applied.

    Args:
        network: on any device.
        images: uint8 [samples, height, width, channels].
        spec: of the network.
        batch_size: faces at once; half as many, and so on, where they do not fit into memory.

    Returns:
        `logits` [samples, classes], and `valence_arousal`, `action_units`, `hand` where there are such heads.
    """
    was_training = network.training
    device = next(network.parameters()).device

    def answer_some(faces: slice) -> dict[str, torch.Tensor]:
        inputs = to_inputs(torch.from_numpy(images[faces].copy()).to(device), spec)
        answers = answer(network, inputs, mirror=spec.mirror, shift_px=spec.shift_px)
        return {name: numbers.cpu() for name, numbers in answers.items()}

    network.eval()
    batches = in_pieces(answer_some, len(images), size=batch_size)
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

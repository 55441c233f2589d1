"""Which processor a trial computes on."""

import re

import torch

from spaces.errors import DeviceError


def check_device(name: str) -> torch.device:
    """The device of this name.

    Raises:
        DeviceError: a GPU was asked for and there is none, or not that many; or it is neither cpu nor cuda.
    """
    if not re.fullmatch(r"cpu|cuda(:\d+)?", name):
        raise DeviceError(f"device must be cpu, cuda or cuda:NUMBER, got {name!r}")
    device = torch.device(name)
    if device.type == "cuda":
        n_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= n_gpus:
            raise DeviceError(f"device must be there, got {name!r} with {n_gpus} GPUs found; use cpu")
    return device

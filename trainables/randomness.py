"""Random numbers of a trial."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def seeded(seed: int, *, epoch: int, device: torch.device) -> Iterator[None]:
    """Random numbers of torch that depend on seed and epoch alone; the caller's own are left as they were.

    Args:
        seed: `train.seed` of the trial.
        epoch: 0 while its network is built.
        device: where it computes.
    """
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed * 1000 + epoch)
        yield

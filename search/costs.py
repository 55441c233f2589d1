"""What a network costs: milliseconds an image on this machine, and megabytes."""

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from search.candidates import ONE_LOOK, Candidate, Looks
from trainables.checkpoint import NetworkSpec, load_network
from trainables.models.architectures.network import encoder_design
from trainables.models.inputs import predict_logits

BATCH_SIZE = 32
RUNS = 3


@dataclass(frozen=True)
class NetworkCost:
    """Of one network.

    Attributes:
        ms: an image, in batches of 32 on this machine's processor with all its cores, by the kind of look.
        megabytes: of its weights in float32.
        encoder: what tells its encoder, and how it is fed, from others; networks that share one run it once.
        encoder_megabytes: of the encoder's weights.
    """

    ms: Mapping[Looks, float]
    megabytes: float
    encoder: str
    encoder_megabytes: float


@dataclass(frozen=True)
class Cost:
    """Of an ensemble: milliseconds an image, megabytes."""

    ms: float
    megabytes: float


def total_cost(networks: Sequence[NetworkCost], looks: Looks) -> Cost:
    """Of several networks together; an encoder that several share counts once.

    Args:
        networks: each once.
        looks: how they look at a face.
    """
    ms: dict[str, float] = {}
    shared: dict[str, float] = {}
    for network in networks:
        ms[network.encoder] = max(ms.get(network.encoder, 0.0), network.ms[looks])
        shared[network.encoder] = network.encoder_megabytes
    heads = sum(network.megabytes - network.encoder_megabytes for network in networks)
    return Cost(sum(ms.values()), sum(shared.values()) + heads)


def measure_costs(
    candidates: Sequence[Candidate], *, progress: Callable[[float], None] | None = None
) -> dict[Path, NetworkCost]:
    """What the networks of some candidates cost, by file; each is measured once.

    Args:
        candidates: whose networks.
        progress: told the share done.
    """
    paths = sorted({voter.path for candidate in candidates for voter in candidate.voters})
    found = {}
    for number, path in enumerate(paths, start=1):
        found[path] = measure_network(path)
        if progress:
            progress(number / len(paths))
    return found


def measure_network(path: Path) -> NetworkCost:
    """What one network costs: the median of some runs; the first warms up."""
    network, spec = load_network(path)
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (BATCH_SIZE, spec.table_px, spec.table_px, spec.channels), dtype=np.uint8)
    network = network.to(memory_format=torch.channels_last)
    specs: dict[Looks, NetworkSpec] = {"all": spec, "one": replace(spec, **ONE_LOOK)}
    ms: dict[Looks, float] = {}
    for looks, seen in specs.items():
        seconds = []
        for _ in range(RUNS + 1):
            started_s = time.perf_counter()
            predict_logits(network, images, seen)
            seconds.append(time.perf_counter() - started_s)
        ms[looks] = 1000 * float(np.median(seconds[1:])) / BATCH_SIZE
    fed = (spec.table_px, spec.channels, spec.image_px, spec.mean, spec.std)
    digest = hashlib.sha256(repr((spec.backbone, encoder_design(spec.design), fed)).encode())
    n_numbers = n_of_encoder = 0
    for name, tensor in network.state_dict().items():
        n_numbers += tensor.numel()
        if name.startswith("encoder."):
            n_of_encoder += tensor.numel()
            digest.update(np.ascontiguousarray(tensor.numpy()).tobytes())
    return NetworkCost(ms, _megabytes(n_numbers), digest.hexdigest(), _megabytes(n_of_encoder))


def _megabytes(n_numbers: int) -> float:
    return 4 * n_numbers / 1e6

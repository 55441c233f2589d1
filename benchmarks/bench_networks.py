"""What a training step of the papers' networks costs, each beside the plain step that it extends.

    python benchmarks/bench_networks.py [--runs 5] [--batch-size 16]

A step is the trainer's own: normalisation, forward, loss, backward, clipping, AdamW; the batch is generated. Both steps
of a pair run in turn in one process on one thread; CPU seconds, medians of several runs.

What was seen in two sittings (ResNet-18, batch 16, a busy machine): DAN 1.23 at 224 px, 1.33 and 1.34 at 112 px; SAM
1.96 and 1.98; a deviation module 0.99 and 1.01 with its frozen half remembered, 1.30 and 1.33 with it computed anew. A
profile of DAN at 112 px has 86 % in convolutions, and by their arithmetic alone four heads make a step 1.28 times as
long (1.23 at 224 px): there is little around them to save. One convolution for the squeezes of all heads took as long
as four (1.00), and grouped ones for the rest took longer (heads alone: 1.43 times on maps of 7 x 7, 1.67 on 4 x 4); so
each head computes by itself.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from measure import Target, bench_arguments, compare, cpu_seconds, medians_in_turn, report

from spaces.config import TrialConfig
from trainables.data.batches import Batch
from trainables.data.table import DatasetInfo
from trainables.frozen_memory import FrozenMemory
from trainables.losses.total import TrialLoss
from trainables.models.architectures.deviation import DeviationEncoder
from trainables.models.build import build_trial_network
from trainables.models.freezing import set_training_mode
from trainables.stepper import Stepper

N_CLASSES = 6
BACKBONE = "resnet18"

Step = Callable[[], object]


@dataclass(frozen=True)
class Pair:
    """A step that is measured beside a plain one.

    Attributes:
        name: as printed.
        settings: over the plain step's.
        image_px: side of the faces.
        bound: largest ratio that is fine; None where the ratio is only printed.
        remembers: whether the frozen twin's embeddings are known already.
    """

    name: str
    settings: dict[str, Any]
    image_px: int
    bound: float | None
    remembers: bool = False


PAIRS = (
    Pair("DAN, 4 heads", {"model.encoder": "dan"}, 224, 1.35),
    Pair("DAN, 4 heads", {"model.encoder": "dan"}, 112, 1.35),
    Pair("SAM", {"optimiser.sam_rho": 0.05}, 112, 2.1),
    Pair("deviation, remembered", {"model.encoder": "deviation"}, 112, 1.4, remembers=True),
    Pair("deviation, computed", {"model.encoder": "deviation"}, 112, None),
)


def main() -> int:
    """Measure and print."""
    arguments = bench_arguments(__doc__, runs=5, batch_size=16)
    torch.set_num_threads(1)
    rows = []
    for pair in PAIRS:
        batch = make_batch(arguments.batch_size, image_px=pair.image_px)
        steps = {"extended": build_step(pair.settings, batch, remembers=pair.remembers), "plain": build_step({}, batch)}
        works = {name: partial(cpu_seconds, step) for name, step in steps.items()}
        seconds = medians_in_turn(works, runs=arguments.runs)
        rows.append(
            compare(
                f"a training step with {pair.name}, {BACKBONE}, {pair.image_px} px", seconds["extended"], "CPU s",
                peer="the plain step", peer_value=seconds["plain"], is_smaller_better=False,
                target=None if pair.bound is None else Target(ratio_at_most=pair.bound),
            )
        )  # fmt: skip
    return report(rows, arguments)


def build_step(settings: dict[str, Any], batch: Batch, *, remembers: bool = False) -> Step:
    """The trainer's step on one batch, again and again."""
    config = TrialConfig.from_flat({"model.backbone": BACKBONE, **settings})
    torch.manual_seed(0)
    network, spec = build_trial_network(config, describe_faces(batch.images.shape[1]))
    network.to(memory_format=torch.channels_last)
    set_training_mode(network, config.train)
    counts = np.full(N_CLASSES, 100)
    loss = TrialLoss(config, class_counts=counts, feature_width=network.encoder.feature_width)
    memory = None
    if remembers:
        assert isinstance(network.encoder, DeviationEncoder)
        memory = FrozenMemory(network.encoder, len(batch.images))
    stepper = Stepper(network, spec, loss=loss, config=config, memory=memory)
    return lambda: stepper.step(batch, progress=0.5)


def make_batch(n: int, *, image_px: int) -> Batch:
    """Noise for faces."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (n, image_px, image_px, 3), dtype=torch.uint8, generator=generator)
    return Batch(images, None, {"expression": torch.arange(n) % N_CLASSES}, torch.arange(n))


def describe_faces(image_px: int) -> DatasetInfo:
    """A table of such faces."""
    return DatasetInfo(
        classes=tuple("abcdef"), image_px=image_px, channels=3, mean=(0.5,) * 3, std=(0.25,) * 3, rows={},
        class_counts={}, content_hash="", sources={}, notes=[],
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())

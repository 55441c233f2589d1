"""How many faces a second a trial trains on, beside a plain torch loop over the same backbone.

    python benchmarks/bench_training.py [--backbone NAME] [--image-px 48] [--steps 4] [--runs 5]

Ours is all that the trainer does in a step: cutting the batch out of the mapped table, augmentation, normalisation,
forward, weighted and smoothed loss, backward, gradient clipping, AdamW by parts of the network. The peer is the loop of
a tutorial: the same batch kept ready in memory as contiguous float tensors, no augmentation, no clipping, torch's
CrossEntropyLoss and AdamW as they come. CPU seconds of one thread; medians of several runs, taken in turn.

What a profile of our step showed (tf_efficientnet_lite0, 48 px, batch 64, one thread): beyond the network itself, AdamW
as a loop over tensors took 14 ms and takes 4 ms fused; augmentation 10 ms (two thirds of it the affine change);
clipping 2 to 4 ms; normalisation 1 ms; the copy of the best weights, once an epoch at most, 4 ms.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import cv2
import torch
from torch import nn

from spaces.config import TrialConfig
from trainables.data.synth import write_synth_table
from trainables.models.backbones import build_network
from trainables.models.inputs import to_inputs
from trainables.trainer import Trainer

BATCH_SIZE = 64


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="tf_efficientnet_lite0")
    parser.add_argument("--image-px", type=int, default=48)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--runs", type=int, default=5)
    args = parser.parse_args()
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "table"
        n_train = args.steps * BATCH_SIZE
        table = write_synth_table(out, n_train=n_train, n_valid=64, n_test=64, image_px=args.image_px)
        trainer = Trainer(TrialConfig.from_flat({"model.backbone": args.backbone}), table)
        works = {"plain loop": build_plain_loop(trainer, args.backbone), "ours": lambda: train_ours(trainer)}
        times = measure(works, n_runs=args.runs)
    rates = {name: n_train / statistics.median(seconds) for name, seconds in times.items()}
    print(f"{args.backbone}, {args.image_px} px, batch {BATCH_SIZE}, median of {args.runs} runs, one core")
    for name, rate in rates.items():
        runs = ", ".join(f"{n_train / seconds:.0f}" for seconds in sorted(times[name]))
        print(f"{name:12s} {rate:7.0f} faces/s   (runs {runs})")
    print(f"ours to the plain loop {rates['ours'] / rates['plain loop']:.2f}")


def measure(works: Mapping[str, Callable[[], object]], *, n_runs: int) -> dict[str, list[float]]:
    """CPU seconds of each work, in turn, after one run of each to warm up."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for work in works.values():
        work()
    for _ in range(n_runs):
        for name, work in works.items():
            started_s = time.process_time()
            work()
            times[name].append(time.process_time() - started_s)
    return times


def train_ours(trainer: Trainer) -> None:
    """One pass of the trainer, without scoring."""
    trainer._train_pass()
    trainer._budget.step = 0


def build_plain_loop(trainer: Trainer, backbone: str) -> Callable[[], None]:
    """A pass over as many faces by a loop as tutorials write it."""
    network = build_network(backbone, n_classes=len(trainer.classes)).train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3)
    loss = nn.CrossEntropyLoss(label_smoothing=0.1)
    batches = [(to_inputs(i, trainer.spec).contiguous(), labels) for i, labels in list_batches(trainer)]

    def train() -> None:
        for inputs, labels in batches:
            optimiser.zero_grad()
            loss(network(inputs), labels).backward()
            optimiser.step()

    return train


def list_batches(trainer: Trainer) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """The trainer's first epoch, in memory."""
    batches = trainer._batches(epoch=1)
    return [batches[i] for i in range(len(batches))]


if __name__ == "__main__":
    main()

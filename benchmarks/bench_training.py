"""How many faces a second a trial trains on, beside a bare PyTorch loop over tensors that lie ready in memory.

    python benchmarks/bench_training.py [--runs 15] [--image-px 48]

Ours is all that the trainer does in a step: cutting the batch out of the mapped table, augmentation where it is asked
for, normalisation, forward, weighted and smoothed loss, backward, gradient clipping, AdamW by parts of the network. The
peer is a bare loop in its best form: timm's network with the same dropout, channels last, batches ready as normalised
channels-last tensors, torch's smoothed CrossEntropyLoss, fused AdamW; no clipping, and no augmentation in either row.
Both run in one process on one thread, where freed memory is kept (`keep_pages`, which a trial sees to by itself and
without which either side is 5 to 17 % slower). CPU seconds; medians of runs of a few steps, taken in turn. One more row
is ours against ours: the preset `core` leaves out the stages whose maps are smaller than 3 x 3 (`model.min_map`).
"""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import timm
import torch
from measure import Row, Target, bench_arguments, compare, cpu_seconds, medians_in_turn, report
from torch import nn

from spaces.config import TrialConfig
from trainables.data.synth import write_synth_table
from trainables.data.table import FaceTable
from trainables.memory import keep_pages
from trainables.models.inputs import to_inputs
from trainables.trainer import Trainer

BACKBONES = {"tf_efficientnet_lite0": 3, "resnet18": 2, "lcnet_050": 12}
"""Name to steps of a run: the quicker, the more, so that what comes once an epoch is not counted too often."""

CUT = "tf_efficientnet_lite0"
BATCH_SIZE = 64
DROP_RATE = 0.2
STILL = {f"augment.{change}_p": 0.0 for change in ("flip", "affine", "crop", "light", "jitter", "erase", "rand")}
BUSY = {**STILL, "augment.flip_p": 0.5, "augment.jitter_p": 0.5, "augment.erase_p": 0.25}
PEER = "bare PyTorch loop on tensors in memory"


def main() -> int:
    """Measure and report."""
    arguments = bench_arguments(__doc__, runs=15, image_px=48)
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    keep_pages()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for backbone, n_steps in BACKBONES.items():
            out, n_faces = Path(folder) / backbone, n_steps * BATCH_SIZE
            table = write_synth_table(out, n_train=n_faces, n_valid=64, n_test=64, image_px=arguments.image_px)
            rows += measure(backbone, table, runs=arguments.runs, n_faces=n_faces)
            if backbone == CUT:
                rows.append(measure_cut(table, runs=arguments.runs, n_faces=n_faces))
    return report(rows, arguments)


def measure(backbone: str, table: FaceTable, *, runs: int, n_faces: int) -> list[Row]:
    """Both rows of one backbone."""
    plain, busy = (build_trial(backbone, table, settings) for settings in (STILL, BUSY))
    peer = build_bare_loop(backbone, plain)
    works: dict[str, Callable[[], float]] = {
        "peer": lambda: cpu_seconds(peer),
        "plain": lambda: cpu_seconds(lambda: train_a_pass(plain)),
        "busy": lambda: cpu_seconds(lambda: train_a_pass(busy)),
    }
    rates = {name: n_faces / seconds for name, seconds in medians_in_turn(works, runs=runs).items()}
    name, unit = f"training, {backbone}, {table.info.image_px} px", "images/s"
    return [
        compare(
            f"{name}, no augmentation", rates["plain"], unit, peer=PEER, peer_value=rates["peer"],
            is_smaller_better=False, target=Target(ratio_at_least=0.97),
        ),
        compare(
            f"{name}, flip, jitter, erasing", rates["busy"], unit, peer=f"{PEER}, no augmentation",
            peer_value=rates["peer"], is_smaller_better=False, target=Target(ratio_at_least=0.80),
        ),
    ]  # fmt: skip


def measure_cut(table: FaceTable, *, runs: int, n_faces: int) -> Row:
    """A backbone without its last stages beside the whole."""
    whole, cut = (build_trial(CUT, table, {**BUSY, "model.min_map": least}) for least in (0, 3))
    works: dict[str, Callable[[], float]] = {
        "whole": lambda: cpu_seconds(lambda: train_a_pass(whole)),
        "cut": lambda: cpu_seconds(lambda: train_a_pass(cut)),
    }
    rates = {name: n_faces / seconds for name, seconds in medians_in_turn(works, runs=runs).items()}
    return compare(
        f"training, {CUT}, {table.info.image_px} px, maps of 3 x 3 or more", rates["cut"], "images/s",
        peer="ours, all stages", peer_value=rates["whole"], is_smaller_better=False,
    )  # fmt: skip


def build_trial(backbone: str, table: FaceTable, settings: dict[str, Any]) -> Trainer:
    """A trial with the default's settings but for the augmentation."""
    own = {"model.backbone": backbone, "model.drop_rate": DROP_RATE, "train.batch_size": BATCH_SIZE}
    return Trainer(TrialConfig.from_flat({**own, **settings}), table)


def train_a_pass(trainer: Trainer) -> None:
    """One pass of the trainer, without scoring."""
    trainer._train_pass()
    trainer._budget.step = 0


def build_bare_loop(backbone: str, trainer: Trainer) -> Callable[[], None]:
    """A pass over the trainer's first epoch, its batches ready."""
    n_classes = len(trainer.classes)
    network = timm.create_model(backbone, pretrained=False, num_classes=n_classes, drop_rate=DROP_RATE).train()
    network = network.to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3, fused=True)
    loss = nn.CrossEntropyLoss(label_smoothing=0.1)
    batches = trainer._batches(epoch=1)
    ready = [
        (to_inputs(batch.images, trainer.spec), batch.targets["expression"])
        for batch in (batches[i] for i in range(len(batches)))
    ]

    def train() -> None:
        for inputs, labels in ready:
            optimiser.zero_grad()
            loss(network(inputs), labels).backward()
            optimiser.step()

    return train


if __name__ == "__main__":
    sys.exit(main())

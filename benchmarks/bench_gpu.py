"""What a GPU gives: images a second and the share of its peak, trials packed on it, heads on cached embeddings.

    python benchmarks/bench_gpu.py [--runs 3] [--batch-size 256]

It runs the trainer alone, without Ray and MLflow. Without a GPU its rows stay empty and say so.

Training is one trial's at 224 px in bfloat16 on faces of noise, the default's augmentation in worker processes; the
share is of the card's published dense bfloat16 peak, a step taken as three times the operations that PyTorch counts in
a forward pass. Four trials are processes of their own, each held to a quarter of the card's memory; they train as many
steps one after the other as at once. Heads are those of one pack on 10,000 embeddings of 1,280 numbers, 20 epochs each.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure import Row, Target, bench_arguments, compare, medians_in_turn, not_measured, report
from torch.utils.flop_counter import FlopCounterMode

from spaces.config import TrialConfig
from trainables.data.sampling import Items
from trainables.data.table import Faces, FaceTable, open_table, write_table
from trainables.embeddings.faces import EmbeddedFaces
from trainables.heads.engine import HeadTask, train_together
from trainables.memory import cap_gpu_memory
from trainables.models.architectures.design import Design
from trainables.models.architectures.heads import Heads
from trainables.models.backbones import build_network
from trainables.trainer import Trainer

CLASSES = ("anger", "disgust", "fear", "happiness", "sadness", "surprise")
TRAINED = ("resnet50", "tf_efficientnet_b0")
PACKED = {"tf_efficientnet_lite0": 112, "lcnet_050": 112}
"""Small backbones, and the side of their faces."""

PEAKS = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12, "4090": 165e12}
"""Dense bfloat16 operations a second, as published, by a part of the card's name; the first that fits."""

N_PACKED, N_HEADS = 4, 256
PACKED_TARGET = Target(ratio_at_least=2.5)
NO_GPU = "no GPU here"


def main() -> int:
    """Measure and report; or, as a process of its own, be one of four trials."""
    if sys.argv[1:2] == ["--be-trial"]:
        return be_trial(*sys.argv[2:])
    arguments = bench_arguments(__doc__, runs=3, batch_size=256)
    if not torch.cuda.is_available():
        print("there is no GPU here: its rows stay empty", flush=True)
        return report(empty_rows(), arguments)
    with tempfile.TemporaryDirectory() as folder:
        rows = list(measure(Path(folder), arguments))
    return report(rows, arguments)


def empty_rows() -> list[Row]:
    """The rows of a machine without a GPU."""
    rows = [
        not_measured(f"GPU: training, {backbone}, 224 px, {what}", unit, why=NO_GPU)
        for backbone in TRAINED
        for what, unit in (("images", "images/s"), ("share of the bf16 peak", "%"))
    ]
    rows += [not_measured(packed_name(name, px), "s", why=NO_GPU, target=PACKED_TARGET) for name, px in PACKED.items()]
    return [*rows, not_measured("GPU: heads on cached embeddings", "heads/s", why=NO_GPU)]


def measure(folder: Path, arguments: argparse.Namespace) -> Iterator[Row]:
    """All rows, on a GPU."""
    table = write_noise(folder / "large", n=8 * arguments.batch_size, px=224)
    for backbone in TRAINED:
        rate = images_a_second(backbone, table, batch_size=arguments.batch_size, runs=arguments.runs)
        yield compare(f"GPU: training, {backbone}, 224 px, images", rate, "images/s")
        peak = next((peak for part, peak in PEAKS.items() if part in torch.cuda.get_device_name()), None)
        name = f"GPU: training, {backbone}, 224 px, share of the bf16 peak"
        if peak is None:
            yield not_measured(name, "%", why="the card's peak is not known")
        else:
            yield compare(name, 100 * rate * operations_an_image(backbone) / peak, "%")
    for backbone, px in PACKED.items():
        yield measure_packed(backbone, write_noise(folder / backbone, n=4096, px=px), px=px, runs=arguments.runs)
    yield compare("GPU: heads on cached embeddings", heads_a_second(arguments.runs), "heads/s")


def write_noise(out: Path, *, n: int, px: int) -> FaceTable:
    """A table of noise, as quick to write as it is to read."""
    generator = np.random.default_rng(0)

    def draw(n: int, name: str) -> Faces:
        images = generator.integers(0, 256, (n, px, px, 3), dtype=np.uint8)
        labels = (np.arange(n) % len(CLASSES)).astype(np.int8)
        return Faces(images=images, expression=labels, sample_ids=[f"{name}-{row}" for row in range(n)])

    return write_table(
        out, splits={"train": draw(n, "train"), "valid": draw(64, "valid")}, classes=CLASSES, sources={"train": "noise"}
    )


def build_trial(backbone: str, table: FaceTable, *, batch_size: int, n_workers: int) -> Trainer:
    """A trial with the default's settings."""
    settings: dict[str, Any] = {"model.backbone": backbone, "train.batch_size": batch_size, "train.compile": "off"}
    return Trainer(TrialConfig.from_flat(settings), table, device="cuda", n_workers=n_workers)


def train_a_pass(trainer: Trainer) -> None:
    """One pass of the trainer, without scoring."""
    trainer._train_pass()
    trainer._budget.step = 0
    torch.cuda.synchronize()


def wall_seconds(work: Callable[[], object]) -> float:
    """Seconds that a work takes, on the GPU too."""
    started_s = time.perf_counter()
    work()
    torch.cuda.synchronize()
    return time.perf_counter() - started_s


def images_a_second(backbone: str, table: FaceTable, *, batch_size: int, runs: int) -> float:
    """Of one trial that has the GPU to itself."""
    trainer = build_trial(backbone, table, batch_size=batch_size, n_workers=max(1, (os.cpu_count() or 2) - 1))
    work = {"": lambda: wall_seconds(lambda: train_a_pass(trainer))}
    seconds = medians_in_turn(work, runs=runs, warm_ups=2)[""]
    trainer.close()
    return len(table.split("train")) / seconds


def operations_an_image(backbone: str) -> float:
    """Floating-point operations of a step, an image of 224 px: those of a forward pass, and twice as many backward.

    PyTorch's own count of a backward pass takes depthwise convolutions for full ones.
    """
    network = build_network(backbone, n_classes=len(CLASSES)).eval()
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        network(torch.zeros(1, 3, 224, 224))
    return 3.0 * counter.get_total_flops()


def packed_name(backbone: str, px: int) -> str:
    """Of the row."""
    return f"GPU: {N_PACKED} trials at once, {backbone}, {px} px"


def measure_packed(backbone: str, table: FaceTable, *, px: int, runs: int) -> Row:
    """Four trials at once against the same four in a row."""
    command = [sys.executable, __file__, "--be-trial", backbone, str(table.path)]
    trials = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(N_PACKED)
    ]
    try:
        for trial in trials:
            hear(trial)  # it has warmed up

        def in_a_row() -> None:
            for trial in trials:
                tell(trial)
                hear(trial)

        def at_once() -> None:
            for trial in trials:
                tell(trial)
            for trial in trials:
                hear(trial)

        works = {"row": lambda: wall_seconds(in_a_row), "once": lambda: wall_seconds(at_once)}
        times = medians_in_turn(works, runs=runs)
    finally:
        for trial in trials:
            trial.kill()
            trial.wait()
    return compare(
        packed_name(backbone, px), times["once"], "s", peer="the same in a row", peer_value=times["row"],
        target=PACKED_TARGET,
    )  # fmt: skip


def tell(trial: "subprocess.Popen[str]") -> None:
    """Have a trial train a pass."""
    assert trial.stdin is not None
    print("train", file=trial.stdin, flush=True)


def hear(trial: "subprocess.Popen[str]") -> None:
    """Wait for a trial's word that it has."""
    assert trial.stdout is not None
    if trial.stdout.readline().strip() != "done":
        raise RuntimeError(f"a packed trial must say done, it ended with {trial.wait()}")


def be_trial(backbone: str, table: str) -> int:
    """One of four: train a pass for every line that comes, within a quarter of the card."""
    cap_gpu_memory(1 / N_PACKED, torch.device("cuda"))
    n_workers = max(1, (os.cpu_count() or N_PACKED) // N_PACKED - 1)
    trainer = build_trial(backbone, open_table(Path(table)), batch_size=64, n_workers=n_workers)
    for _ in range(2):
        train_a_pass(trainer)
    print("done", flush=True)
    for _ in sys.stdin:
        train_a_pass(trainer)
        print("done", flush=True)
    trainer.close()
    return 0


def heads_a_second(runs: int) -> float:
    """Of one pack whose heads differ in rate and smoothing."""
    n_faces, width = 10_000, 1_280
    generator = np.random.default_rng(0)
    rows = np.arange(n_faces)
    faces = EmbeddedFaces((generator.standard_normal((n_faces, width)).astype(np.float16),), rows)
    labels = (rows % len(CLASSES)).astype(np.int8)
    items, start = Items(rows, np.zeros_like(rows)), Heads(width, len(CLASSES), Design(), logit_norm=False).state_dict()
    tasks = [HeadTask(config, items, np.ones(len(CLASSES)), start=start) for config in head_configs()]
    device = torch.device("cuda")
    work = {"": lambda: wall_seconds(lambda: train_together(faces, labels, tasks, device=device))}
    return len(tasks) / medians_in_turn(work, runs=runs)[""]


def head_configs() -> Iterator[TrialConfig]:
    """Configs of one group."""
    own = {"train.epochs": 0, "train.head_epochs": 20}
    for number in range(N_HEADS):
        rate, smoothing = 1e-3 * 1.01**number, (number % 10) / 20
        yield TrialConfig.from_flat({**own, "optimiser.head_only_lr": rate, "loss.label_smoothing": smoothing})


if __name__ == "__main__":
    sys.exit(main())

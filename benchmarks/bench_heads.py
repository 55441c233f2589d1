"""Head-only trials on 10,000 faces: from cached embeddings against through the backbone; in packs against one by one.

    python benchmarks/bench_heads.py [--faces 10000] [--pack 64] [--alone 8] [--runs 3]

Faces of 48 px, embedded by tf_efficientnet_lite0 to 1,280 numbers each, 20 epochs; one thread of one process.

1. CPU seconds of a whole trial (training, scoring, writing weights and scores), with the embeddings on disk already, as
   every trial of a search but the first of a backbone finds them: a pack of one, which is how a search of heads runs a
   single trial, in a worker that had one before. The peer is the loop without a cache: each batch through the frozen
   backbone, then a step of its head; at the end the valid faces are scored once, as ours are. Two training batches and
   a tenth of the valid faces are run, and the times scaled up. Neither augments a face; the peer has no dropout, so
   ours is shown without it and with the default's, which makes it slower alone.
2. Trials a minute with a worker on each core, from the CPU seconds of one: a pack of linear heads as a search of heads
   runs it, of configs that the sampler proposes for the preset `heads` on all faces, against one at a time: the loop
   that one writes for one head on the same embeddings in memory, without scoring; and against the same worker running
   them as trials of their own.
3. The same for the preset as it is, where packs fall apart into groups that see other faces (subsamples, samplers), and
   every other head has a layer of 64 units.
"""

import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure import Target, bench_arguments, compare, cpu_seconds, medians_in_turn, report
from torch import nn

from search.sampler import StudySampler
from search.state import new_record
from spaces.config import TrialConfig
from spaces.loading import load_space
from trainables.data.synth import write_synth_table
from trainables.data.table import FaceTable
from trainables.embeddings.cache import default_cache
from trainables.embeddings.compute import embed_faces
from trainables.embeddings.encoder import FrozenEncoder
from trainables.heads.pack_run import PackedTrial, PackOrder, PackRun
from trainables.models.build import build_trial_network
from trainables.models.inputs import predict_outputs, to_inputs
from trainables.run import TrialOrder, TrialRun
from trainables.worker import warm_up

IMAGE_PX, EPOCHS, PEER_BATCHES = 48, 20, 2
SETTINGS = {
    "model.backbone": "tf_efficientnet_lite0",
    "train.epochs": 0,
    "train.head_epochs": EPOCHS,
    "data.subsample_ratio": 1.0,
    "model.drop_rate": 0.0,
}

LINEAR = {"data.subsample_ratio": 1.0, "data.sampler": "shuffle", "model.head_width": 0}


def main() -> int:
    """Measure and print."""
    arguments = bench_arguments(__doc__, runs=3, faces=10_000, pack=64, alone=8)
    warm_up()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["AFFECTUNE_CACHE"] = str(folder / "cache")
        table = write_synth_table(
            folder / "table", n_train=arguments.faces, n_valid=arguments.faces // 5, n_test=0, image_px=IMAGE_PX
        )
        places = new_places(folder)
        config = TrialConfig.from_flat(SETTINGS)
        with_dropout = config.with_settings({"model.drop_rate": TrialConfig().model.drop_rate})
        run_trial(config.to_flat(), table, places())  # fills the cache
        cpu_s = medians_in_turn(
            {
                "cached": lambda: cpu_seconds(lambda: run_pack([config.to_flat()], table, places)),
                "with dropout": lambda: cpu_seconds(lambda: run_pack([with_dropout.to_flat()], table, places)),
                "through": build_plain_loop(config, table),
            },
            runs=2 * arguments.runs,
        )
        linear = propose(arguments.pack, fixed=LINEAR)
        mixed = propose(arguments.pack, fixed={})
        embeddings = load_embeddings(config, table)
        seconds = medians_in_turn(
            {
                "pack": lambda: seconds_of_pack(linear, table, places),
                "alone": lambda: seconds_alone(linear[:: len(linear) // arguments.alone], table, places),
                "loop": lambda: cpu_seconds(lambda: train_plainly(config, embeddings, table)),
                "mixed pack": lambda: seconds_of_pack(mixed, table, places),
                "mixed alone": lambda: seconds_alone(mixed[:: len(mixed) // arguments.alone], table, places),
            },
            runs=arguments.runs,
            warm_ups=0,
        )
    n_cores = len(os.sched_getaffinity(0))
    faces, minute = f"{arguments.faces:,} faces, {EPOCHS} epochs", f"a minute on {n_cores} cores"
    rate = {name: n_cores * 60 / of_one for name, of_one in seconds.items()}
    rows = [
        compare(
            f"a head-only trial from the cache, {faces}", cpu_s["cached"], "CPU s",
            peer="through the backbone in every epoch", peer_value=cpu_s["through"],
            target=Target(ratio_at_least=200),
        ),
        compare(
            "the same with dropout in ours alone", cpu_s["with dropout"], "CPU s",
            peer="through the backbone in every epoch", peer_value=cpu_s["through"],
            target=Target(ratio_at_least=200),
        ),
        compare(
            f"head-only trials in packs of {len(linear)}, {faces}", rate["pack"], minute,
            peer="one at a time, a plain loop", peer_value=rate["loop"], is_smaller_better=False,
            target=Target(ratio_at_least=10, value_at_least=300),
        ),
        compare(
            "the same", rate["pack"], minute,
            peer="one at a time, ours", peer_value=rate["alone"], is_smaller_better=False,
        ),
        compare(
            f"packs of {len(mixed)} of preset `heads`", rate["mixed pack"], minute,
            peer="one at a time, ours", peer_value=rate["mixed alone"], is_smaller_better=False,
        ),
    ]  # fmt: skip
    return report(rows, arguments)


def seconds_of_pack(proposed: Sequence[dict[str, Any]], table: FaceTable, places: Callable[[], Path]) -> float:
    """CPU seconds a trial."""
    return cpu_seconds(lambda: run_pack(proposed, table, places)) / len(proposed)


def seconds_alone(some: Sequence[dict[str, Any]], table: FaceTable, places: Callable[[], Path]) -> float:
    """CPU seconds a trial."""
    return cpu_seconds(lambda: [run_trial(settings, table, places()) for settings in some]) / len(some)


def run_trial(settings: dict[str, Any], table: FaceTable, place: Path) -> None:
    """A trial from its order to its end, as a worker runs it."""
    run = TrialRun(TrialOrder(place.name, settings, str(table.path), str(place)))
    last = run.step()
    run.release()
    assert last["end"] == "completed", last


def run_pack(proposed: Sequence[dict[str, Any]], table: FaceTable, places: Callable[[], Path]) -> None:
    """A pack from its order to its end, as a worker runs it."""
    trials = tuple(PackedTrial(str(number), settings, str(places())) for number, settings in enumerate(proposed))
    run = PackRun(PackOrder("pack", trials, str(table.path)))
    end, ends = "", []
    while not end:
        told = run.step()
        end = told["end"]
        ends += [report["end"] for report in told["reports"].values()]
    run.release()
    assert ends == ["completed"] * len(trials), ends


def propose(n: int, *, fixed: dict[str, Any]) -> list[dict[str, Any]]:
    """Settings of the first n trials of a search of heads."""
    sampler = StudySampler(load_space("heads").fix(fixed), seed=0)
    settings = []
    for number in range(n):
        sampler.ask(f"t{number:04d}")
        settings.append(new_record(sampler, f"t{number:04d}").config)
    return settings


def build_plain_loop(config: TrialConfig, table: FaceTable) -> Callable[[], float]:
    """CPU seconds that a trial would take which embeds every face in every epoch, from a few batches of one."""
    network, spec = build_trial_network(config, table.info)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    network.eval()
    train, size = table.split("train"), config.train.batch_size
    n_batches = EPOCHS * -(-len(train) // size)
    optimiser = torch.optim.AdamW(network.heads.parameters(), lr=config.optimiser.head_only_lr)

    def step(start: int) -> None:
        labels = torch.from_numpy(train.expression[start : start + size].astype("int64"))
        inputs = to_inputs(torch.from_numpy(train.images[start : start + size].copy()), spec)
        with torch.no_grad():
            embeddings = network.encoder(inputs)["embeddings"]
        optimiser.zero_grad()
        nn.functional.cross_entropy(network.heads(embeddings)["logits"], labels).backward()
        optimiser.step()

    def measure() -> float:
        valid = table.split("valid").images
        some_s = cpu_seconds(lambda: [step(number * size) for number in range(PEER_BATCHES)])
        scoring_s = cpu_seconds(lambda: predict_outputs(network, valid[: len(valid) // 10], spec))
        return some_s * n_batches / PEER_BATCHES + 10 * scoring_s

    return measure


def load_embeddings(config: TrialConfig, table: FaceTable) -> torch.Tensor:
    """The cached embeddings of the training faces as the plain loop wants them, [faces, width], float32."""
    with torch.random.fork_rng():
        torch.manual_seed(config.train.seed * 1000)
        network, spec = build_trial_network(config, table.info)
    rows = np.arange(len(table.split("train")))
    faces = embed_faces(FrozenEncoder(network, spec), table, rows=rows, config=config, cache=default_cache())
    return torch.from_numpy(faces.views[0].astype(np.float32))


def train_plainly(config: TrialConfig, embeddings: torch.Tensor, table: FaceTable) -> None:
    """A linear head as tutorials train one."""
    labels = torch.from_numpy(table.split("train").expression.astype(np.int64))
    head = nn.Linear(embeddings.shape[1], len(table.info.classes))
    optimiser = torch.optim.AdamW(head.parameters(), lr=config.optimiser.head_only_lr)
    loss = nn.CrossEntropyLoss(label_smoothing=0.1)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(labels)).split(config.train.batch_size):
            optimiser.zero_grad()
            loss(head(embeddings[rows]), labels[rows]).backward()
            optimiser.step()


def new_places(folder: Path) -> Callable[[], Path]:
    """Gives another folder each time."""
    numbers = iter(range(10**6))
    return lambda: folder / "trials" / f"{next(numbers):06d}"


if __name__ == "__main__":
    sys.exit(main())

"""A search of ours whose trials train nothing: everything else is as a user has it. Part of bench_trial_overhead.py.

    python benchmarks/noop_search.py --trials 64

Prints one JSON line: seconds from the first trial's start until MLflow has everything, and the driver's memory then.
"""

import argparse
import json
import math
import statistics
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from measure import anonymous_mb

from search.cluster import start_ray
from search.folder import SearchFolder, SearchManifest
from search.follow import follow, resources_of
from search.plan import SearchPlan
from search.privacy import keep_private
from search.sampler import StudySampler
from search.state import SearchState
from search.storage import create_folder
from search.tracking import Tracker
from search.tracking_server import default_tracking_uri
from spaces.loading import load_space
from trainables.data.synth import write_synth_table
from trainables.data.table import FaceTable
from trainables.run import CHECKPOINT_FILE
from trainables.trial import Trial

EPOCHS, N_TRAIN = 3, 60
WAITED_FILE = "waited.txt"
CLASSES = ("anger", "disgust", "fear", "happiness", "sadness", "surprise")


@dataclass
class Idle:
    """A trial's run without training."""

    order: dict[str, Any]
    epoch: int = 0

    def step(self) -> dict[str, Any]:
        """A report such as the trainer gives; a checkpoint with the last."""
        self.epoch += 1
        score = 0.5 + 0.1 * self.order["settings"]["loss.label_smoothing"] + 0.01 * self.epoch
        if self.epoch == EPOCHS:
            folder = Path(self.order["folder"])
            folder.mkdir(parents=True, exist_ok=True)
            torch.save({"weights": torch.zeros(1000)}, folder / CHECKPOINT_FILE)
        return {
            "train/loss": 1.0 / self.epoch,
            "valid/loss": 1.1 / self.epoch,
            "valid/macro_f1": score,
            **{f"valid/f1/{name}": score for name in CLASSES},
            "epoch": self.epoch,
            "samples_seen": round(self.epoch * self.order["settings"]["data.subsample_ratio"] * N_TRAIN),
            "best/macro_f1": score,
            "best/epoch": self.epoch,
            "time/epoch_s": 0.001,
            "end": "completed" if self.epoch == EPOCHS else "",
        }

    def release(self) -> None:
        """Nothing is held."""


class IdleTrial(Trial):
    """The worker of a search, but for the training. Each trial leaves a note of how long its worker waited for it."""

    _ended_s: float | None = None

    def begin(self, order: dict[str, Any]) -> None:
        """Begin a trial."""
        self._run = Idle(order)  # type: ignore[assignment]
        if self._ended_s is not None:
            folder = Path(order["folder"])
            folder.mkdir(parents=True, exist_ok=True)
            (folder / WAITED_FILE).write_text(str(time.monotonic() - self._ended_s))

    def step(self) -> dict[str, Any]:
        """A report."""
        report = super().step()
        self._ended_s = time.monotonic()
        return report


class MlflowClock(threading.Thread):
    """Notes how far MLflow has the search's journal, some times a second."""

    def __init__(self, folder: SearchFolder) -> None:
        super().__init__(daemon=True)
        self._folder = folder
        self._sent: list[tuple[float, int]] = []
        self._is_over = threading.Event()

    def run(self) -> None:
        """Until stopped."""
        while not self._is_over.wait(0.05):
            self._note()

    def stop(self) -> tuple[float, float]:
        """Unix times: of the first trial's start, and from when on MLflow had the last trial's end."""
        self._is_over.set()
        self._note()
        began_s, at, all_ended_at = math.inf, 0, 0
        for line in (self._folder.tracking_dir / "operations.jsonl").read_bytes().splitlines(keepends=True):
            at += len(line)
            operation = json.loads(line)
            if operation["key"].startswith("t"):
                began_s = min(began_s, operation["t"] / 1000)
                all_ended_at = at
        return began_s, min(time_s for time_s, offset in self._sent if offset >= all_ended_at)

    def _note(self) -> None:
        for file in self._folder.tracking_dir.glob("sent-*.json"):
            self._sent.append((time.time(), int(json.loads(file.read_text(encoding="utf-8"))["offset"])))


def run(folder: Path, table: FaceTable, *, n_trials: int, seed: int) -> dict[str, float]:
    """The search, from an empty folder; seconds and memory."""
    space = load_space("core").fix({"train.epochs": EPOCHS})
    storage = folder / "runs"
    own = create_folder(storage, "idle")
    uri = default_tracking_uri(storage)
    plan = SearchPlan(n_trials=n_trials, seed=seed, grace_epochs=EPOCHS + 1)
    own.write_manifest(
        SearchManifest(
            name=own.name, data=str(table.path), content_hash=table.info.content_hash, classes=CLASSES, seed=seed,
            n_trials=n_trials, time_budget_s=None, tracking_uri=uri, launched_s=time.time(),
        )
    )  # fmt: skip
    start_ray(None)
    start_mlflow(uri, folder / "before")
    state = SearchState(StudySampler(space, seed=seed))
    clock = MlflowClock(own)
    clock.start()
    outcome = follow(
        state, own, table, plan=plan, resources=resources_of(plan), screen_to_stderr=True, worker=IdleTrial
    )
    assert [record.epochs for record in outcome.records] == [EPOCHS] * n_trials
    began_s, ended_s = clock.stop()
    waits_s = [float(file.read_text()) for file in own.path.glob(f"trials/*/{WAITED_FILE}")]
    return {
        "seconds": ended_s - began_s,
        "memory_mb": anonymous_mb(),
        "cpu_s": time.process_time(),
        "waits_s": statistics.median(waits_s),
    }


def start_mlflow(uri: str, journal_dir: Path) -> None:
    """Load MLflow and have it make its database, which takes seconds: the peer does so before its search too."""
    tracker = Tracker(uri, "before", journal_dir)
    tracker.end_run(tracker.start_search(name="before"), "completed")
    assert tracker.close(timeout_s=120.0) == 0


def main() -> int:
    """Run it once."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    keep_private()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        table = write_synth_table(folder / "table", n_train=N_TRAIN, n_valid=30, n_test=0, image_px=32)
        print(json.dumps(run(folder, table, n_trials=arguments.trials, seed=arguments.seed)))
    return 0


if __name__ == "__main__":
    sys.exit(main())

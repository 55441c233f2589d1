"""What MLflow's logging takes of a trial of 20 epochs, and whether any of it is done in the trial's worker.

    python benchmarks/bench_tracking.py [--faces 1000] [--epochs 20] [--backbone tf_efficientnet_lite0]

A search of one real trial, with MLflow in SQLite. Counted are the CPU seconds of the thread that writes to MLflow, once
MLflow is loaded and its database made (which is done while Ray starts), and all the time that the driver's own loop
spends in the tracker's methods, by a profiler: what each takes of the trial's wall time. The worker says itself, after
its last epoch, whether anything in it has imported MLflow.
"""

import cProfile
import os
import pstats
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from measure import Row, Target, bench_arguments, compare, report

from search.cluster import start_ray
from search.folder import SearchFolder, SearchManifest
from search.follow import follow, resources_of
from search.plan import SearchPlan
from search.privacy import keep_private
from search.sampler import StudySampler
from search.state import SearchState
from search.storage import create_folder
from search.tracking_server import default_tracking_uri
from spaces.loading import load_space
from trainables.data.synth import write_synth_table
from trainables.data.table import FaceTable
from trainables.trial import Trial

IMAGE_PX = 48
WITNESS_FILE = "imports.txt"
TRACKER_METHODS = ("start_run", "log_epoch", "log_summary", "set_tags", "end_run")


class WatchedTrial(Trial):
    """The worker of a search, which notes after each epoch whether it holds MLflow."""

    def step(self) -> dict[str, Any]:
        """An epoch."""
        report = super().step()
        assert self._run is not None
        folder = Path(self._run._order.folder)
        (folder / WITNESS_FILE).write_text("mlflow" if "mlflow" in sys.modules else "none", encoding="utf-8")
        return report


class WriterClock(threading.Thread):
    """CPU seconds of the tracker's thread, from when MLflow has the launch's run on."""

    def __init__(self, folder: SearchFolder) -> None:
        super().__init__(daemon=True)
        self._folder = folder
        self._first_s: float | None = None
        self._last_s = 0.0
        self._is_over = threading.Event()

    def run(self) -> None:
        """Read the kernel's count a few times a second."""
        while not self._is_over.wait(0.1):
            writer = next((each for each in threading.enumerate() if each.name == "affectune-tracking"), None)
            if writer is None or not self._is_ready():
                continue
            self._last_s = cpu_seconds_of(writer) or self._last_s
            self._first_s = self._last_s if self._first_s is None else self._first_s

    def stop(self) -> float:
        """The seconds so far."""
        self._is_over.set()
        assert self._first_s is not None, "MLflow has the launch's run before a trial of a minute ends"
        return self._last_s - self._first_s

    def _is_ready(self) -> bool:
        return any(file.stat().st_size for file in self._folder.tracking_dir.glob("runs-*.jsonl"))


def main() -> int:
    """Measure and print."""
    arguments = bench_arguments(__doc__, runs=1, faces=1000, epochs=20, backbone="tf_efficientnet_lite0")
    keep_private()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        table = write_synth_table(
            folder / "table", n_train=arguments.faces, n_valid=arguments.faces // 5, n_test=0, image_px=IMAGE_PX
        )
        fixes = {
            "train.epochs": arguments.epochs, "model.backbone": arguments.backbone, "data.subsample_ratio": 1.0
        }  # fmt: skip
        rows = measure(folder, table, fixes=fixes)
    return report(rows, arguments)


def measure(folder: Path, table: FaceTable, *, fixes: dict[str, Any]) -> list[Row]:
    """A search of one trial, watched."""
    own = create_folder(folder / "runs", "tracked")
    plan = SearchPlan(n_trials=1, max_concurrent=1)
    own.write_manifest(
        SearchManifest(
            name=own.name, data=str(table.path), content_hash=table.info.content_hash, classes=table.info.classes,
            seed=0, n_trials=1, time_budget_s=None, tracking_uri=default_tracking_uri(folder / "runs"),
            launched_s=time.time(),
        )
    )  # fmt: skip
    start_ray(None)
    state = SearchState(StudySampler(load_space("core").fix(fixes), seed=0))
    clock, profiler = WriterClock(own), cProfile.Profile()
    clock.start()
    profiler.enable()
    outcome = follow(
        state, own, table, plan=plan, resources=resources_of(plan), screen_to_stderr=True, worker=WatchedTrial
    )
    profiler.disable()
    writer_s, driver_s = clock.stop(), seconds_in_tracker(profiler)
    record = outcome.records[0]
    assert record.end == "completed" and record.epochs == fixes["train.epochs"], record.error
    witness = (own.trial_dir(record.trial_id) / WITNESS_FILE).read_text(encoding="utf-8")
    trial = f"a trial of {record.epochs} epochs, {record.wall_s:.0f} s"
    return [
        compare(
            f"MLflow's share of {trial}", 100 * (writer_s + driver_s) / record.wall_s, "%",
            target=Target(value_at_most=2.0),
        ),
        compare("of that, in the driver's own loop", 100 * driver_s / record.wall_s, "%"),
        compare(
            "workers of such a trial that import MLflow", float(witness != "none"), "of 1",
            target=Target(value_at_most=0),
        ),
    ]  # fmt: skip


def seconds_in_tracker(profiler: cProfile.Profile) -> float:
    """Of the profiled thread, in the methods that a search calls; those that call another are counted with it."""
    stats: dict[tuple[str, int, str], tuple[int, int, float, float, Any]] = pstats.Stats(profiler).stats  # type: ignore[attr-defined]
    return sum(
        cumulative
        for (file, _, method), (_, _, _, cumulative, _) in stats.items()
        if file.endswith("search/tracking.py") and method in TRACKER_METHODS
    )


def cpu_seconds_of(thread: threading.Thread) -> float | None:
    """User and system time of a thread, as Linux counts it; None once it has ended."""
    try:
        text = Path(f"/proc/self/task/{thread.native_id}/stat").read_text(encoding="utf-8")
    except OSError:
        return None
    user, system = text.rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    sys.exit(main())

"""A search on a cluster whose trials only wait; everything else is as a user has it. Part of test_many_nodes.py.

    python tests/faults/idle_search.py ADDRESS FOLDER TABLE TRIALS SLOTS

The first trials wait until all that find room are there: else those that end would hand their workers on, and no
further worker would come. Prints one JSON line: seconds and the driver's CPU seconds from then to the last trial's end,
and how many trials ran at once at most.
"""

import json
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ray import tune

from search.cluster import start_ray
from search.folder import SearchManifest
from search.follow import follow, resources_of
from search.plan import SearchPlan
from search.privacy import keep_private
from search.recorder import Recorder
from search.sampler import StudySampler
from search.state import SearchState
from search.storage import create_folder
from search.tracking_server import default_tracking_uri
from spaces.loading import parse_space
from trainables.data.table import open_table

EPOCHS, EPOCH_S = 3, 2.0
ALL_HERE = "all-here"
"""A file in the search's folder, once as many trials run as find room."""
SPACE = """
name: idle
description: trials that only wait
parameters: {optimiser.lr: {log_uniform: [1.0e-3, 1.0e-2], default: 3.0e-3}}
fixed: {model.backbone: test_efficientnet, model.weights: none, model.image_px: 32, train.epochs: 3}
"""


class IdleTrial(tune.Trainable):
    """A worker that waits instead of training, and does not load what training needs: 64 of them find room."""

    def setup(self, config: dict[str, Any]) -> None:
        """Begin a trial."""
        self._epoch = 0
        self._all_here = Path(config["order"]["folder"]).parents[1] / ALL_HERE

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begin the next."""
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """A report such as the trainer gives."""
        while not self._all_here.exists():
            time.sleep(0.1)
        time.sleep(EPOCH_S)
        self._epoch += 1
        score = 0.5 + 0.01 * self._epoch
        is_last = self._epoch == EPOCHS
        return {
            "train/loss": 1.0 / self._epoch,
            "valid/loss": 1.1 / self._epoch,
            "valid/macro_f1": score,
            "best/macro_f1": score,
            "best/epoch": self._epoch,
            "epoch": self._epoch,
            "samples_seen": 60 * self._epoch,
            "time/epoch_s": EPOCH_S,
            "end": "completed" if is_last else "",
            "done": is_last,
        }


@dataclass
class Watch:
    """Notes in the driver when trials begin and end.

    Attributes:
        folder: of the search.
        n_slots: trials that find room.
        began: wall and CPU seconds when so many ran for the first time.
        ended: the same at the latest trial's end.
        running: trials that run.
        most: that ever ran at once.
    """

    folder: Path
    n_slots: int
    began: tuple[float, float] = (0.0, 0.0)
    ended: tuple[float, float] = (0.0, 0.0)
    running: set[str] = field(default_factory=set)
    most: int = 0

    def start(self, trial_id: str) -> None:
        """A trial begins."""
        self.running.add(trial_id)
        self.most = max(self.most, len(self.running))
        if self.most == self.n_slots and not (self.folder / ALL_HERE).exists():
            (self.folder / ALL_HERE).touch()
            self.began = (time.monotonic(), time.process_time())

    def end(self, trial_id: str) -> None:
        """A trial has ended, and is on disk."""
        self.running.discard(trial_id)
        self.ended = (time.monotonic(), time.process_time())


def watch_recorder(folder: Path, *, n_slots: int) -> Watch:
    """A watch that every recorder of this process tells."""
    watch, start, end = Watch(folder, n_slots), Recorder.trial_started, Recorder.trial_ended

    def started(self: Recorder, record: Any) -> None:
        watch.start(record.trial_id)
        start(self, record)

    def ended(self: Recorder, trial_id: str, *words: Any, **named: Any) -> None:
        end(self, trial_id, *words, **named)
        watch.end(trial_id)

    Recorder.trial_started, Recorder.trial_ended = started, ended  # type: ignore[method-assign]
    return watch


def run(address: str, folder: Path, table_dir: Path, *, n_trials: int, n_slots: int) -> dict[str, float]:
    """The search, in a new folder of a storage."""
    table, space = open_table(table_dir), parse_space(SPACE)
    own = create_folder(folder.parent, folder.name)
    plan = SearchPlan(n_trials=n_trials, max_concurrent=n_slots, address=address, grace_epochs=EPOCHS + 1)
    own.write_manifest(
        SearchManifest(
            name=own.name, data=str(table.path), content_hash=table.info.content_hash,
            classes=tuple(table.info.classes), seed=0, n_trials=n_trials, time_budget_s=None,
            tracking_uri=default_tracking_uri(folder.parent), launched_s=time.time(),
        )
    )  # fmt: skip
    start_ray(address)
    resources = resources_of(plan)
    watch = watch_recorder(own.path, n_slots=resources.max_concurrent)
    state = SearchState(StudySampler(space, seed=0))
    worker: Any = IdleTrial
    outcome = follow(state, own, table, plan=plan, resources=resources, screen_to_stderr=True, worker=worker)
    assert [record.end for record in outcome.records] == ["completed"] * n_trials
    wall_s, cpu_s = (after - before for before, after in zip(watch.began, watch.ended, strict=True))
    return {"wall_s": wall_s, "cpu_s": cpu_s, "most_at_once": watch.most}


def main() -> int:
    """Run it once."""
    address, folder, table, n_trials, n_slots = sys.argv[1:]
    keep_private()
    print(json.dumps(run(address, Path(folder), Path(table), n_trials=int(n_trials), n_slots=int(n_slots))))
    return 0


if __name__ == "__main__":
    sys.exit(main())

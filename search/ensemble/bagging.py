"""Bags as parallel Ray tasks: the best configs again, on other subsamples with other seeds."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError

from search.bag_record import BagRecord, end_bag, read_bag, write_bag
from search.ends import TrialEnd
from search.lost_workers import Loss, LostWorkers
from search.resources import Resources
from search.wanted_bags import MOST_BAGS
from search.watchdog import Watchdog
from spaces.errors import OutputError
from trainables.line_file import LineFile
from trainables.patience import Patience
from trainables.pulse import SILENT_S
from trainables.run import CHECKPOINT_FILE, TrialOrder, TrialRun

HISTORY_FILE = "history.jsonl"
POLL_S = 0.5
WHOLE_SHARE = 0.75
"""A bag with this share of its trial's time is as good as whole."""


@dataclass(frozen=True)
class BagJob:
    """A bag that is to be trained, or to go on in its folder."""

    order: TrialOrder
    record: BagRecord

    @property
    def bag_id(self) -> str:
        """Its folder's name."""
        return self.order.trial_id

    @property
    def folder(self) -> Path:
        """Where it leaves what it has."""
        return Path(self.order.folder)


@dataclass(frozen=True)
class BagOutcome:
    """What became of one bag."""

    bag_id: str
    end: TrialEnd
    history: list[dict[str, Any]] = field(default_factory=list)
    error: str = ""


def train_bags(
    jobs: Sequence[BagJob],
    resources: Resources,
    *,
    on_start: Callable[[BagJob], None],
    on_epoch: Callable[[str, Mapping[str, Any]], None],
    on_end: Callable[[BagOutcome], None],
    on_loss: Callable[[str, Loss], None] = lambda *_: None,
    silent_s: float = SILENT_S,
) -> list[BagOutcome]:
    """Train all bags, as many at once as there is room for. One that fails costs only itself.

    A bag whose worker is lost, or hangs and is ended, goes on in another one, as often as `LostWorkers` allows.
    Where this is left before its end, bags in training are cancelled, and go on from their checkpoints the next time.

    Args:
        jobs: one a bag.
        resources: what each takes.
        on_start: is told each job as its turn comes; its folder says by then which bag it is, so that a job that is
            killed finds it again.
        on_epoch: is told each bag's reports as they come, but for those of earlier times.
        on_end: is told what became of each bag as it ends.
        on_loss: is told of each worker that was lost, and whose bag goes on.
        silent_s: seconds without a sign of life after which a worker is taken for hung.

    Returns:
        One outcome a bag, in the order of `jobs`.
    """
    bags = _Bags(resources, silent_s=silent_s)
    waiting = list(jobs)
    told = {job.bag_id: len(scored_history(job.folder)) for job in jobs}
    outcomes: dict[str, BagOutcome] = {}
    try:
        while waiting or bags.running:
            while waiting and len(bags.running) < resources.max_concurrent:
                job = waiting.pop(0)
                with suppress(OutputError):  # the bag itself will say so
                    write_bag(job.folder, job.record)
                on_start(job)
                bags.begin(job)
            ended = bags.wait()
            for job in [*bags.running.values(), *(job for job, _ in ended)]:
                _tell_news(job, told, on_epoch)
            for job, lost in ended:
                loss = bags.read_loss(job, lost)
                if loss is not None and not loss.is_last:
                    on_loss(job.bag_id, loss)
                    bags.begin(job)
                    continue
                outcomes[job.bag_id] = outcome = _outcome(job, lost, loss)
                on_end(outcome)
    finally:
        bags.cancel()  # Ctrl-C
    return [outcomes[job.bag_id] for job in jobs]


class _Bags:
    """Bags in training: Ray's tasks, and who looks after them."""

    def __init__(self, resources: Resources, *, silent_s: float) -> None:
        self.running: dict[Any, BagJob] = {}
        self._resources = resources
        self._task = ray.remote(max_retries=0)(_train_bag)  # a lost worker is counted here
        self._losses = LostWorkers()
        self._watchdog = Watchdog(silent_s=silent_s)

    def begin(self, job: BagJob) -> None:
        """Give a bag to a worker."""
        task = self._task.options(**self._resources.of(job.order.settings).of_task())
        self.running[task.remote(job.order.to_dict(), asdict(job.record))] = job

    def wait(self) -> list[tuple[BagJob, RayError | None]]:
        """Those whose workers have ended since, after a moment; each with what Ray says of a lost one."""
        self._end_hung()
        ready, _ = ray.wait(list(self.running), num_returns=1, timeout=POLL_S)
        ended: list[tuple[BagJob, RayError | None]] = []
        for reference in ready:
            job = self.running.pop(reference)
            try:
                ray.get(reference)
                ended.append((job, None))
            except RayError as lost:
                ended.append((job, lost))
        return ended

    def read_loss(self, job: BagJob, lost: RayError | None) -> Loss | None:
        """What became of a worker; None where it ended by itself, with an error or without."""
        if lost is None or getattr(lost, "cause", None) is not None:
            return None
        return self._losses.note(job.bag_id, str(lost), reached=len(scored_history(job.folder)))

    def cancel(self) -> None:
        """End all workers."""
        for reference in self.running:
            ray.cancel(reference, force=True)

    def _end_hung(self) -> None:
        if not self._watchdog.is_due:
            return
        references = {job.bag_id: reference for reference, job in self.running.items()}
        for name in self._watchdog.hung({job.bag_id: job.folder for job in self.running.values()}):
            self._losses.expect(name, "hung", f"it gave no sign of life for {self._watchdog.silent_s:.0f} s")
            ray.cancel(references[name], force=True)


def _train_bag(order: Mapping[str, Any], record: Mapping[str, Any]) -> None:
    """Runs in a worker: one bag to its end, each report a line of its history."""
    trial, bag = TrialOrder(**order), BagRecord(**record)
    folder = Path(trial.folder)
    there = read_bag(folder)
    if there is not None and there.end is not None:  # the worker before this one was lost after its work was done
        return
    patience = Patience()
    patience(partial(write_bag, folder, bag))
    told = scored_history(folder)
    run = TrialRun(replace(trial, n_told=int(told[-1]["epoch"]) if told else 0))
    history = LineFile(folder / HISTORY_FILE)
    report: dict[str, Any] = {"end": ""}
    while not report["end"]:
        report = run.step()
        if report["end"]:
            patience(partial(end_bag, folder, bag, report["end"], error=str(report.get("error", ""))))
        history.hold(json.dumps(report) + "\n")
        patience(history.flush)
    history.close()
    run.release()
    if report["end"] != "preempted":
        (folder / CHECKPOINT_FILE).unlink(missing_ok=True)


def _outcome(job: BagJob, lost: RayError | None, loss: Loss | None) -> BagOutcome:
    history = scored_history(job.folder)
    if lost is not None:
        error = str(getattr(lost, "cause", lost)).split("\n", 1)[0] if loss is None else loss.sentence
        with suppress(OutputError):  # which may be why it failed
            end_bag(job.folder, job.record, "failed", error=error)
        return BagOutcome(job.bag_id, "failed", history, error)
    there = read_bag(job.folder) or job.record
    return BagOutcome(job.bag_id, there.end or "preempted", history, there.error)


def _tell_news(job: BagJob, told: dict[str, int], on_epoch: Callable[[str, Mapping[str, Any]], None]) -> None:
    history = scored_history(job.folder)
    for report in history[told[job.bag_id] :]:
        on_epoch(job.bag_id, report)
    told[job.bag_id] = len(history)


def read_history(folder: Path) -> list[dict[str, Any]]:
    """A bag's reports so far, without a line that is still being written or that a lost worker left torn."""
    file = folder / HISTORY_FILE
    if not file.exists():
        return []
    reports = []
    for line in file.read_text(encoding="utf-8").split("\n")[:-1]:
        with suppress(json.JSONDecodeError):
            reports.append(json.loads(line))
    return reports


def scored_history(folder: Path) -> list[dict[str, Any]]:
    """A bag's reports with scores in them: an epoch that failed has none."""
    return [report for report in read_history(folder) if report["end"] != "failed"]


def affordable_bags(*, slots: int, time_budget_s: float, typical_s: float) -> int:
    """How many bags are worth training in a time: few whole ones vote better than many that are cut short.

    Args:
        slots: bags at once.
        time_budget_s: for all of them.
        typical_s: what their configs' trials took.

    Returns:
        1 to MOST_BAGS, full waves where they are fewer.
    """
    n_waves = max(1, int(time_budget_s / (WHOLE_SHARE * max(typical_s, 1e-9))))
    return min(MOST_BAGS, slots * n_waves)


def deadlines(
    n_bags: int, *, slots: int, time_budget_s: float | None, now_s: float | None = None
) -> list[float | None]:
    """When each bag must have ended, so that all waves of bags have the same share of the time.

    Args:
        n_bags: in all.
        slots: bags at once.
        time_budget_s: for all of them; None for no deadline.
        now_s: Unix time of the start.
    """
    if time_budget_s is None:
        return [None] * n_bags
    start = time.time() if now_s is None else now_s
    n_waves = -(-n_bags // slots)
    return [start + time_budget_s * (index // slots + 1) / n_waves for index in range(n_bags)]

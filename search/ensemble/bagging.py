"""Bags as parallel Ray tasks: the best configs again, on other subsamples with other seeds."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError

from search.bag_record import BagRecord, end_bag, read_bag, write_bag
from search.cluster import Resources
from search.ends import TrialEnd
from search.wanted_bags import MOST_BAGS
from spaces.errors import OutputError
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
) -> list[BagOutcome]:
    """Train all bags, as many at once as there is room for. One that fails costs only itself.

    A bag whose worker is lost goes on in another one, once. Where this is left before its end, bags in training are
    cancelled, and go on from their checkpoints the next time.

    Args:
        jobs: one a bag.
        resources: what each takes.
        on_start: is told each job as its turn comes; its folder says by then which bag it is, so that a job that is
            killed finds it again.
        on_epoch: is told each bag's reports as they come, but for those of earlier times.
        on_end: is told what became of each bag as it ends.

    Returns:
        One outcome a bag, in the order of `jobs`.
    """
    task = ray.remote(max_retries=1)(_train_bag)
    waiting = list(jobs)
    running: dict[Any, BagJob] = {}
    told = {job.bag_id: len(scored_history(job.folder)) for job in jobs}
    outcomes: dict[str, BagOutcome] = {}
    try:
        while waiting or running:
            while waiting and len(running) < resources.max_concurrent:
                job = waiting.pop(0)
                with suppress(OutputError):  # the bag itself will say so
                    write_bag(job.folder, job.record)
                on_start(job)
                own = resources.of(job.order.settings)
                options = task.options(num_cpus=own.cpus, num_gpus=own.gpus)
                running[options.remote(job.order.to_dict(), asdict(job.record))] = job
            ready, _ = ray.wait(list(running), num_returns=1, timeout=POLL_S)
            for job in running.values():
                _tell_news(job, told, on_epoch)
            for reference in ready:
                outcome = _outcome(reference, running.pop(reference))
                outcomes[outcome.bag_id] = outcome
                on_end(outcome)
    finally:
        for reference in running:  # Ctrl-C
            ray.cancel(reference, force=True)
    return [outcomes[job.bag_id] for job in jobs]


def _train_bag(order: Mapping[str, Any], record: Mapping[str, Any]) -> None:
    """Runs in a worker: one bag to its end, each report a line of its history."""
    trial, bag = TrialOrder(**order), BagRecord(**record)
    folder = Path(trial.folder)
    there = read_bag(folder)
    if there is not None and there.end is not None:  # the worker before this one was lost after its work was done
        return
    write_bag(folder, bag)
    run = TrialRun(trial)
    history = folder / HISTORY_FILE
    report: dict[str, Any] = {"end": ""}
    separator = "\n" if history.exists() else ""  # ends the line that a lost worker may have left torn
    while not report["end"]:
        report = run.step()
        if report["end"]:
            end_bag(folder, bag, report["end"], error=str(report.get("error", "")))
        with history.open("a", encoding="utf-8") as file:
            file.write(separator + json.dumps(report) + "\n")
        separator = ""
    run.release()
    if report["end"] != "preempted":
        (folder / CHECKPOINT_FILE).unlink(missing_ok=True)


def _outcome(reference: Any, job: BagJob) -> BagOutcome:
    history = scored_history(job.folder)
    try:
        ray.get(reference)
    except RayError as lost:
        error = _sentence(lost)
        with suppress(OutputError):  # which may be why it failed
            end_bag(job.folder, job.record, "failed", error=error)
        return BagOutcome(job.bag_id, "failed", history, error)
    there = read_bag(job.folder) or job.record
    return BagOutcome(job.bag_id, there.end or "preempted", history, there.error)


def _sentence(lost: RayError) -> str:
    cause = getattr(lost, "cause", None)
    if cause is None:
        return f"worker was lost, got {type(lost).__name__}"
    return str(cause).splitlines()[0] if str(cause) else type(cause).__name__


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

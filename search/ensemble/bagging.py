"""Bags as parallel Ray tasks: the best configs again, on other subsamples with other seeds."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError

from search.cluster import Resources
from search.ends import TrialEnd
from trainables.run import CHECKPOINT_FILE, TrialOrder, TrialRun

HISTORY_FILE = "history.jsonl"
POLL_S = 0.5
MOST_BAGS = 4
"""Bags that are trained where the user names no number."""
WHOLE_SHARE = 0.75
"""A bag with this share of its trial's time is as good as whole."""


@dataclass
class BagOutcome:
    """What became of one bag."""

    bag_id: str
    end: TrialEnd
    history: list[dict[str, Any]] = field(default_factory=list)
    error: str = ""


def train_bags(
    orders: Sequence[TrialOrder], resources: Resources, *, on_epoch: Callable[[str, Mapping[str, Any]], None]
) -> list[BagOutcome]:
    """Train all bags, as many at once as there is room for. One that fails or loses its worker costs only itself.

    Args:
        orders: one a bag.
        resources: what each takes.
        on_epoch: is told each bag's reports as they come.

    Returns:
        One outcome a bag, in the order of `orders`.
    """
    task = ray.remote(max_retries=2)(_train_bag)
    waiting = list(orders)
    running: dict[Any, TrialOrder] = {}
    told: dict[str, int] = {}
    outcomes: dict[str, BagOutcome] = {}
    try:
        while waiting or running:
            while waiting and len(running) < resources.max_concurrent:
                order = waiting.pop(0)
                own = resources.of(order.settings)
                running[task.options(num_cpus=own.cpus, num_gpus=own.gpus).remote(order.to_dict())] = order
            ready, _ = ray.wait(list(running), num_returns=1, timeout=POLL_S)
            for order in running.values():
                _tell_news(order, told, on_epoch)
            for reference in ready:
                order = running.pop(reference)
                outcomes[order.trial_id] = _outcome(reference, order)
    finally:
        for reference in running:  # Ctrl-C
            ray.cancel(reference, force=True)
    return [outcomes[order.trial_id] for order in orders]


def _train_bag(order: Mapping[str, Any]) -> str:
    """Runs in a worker: one bag to its end, each report a line of its history."""
    trial = TrialOrder(**order)
    run = TrialRun(trial)
    history = Path(trial.folder) / HISTORY_FILE
    report: dict[str, Any] = {"end": ""}
    separator = "\n" if history.exists() else ""  # ends the line that a lost worker may have left torn
    while not report["end"]:
        report = run.step()
        with history.open("a", encoding="utf-8") as file:
            file.write(separator + json.dumps(report) + "\n")
        separator = ""
    run.release()
    (Path(trial.folder) / CHECKPOINT_FILE).unlink(missing_ok=True)
    return str(report.get("error", ""))


def _outcome(reference: Any, order: TrialOrder) -> BagOutcome:
    history = read_history(Path(order.folder))
    try:
        error = ray.get(reference)
    except RayError as lost:
        cause = getattr(lost, "cause", None)
        error = str(cause) if cause else f"worker was lost, got {type(lost).__name__}"
        return BagOutcome(order.trial_id, "failed", history, error.splitlines()[0])
    end: TrialEnd = history[-1]["end"] if history else "failed"
    return BagOutcome(order.trial_id, end, [line for line in history if line["end"] != "failed"], error)


def _tell_news(order: TrialOrder, told: dict[str, int], on_epoch: Callable[[str, Mapping[str, Any]], None]) -> None:
    history = read_history(Path(order.folder))
    for report in history[told.get(order.trial_id, 0) :]:
        if report["end"] != "failed":
            on_epoch(order.trial_id, report)
    told[order.trial_id] = len(history)


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

"""Stops weak trials early: asynchronous successive halving by epochs."""

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from ray.tune.experiment import Trial
from ray.tune.schedulers import AsyncHyperBandScheduler, TrialScheduler

from spaces.errors import SearchError

TIME_ATTR = "epoch"


@dataclass(frozen=True)
class Stop:
    """Why a trial was stopped."""

    trial_id: str
    epoch: int
    """Epoch after which it was stopped."""
    value: float
    """Its metric then."""
    rung: int | None
    """Epoch at which it was compared; none where its metric was no finite number."""
    cutoff: float | None
    """What it would have had to reach."""
    n_others: int
    """Trials that it was compared with."""


class EpochHalving(AsyncHyperBandScheduler):
    """ASHA in its stopping variant: a trial goes on unless it is worse than most others were at the same epoch.

    Rungs lie at `grace_epochs * reduction_factor ** k`, below `max_epochs`. When a trial reaches a rung, it is
    compared with every trial that was there before it: it is stopped if its metric is below the best
    1 / `reduction_factor` of theirs. Nothing waits for anything, and a stopped trial never comes back.

    Three rules are ours: a protected trial is compared with nothing, a rung with few entries stops nobody, and a
    metric that is no finite number stops any trial at once and counts at no rung.

    Source: Li et al., MLSys 2020 (arXiv 1810.05934); Ray's implementation, of which this takes the rungs and the rule.
    """

    def __init__(
        self,
        *,
        metric: str,
        mode: Literal["max", "min"],
        max_epochs: int,
        grace_epochs: int,
        reduction_factor: float,
        min_rung_trials: int,
        protected: Collection[str],
    ) -> None:
        super().__init__(
            time_attr=TIME_ATTR,
            metric=metric,
            mode=mode,
            max_t=max_epochs,
            grace_period=grace_epochs,
            reduction_factor=reduction_factor,
        )
        self._sign = 1.0 if mode == "max" else -1.0
        self._min_rung_trials = min_rung_trials
        self._protected = set(protected)
        self.stops: list[Stop] = []
        """Trials that were stopped, in order."""

    @property
    def rungs(self) -> list[int]:
        """Epochs at which trials are compared, ascending."""
        return sorted(math.ceil(milestone) for milestone, _ in self._brackets[0]._rungs if milestone < self._max_t)

    def protect(self, trial_id: str) -> None:
        """Never stop this trial for being weak."""
        self._protected.add(trial_id)

    def remember(self, trial_id: str, scores: Iterable[tuple[int, float]]) -> None:
        """Enter a trial of an earlier launch into the rungs, since Ray restores none of them.

        Args:
            trial_id: `trial_id` in the trial's config, or Ray's id where it has none.
            scores: epoch and metric, ascending by epoch.
        """
        for epoch, value in scores:
            self._enter(trial_id, epoch, value)

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        """Tune's word on metric and mode, which has to be ours or none."""
        return (metric or self._metric) == self._metric and (mode or self._mode) == self._mode

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Whether the trial goes on after an epoch."""
        if TIME_ATTR not in result or self._metric not in result:
            return str(TrialScheduler.CONTINUE)
        stop = self._judge(trial, result[TIME_ATTR], float(result[self._metric]))
        if stop is None:
            return str(TrialScheduler.CONTINUE)
        self._num_stopped += 1
        self.stops.append(stop)
        return str(TrialScheduler.STOP)

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        """Enter a trial's last epoch, so that later trials are compared with it."""
        if TIME_ATTR in result and self._metric in result:
            self._enter(_id_of(trial), result[TIME_ATTR], float(result[self._metric]))
        self._trial_info.pop(trial.trial_id, None)

    def on_trial_remove(self, tune_controller: Any, trial: Trial) -> None:
        self._trial_info.pop(trial.trial_id, None)

    def _judge(self, trial: Trial, epoch: int, value: float) -> Stop | None:
        if not math.isfinite(value):
            return Stop(_id_of(trial), epoch, value, rung=None, cutoff=None, n_others=0)
        entered = self._enter(_id_of(trial), epoch, value)
        if entered is None or self._is_protected(trial):
            return None
        rung, others = entered
        if len(others) < self._min_rung_trials:
            return None
        cutoff = float(np.percentile(list(others.values()), 100 * (1 - 1 / self._reduction_factor)))
        if self._sign * value >= cutoff:
            return None
        return Stop(_id_of(trial), epoch, value, rung, self._sign * cutoff, len(others))

    def _enter(self, trial_id: str, epoch: int, value: float) -> tuple[int, dict[str, float]] | None:
        """Put a trial on the highest rung that it has reached; that rung with its other entries, if it is new there."""
        if not math.isfinite(value):
            return None
        for milestone, entries in self._brackets[0]._rungs:  # highest first
            if milestone < self._max_t and epoch >= milestone:
                if trial_id in entries:
                    return None
                others = dict(entries)
                entries[trial_id] = self._sign * value
                return math.ceil(milestone), others
        return None

    def _is_protected(self, trial: Trial) -> bool:
        return not self._protected.isdisjoint({trial.trial_id, _id_of(trial)})


def _id_of(trial: Trial) -> str:
    """Our name for a trial, under which a resumed search knows it too; Ray's where the config holds none."""
    return str((trial.config or {}).get("trial_id", trial.trial_id))


def build_scheduler(
    *,
    metric: str,
    mode: Literal["max", "min"] = "max",
    max_epochs: int,
    grace_epochs: int = 1,
    reduction_factor: float = 3,
    min_rung_trials: int = 3,
    protected: Collection[str] = frozenset(),
) -> EpochHalving:
    """ASHA by epochs, in the stopping variant.

    Args:
        metric: name of the metric in a trial's report.
        mode: whether it is to be high or low.
        max_epochs: epochs of the longest trial; no rung lies there, since such a trial ends by itself.
        grace_epochs: no trial is stopped before it has had as many.
        reduction_factor: one in so many goes on from a rung; rungs lie as many times as far apart.
        min_rung_trials: a rung with fewer entries than these stops nobody.
        protected: trials that are never stopped for being weak: Ray's id, or `trial_id` in the trial's config.

    Raises:
        SearchError: a number is out of its range.
    """
    if grace_epochs < 1:
        raise SearchError(f"grace_epochs must be at least 1, got {grace_epochs}")
    if max_epochs < grace_epochs:
        raise SearchError(f"max_epochs must be at least grace_epochs, got {max_epochs} and {grace_epochs}")
    if not reduction_factor > 1:
        raise SearchError(f"reduction_factor must be above 1, got {reduction_factor}")
    if min_rung_trials < 1:
        raise SearchError(f"min_rung_trials must be at least 1, got {min_rung_trials}")
    return EpochHalving(
        metric=metric,
        mode=mode,
        max_epochs=max_epochs,
        grace_epochs=grace_epochs,
        reduction_factor=reduction_factor,
        min_rung_trials=min_rung_trials,
        protected=protected,
    )

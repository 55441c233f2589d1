"""Stops weak trials early: asynchronous successive halving by faces seen, among trials of a kind."""

import hashlib
import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from search.folder import TrialRecord
from search.strata import Stratum, stratum_of
from spaces.errors import SearchError

SAMPLES = "samples_seen"
"""Of a trial's report: how many faces its network was trained on so far, repeats included."""
TOLERANCE = 1e-3
"""Share of a rung that a trial may lack and stand on it, for counts that were rounded."""
FLOOR_MARGIN = 0.01
"""A macro-F1 that is not as much above the best constant answer's has learned nothing."""


@dataclass(frozen=True)
class Stop:
    """Why a trial was stopped."""

    trial_id: str
    samples: int
    """Faces it had been trained on; 0 where it did not say."""
    value: float
    """Its metric then."""
    rung: int | None
    """Faces at which it was compared; none where its metric was no finite number."""
    cutoff: float | None
    """What it would have had to reach."""
    n_others: int
    """Trials that it was compared with; 0 where it was compared with a constant answer."""
    is_hopeless: bool = False
    """Whether it was held against what all trials ended with, and the others are those whose gain it was allowed."""


class StratifiedHalving(FIFOScheduler):
    """ASHA in its stopping variant: a trial goes on unless it is worse than most of its stratum were at a rung.

    Rungs of a stratum lie at `grace_epochs * epoch_faces(stratum) * reduction_factor ** k` faces. A report stands on
    the highest rung that it has reached, if the trial was on none as high before; so no value on a rung comes from
    `reduction_factor` times as many faces as another's. It is compared with the values that trials of the same
    stratum had when they came there: the trial is stopped if it is below the best 1 / `reduction_factor` of them.
    Nothing waits for anything, and a stopped trial never comes back.

    Rules of ours:
    - A protected trial is never found weak, and a rung with few entries stops nobody.
    - A metric that is no finite number stops any trial at once and counts on no rung.
    - From the second rung on, a trial that is no better than a constant answer is stopped, whoever else was there.
    - A trial is stopped where it is hopeless, too: where it would not come among the best 1 / `reduction_factor` of all
      completed trials, whatever their stratum, even if it gained as much from this rung on as any completed trial of
      its own stratum did. So a slow network is given its time, and one that ends low does not take it all.
    - A trial's last report stands on no rung. The trial ends by itself, and what it reports there has had all of its
      learning-rate schedule, which those still on their way through a longer one have not.
    - Some trials are spared, to learn how often stopping is wrong. Which, follows from the seed and the trial's id. A
      spared trial is not judged again, and stands on no later rung: all others are judged as if it had been stopped.

    Source: Li et al., MLSys 2020 (arXiv 1810.05934).
    """

    def __init__(
        self,
        *,
        metric: str,
        epoch_faces: Callable[[Stratum], int],
        grace_epochs: int = 1,
        reduction_factor: float = 3,
        min_rung_trials: int = 3,
        protected: Collection[str] = frozenset(),
        floor: float | None = None,
        reprieve_share: float = 0.0,
        seed: int = 0,
    ) -> None:
        """
        Args:
            metric: name of the metric in a trial's report; high is good.
            epoch_faces: faces that an epoch of a stratum sees, above 0.
            grace_epochs: no trial is stopped before it has seen the faces of as many epochs of its stratum.
            reduction_factor: one in so many goes on from a rung; rungs lie as many times as far apart.
            min_rung_trials: a rung with fewer other entries than these stops nobody for being worse than they were, and
                one with fewer completed trials than these finds nobody hopeless.
            protected: `trial_id` of trials that are never stopped for being weak.
            floor: the metric of the best constant answer; None stops no trial for having learned nothing.
            reprieve_share: of the trials that would be stopped, how many are spared, 0 to 1.
            seed: of the search; decides with a trial's id whether it would be spared.

        Raises:
            SearchError: a number is out of its range.
        """
        super().__init__()  # type: ignore[no-untyped-call]
        if grace_epochs < 1:
            raise SearchError(f"grace_epochs must be at least 1, got {grace_epochs}")
        if not reduction_factor > 1:
            raise SearchError(f"reduction_factor must be above 1, got {reduction_factor}")
        if min_rung_trials < 1:
            raise SearchError(f"min_rung_trials must be at least 1, got {min_rung_trials}")
        if not 0 <= reprieve_share <= 1:
            raise SearchError(f"reprieve_share must be between 0 and 1, got {reprieve_share}")
        self._metric = metric  # where Tune looks for the name of what every report must have
        self._name = metric
        self._epoch_faces = epoch_faces
        self._grace_epochs = grace_epochs
        self._reduction_factor = reduction_factor
        self._min_rung_trials = min_rung_trials
        self._protected = frozenset(protected)
        self._lowest = None if floor is None else floor + FLOOR_MARGIN
        self._reprieve_share = reprieve_share
        self._seed = seed
        self._rungs: dict[tuple[Stratum, int], dict[str, float]] = {}
        self._reached: dict[str, int] = {}
        self._completed: dict[str, float] = {}
        self.stops: list[Stop] = []
        """Trials that were stopped, in order."""
        self.spared: dict[str, int] = {}
        """Trials that go on although they would have been stopped, and how many faces each had seen by then."""

    def remember(self, record: TrialRecord) -> None:
        """Enter a trial of an earlier launch into the rungs, as it stood there."""
        history = record.history[:-1] if record.end in ("completed", "diverged") else record.history
        for report in history:
            samples = report.get(SAMPLES, 0)
            if record.spared is None or samples <= record.spared:
                self._enter(record.trial_id, stratum_of(record.config), samples, report.get(self._name, math.nan))
        if record.spared is not None:
            self.spared[record.trial_id] = record.spared
        if record.end == "completed" and record.history:
            self._complete(record.trial_id, record.history[-1].get(self._name, math.nan))

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Whether the trial goes on after an epoch. Tune does not ask after the last one."""
        value = result.get(self._name)
        stop = None if value is None else self._judge(trial.config, result.get(SAMPLES, 0), float(value))
        if stop is None:
            return str(TrialScheduler.CONTINUE)
        if stop.rung is not None and self._is_reprieved(stop.trial_id):
            self.spared[stop.trial_id] = stop.samples
            return str(TrialScheduler.CONTINUE)
        self.stops.append(stop)
        return str(TrialScheduler.STOP)

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        """A trial has ended by itself."""
        if result.get("end") == "completed":
            self._complete(str(trial.config["trial_id"]), float(result.get(self._name, math.nan)))

    def _complete(self, trial_id: str, value: float) -> None:
        if math.isfinite(value) and trial_id not in self.spared:
            self._completed[trial_id] = value

    def _judge(self, config: dict[str, Any], samples: int, value: float) -> Stop | None:
        trial_id = str(config["trial_id"])
        if not math.isfinite(value):
            return Stop(trial_id, samples, value, rung=None, cutoff=None, n_others=0)
        if trial_id in self.spared:
            return None
        stratum = stratum_of(config["order"]["settings"])
        entered = self._enter(trial_id, stratum, samples, value)
        if entered is None or trial_id in self._protected:
            return None
        number, others = entered
        rung = round(self._first_rung(stratum) * self._reduction_factor**number)
        if self._lowest is not None and number > 0 and value <= self._lowest:
            return Stop(trial_id, samples, value, rung, self._lowest, n_others=0)
        if len(others) >= self._min_rung_trials and value < (cutoff := self._least_of_best(others.values())):
            return Stop(trial_id, samples, value, rung, cutoff, len(others))
        gains = [self._completed[other] - then for other, then in others.items() if other in self._completed]
        if len(gains) >= self._min_rung_trials and value < (cutoff := self._least_with_hope(gains)):
            return Stop(trial_id, samples, value, rung, cutoff, len(gains), is_hopeless=True)
        return None

    def _least_of_best(self, values: Collection[float]) -> float:
        """What the best 1 / `reduction_factor` have at least."""
        return float(np.percentile(list(values), 100 * (1 - 1 / self._reduction_factor)))

    def _least_with_hope(self, gains: Sequence[float]) -> float:
        return self._least_of_best(self._completed.values()) - max(gains)

    def _enter(
        self, trial_id: str, stratum: Stratum, samples: int, value: float
    ) -> tuple[int, dict[str, float]] | None:
        """Put a trial on the highest rung that it has reached; that rung's number and other entries, if it is new."""
        reached = samples * (1 + TOLERANCE) / self._first_rung(stratum)
        if reached < 1 or not math.isfinite(value):
            return None
        number = math.floor(math.log(reached, self._reduction_factor))
        if number <= self._reached.get(trial_id, -1):
            return None
        self._reached[trial_id] = number
        entries = self._rungs.setdefault((stratum, number), {})
        others = dict(entries)
        entries[trial_id] = value
        return number, others

    def _first_rung(self, stratum: Stratum) -> int:
        return self._grace_epochs * self._epoch_faces(stratum)

    def _is_reprieved(self, trial_id: str) -> bool:
        digest = hashlib.sha256(f"{self._seed}:{trial_id}".encode()).digest()
        return int.from_bytes(digest[:8]) / 2**64 < self._reprieve_share


def constant_macro_f1(class_counts: Sequence[int]) -> float:
    """Macro-F1 of naming the most frequent class for every face, the best that a constant answer can have.

    Args:
        class_counts: faces by class; a class without any counts as one.
    """
    share = max(class_counts) / sum(class_counts)
    return 2 * share / (1 + share) / len(class_counts)

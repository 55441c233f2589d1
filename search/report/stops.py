"""What stopping trials early saved, and what it may have cost: would they have become the best?"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from search.folder import TrialRecord
from search.stopping import FEWEST_OF_A_KIND
from search.strata import stratum_of


@dataclass(frozen=True)
class Stop:
    """One trial that the scheduler stopped.

    Attributes:
        trial_id: which.
        epochs: that it had.
        n_epochs: that were planned.
        score: its best macro-F1 on valid so far.
        saved_s: what its other epochs would have taken.
        needed: by how much it would have had to rise to be the best trial.
        gains: by how much the completed trials of its kind rose after the same share of their epochs, smallest first.
        of_its_kind: whether those are of its kind; else they are of all kinds, as there are too few.
    """

    trial_id: str
    epochs: int
    n_epochs: int
    score: float
    saved_s: float
    needed: float
    gains: tuple[float, ...]
    of_its_kind: bool

    @property
    def n_enough(self) -> int:
        """How many of the gains would have made it the best."""
        return sum(gain >= self.needed for gain in self.gains)

    @property
    def median_gain(self) -> float | None:
        """The gain in the middle."""
        return median(self.gains) if self.gains else None


def measure_stops(records: Sequence[TrialRecord]) -> list[Stop]:
    """Every stopped trial that was scored, by number."""
    completed = [record for record in records if record.end == "completed" and record.best_macro_f1 is not None]
    best = max((record.best_macro_f1 or 0.0 for record in completed), default=0.0)
    return [
        _stop(record, completed, best)
        for record in records
        if record.end == "stopped" and record.best_macro_f1 is not None and record.epochs > 0
    ]


def _stop(record: TrialRecord, completed: Sequence[TrialRecord], best: float) -> Stop:
    n_epochs = max(int(record.config.get("train.epochs", 0)), record.epochs)
    kind = stratum_of(record.config)
    own = [other for other in completed if stratum_of(other.config) == kind]
    of_its_kind = len(own) >= FEWEST_OF_A_KIND
    score = record.best_macro_f1 or 0.0
    return Stop(
        trial_id=record.trial_id,
        epochs=record.epochs,
        n_epochs=n_epochs,
        score=score,
        saved_s=record.wall_s / record.epochs * (n_epochs - record.epochs),
        needed=max(0.0, best - score),
        gains=tuple(sorted(_gain(other, record.epochs / n_epochs) for other in (own if of_its_kind else completed))),
        of_its_kind=of_its_kind,
    )


def _gain(record: TrialRecord, share: float) -> float:
    """How much a trial's best score rose after a share of its epochs."""
    until = max(1, round(share * record.epochs))
    so_far = max((float(epoch.get("valid/macro_f1", 0.0)) for epoch in record.history[:until]), default=0.0)
    return max(0.0, (record.best_macro_f1 or 0.0) - so_far)

"""How often stopping weak trials early was wrong, told by those that were spared and trained to their end."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from search.folder import TrialRecord
from search.plan import SearchPlan
from search.strata import stratum_of

FEWEST_OF_A_KIND = 3
"""Completed trials of a stratum, the spared one among them; with fewer it is ranked among those of all strata."""


@dataclass(frozen=True)
class Stopping:
    """What became of trials that the scheduler held to be weak.

    Attributes:
        stopped: trials that were stopped.
        spared: trials that were let go on instead, and completed.
        wrong: of those, the ones that ended among the best 1 / `reduction_factor` of the completed trials of their
            stratum.
    """

    stopped: int
    spared: int
    wrong: int


def measure_stopping(records: Sequence[TrialRecord], plan: Mapping[str, Any]) -> Stopping:
    """Count what stopping did.

    Args:
        records: of all trials of a search.
        plan: fields of its `SearchPlan`, as in search.json; what is missing there is the default.
    """
    completed = [record for record in records if record.end == "completed" and record.best_macro_f1 is not None]
    spared = [record for record in completed if record.spared is not None]
    factor = float(plan.get("reduction_factor", SearchPlan.reduction_factor))
    return Stopping(
        stopped=sum(record.end == "stopped" for record in records),
        spared=len(spared),
        wrong=sum(_is_among_best(record, completed, factor) for record in spared),
    )


def in_words(stopping: Stopping, plan: Mapping[str, Any]) -> str:
    """A sentence for the user; empty where no trial was spared and completed."""
    if not stopping.spared:
        return ""
    factor = float(plan.get("reduction_factor", SearchPlan.reduction_factor))
    trials = "1 trial was" if stopping.spared == 1 else f"{stopping.spared} trials were"
    return (
        f"{trials} let finish instead of stopped; {stopping.wrong} of {stopping.spared} ended among the best "
        f"1/{factor:g} of those of their kind that completed"
    )


def _is_among_best(record: TrialRecord, completed: Sequence[TrialRecord], factor: float) -> bool:
    """Whether fewer than 1 / `factor` of the trials it is ranked with, itself counted, are better."""
    own = stratum_of(record.config)
    ranked = [other for other in completed if stratum_of(other.config) == own]
    if len(ranked) < FEWEST_OF_A_KIND:
        ranked = list(completed)
    n_better = sum((other.best_macro_f1 or 0.0) > (record.best_macro_f1 or 0.0) for other in ranked)
    return n_better < len(ranked) / factor

"""Whether heads told the truth: how head-only scores rank with those of full training, backbone by backbone."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from search.folder import TrialRecord
from search.study_journal import scores_of

LEAST_TRIALS = 4
"""Fewer say nothing about an order."""


@dataclass(frozen=True)
class Fidelity:
    """What heads were worth on one backbone.

    Attributes:
        n_trials: that were scored both ways.
        rank_correlation: Spearman's, -1 to 1; None where there are too few trials, or all scores of a kind are equal.
        compared: what the full scores are: of `completed` trials, or of all `after_epoch` so many.
        after_epoch: fewest epochs of any of them, where not enough completed; else None.
    """

    n_trials: int
    rank_correlation: float | None
    compared: str
    after_epoch: int | None = None


def measure_fidelity(records: Sequence[TrialRecord], head_scores: Mapping[str, float]) -> dict[str, Fidelity]:
    """How the two orders of the same settings agree.

    Full scores are the best ones of completed trials; where fewer than four of a backbone completed, those of all of
    its trials after as many epochs as each of them had, so that a trial that was stopped is not taken for a bad one.

    Args:
        records: of full trials.
        head_scores: macro-F1 of a head with a trial's settings on the frozen backbone, by trial.

    Returns:
        By backbone, in the order of their first trials.
    """
    by_backbone: dict[str, list[TrialRecord]] = {}
    for record in records:
        if record.trial_id in head_scores and scores_of(record):
            by_backbone.setdefault(str(record.config["model.backbone"]), []).append(record)
    return {backbone: _of_one(trials, head_scores) for backbone, trials in by_backbone.items()}


def _of_one(trials: Sequence[TrialRecord], head_scores: Mapping[str, float]) -> Fidelity:
    completed = [record for record in trials if record.end == "completed"]
    if len(completed) >= LEAST_TRIALS:
        full = [float(record.best_macro_f1 or 0.0) for record in completed]
        heads = [head_scores[record.trial_id] for record in completed]
        return Fidelity(len(completed), rank_correlation(heads, full), "completed")
    common = min(scores_of(record)[-1][0] for record in trials)
    full = [_after(record, common) for record in trials]
    heads = [head_scores[record.trial_id] for record in trials]
    return Fidelity(len(trials), rank_correlation(heads, full), "after_epoch", common)


def _after(record: TrialRecord, epoch: int) -> float:
    """The best score of a trial within so many epochs."""
    return max(score for number, score in scores_of(record) if number <= epoch)


def rank_correlation(heads: Sequence[float], full: Sequence[float]) -> float | None:
    """Spearman's rank correlation; None for fewer than four pairs, or where one side does not vary."""
    if len(heads) < LEAST_TRIALS or np.ptp(heads) == 0 or np.ptp(full) == 0:
        return None
    value = float(spearmanr(heads, full).statistic)
    return value if math.isfinite(value) else None


def to_document(found: Mapping[str, Fidelity]) -> dict[str, dict[str, Any]]:
    """For first.json."""
    return {backbone: asdict(one) for backbone, one in found.items()}


def in_words(found: Mapping[str, Fidelity]) -> list[str]:
    """A line for each backbone."""
    lines = []
    for backbone, one in found.items():
        when = "completed trials" if one.after_epoch is None else f"trials after epoch {one.after_epoch}"
        if one.rank_correlation is None:
            lines.append(
                f"{backbone}: not told by {one.n_trials} {when} (at least {LEAST_TRIALS} that differ are needed)"
            )
        else:
            lines.append(f"{backbone}: {one.rank_correlation:+.2f} over {one.n_trials} {when}")
    return lines

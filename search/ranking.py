"""Trials in order: which are the best, which count, how many came to each end."""

from collections.abc import Sequence

from search.folder import TrialRecord


def rank(records: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Best macro-F1 first; trials without one last."""
    return sorted(records, key=lambda r: (-(r.best_macro_f1 if r.best_macro_f1 is not None else -1.0), r.number))


def usable(records: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Best first, those that were scored and neither diverged nor failed."""
    return [r for r in rank(records) if r.best_macro_f1 is not None and r.end not in ("diverged", "failed")]


def count_ends(records: Sequence[TrialRecord]) -> dict[str, int]:
    """How many trials came to each end; one still open counts as preempted."""
    ends = [record.end or "preempted" for record in records]
    return {end: ends.count(end) for end in ("completed", "stopped", "diverged", "failed", "preempted")}

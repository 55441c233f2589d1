"""How a search's time is shared among its trials."""

from collections.abc import Sequence

FAIR_SLACK = 2.0
"""A trial may take this many times its equal share: the weak are stopped early and leave theirs to the others."""
MIN_TRIAL_SHARE = 0.5
MIN_COUNTED_SHARE = 0.2
NEW_TRIAL_SHARE = 0.15


def trial_deadline_s(
    *, now_s: float, deadline_s: float | None, n_left: int | None, max_concurrent: int
) -> float | None:
    """When a trial that begins now must have ended, so that all that were asked for find time.

    Args:
        now_s: Unix time.
        deadline_s: of the search; None where it has none, and then no trial has.
        n_left: trials still to begin, this one included; None where only time bounds the search, and then each trial
            may take all of it.
        max_concurrent: trials at once.
    """
    if deadline_s is None or n_left is None:
        return deadline_s
    share_s = FAIR_SLACK * (deadline_s - now_s) * max_concurrent / max(n_left, 1)
    return min(deadline_s, now_s + share_s)


def needed_s(durations_s: Sequence[float], *, budget_s: float, is_counted: bool) -> float:
    """The least time in which a further trial is worth beginning.

    Args:
        durations_s: of the completed trials.
        budget_s: of the search, by which it is guessed while there are none.
        is_counted: whether a number of trials was asked for, so that a short one is better than none.
    """
    if not durations_s:
        return NEW_TRIAL_SHARE * budget_s
    return (MIN_COUNTED_SHARE if is_counted else MIN_TRIAL_SHARE) * min(durations_s)

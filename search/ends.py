"""How a trial can end. One word each for the study, for MLflow and for the console."""

from typing import Literal, get_args

TrialEnd = Literal["completed", "stopped", "diverged", "failed", "preempted"]

TRIAL_ENDS: tuple[TrialEnd, ...] = get_args(TrialEnd)
"""All ends, best first."""

END_MEANINGS: dict[TrialEnd, str] = {
    "completed": "trained to its last epoch",
    "stopped": "ended early by the scheduler: others of its kind did better on as many faces, or it learned nothing",
    "diverged": "its loss or its score was no finite number any more",
    "failed": "ended with an error, whose text is kept",
    "preempted": "its machine was taken away, or its search ended before it had a score; it is tried again, no failure",
}

"""How many steps a trial has: those its config asks for, or fewer where its time ends before.

The learning rate follows the share of the steps that are left. A trial that runs into the search's deadline so ends
with its rate decayed and its scores measured, instead of being cut at full rate.

Source: Li et al., Budgeted Training, ICLR 2020 (schedules that follow the budget, whatever it is).
"""

import time
from collections.abc import Callable

from trainables.pulse import beat

Clock = Callable[[], float]

SLOWEST = 5.0
"""Times the usual that a step counts at most: compiling for a batch of another size takes long, but once. As progress
never falls, taking it for the pace would end the learning rate's schedule early."""


class OutOfTime(Exception):  # noqa: N818 - nothing is wrong
    """The time was up before the work was done."""


def check_time(until_s: float | None) -> None:
    """Give up work that has no result before it is done, once its time is up. Whoever looks so at the clock, moves on.

    Args:
        until_s: Unix time; None for no end.

    Raises:
        OutOfTime: it has passed.
    """
    beat()
    if until_s is not None and time.time() > until_s:
        raise OutOfTime


class StepBudget:
    """Counts a trial's steps against its plan and its deadline."""

    def __init__(
        self, *, planned_steps: int, deadline_s: float | None, reserve_steps: float = 0.0, clock: Clock = time.time
    ) -> None:
        """
        Args:
            planned_steps: what the config asks for.
            deadline_s: when the trial must have ended, on `clock`; None for no deadline.
            reserve_steps: how many steps' time measuring and saving is guessed to take, until `reserve_s` is set.
            clock: seconds, rising.
        """
        self.planned_steps = planned_steps
        self.step = 0
        self.reserve_s: float | None = None
        self._reserve_steps = reserve_steps
        self._deadline_s = deadline_s
        self._clock = clock
        self._step_s = 0.0
        self._mark = clock()
        self._n_timed = 0
        self._elapsed_s = 0.0
        self._progress = 0.0

    @property
    def progress(self) -> float:
        """Share of the steps done, 0 to 1; it never falls."""
        self._progress = max(self._progress, min(1.0, self.step / max(self._horizon(), 1)))
        return self._progress

    @property
    def is_spent(self) -> bool:
        """Whether no further step may start."""
        return self.step >= self.planned_steps or self.is_out_of_time

    @property
    def is_out_of_time(self) -> bool:
        """Whether a further step would leave too little time to measure and save what was learned."""
        if self._deadline_s is None or self.step == 0:
            return False
        return self._step_s > self._left_s(self._deadline_s)

    def start_clock(self) -> None:
        """Start timing a run of steps; what came before is no step's own time, but counts for the pace of all."""
        now = self._clock()
        if self._n_timed:
            self._elapsed_s += now - self._mark
        self._mark = now

    def count_step(self) -> None:
        """Note that a step is done. The first one in a process pays for warming up, and does not count."""
        now = self._clock()
        took = now - self._mark
        self._mark = now
        self.step += 1
        self._n_timed += 1
        if self._n_timed == 1:
            return
        usual = min(took, SLOWEST * self._step_s) if self._step_s else took
        self._step_s = 0.95 * self._step_s + 0.05 * usual if self._step_s else usual
        self._elapsed_s += usual

    def _horizon(self) -> float:
        if self._deadline_s is None or self._step_s == 0.0:
            return self.planned_steps
        left_s = max(self._left_s(self._deadline_s), 0.0)
        return min(self.planned_steps, self.step + left_s / self._pace_s())

    def _pace_s(self) -> float:
        """What a step takes together with its share of the measuring between epochs, so far."""
        return max(self._step_s, self._elapsed_s / max(self._n_timed - 1, 1))

    def _left_s(self, deadline_s: float) -> float:
        reserve_s = self._reserve_steps * self._step_s if self.reserve_s is None else self.reserve_s
        return deadline_s - reserve_s - self._clock()

"""A trial's steps against its plan and its deadline, on a clock that tests turn."""

import pytest

from trainables.budget import StepBudget


class FakeClock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def take_steps(budget: StepBudget, clock: FakeClock, n: int, *, step_s: float = 1.0) -> None:
    for _ in range(n):
        clock.now_s += step_s
        budget.count_step()


def test_budget_is_spent_after_the_planned_steps(clock: FakeClock) -> None:
    budget = StepBudget(planned_steps=4, deadline_s=None, clock=clock)

    take_steps(budget, clock, 3)
    before = budget.is_spent
    take_steps(budget, clock, 1)

    assert (before, budget.is_spent, budget.progress) == (False, True, 1.0)


def test_budget_progress_is_the_share_of_the_plan_when_time_suffices(clock: FakeClock) -> None:
    budget = StepBudget(planned_steps=10, deadline_s=1_000.0, clock=clock)

    take_steps(budget, clock, 5)

    assert budget.progress == pytest.approx(0.5)


def test_budget_ends_decayed_and_in_time_when_the_deadline_is_near(clock: FakeClock) -> None:
    budget = StepBudget(planned_steps=1_000, deadline_s=120.0, clock=clock)
    budget.reserve_s = 3.0

    progress = []
    while not budget.is_spent:
        progress.append(budget.progress)
        take_steps(budget, clock, 1)

    assert clock.now_s == pytest.approx(117.0)
    assert budget.progress == pytest.approx(1.0)
    assert progress == sorted(progress)


def test_budget_takes_no_pace_from_the_first_step_of_a_run_that_goes_on(clock: FakeClock) -> None:
    budget = StepBudget(planned_steps=1_000, deadline_s=1_100.0, clock=clock)
    budget.step = 500
    budget.start_clock()

    take_steps(budget, clock, 1, step_s=30.0)
    take_steps(budget, clock, 1)

    assert budget.progress == pytest.approx(0.502)


def test_budget_takes_no_pace_from_one_slow_step(clock: FakeClock) -> None:
    budget = StepBudget(planned_steps=1_000, deadline_s=1_300.0, clock=clock)
    take_steps(budget, clock, 10)

    take_steps(budget, clock, 1, step_s=100.0)

    assert budget.progress == pytest.approx(0.011, abs=0.005)


def test_budget_follows_when_all_steps_become_slow(clock: FakeClock) -> None:
    budget = StepBudget(planned_steps=1_000, deadline_s=1_100.0, clock=clock)
    take_steps(budget, clock, 10)

    while not budget.is_spent:
        take_steps(budget, clock, 1, step_s=20.0)

    assert clock.now_s == pytest.approx(1_100.0, abs=40.0)
    assert budget.progress == pytest.approx(1.0, abs=0.1)


def test_budget_grants_one_step_when_the_deadline_has_passed(clock: FakeClock) -> None:
    budget = StepBudget(planned_steps=10, deadline_s=50.0, clock=clock)

    before = budget.is_spent
    take_steps(budget, clock, 1)

    assert (before, budget.is_spent) == (False, True)


def test_budget_progress_never_falls_when_steps_become_faster(clock: FakeClock) -> None:
    budget = StepBudget(planned_steps=1_000, deadline_s=200.0, clock=clock)
    take_steps(budget, clock, 5, step_s=4.0)
    slow = budget.progress

    take_steps(budget, clock, 1, step_s=0.001)

    assert budget.progress >= slow


def test_budget_guesses_the_time_of_measuring_until_it_is_known(clock: FakeClock) -> None:
    budget = StepBudget(planned_steps=100, deadline_s=120.0, reserve_steps=10.0, clock=clock)

    take_steps(budget, clock, 9)
    early = budget.is_out_of_time
    take_steps(budget, clock, 1)

    assert (early, budget.is_out_of_time) == (False, True)


def test_budget_ends_decayed_when_measuring_takes_as_long_as_training(clock: FakeClock) -> None:
    budget = StepBudget(planned_steps=1_000, deadline_s=220.0, clock=clock)
    budget.reserve_s = 5.0

    while not budget.is_spent:
        budget.start_clock()
        take_steps(budget, clock, 5)
        clock.now_s += 5.0

    assert clock.now_s <= 220.0
    assert budget.progress == pytest.approx(1.0, abs=0.1)


def test_budget_plans_for_the_measuring_between_epochs(clock: FakeClock) -> None:
    budget = StepBudget(planned_steps=1_000, deadline_s=210.0, clock=clock)
    take_steps(budget, clock, 10)
    clock.now_s += 10.0

    budget.start_clock()
    take_steps(budget, clock, 10)

    assert budget.progress == pytest.approx(20 / (20 + 80 / 1.5), abs=0.02)

"""Lost workers are counted by why they were lost."""

import pytest

from search.lost_workers import LostWorkers

CRASH = "The actor died unexpectedly before finishing this task. Worker exits with SIGKILL."
GONE = "The actor died because its node has died. Node Id: 8a2f"


@pytest.mark.parametrize(("error", "cause"), [(CRASH, "lost"), (GONE, "preempted"), ("", "lost")])
def test_cause_is_read_from_what_ray_says(error: str, cause: str) -> None:
    assert LostWorkers().note("t", error).cause == cause


def test_machines_that_go_away_never_count_against_a_trial() -> None:
    losses = LostWorkers(most=1)

    noted = [losses.note("t", GONE) for _ in range(5)]

    assert [(loss.n, loss.is_last) for loss in noted] == [(0, False)] * 5


def test_trial_that_loses_one_worker_too_many_by_itself_has_failed() -> None:
    losses = LostWorkers(most=2)

    noted = [losses.note("t", error) for error in (CRASH, GONE, CRASH, CRASH)]

    assert [(loss.n, loss.is_last) for loss in noted] == [(1, False), (1, False), (2, False), (3, True)]


def test_what_counts_against_a_trial_is_forgotten_when_it_comes_further() -> None:
    losses = LostWorkers(most=1)

    noted = [losses.note("t", CRASH, reached=epochs) for epochs in (0, 1, 2, 2)]

    assert [(loss.n, loss.is_last) for loss in noted] == [(1, False), (1, False), (1, False), (2, True)]


def test_trial_that_comes_to_the_same_epoch_again_has_come_no_further() -> None:
    losses = LostWorkers(most=2)

    noted = [losses.note("t", CRASH, reached=epochs) for epochs in (3, 0, 2, 3)]

    assert [loss.n for loss in noted] == [1, 2, 3, 4]


def test_trials_are_counted_apart() -> None:
    losses = LostWorkers(most=1)
    losses.note("t0", CRASH)

    assert losses.note("t1", CRASH).n == 1


def test_loss_that_was_our_own_doing_has_our_cause_once() -> None:
    losses = LostWorkers()
    losses.expect("t", "hung", "it gave no sign of life for 600 s")

    first, second = losses.note("t", CRASH), losses.note("t", CRASH)

    assert (first.cause, first.words, first.n) == ("hung", "it gave no sign of life for 600 s", 1)
    assert (second.cause, second.n) == ("lost", 2)

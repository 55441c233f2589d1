"""How a search's time is shared among its trials."""

from search.pace import needed_s, trial_deadline_s


def test_trial_may_take_all_the_time_where_only_time_bounds_the_search() -> None:
    assert trial_deadline_s(now_s=100.0, deadline_s=400.0, n_left=None, max_concurrent=2) == 400.0


def test_trial_has_no_deadline_where_the_search_has_none() -> None:
    assert trial_deadline_s(now_s=100.0, deadline_s=None, n_left=5, max_concurrent=2) is None


def test_trial_takes_at_most_twice_its_share_of_what_is_left() -> None:
    deadline_s = trial_deadline_s(now_s=100.0, deadline_s=400.0, n_left=12, max_concurrent=2)

    assert deadline_s == 100.0 + 2 * 300.0 * 2 / 12


def test_last_trials_end_with_the_search() -> None:
    assert trial_deadline_s(now_s=100.0, deadline_s=400.0, n_left=2, max_concurrent=2) == 400.0


def test_short_trial_is_worth_beginning_only_where_a_number_was_asked_for() -> None:
    assert needed_s([100.0, 60.0], budget_s=1000.0, is_counted=False) == 30.0
    assert needed_s([100.0, 60.0], budget_s=1000.0, is_counted=True) == 12.0
    assert needed_s([], budget_s=1000.0, is_counted=True) == 150.0

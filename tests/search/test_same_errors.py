"""A search is hopeless where its trials fail one like the other."""

from search.same_errors import SameErrors


def test_search_is_hopeless_when_enough_trials_in_a_row_fail_with_one_error() -> None:
    errors = SameErrors(most=3)

    said = []
    for _ in range(3):
        errors.note("failed", "no such file")
        said.append(errors.hopeless)

    assert said == [None, None, "no such file"]


def test_another_error_or_a_trial_that_works_begins_the_count_anew() -> None:
    errors = SameErrors(most=2)
    errors.note("failed", "a")
    errors.note("failed", "b")
    errors.note("completed", "")
    errors.note("failed", "b")

    assert errors.hopeless is None


def test_trial_that_went_away_says_nothing() -> None:
    errors = SameErrors(most=2)
    errors.note("failed", "a")
    errors.note("preempted", "")
    errors.note("failed", "a")

    assert errors.hopeless == "a"

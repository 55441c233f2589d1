"""What to try next follows from the trials, with the command to type."""

from collections.abc import Callable

from search.folder import SearchFolder
from search.report.advice import Advice, advise
from search.report.facts import read_facts


def advice_on(folder: SearchFolder) -> list[Advice]:
    return advise(read_facts(folder), [], [])


def with_score(folder: SearchFolder, number: int, score: float) -> SearchFolder:
    record = folder.read_records()[number]
    record.best_macro_f1, record.end = score, "completed"
    folder.write_record(record)
    return folder


def test_more_trials_are_advised_where_the_default_is_still_the_best(made_search: Callable[..., SearchFolder]) -> None:
    folder = with_score(made_search(n_trials=20), 0, 0.99)

    found = [each for each in advice_on(folder) if "than the default" in each.text]

    assert len(found) == 1 and "No trial is better than the default yet: 20 are few for" in found[0].text
    assert found[0].command.startswith(f"affectune resume {folder.name}") and found[0].command.endswith("--trials +20")


def test_nothing_is_said_of_the_default_where_it_was_beaten(made_search: Callable[..., SearchFolder]) -> None:
    folder = with_score(made_search(n_trials=20), 7, 0.99)

    assert not any("than the default" in each.text for each in advice_on(folder))


def test_search_is_unfinished_where_its_last_trials_are_the_best(
    made_search: Callable[..., SearchFolder],
) -> None:
    folder = with_score(made_search(n_trials=20), 19, 0.99)

    assert any("is one of the last of 20" in each.text for each in advice_on(folder))


def test_interrupted_search_is_gone_on_with_first(made_search: Callable[..., SearchFolder]) -> None:
    folder = made_search(n_trials=20, status="interrupted")

    assert advice_on(folder)[0].command.startswith(f"affectune resume {folder.name}")

from typing import Any

from search.folder import TrialRecord
from search.stopping import Stopping, in_words, measure_stopping

PLAN = {"reduction_factor": 3.0}


def record(number: int, score: float, *, end: Any = "completed", backbone: str = "a", **more: Any) -> TrialRecord:
    config = {"model.encoder": "pooled", "model.backbone": backbone, "data.subsample_ratio": 1.0}
    return TrialRecord(f"t{number:04d}", number, values={}, config=config, end=end, best_macro_f1=score, **more)


def test_stopping_was_wrong_where_a_spared_trial_ended_among_the_best_of_its_stratum() -> None:
    others = [record(i, score) for i, score in enumerate((0.5, 0.6, 0.7))]
    elsewhere = [record(10 + i, 0.9, backbone="b") for i in range(5)]
    spared = [record(5, 0.65, spared=100), record(6, 0.55, spared=100)]

    found = measure_stopping([*others, *elsewhere, *spared], PLAN)

    assert found == Stopping(stopped=0, spared=2, wrong=1)


def test_spared_trial_is_ranked_among_all_where_its_stratum_has_few() -> None:
    other, spared = record(0, 0.5), record(1, 0.6, spared=100)
    elsewhere = [record(10 + i, 0.9, backbone="b") for i in range(2)]

    assert measure_stopping([other, spared, *elsewhere], PLAN).wrong == 0
    assert measure_stopping([other, spared], PLAN).wrong == 1


def test_spared_trial_that_is_as_good_as_the_best_counts_as_one_of_them() -> None:
    records = [record(i, 0.5, spared=100 if i == 2 else None) for i in range(3)]

    assert measure_stopping(records, PLAN).wrong == 1


def test_spared_trial_counts_only_when_it_completed() -> None:
    records = [
        record(0, 0.5),
        record(1, 0.9, end="diverged", spared=100),
        record(2, 0.9, end="preempted", spared=100),
        record(3, 0.1, end="stopped"),
    ]

    assert measure_stopping(records, PLAN) == Stopping(stopped=1, spared=0, wrong=0)


def test_stopping_takes_the_default_factor_where_a_plan_has_none() -> None:
    records = [record(i, 0.5 + 0.1 * i, spared=100 if i == 1 else None) for i in range(3)]

    assert measure_stopping(records, {}).wrong == 0
    assert measure_stopping(records, {"reduction_factor": 2.0}).wrong == 1


def test_sentence_says_how_often_stopping_was_wrong() -> None:
    assert in_words(Stopping(stopped=9, spared=2, wrong=1), PLAN) == (
        "2 trials were let finish instead of stopped; 1 of 2 ended among the best 1/3 of those of their kind that "
        "completed"
    )
    assert in_words(Stopping(stopped=9, spared=1, wrong=0), PLAN).startswith("1 trial was let finish")


def test_sentence_is_left_out_where_no_trial_was_spared() -> None:
    assert in_words(Stopping(stopped=9, spared=0, wrong=0), PLAN) == ""

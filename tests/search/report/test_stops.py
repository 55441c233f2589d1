"""What a stop saved, and whether it may have cost the best trial."""

import pytest

from search.folder import TrialRecord
from search.report.stops import measure_stops

CONFIG = {"train.epochs": 4, "model.backbone": "resnet18", "data.subsample_ratio": 1.0}


def trial(number: int, scores: list[float], end: str) -> TrialRecord:
    record = TrialRecord(f"t{number:04d}", number, {}, CONFIG)
    for epoch, score in enumerate(scores, start=1):
        best = max(scores[:epoch])
        record.add_epoch(
            {"epoch": epoch, "valid/macro_f1": score, "best/macro_f1": best, "best/epoch": epoch, "time/epoch_s": 3.0}
        )
    record.end = end  # type: ignore[assignment]
    return record


def test_stop_is_judged_by_what_completed_trials_gained_from_there() -> None:
    completed = [
        trial(0, [0.3, 0.4, 0.5, 0.6], "completed"),
        trial(1, [0.2, 0.3, 0.3, 0.35], "completed"),
        trial(2, [0.4, 0.5, 0.5, 0.5], "completed"),
    ]

    stops = measure_stops([*completed, trial(3, [0.25, 0.35], "stopped"), trial(4, [0.1, 0.1], "stopped")])

    near, far = stops
    assert near.saved_s == pytest.approx(6.0) and near.needed == pytest.approx(0.25)
    assert near.gains == pytest.approx((0.0, 0.05, 0.2)) and near.of_its_kind
    assert (near.n_enough, far.n_enough) == (0, 0) and far.needed == pytest.approx(0.5)


def test_stop_that_lacked_less_than_others_gained_is_counted() -> None:
    completed = [trial(0, [0.3, 0.4, 0.5, 0.6], "completed"), trial(1, [0.2, 0.3, 0.4, 0.55], "completed")]

    (stop,) = measure_stops([*completed, trial(2, [0.39], "stopped")])

    assert stop.n_enough == 2 and not stop.of_its_kind and stop.median_gain == pytest.approx(0.325)


def test_trials_without_a_score_and_those_that_were_not_stopped_are_left_out() -> None:
    unscored = TrialRecord("t0001", 1, {}, CONFIG, end="stopped")

    assert measure_stops([trial(0, [0.3], "completed"), unscored]) == []

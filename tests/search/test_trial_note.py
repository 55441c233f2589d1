"""MLflow's page of a trial says what became of it and leads to its pictures."""

from types import SimpleNamespace
from typing import Any

from search.folder import TrialRecord
from search.trial_note import describe_trial, picture_links

DEFAULT = {"model.backbone": "resnet18", "optimiser.lr": 0.001}


def trial(number: int, score: float | None, end: str = "completed", **config: Any) -> TrialRecord:
    record = TrialRecord(f"t{number:04d}", number, {}, {**DEFAULT, **config}, end=end, best_macro_f1=score)  # type: ignore[arg-type]
    record.epochs, record.best_epoch = 20, 18
    return record


def test_description_has_end_score_gain_and_what_differs() -> None:
    text = describe_trial(trial(4, 0.61, **{"optimiser.lr": 0.02}), default=DEFAULT, default_f1=0.5)

    assert text == (
        "**completed** with macro-F1 **0.6100** on the valid faces, +0.1100 against the default (0.5000); "
        "its best epoch was 18 of 20. It differs from the default in `lr=0.02`."
    )


def test_description_of_the_default_compares_it_with_nothing() -> None:
    text = describe_trial(trial(0, 0.5), default=DEFAULT, default_f1=0.5)

    assert text.endswith("was 18 of 20. It is the default.") and "against" not in text


def test_description_of_a_trial_without_a_score_says_so() -> None:
    text = describe_trial(trial(3, None, "diverged", **{"optimiser.lr": 0.1}), default=DEFAULT, default_f1=None)

    assert text == "**diverged** without a score. It differs from the default in `lr=0.1`."


def test_pictures_are_linked_by_what_they_show() -> None:
    tracker: Any = SimpleNamespace(experiment_id="7", run_id=lambda key: "abc" if key == "t0004" else None)

    links = picture_links(tracker, "t0004", ["pictures/confusion.png", "pictures/most_wrong.jpg"])

    assert links == (
        "[confusion](/#/experiments/7/runs/abc/artifacts/pictures/confusion.png?workflowType=machine_learning) - "
        "[the faces it got most wrong]"
        "(/#/experiments/7/runs/abc/artifacts/pictures/most_wrong.jpg?workflowType=machine_learning)"
    )
    assert picture_links(tracker, "t0005", ["pictures/confusion.png"]) == ""

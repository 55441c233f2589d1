"""MLflow's page of a launch says how the search stands."""

from search.folder import TrialRecord
from search.leaderboard import N_LEADERS, describe_search

DEFAULT = {"model.backbone": "resnet18", "optimiser.lr": 0.001}


def trial(number: int, score: float | None, end: str | None = "completed", **config: object) -> TrialRecord:
    record = TrialRecord(f"t{number:04d}", number, {}, {**DEFAULT, **config}, end=end, best_macro_f1=score)  # type: ignore[arg-type]
    record.epochs = 4
    return record


def test_description_has_state_ends_gain_and_the_best_trials() -> None:
    records = [
        trial(0, 0.5),
        trial(1, 0.61, **{"optimiser.lr": 0.02}),
        trial(2, 0.9, "diverged"),
        trial(3, None, None),
    ]

    text = describe_search(records, state="running", n_trials=9, default=DEFAULT)

    assert text.startswith("**running**: 3 of 9 trials (2 completed, 1 diverged), 1 in training.")
    assert "**0.6100** (t0001), +0.1100 against the default (0.5000)" in text
    assert "less is to be expected elsewhere" in text
    assert text.splitlines()[-2:] == [
        "| t0001 | 0.6100 | completed | 4 | lr=0.02 |",
        "| t0000 | 0.5000 | completed | 4 | the default |",
    ]


def test_best_trials_lead_to_their_pages() -> None:
    records = [trial(0, 0.5), trial(1, 0.4)]
    pages = {"t0000": "/#/experiments/1/runs/abc"}

    text = describe_search(records, state="ended", n_trials=2, default=DEFAULT, link=lambda name: pages.get(name, ""))

    assert "| [t0000](/#/experiments/1/runs/abc) | 0.5000 |" in text
    assert "| t0001 | 0.4000 |" in text


def test_description_of_nothing_is_a_sentence() -> None:
    text = describe_search([], state="interrupted", n_trials=None, default=DEFAULT)

    assert text == "**interrupted**: 0 trials (none ended yet).\n\nNo trial was scored yet."


def test_description_stays_short_however_many_trials_there_are() -> None:
    records = [trial(i, i / 1000, **{"optimiser.lr": i / 7, "note": "x|" * 90}) for i in range(900)]

    text = describe_search(records, state="ended", n_trials=900, default=DEFAULT)

    assert text.count("\n| t0") == N_LEADERS and len(text) < 4000
    assert "x|x" not in text

import pickle
from types import SimpleNamespace
from typing import Any

import pytest

from search.scheduler import EpochHalving, Stop, build_scheduler
from spaces.errors import SearchError

METRIC = "best/macro_f1"
TUNE: Any = None
"""Tune's controller, which the scheduler never looks at."""


def scheduler(**changes: Any) -> EpochHalving:
    settings: dict[str, Any] = {"max_epochs": 9, "grace_epochs": 1, "reduction_factor": 3, "min_rung_trials": 2}
    return build_scheduler(metric=METRIC, **{**settings, **changes})


def trial(name: str, config: dict[str, Any] | None = None) -> Any:
    return SimpleNamespace(trial_id=name, config=config or {})


def report(asha: EpochHalving, name: str, epoch: int, value: float, config: dict[str, Any] | None = None) -> str:
    """One epoch of a trial, which is added with its first."""
    each = trial(name, config)
    if name not in asha._trial_info:
        asha.on_trial_add(TUNE, each)
    return asha.on_trial_result(TUNE, each, {"epoch": epoch, METRIC: value})


def test_scheduler_has_rungs_below_the_last_epoch() -> None:
    assert scheduler(max_epochs=9).rungs == [1, 3]
    assert scheduler(max_epochs=10).rungs == [1, 3, 9]
    assert scheduler(max_epochs=8, grace_epochs=2, reduction_factor=2).rungs == [2, 4]
    assert scheduler(max_epochs=1).rungs == []


def test_scheduler_stops_a_trial_that_is_worse_than_most_at_a_rung() -> None:
    asha = scheduler()
    for name, value in (("a", 0.5), ("b", 0.6)):
        report(asha, name, 1, value)

    decision = report(asha, "c", 1, 0.4)

    assert decision == "STOP"
    cutoff = asha.stops[0].cutoff
    assert cutoff == pytest.approx(0.5 + 0.1 * 2 / 3)
    assert asha.stops == [Stop("c", 1, 0.4, rung=1, cutoff=cutoff, n_others=2)]


def test_scheduler_goes_on_with_a_trial_that_is_better() -> None:
    asha = scheduler()
    for name, value in (("a", 0.5), ("b", 0.6)):
        report(asha, name, 1, value)

    assert report(asha, "c", 1, 0.7) == "CONTINUE"
    assert asha.stops == []


def test_scheduler_stops_high_values_when_low_ones_are_wanted() -> None:
    asha = scheduler(mode="min")
    for name, value in (("a", 0.5), ("b", 0.6)):
        report(asha, name, 1, value)

    assert report(asha, "c", 1, 0.7) == "STOP"
    assert asha.stops[0].cutoff == pytest.approx(0.6 - 0.1 * 2 / 3)
    assert report(asha, "d", 1, 0.4) == "CONTINUE"


def test_scheduler_stops_nobody_at_a_rung_with_few_entries() -> None:
    asha = scheduler(min_rung_trials=3)
    for name, value in (("a", 0.5), ("b", 0.6)):
        report(asha, name, 1, value)

    assert report(asha, "c", 1, 0.1) == "CONTINUE"
    assert report(asha, "d", 1, 0.1) == "STOP"


def test_scheduler_stops_nobody_between_rungs_or_before_the_grace_epochs() -> None:
    asha = scheduler(grace_epochs=2, max_epochs=12)
    for name in "abc":
        for epoch in (1, 2, 3):
            report(asha, name, epoch, 0.6)

    decisions = [report(asha, "d", 1, 0.1), report(asha, "e", 2, 0.6), report(asha, "e", 3, 0.1)]

    assert decisions == ["CONTINUE"] * 3


@pytest.mark.parametrize(
    ("name", "config"), [("ray_0", {}), ("ray_1", {"trial_id": "t0000"})], ids=["Ray's id", "id in the config"]
)
def test_scheduler_never_stops_a_protected_trial_but_compares_others_with_it(name: str, config: dict[str, Any]) -> None:
    asha = scheduler(protected={"ray_0", "t0000"}, min_rung_trials=3)
    for other in "ab":
        report(asha, other, 1, 0.6)

    assert report(asha, name, 1, 0.1, config) == "CONTINUE"
    assert report(asha, name, 3, 0.1, config) == "CONTINUE"
    assert report(asha, "c", 1, 0.05) == "STOP"
    assert asha.stops[0].n_others == 3


def test_scheduler_protects_a_trial_named_later() -> None:
    asha = scheduler()
    asha.protect("c")
    for other in "ab":
        report(asha, other, 1, 0.6)

    assert report(asha, "c", 1, 0.1) == "CONTINUE"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("protected", [frozenset(), frozenset({"a"})], ids=["any", "protected"])
def test_scheduler_stops_a_metric_that_is_no_number_at_once(value: float, protected: frozenset[str]) -> None:
    asha = scheduler(protected=protected)

    assert report(asha, "a", 2, value) == "STOP"
    assert asha.stops[0].rung is None
    assert asha.stops[0].epoch == 2


def test_scheduler_counts_no_metric_that_is_no_number_at_a_rung() -> None:
    asha = scheduler(min_rung_trials=1)
    asha.on_trial_add(TUNE, trial("a"))
    asha.on_trial_complete(TUNE, trial("a"), {"epoch": 1, METRIC: float("nan")})

    assert report(asha, "b", 1, 0.0) == "CONTINUE"


def test_scheduler_lets_the_last_epoch_be() -> None:
    asha = scheduler(max_epochs=3)
    for name in "abc":
        report(asha, name, 3, 0.9)

    assert report(asha, "d", 3, 0.91) == "CONTINUE"
    assert report(asha, "d", 4, 0.91) == "CONTINUE"


def test_scheduler_enters_a_trial_that_ended_at_a_rung() -> None:
    asha = scheduler(min_rung_trials=1)
    asha.on_trial_add(TUNE, trial("a"))
    asha.on_trial_complete(TUNE, trial("a"), {"epoch": 1, METRIC: 0.8})

    assert report(asha, "b", 1, 0.5) == "STOP"


def test_scheduler_remembers_trials_of_an_earlier_launch() -> None:
    asha = scheduler()
    for name in "ab":
        asha.remember(name, [(1, 0.5), (2, 0.55), (3, 0.6)])

    assert report(asha, "c", 1, 0.55) == "CONTINUE"
    assert report(asha, "c", 3, 0.59) == "STOP"


def test_scheduler_passes_over_a_report_without_the_metric() -> None:
    asha = scheduler()
    asha.on_trial_add(TUNE, trial("a"))

    assert asha.on_trial_result(TUNE, trial("a"), {"epoch": 1}) == "CONTINUE"
    asha.on_trial_complete(TUNE, trial("a"), {})
    asha.on_trial_remove(TUNE, trial("a"))


def test_scheduler_accepts_its_own_metric_from_tune_and_no_other() -> None:
    assert scheduler().set_search_properties(METRIC, "max")
    assert scheduler().set_search_properties(None, None)
    assert not scheduler().set_search_properties("loss", "max")
    assert not scheduler().set_search_properties(METRIC, "min")


def test_scheduler_can_be_pickled_with_what_it_knows() -> None:
    asha = scheduler()
    for name, value in (("a", 0.5), ("b", 0.6), ("c", 0.1)):
        report(asha, name, 1, value)

    again = pickle.loads(pickle.dumps(asha))

    assert again.stops == asha.stops
    assert report(again, "d", 1, 0.1) == "STOP"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"grace_epochs": 0}, "grace_epochs must be at least 1, got 0"),
        ({"max_epochs": 2, "grace_epochs": 3}, "max_epochs must be at least grace_epochs, got 2 and 3"),
        ({"reduction_factor": 1}, "reduction_factor must be above 1, got 1"),
        ({"min_rung_trials": 0}, "min_rung_trials must be at least 1, got 0"),
    ],
    ids=["grace", "max", "factor", "entries"],
)
def test_scheduler_refuses_a_number_out_of_range(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SearchError) as caught:
        scheduler(**changes)

    assert str(caught.value) == sentence

import json
import pickle
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from search.folder import TrialRecord
from search.scheduler import FLOOR_MARGIN, Stop, StratifiedHalving, constant_macro_f1
from search.strata import Stratum
from spaces.errors import SearchError
from trainables.metrics import macro_f1

METRIC = "best/macro_f1"
TUNE: Any = None
"""Tune's controller, which the scheduler never looks at."""
FACES = 100
"""An epoch of the whole table."""
DEFAULTS = {"model.encoder": "pooled", "model.backbone": "resnet18", "data.subsample_ratio": 1.0}


def faces_of(stratum: Stratum) -> int:
    return FACES >> stratum.n_halvings


def scheduler(**changes: Any) -> StratifiedHalving:
    settings: dict[str, Any] = {"grace_epochs": 1, "reduction_factor": 3, "min_rung_trials": 2}
    return StratifiedHalving(metric=METRIC, epoch_faces=faces_of, **{**settings, **changes})


def report(asha: StratifiedHalving, name: str, samples: float, value: float, **settings: Any) -> str:
    """A trial says how many faces it has seen and how well it does."""
    order = {"settings": {**DEFAULTS, **{name.replace("__", "."): each for name, each in settings.items()}}}
    trial: Any = SimpleNamespace(trial_id=f"ray-{name}", config={"trial_id": name, "order": order})
    return asha.on_trial_result(TUNE, trial, {"epoch": 1, "samples_seen": samples, METRIC: value})


def complete(asha: StratifiedHalving, name: str, value: float, end: str = "completed") -> None:
    """A trial ends by itself."""
    trial: Any = SimpleNamespace(trial_id=f"ray-{name}", config={"trial_id": name})
    asha.on_trial_complete(TUNE, trial, {METRIC: value, "end": end})


def test_scheduler_stops_a_trial_that_is_worse_than_most_at_a_rung() -> None:
    asha = scheduler()
    for name, value in (("a", 0.5), ("b", 0.6)):
        report(asha, name, 100, value)

    decision = report(asha, "c", 100, 0.4)

    assert decision == "STOP"
    cutoff = asha.stops[0].cutoff
    assert cutoff == pytest.approx(0.5 + 0.1 * 2 / 3)
    assert asha.stops == [Stop("c", 100, 0.4, rung=100, cutoff=cutoff, n_others=2)]


def test_scheduler_goes_on_with_a_trial_that_is_better() -> None:
    asha = scheduler()
    for name, value in (("a", 0.5), ("b", 0.6)):
        report(asha, name, 100, value)

    assert report(asha, "c", 100, 0.7) == "CONTINUE"
    assert asha.stops == []


def test_scheduler_goes_on_with_a_trial_that_is_as_good() -> None:
    asha = scheduler()
    for name in "ab":
        report(asha, name, 100, 0.5)

    assert report(asha, "c", 100, 0.5) == "CONTINUE"
    assert report(asha, "d", 100, 0.5 - 1e-12) == "STOP"


@pytest.mark.parametrize(
    ("other", "samples"),
    [
        ({"model__backbone": "resnet50"}, 100),
        ({"model__encoder": "dan"}, 100),
        ({"data__subsample_ratio": 0.5}, 50),
        ({"data__subsample_ratio": 0.5}, 100),
    ],
    ids=["backbone", "encoder", "subsample", "subsample at as many faces"],
)
def test_scheduler_compares_no_trials_of_two_strata(other: dict[str, Any], samples: int) -> None:
    asha = scheduler()
    for name in "abcd":
        report(asha, name, 100, 0.9)

    assert [report(asha, name, samples, 0.1 * i, **other) for i, name in enumerate("efg", 1)] == ["CONTINUE"] * 3
    assert report(asha, "h", samples, 0.1, **other) == "STOP"
    assert asha.stops[0].n_others == 3


def test_scheduler_compares_ratios_of_a_range_that_lie_close_together() -> None:
    asha = scheduler()
    for name, ratio in (("a", 0.6), ("b", 0.8), ("c", 1.0)):
        report(asha, name, 2 * ratio * FACES, 0.6, data__subsample_ratio=ratio)

    assert report(asha, "d", 140, 0.5, data__subsample_ratio=0.7) == "STOP"
    assert asha.stops[0].rung == 100


def test_scheduler_compares_at_faces_seen_and_not_at_epochs() -> None:
    asha = scheduler()
    for name in "abc":
        for epoch, value in enumerate((0.3, 0.4, 0.5), 1):
            report(asha, name, 100 * epoch, value)

    upsampled = report(asha, "d", 300, 0.45)  # its first epoch; better than theirs, worse than their third

    assert upsampled == "STOP"
    assert asha.stops[0].rung == 300


def test_scheduler_compares_with_what_others_had_when_they_came_to_the_rung() -> None:
    asha = scheduler()
    for name in "ab":
        report(asha, name, 100, 0.3)
        report(asha, name, 200, 0.9)

    assert report(asha, "c", 100, 0.35) == "CONTINUE"


def test_scheduler_compares_a_report_past_a_rung_there() -> None:
    asha = scheduler()
    for name in "ab":
        report(asha, name, 100, 0.6)

    assert report(asha, "c", 70, 0.1) == "CONTINUE"
    assert report(asha, "c", 140, 0.1) == "STOP"
    assert (asha.stops[0].rung, asha.stops[0].samples) == (100, 140)


def test_scheduler_puts_a_report_on_its_highest_rung_alone() -> None:
    asha = scheduler(min_rung_trials=1)
    report(asha, "a", 400, 0.9)

    assert report(asha, "b", 100, 0.1) == "CONTINUE"
    assert report(asha, "c", 350, 0.1) == "STOP"


def test_scheduler_allows_for_counts_that_were_rounded() -> None:
    asha = scheduler(min_rung_trials=1)
    report(asha, "a", 99.95, 0.9)
    report(asha, "a", 299.8, 0.9)

    assert report(asha, "b", 100, 0.1) == "STOP"
    assert report(asha, "c", 300, 0.1) == "STOP"
    assert report(asha, "d", 99.5, 0.1) == "CONTINUE"


def test_scheduler_has_rungs_at_the_grace_epochs_and_their_multiples() -> None:
    asha = scheduler(grace_epochs=2, reduction_factor=2, min_rung_trials=1)
    for samples in range(100, 900, 100):
        report(asha, "a", samples, 0.9)

    decisions = {samples: report(asha, f"at {samples}", samples, 0.1) for samples in (100, 200, 400, 800)}

    assert decisions == {100: "CONTINUE", 200: "STOP", 400: "STOP", 800: "STOP"}
    assert [stop.rung for stop in asha.stops] == [200, 400, 800]


def test_scheduler_judges_a_trial_once_at_a_rung() -> None:
    asha = scheduler()
    report(asha, "a", 100, 0.1)
    for name in "bcd":
        report(asha, name, 100, 0.6)

    again = [report(asha, "a", samples, 0.1) for samples in (200, 100, 299)]  # a lost worker's epochs are run again

    assert again == ["CONTINUE"] * 3
    assert report(asha, "a", 300, 0.1) == "CONTINUE"  # nobody else was there


def test_scheduler_stops_nobody_at_a_rung_with_few_entries() -> None:
    asha = scheduler(min_rung_trials=3)
    for name, value in (("a", 0.5), ("b", 0.6)):
        report(asha, name, 100, value)

    assert report(asha, "c", 100, 0.1) == "CONTINUE"
    assert report(asha, "d", 100, 0.1) == "STOP"


def test_scheduler_never_stops_a_protected_trial_but_compares_others_with_it() -> None:
    asha = scheduler(protected={"t0000"}, min_rung_trials=3, floor=0.2)
    for other in "ab":
        report(asha, other, 100, 0.6)

    assert report(asha, "t0000", 100, 0.1) == "CONTINUE"
    assert report(asha, "t0000", 300, 0.1) == "CONTINUE"
    assert report(asha, "c", 100, 0.05) == "STOP"
    assert asha.stops[0].n_others == 3


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("changes", [{}, {"protected": {"a"}}, {"reprieve_share": 1.0}], ids=str)
def test_scheduler_stops_a_metric_that_is_no_number_at_once(value: float, changes: dict[str, Any]) -> None:
    asha = scheduler(**changes)

    assert report(asha, "a", 10, value) == "STOP"
    assert asha.stops[0].rung is None
    assert asha.stops[0].samples == 10


def test_scheduler_counts_no_metric_that_is_no_number_at_a_rung() -> None:
    asha = scheduler(min_rung_trials=1)
    report(asha, "a", 100, float("nan"))

    assert report(asha, "b", 100, 0.0) == "CONTINUE"


def test_scheduler_lets_the_last_report_be_no_measure() -> None:
    asha = scheduler(min_rung_trials=1)
    trial: Any = SimpleNamespace(trial_id="ray-a", config={"trial_id": "a", "order": {"settings": DEFAULTS}})
    asha.on_trial_complete(TUNE, trial, {"epoch": 1, "samples_seen": 100, METRIC: 0.9, "end": "completed"})

    assert report(asha, "b", 100, 0.1) == "CONTINUE"


@pytest.mark.parametrize("known", [{}, {METRIC: 0.1}, {METRIC: 0.1, "samples_seen": 0}], ids=str)
def test_scheduler_passes_over_a_report_without_metric_or_faces(known: dict[str, Any]) -> None:
    asha = scheduler(min_rung_trials=1, floor=0.5)
    trial: Any = SimpleNamespace(trial_id="ray-a", config={"trial_id": "a", "order": {"settings": DEFAULTS}})

    assert asha.on_trial_result(TUNE, trial, {"epoch": 1, **known}) == "CONTINUE"


def test_scheduler_stops_what_has_learned_nothing_by_the_second_rung() -> None:
    asha = scheduler(floor=0.1)

    decisions = [report(asha, "a", samples, 0.1 + FLOOR_MARGIN) for samples in (100, 200, 300)]

    assert decisions == ["CONTINUE", "CONTINUE", "STOP"]
    assert asha.stops == [Stop("a", 300, 0.1 + FLOOR_MARGIN, rung=300, cutoff=0.1 + FLOOR_MARGIN, n_others=0)]


def test_scheduler_goes_on_with_what_is_better_than_a_constant_answer() -> None:
    asha = scheduler(floor=0.1)

    decisions = [report(asha, "a", samples, 0.12) for samples in (100, 200, 300)]

    assert decisions == ["CONTINUE"] * 3


def test_scheduler_takes_the_floor_from_the_best_constant_answer() -> None:
    labels = np.repeat([0, 1, 3], [5, 12, 3])
    answers = [macro_f1(labels, np.full(len(labels), answer), 4) for answer in range(4)]

    assert constant_macro_f1([5, 12, 0, 3]) == pytest.approx(max(answers))


def with_completed(asha: StratifiedHalving, *, gains: Sequence[float], best_elsewhere: float) -> StratifiedHalving:
    """Trials of one stratum that had 0.3 at the first rung, and as many of another that ended high."""
    for i in range(len(gains)):
        report(asha, f"own{i}", 100, 0.3)
    for i, gain in enumerate(gains):
        complete(asha, f"own{i}", 0.3 + gain)
        complete(asha, f"other{i}", best_elsewhere)
    return asha


def test_scheduler_stops_what_no_gain_of_its_kind_would_bring_among_the_best() -> None:
    asha = with_completed(scheduler(), gains=(0.1, 0.2, 0.15), best_elsewhere=0.8)

    assert report(asha, "a", 100, 0.61) == "CONTINUE"
    assert report(asha, "b", 100, 0.59) == "STOP"
    assert asha.stops == [Stop("b", 100, 0.59, rung=100, cutoff=pytest.approx(0.6), n_others=3, is_hopeless=True)]


def test_scheduler_gives_a_slow_network_the_time_that_others_of_its_kind_made_good_use_of() -> None:
    asha = with_completed(scheduler(), gains=(0.1, 0.52, 0.1), best_elsewhere=0.8)

    assert report(asha, "a", 100, 0.3) == "CONTINUE"


@pytest.mark.parametrize(
    "changes", [{"min_rung_trials": 4}, {"protected": {"a"}}, {"reprieve_share": 1.0}], ids=["few", "default", "spared"]
)
def test_scheduler_goes_on_with_what_has_no_hope_where_few_are_known_or_it_may_not_be_stopped(
    changes: dict[str, Any],
) -> None:
    asha = with_completed(scheduler(**changes), gains=(0.1, 0.1, 0.1), best_elsewhere=0.8)

    assert report(asha, "a", 100, 0.35) == "CONTINUE"


def test_scheduler_learns_no_gain_from_a_trial_that_diverged() -> None:
    asha = scheduler(min_rung_trials=2)
    for i in range(3):
        report(asha, f"own{i}", 100, 0.3)
        complete(asha, f"own{i}", 0.4, "diverged")
        complete(asha, f"other{i}", 0.9)

    assert report(asha, "a", 100, 0.35) == "CONTINUE"


def test_scheduler_spares_a_share_of_the_weak() -> None:
    spared = stopped_and_spared(scheduler(reprieve_share=0.2), n=500)[1]

    assert 70 < len(spared) < 130


def test_scheduler_spares_all_or_none_of_the_weak_when_asked_to() -> None:
    assert stopped_and_spared(scheduler(reprieve_share=0.0), n=30)[1] == []
    assert stopped_and_spared(scheduler(reprieve_share=1.0), n=30)[0] == []


def test_scheduler_spares_the_same_trials_when_the_seed_is_the_same() -> None:
    first, again, other = (stopped_and_spared(scheduler(reprieve_share=0.3, seed=seed), n=40)[1] for seed in (1, 1, 2))

    assert first == again
    assert first != other


def stopped_and_spared(asha: StratifiedHalving, *, n: int) -> tuple[list[str], list[str]]:
    for name in "abc":
        report(asha, name, 100, 0.9)
    for i in range(n):
        report(asha, f"t{i:04d}", 100, 0.8 - 0.001 * i)
    return [stop.trial_id for stop in asha.stops], list(asha.spared)


def test_spared_trial_is_not_judged_again_and_measures_nobody_on_later_rungs() -> None:
    asha = scheduler(reprieve_share=1.0, min_rung_trials=1)
    report(asha, "a", 100, 0.9)

    decisions = [report(asha, "b", samples, value) for samples, value in ((100, 0.1), (300, 0.1), (900, 0.99))]

    assert decisions == ["CONTINUE"] * 3
    assert asha.spared == {"b": 100}
    assert report(asha, "a", 900, 0.2) == "CONTINUE"
    assert list(asha.spared) == ["b"]


def test_spared_trial_counts_where_it_was_spared_as_if_it_had_been_stopped() -> None:
    values = [0.3, 0.9, 0.5, 0.2, 0.4]

    spares, stops = (scheduler(reprieve_share=share, min_rung_trials=1) for share in (1.0, 0.0))
    for i, value in enumerate(values):
        report(spares, f"t{i}", 100, value)
        report(stops, f"t{i}", 100, value)

    assert list(spares.spared) == [stop.trial_id for stop in stops.stops] == ["t2", "t3", "t4"]


Report = tuple[str, int, float, str]
"""Trial, faces, metric, and the end that it says itself."""


def drawn_reports(seed: int) -> list[Report]:
    """The epochs of twelve trials of two strata, four at a time, as a search would hear of them."""
    generator = np.random.default_rng(seed)
    waiting = [f"t{i:04d}" for i in range(12)]
    running: dict[str, int] = {}
    reports: list[Report] = []
    while waiting or running:
        while waiting and len(running) < 4:
            running[waiting.pop(0)] = 0
        name = str(generator.choice(sorted(running)))
        running[name] += 1
        is_last = running[name] == 9
        reports.append((name, running[name] * 50, float(generator.random()), "completed" if is_last else ""))
        if is_last:
            del running[name]
    return reports


class Search:
    """Trials with their records on disk, one scheduler after another."""

    def __init__(self, records: Iterable[TrialRecord] = ()) -> None:
        self.records = {record.trial_id: record for record in records}
        self.asha = scheduler(reprieve_share=0.4, seed=3, protected={"t0000"}, floor=0.05, min_rung_trials=1)
        for record in self.records.values():
            self.asha.remember(record)

    def hear(self, reports: Sequence[Report]) -> list[tuple[str, str]]:
        """What is decided on each report; a trial that was stopped says no more."""
        return [(told[0], self._hear(*told)) for told in reports]

    def resumed(self) -> "Search":
        return Search(TrialRecord(**json.loads(json.dumps(asdict(record)))) for record in self.records.values())

    def _hear(self, name: str, samples: int, value: float, end: str) -> str:
        ratio = 1.0 if int(name[1:]) % 2 else 0.5
        config = {**DEFAULTS, "data.subsample_ratio": ratio}
        record = self.records.setdefault(name, TrialRecord(name, int(name[1:]), values={}, config=config))
        if record.end is not None:
            return "ended"
        decision = end or report(self.asha, name, samples, value, data__subsample_ratio=ratio)
        if end:
            complete(self.asha, name, value, end)
        told = {"epoch": samples // 50, "samples_seen": samples, METRIC: value, "best/epoch": 1, "end": end}
        record.spared = self.asha.spared.get(name, record.spared)
        record.add_epoch(told)
        record.end = {"STOP": "stopped", "CONTINUE": None}.get(decision, end)  # type: ignore[assignment]
        return decision


@pytest.mark.parametrize("seed", range(3))
def test_resumed_search_decides_as_if_it_had_not_been_interrupted(seed: int) -> None:
    reports = drawn_reports(seed)
    whole = Search().hear(reports)

    for n_before in range(len(reports) + 1):
        search = Search()
        before = search.hear(reports[:n_before])
        after = search.resumed().hear(reports[n_before:])

        assert before + after == whole

    assert {decision for _, decision in whole} == {"CONTINUE", "STOP", "completed", "ended"}


def test_scheduler_remembers_a_trial_of_a_folder_that_knows_nothing_of_sparing() -> None:
    asha = scheduler(min_rung_trials=1)
    history = [{"epoch": i, "samples_seen": 100 * i, METRIC: 0.5} for i in (1, 2, 3)]
    fields = {"trial_id": "t0001", "number": 1, "values": {}, "config": DEFAULTS, "end": "stopped", "history": history}

    asha.remember(TrialRecord(**fields))

    assert report(asha, "c", 100, 0.55) == "CONTINUE"
    assert report(asha, "c", 300, 0.49) == "STOP"


def test_scheduler_remembers_no_report_without_faces() -> None:
    asha = scheduler(min_rung_trials=1)
    history = [{"epoch": 1, METRIC: 0.5}, {"epoch": 2, "samples_seen": 200}]

    asha.remember(TrialRecord("t0001", 1, values={}, config=DEFAULTS, history=history))

    assert report(asha, "c", 100, 0.1) == "CONTINUE"


def test_scheduler_can_be_pickled_with_what_it_knows() -> None:
    asha = scheduler()
    for name, value in (("a", 0.5), ("b", 0.6), ("c", 0.1)):
        report(asha, name, 100, value)

    again = pickle.loads(pickle.dumps(asha))

    assert again.stops == asha.stops
    assert report(again, "d", 100, 0.1) == "STOP"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"grace_epochs": 0}, "grace_epochs must be at least 1, got 0"),
        ({"reduction_factor": 1}, "reduction_factor must be above 1, got 1"),
        ({"min_rung_trials": 0}, "min_rung_trials must be at least 1, got 0"),
        ({"reprieve_share": 1.5}, "reprieve_share must be between 0 and 1, got 1.5"),
    ],
    ids=["grace", "factor", "entries", "share"],
)
def test_scheduler_refuses_a_number_out_of_range(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SearchError) as caught:
        scheduler(**changes)

    assert str(caught.value) == sentence

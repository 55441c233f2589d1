import json
import math
import pickle
from collections.abc import Iterator

import optuna
import pytest
from optuna.trial import TrialState

from search.ends import TrialEnd
from search.sampler import StudySampler
from spaces.config import Value
from spaces.domains import Choice, LogUniform, Uniform, choice_of_bundles
from spaces.errors import SearchError
from spaces.parameters import Condition, Parameter
from spaces.space import SearchSpace

SPACE = SearchSpace(
    name="small",
    parameters=(
        Parameter("optimiser.lr", LogUniform(1e-4, 1e-1), default=1e-3),
        Parameter("data.subsample_ratio", Choice((0.1, 0.5, 1.0)), default=1.0),
        Parameter(
            "partner",
            choice_of_bundles(
                {"none": {"blend.partner": "none"}, "head": {"blend.partner": "head", "train.head_epochs": 1}}
            ),
            default="none",
        ),
        Parameter("blend.weight", Uniform(0, 1), default=0.3, when=(Condition("partner", ("head",)),)),
    ),
    points=({"partner": "head"}, {"optimiser.lr": 0.01}),
)
TINY = SearchSpace(
    name="tiny",
    parameters=(Parameter("data.subsample_ratio", Choice((0.1, 0.5, 1.0)), default=1.0),),
    fixed={"train.seed": 5},
)


def score(values: dict[str, Value]) -> float:
    lr, ratio = values["optimiser.lr"], values["data.subsample_ratio"]
    assert isinstance(lr, float)
    assert isinstance(ratio, float)
    return 0.8 - 0.2 * abs(math.log10(lr) + 2) - 0.1 * (1 - ratio)


def drive(sampler: StudySampler, numbers: Iterator[int] | range) -> list[dict[str, Value]]:
    """Trials that end in every way; what was asked for."""
    asked = []
    for number in numbers:
        trial_id = f"t{number:04d}"
        values = sampler.ask(trial_id)
        asked.append(values)
        sampler.report(trial_id, 1, 0.5 * score(values))
        if number % 5 == 1:
            sampler.tell(trial_id, "stopped", value=0.6 * score(values), epoch=2)
        elif number % 5 == 2:
            sampler.tell(trial_id, "diverged")
        elif number % 5 != 3:
            sampler.tell(trial_id, "completed", value=score(values))
    return asked


def state_of(sampler: StudySampler, trial_id: str) -> optuna.trial.FrozenTrial:
    return next(each for each in sampler.study.trials if each.user_attrs.get("trial_id") == trial_id)


def test_sampler_begins_with_the_default_and_the_points() -> None:
    sampler = StudySampler(SPACE)

    asked = [sampler.ask(f"t{number:04d}") for number in range(3)]

    assert asked == SPACE.initial_points()
    assert asked[0] == SPACE.default()


def test_sampler_proposes_only_points_of_the_space() -> None:
    for values in drive(StudySampler(SPACE, seed=3), range(25)):
        assert SPACE.complete(values) == values
        SPACE.to_config(values)


def test_sampler_gives_a_known_trial_its_values_again() -> None:
    sampler = StudySampler(SPACE)
    drive(sampler, range(5))

    assert sampler.ask("t0004") == sampler.ask("t0004")
    assert len(sampler.running()) == 1


def test_sampler_learns_where_the_good_configs_are() -> None:
    sampler = StudySampler(SPACE, seed=0)

    asked = drive(sampler, range(40))

    first, last = [score(values) for values in asked[3:13]], [score(values) for values in asked[-10:]]
    assert sum(last) > sum(first)
    assert max(last) > 0.7


def test_sampler_proposes_the_same_with_the_same_seed_and_other_configs_with_another() -> None:
    one, again, other = (drive(StudySampler(SPACE, seed=seed), range(12)) for seed in (1, 1, 2))

    assert one == again
    assert one != other


def test_sampler_never_proposes_a_config_twice_while_there_are_others() -> None:
    sampler = StudySampler(TINY)

    asked = [sampler.ask(f"t{number}")["data.subsample_ratio"] for number in range(3)]

    assert sorted(asked) == [0.1, 0.5, 1.0]  # type: ignore[type-var]


def test_sampler_repeats_with_another_seed_when_the_space_is_exhausted() -> None:
    sampler = StudySampler(TINY)
    for number in range(4):
        sampler.ask(f"t{number}")

    assert sampler.settings("t0")["train.seed"] == 5
    assert sampler.settings("t3")["train.seed"] == 6
    assert sampler.seed_offset("t3") == 1


def test_sampler_of_a_space_without_parameters_asks_for_other_seeds() -> None:
    sampler = StudySampler(SearchSpace("one"))

    values = [sampler.ask("t0"), sampler.ask("t1")]

    assert values == [{}, {}]
    assert [sampler.settings(trial_id).get("train.seed", 0) for trial_id in ("t0", "t1")] == [0, 1]


@pytest.mark.parametrize(
    ("end", "value", "state", "final"),
    [
        ("completed", 0.7, TrialState.COMPLETE, 0.7),
        ("completed", None, TrialState.COMPLETE, 0.6),
        ("completed", float("nan"), TrialState.COMPLETE, 0.6),
        ("stopped", 0.65, TrialState.PRUNED, 0.65),
        ("stopped", None, TrialState.PRUNED, 0.5),
        ("diverged", None, TrialState.FAIL, None),
        ("diverged", float("nan"), TrialState.FAIL, None),
        ("failed", 0.9, TrialState.FAIL, None),
        ("preempted", 0.9, TrialState.RUNNING, None),
    ],
)
def test_sampler_tells_the_study_each_end(
    end: TrialEnd, value: float | None, state: TrialState, final: float | None
) -> None:
    sampler = StudySampler(SPACE)
    sampler.ask("t0")
    sampler.report("t0", 1, 0.6)
    sampler.report("t0", 2, 0.5)

    sampler.tell("t0", end, value=value)

    assert state_of(sampler, "t0").state == state
    assert state_of(sampler, "t0").value == final


def test_sampler_keeps_the_last_epoch_of_a_stopped_trial() -> None:
    sampler = StudySampler(SPACE)
    sampler.ask("t0")
    sampler.report("t0", 1, 0.3)

    sampler.tell("t0", "stopped", value=0.4, epoch=3)

    assert state_of(sampler, "t0").intermediate_values == {1: 0.3, 3: 0.4}


def test_sampler_fails_a_completed_trial_that_never_had_a_score() -> None:
    sampler = StudySampler(SPACE)
    sampler.ask("t0")

    sampler.tell("t0", "completed", value=float("inf"))

    assert state_of(sampler, "t0").state == TrialState.FAIL


def test_sampler_is_deaf_to_unknown_trials_second_ends_and_late_reports() -> None:
    sampler = StudySampler(SPACE)
    sampler.ask("t0")
    sampler.tell("t0", "completed", value=0.7)

    sampler.tell("t0", "failed")
    sampler.report("t0", 9, 0.9)
    sampler.report("t9", 1, 0.9)
    sampler.tell("t9", "completed", value=0.9)

    assert state_of(sampler, "t0").value == 0.7
    assert len(sampler.events) == 2


def test_sampler_leaves_out_nan_and_a_repeated_epoch() -> None:
    sampler = StudySampler(SPACE)
    sampler.ask("t0")

    sampler.report("t0", 1, float("nan"))
    sampler.report("t0", 2, 0.5)
    sampler.report("t0", 2, 0.9)

    assert state_of(sampler, "t0").intermediate_values == {2: 0.5}


def test_sampler_takes_up_a_preempted_trial_again() -> None:
    sampler = StudySampler(SPACE)
    sampler.ask("t0")
    sampler.tell("t0", "preempted")

    sampler.tell("t0", "completed", value=0.5)

    assert state_of(sampler, "t0").value == 0.5
    assert sampler.running() == []


@pytest.mark.parametrize("way", ["journal", "pickle"])
def test_sampler_goes_on_from_its_journal_as_if_nothing_had_happened(way: str) -> None:
    sampler = StudySampler(SPACE, seed=4)
    drive(sampler, range(16))

    if way == "journal":
        again = StudySampler.replay(SPACE, 4, json.loads(json.dumps(sampler.events)))
    else:
        again = pickle.loads(pickle.dumps(sampler))

    assert again.events == sampler.events
    assert again.running() == sampler.running()
    assert drive(again, range(16, 24)) == drive(sampler, range(16, 24))


@pytest.mark.parametrize("way", ["journal", "pickle"])
def test_sampler_that_has_begun_anew_goes_on_from_its_journal_too(way: str) -> None:
    sampler = StudySampler(SPACE, seed=4, most_seen=12)
    drive(sampler, range(40))

    if way == "journal":
        again = StudySampler.replay(SPACE, 4, json.loads(json.dumps(sampler.events)), most_seen=12)
    else:
        again = pickle.loads(pickle.dumps(sampler))

    assert drive(again, range(40, 60)) == drive(sampler, range(40, 60))


def test_sampler_proposes_the_same_as_without_a_bound_until_it_is_reached() -> None:
    bounded, unbounded = StudySampler(SPACE, most_seen=20), StudySampler(SPACE, most_seen=10**6)

    one, other = drive(bounded, range(40)), drive(unbounded, range(40))

    # Of five trials two are complete and one is stopped; the twenty-first of those is t0034.
    assert one[:35] == other[:35]
    assert one != other


def test_sampler_that_has_begun_anew_still_sees_the_best_and_the_latest_trials() -> None:
    sampler = StudySampler(SPACE, most_seen=60)
    drive(sampler, range(150))
    seen = {trial.user_attrs["trial_id"] for trial in sampler._study.trials if "trial_id" in trial.user_attrs}

    ended = [trial for trial in sampler.study.trials if trial.state == TrialState.COMPLETE]
    best = sorted(ended, key=lambda trial: -(trial.value or 0.0))[:25]

    assert {trial.user_attrs["trial_id"] for trial in best} <= seen
    assert {f"t{number:04d}" for number in range(146, 150) if number % 5 not in (2,)} <= seen
    assert sampler.running() and set(sampler.running()) <= seen
    assert sum(trial.state in (TrialState.COMPLETE, TrialState.PRUNED) for trial in sampler._study.trials) <= 60


def test_sampler_reports_to_a_trial_that_was_running_when_it_began_anew() -> None:
    sampler = StudySampler(SPACE, most_seen=6)
    sampler.ask("t9999")
    drive(sampler, range(20))

    sampler.report("t9999", 1, 0.4)
    sampler.tell("t9999", "stopped", value=0.45, epoch=2)

    assert state_of(sampler, "t9999").intermediate_values == {1: 0.4, 2: 0.45}


@pytest.mark.slow
def test_sampler_with_a_bound_finds_as_good_configs_as_without() -> None:
    def best_of(most_seen: int, seed: int) -> float:
        sampler = StudySampler(SPACE, seed=seed, most_seen=most_seen)
        best = 0.0
        for number in range(150):
            values = sampler.ask(f"t{number}")
            sampler.tell(f"t{number}", "completed", value=score(values))
            best = max(best, score(values))
        return best

    bounded, unbounded = ([best_of(most_seen, seed) for seed in range(3)] for most_seen in (60, 10**6))

    assert sum(bounded) / 3 > sum(unbounded) / 3 - 0.002


@pytest.mark.parametrize(
    "event", [{"event": "sing"}, {"event": "tell", "trial_id": "t0", "end": "bored"}], ids=["kind", "end"]
)
def test_sampler_refuses_a_journal_with_an_unknown_event(event: dict[str, str]) -> None:
    with pytest.raises(SearchError, match=r"^event of a search's journal must be ask, report or tell, got \{'event'"):
        StudySampler.replay(SPACE, 0, [event])


def test_sampler_refuses_the_settings_of_a_trial_that_was_never_asked_for() -> None:
    with pytest.raises(SearchError, match=r"^trial must have been asked for, got 't7'$"):
        StudySampler(SPACE).settings("t7")


def test_sampler_leaves_optuna_as_quiet_and_as_loud_as_it_was(
    recwarn: pytest.WarningsRecorder, capfd: pytest.CaptureFixture[str]
) -> None:
    before = optuna.logging.get_verbosity()

    drive(StudySampler(SPACE), range(15))

    assert optuna.logging.get_verbosity() == before
    assert not recwarn.list
    assert capfd.readouterr().err == ""

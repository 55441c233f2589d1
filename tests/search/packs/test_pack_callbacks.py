"""What Tune's hooks make of a pack: each trial is recorded by itself, whatever becomes of the others."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from ray.tune.experiment import Trial
from ray.tune.search import Searcher

from search.folder import STUDY_FILE, SearchFolder, TrialRecord
from search.packs.callbacks import PackCallback
from search.packs.runs import PackRuns
from search.packs.searcher import PackSearcher
from search.recorder import Recorder
from search.run_log import NoRuns
from search.state import load_state
from search.study_journal import StudyJournal, read_events
from spaces.loading import parse_space

SPACE = parse_space("""
name: heads
fixed: {train.epochs: 0, train.head_epochs: 1}
parameters:
  optimiser.head_only_lr: {log_uniform: [1.0e-3, 1.0e-1], default: 1.0e-2}
""")
NAMES = [f"t{number:04d}" for number in range(8)]


class Nobody:
    """A screen, or a tracker, that listens to nothing."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_, **__: None


class OnePack:
    """A search whose first pack was ordered; what Tune would call, the test calls."""

    def __init__(self, path: Path) -> None:
        path.mkdir(exist_ok=True)
        self.folder = SearchFolder(path)
        state = load_state(self.folder, SPACE, seed=0)
        journal = StudyJournal(path / STUDY_FILE, state.sampler.events)
        self.searcher = PackSearcher(
            state, journal, order=lambda pack, _: {}, n_trials=len(NAMES), deadline_s=None, budget_s=None
        )
        screen: Any = Nobody()
        self.recorder = Recorder(
            self.folder, tracker=NoRuns(), parent_key="search", screen=screen, keep_weights=1, earlier=state.records
        )
        runs = PackRuns(screen, "search", self.folder)
        self.callback = PackCallback(
            self.recorder,
            self.searcher.packs,
            runs=runs,
            halt=self.searcher.halt,
            begin_again=self.searcher.begin_again,
            fail=self.searcher.fail,
        )
        self.trial: Any = Trial("no trainable", config={"order": {"a": 1}}, stub=True, trial_id="abc")
        self.searcher.suggest("abc")
        self.names = [record.trial_id for record in self.searcher.packs["abc"].records]

    def start(self) -> None:
        self.callback.on_trial_start(1, [self.trial], self.trial)

    def report(self, names: Sequence[str]) -> None:
        """The last step of the pack, which Tune tells the callback alone."""
        result = {"reports": json.dumps({name: report(name) for name in names}), "training_iteration": 1}
        self.callback.on_trial_result(1, [self.trial], self.trial, result)
        self.trial.update_last_result(result)

    def complete(self) -> None:
        self.searcher.on_trial_complete("abc", self.trial.last_result)
        self.callback.on_trial_complete(1, [self.trial], self.trial)

    def lose_workers(self) -> None:
        self.searcher.on_trial_complete("abc", error=True)
        self.callback.on_trial_error(1, [self.trial], self.trial)

    def found(self) -> list[tuple[str, str | None, float | None]]:
        """What stands on disk of each trial."""
        return [(record.trial_id, record.end, record.best_macro_f1) for record in self.folder.read_records()]

    def told(self) -> dict[str, tuple[str, float | None]]:
        """What the study knows of the ends."""
        events = read_events(self.folder.path / STUDY_FILE)
        return {e["trial_id"]: (e["end"], e["value"]) for e in events if e["event"] == "tell"}


def score_of(name: str) -> float:
    return 0.1 + 0.05 * int(name[1:])


def report(name: str) -> dict[str, Any]:
    return {"epoch": 1, "best/macro_f1": score_of(name), "best/epoch": 0, "end": "completed", "time/epoch_s": 0.1}


def fill_disk(monkeypatch: pytest.MonkeyPatch, names: Sequence[str]) -> None:
    """Records of these trials can't be written."""
    write = SearchFolder.write_record

    def write_or_fail(folder: SearchFolder, record: TrialRecord) -> None:
        if record.trial_id in names:
            raise OSError("no space")
        write(folder, record)

    monkeypatch.setattr(SearchFolder, "write_record", write_or_fail)


def test_trials_of_a_pack_are_recorded_with_their_scores_and_the_others_as_preempted(tmp_path: Path) -> None:
    pack = OnePack(tmp_path)

    pack.start()
    pack.report(NAMES[:6])
    pack.complete()

    assert pack.found() == [
        *((name, "completed", score_of(name)) for name in NAMES[:6]),
        *((name, "preempted", None) for name in NAMES[6:]),
    ]
    assert pack.callback.trouble is None


def test_pack_whose_workers_were_lost_before_it_began_leaves_failed_trials(tmp_path: Path) -> None:
    pack = OnePack(tmp_path)

    pack.lose_workers()

    assert pack.found() == [(name, "failed", None) for name in NAMES]
    assert "worker was lost" in pack.folder.read_records()[0].error
    assert (tmp_path / "packs" / "pack-0001.csv").exists()
    assert pack.searcher.suggest("next") == Searcher.FINISHED and pack.searcher.is_through


@pytest.mark.parametrize("full_from", ["start", "report"])
def test_trials_keep_their_scores_where_the_disk_was_full_for_a_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full_from: str
) -> None:
    pack = OnePack(tmp_path)
    if full_from == "report":
        pack.start()
    with monkeypatch.context() as full:
        fill_disk(full, NAMES[3:])
        if full_from == "start":
            pack.start()
        pack.report(NAMES)

    pack.complete()

    assert pack.found() == [(name, "completed", score_of(name)) for name in NAMES]
    assert pack.told() == {name: ("completed", score_of(name)) for name in NAMES}
    assert str(pack.callback.trouble) == "no space"


def test_trials_that_could_not_be_recorded_run_again_and_the_study_hears_of_them_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut = OnePack(tmp_path)
    cut.start()
    with monkeypatch.context() as full:
        fill_disk(full, NAMES[2:4])
        cut.report(NAMES)
        cut.complete()
    assert [name for name, end, _ in cut.found() if end is None] == NAMES[2:4]

    again = OnePack(tmp_path)
    assert again.names == NAMES[2:4]
    again.start()
    again.report(again.names)
    again.complete()

    assert again.found() == [(name, "completed", score_of(name)) for name in NAMES]
    ends = [event for event in read_events(tmp_path / STUDY_FILE) if event["event"] == "tell"]
    assert sorted(event["trial_id"] for event in ends) == NAMES


@pytest.mark.parametrize("over", [OnePack.complete, OnePack.lose_workers], ids=["complete", "lost"])
def test_tune_keeps_nothing_of_a_pack_that_is_over(tmp_path: Path, over: Callable[[OnePack], None]) -> None:
    pack = OnePack(tmp_path)
    pack.start()
    pack.report(NAMES)

    over(pack)

    assert (pack.trial.config, pack.trial.run_metadata.last_result) == ({}, {})


def test_pack_whose_worker_was_lost_between_two_packs_goes_into_another(tmp_path: Path) -> None:
    pack = OnePack(tmp_path)

    pack.callback.on_trial_recover(1, [pack.trial], pack.trial)
    pack.lose_workers()
    answer = pack.searcher.suggest("next")

    assert isinstance(answer, dict) and answer["trial_id"] == "pack-0002"
    assert [record.trial_id for record in pack.searcher.packs["next"].records] == NAMES
    assert pack.told() == {}

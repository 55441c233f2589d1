"""Records reach MLflow once each, and nothing that a server does reaches the search."""

import json
import math
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from search.run_views import VIEW_TAG, runs_link, search_views
from search.tracking import Tracker, replay
from spaces.errors import OutputError
from spaces.loading import load_space

CALL_LIMIT_S = 0.05


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that takes connections and never says a word."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(8)
        yield listener.getsockname()[1]


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of one SQLite file for all tests here: making its tables takes seconds."""
    folder = tmp_path_factory.mktemp("tracking storage")
    return f"sqlite:///{folder}/mlflow.db"


def _record(tracker: Tracker, *, n_trials: int = 2, n_epochs: int = 3) -> list[float]:
    """A small search; returns how long each call took, seconds."""
    durations: list[float] = []

    def timed(call: Callable[..., Any], *words: Any, **settings: Any) -> Any:
        begin = time.perf_counter()
        result = call(*words, **settings)
        durations.append(time.perf_counter() - begin)
        return result

    search = timed(tracker.start_search, name="first launch", params={"trials": n_trials})
    for number in range(n_trials):
        key = f"t{number:04}"
        timed(tracker.start_run, key, parent_key=search, name=key, params={"loss.label_smoothing": 0.1 * number})
        for epoch in range(1, n_epochs + 1):
            timed(tracker.log_epoch, key, {"valid/macro_f1": 0.1 * epoch, "train/loss": 1 / epoch}, epoch)
        timed(tracker.end_run, key, "completed")
    timed(tracker.end_run, search, "completed")
    return durations


def _client(uri: str) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(uri)


def _runs(uri: str, experiment: str) -> dict[str, Any]:
    """Key to run, of everything that one experiment holds; fails where a key stands twice."""
    client = _client(uri)
    found = client.search_runs([client.get_experiment_by_name(experiment).experiment_id], max_results=1000)
    runs = {run.data.tags["affectune.key"]: run for run in found}
    assert len(runs) == len(found)
    return runs


def _forget_progress(journal_dir: Path) -> None:
    """What a crash right after sending leaves: a server that has everything and a driver that does not know."""
    for path in (*journal_dir.glob("sent-*.json"), *journal_dir.glob("runs-*.jsonl")):
        path.unlink()


@pytest.mark.parametrize("server", ["dead", "silent"])
def test_tracker_never_blocks_when_the_server_is_away(server: str, silent_port: int, tmp_path: Path) -> None:
    port = silent_port if server == "silent" else 9
    told: list[str] = []
    tracker = Tracker(f"http://127.0.0.1:{port}", "away", tmp_path, on_trouble=told.append)

    durations_s = _record(tracker, n_trials=20)
    waiting = tracker.close(timeout_s=0.2)

    assert sum(durations_s) / len(durations_s) < CALL_LIMIT_S
    assert max(durations_s) < 1  # a loaded machine may hold up a call or two, a silent server would for seconds
    assert waiting == 102
    assert len((tmp_path / "operations.jsonl").read_text().splitlines()) == 102
    assert len(told[:-1]) <= 1
    assert told[-1] == f"102 records wait in {tmp_path}; affectune resume away sends them"


def test_tracker_tells_of_an_outage_once(tmp_path: Path) -> None:
    told: list[str] = []
    tracker = Tracker("http://127.0.0.1:9", "away", tmp_path, on_trouble=told.append)

    _record(tracker)
    tracker.flush(timeout_s=5)
    tracker.flush(timeout_s=5)

    assert len(told) == 1
    assert "got connection refused" in told[0]
    assert f"the search goes on, records wait in {tmp_path}" in told[0]
    assert tracker.trouble is not None
    tracker.close(timeout_s=0)


def test_tracker_goes_on_when_the_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise OutputError("the disk is full")

    told: list[str] = []
    tracker = Tracker("http://127.0.0.1:9", "full", tmp_path, on_trouble=told.append)
    monkeypatch.setattr(tracker._journal._file, "flush", refuse)

    tracker.set_tags("t0000", {"a": 1})
    tracker.set_tags("t0000", {"a": 2})

    assert [line for line in told if "tracking journal can't be written" in line] == told[:1]
    tracker.close(timeout_s=0)


def test_tracker_knows_what_a_dead_driver_left_open(tmp_path: Path) -> None:
    first = Tracker("http://127.0.0.1:9", "left", tmp_path, on_trouble=lambda _: None)
    search = first.start_search(name="first")
    first.start_run("t0000", parent_key=search, name="t0000")
    first.close(timeout_s=0)

    second = Tracker("http://127.0.0.1:9", "left", tmp_path, on_trouble=lambda _: None)

    assert second.launch_key == "search"
    assert second.unfinished() == ["search", "t0000"]
    assert second.start_search(name="second") == "search-2"
    second.close(timeout_s=0)


def test_every_run_says_once_what_it_worked_on(database: str, tmp_path: Path) -> None:
    faces = {
        "name": "fer6",
        "digest": "ab12",
        "source_type": "local",
        "source": '{"uri": "/data/fer6"}',
        "profile": "{}",
    }
    for _ in range(2):
        tracker = Tracker(database, "worked on", tmp_path, dataset=faces)
        tracker.start_run("t0000", parent_key=tracker.launch_key or tracker.start_search(name="first"), name="t0000")
        tracker.close()

    runs = _runs(database, "worked on")

    assert set(runs) == {"search", "t0000"}
    for run in runs.values():
        (told,) = run.inputs.dataset_inputs
        assert (told.dataset.name, told.dataset.digest) == ("fer6", "ab12")
        assert [(tag.key, tag.value) for tag in told.tags] == [("mlflow.data.context", "training")]


@pytest.mark.slow
def test_tracker_writes_a_parent_and_its_children(database: str, tmp_path: Path) -> None:
    tracker = Tracker(database, "family", tmp_path)
    _record(tracker)

    assert tracker.close(timeout_s=60) == 0
    runs = _runs(database, "family")
    trial = runs["t0001"]
    assert set(runs) == {"search", "t0000", "t0001"}
    assert trial.data.tags["mlflow.parentRunId"] == runs["search"].info.run_id == tracker.run_id("search")
    assert trial.data.params == {"loss.label_smoothing": "0.1"}
    assert trial.data.metrics == pytest.approx({"valid/macro_f1": 0.3, "train/loss": 1 / 3})
    assert trial.info.status == "FINISHED"
    assert trial.data.tags["affectune.end"] == "completed"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("end", "status"),
    [
        ("completed", "FINISHED"),
        ("stopped", "FINISHED"),
        ("diverged", "FAILED"),
        ("failed", "FAILED"),
        ("preempted", "KILLED"),
        ("interrupted", "KILLED"),
    ],
)
def test_tracker_tells_the_end_of_a_trial(end: Any, status: str, database: str, tmp_path: Path) -> None:
    tracker = Tracker(database, f"end {end}", tmp_path)
    search = tracker.start_search(name="launch")
    tracker.start_run("t0000", parent_key=search, name="t0000")
    tracker.end_run("t0000", end, note="why")
    tracker.close(timeout_s=60)

    run = _runs(database, f"end {end}")["t0000"]

    assert run.info.status == status
    assert (run.data.tags["affectune.end"], run.data.tags["affectune.note"]) == (end, "why")


@pytest.mark.slow
def test_tracker_makes_a_tag_of_what_is_not_finite(database: str, tmp_path: Path) -> None:
    tracker = Tracker(database, "strange", tmp_path)
    tracker.start_search(name="launch")
    tracker.log_epoch("search", {"train/loss": math.nan, "valid/macro_f1": 0.2, "valid/f1/a?": 0.1, "end": "x"}, 4)
    tracker.close(timeout_s=60)

    run = _runs(database, "strange")["search"]

    assert run.data.metrics == {"valid/macro_f1": 0.2, "valid/f1/a_": 0.1}
    assert run.data.tags["affectune.nonfinite"] == "train/loss = nan at step 4"


@pytest.mark.slow
def test_tracker_stores_artifacts_and_is_not_held_up_by_one_that_is_gone(database: str, tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text("{}")
    tracker = Tracker(database, "artifacts", tmp_path / "tracking")
    tracker.start_search(name="launch")
    tracker.log_artifact("search", tmp_path / "gone.json")
    tracker.log_artifact("search", tmp_path / "summary.json", "report")
    tracker.end_run("search", "completed")

    assert tracker.close(timeout_s=60) == 0
    stored = _client(database).list_artifacts(tracker.run_id("search"), "report")
    assert [file.path for file in stored] == ["report/summary.json"]
    rejected = (tmp_path / "tracking" / "rejected.jsonl").read_text().splitlines()
    assert [json.loads(line)["path"] for line in rejected] == [str(tmp_path / "gone.json")]


@pytest.mark.slow
def test_tracker_continues_a_trial_in_its_old_run(database: str, tmp_path: Path) -> None:
    first = Tracker(database, "continued", tmp_path)
    search = first.start_search(name="first")
    first.start_run("t0000", parent_key=search, name="t0000", params={"a": 1})
    first.log_epoch("t0000", {"valid/macro_f1": 0.1}, 1)
    first.end_run("t0000", "preempted")
    first.close(timeout_s=60)

    second = Tracker(database, "continued", tmp_path)
    again = second.start_search(name="second")
    second.start_run("t0000", parent_key=again, name="t0000", params={"a": 1})
    second.log_epoch("t0000", {"valid/macro_f1": 0.2}, 2)
    assert second.flush(timeout_s=60) == 0
    running = _runs(database, "continued")["t0000"]
    second.end_run("t0000", "completed")
    second.close(timeout_s=60)

    runs = _runs(database, "continued")
    history = _client(database).get_metric_history(runs["t0000"].info.run_id, "valid/macro_f1")
    assert set(runs) == {"search", "search-2", "t0000"}
    assert running.info.status == "RUNNING"
    assert runs["t0000"].info.status == "FINISHED"
    assert runs["t0000"].data.tags["mlflow.parentRunId"] == runs["search-2"].info.run_id
    assert [(point.step, point.value) for point in history] == [(1, 0.1), (2, 0.2)]


@pytest.mark.slow
def test_tracker_keeps_numbers_when_the_server_refuses_a_parameter(database: str, tmp_path: Path) -> None:
    told: list[str] = []
    tracker = Tracker(database, "refused", tmp_path, on_trouble=told.append)
    search = tracker.start_search(name="launch")
    tracker.start_run("t0000", parent_key=search, name="t0000", params={"a": 1})
    tracker.flush(timeout_s=60)
    tracker.start_run("t0000", parent_key=search, name="t0000", params={"a": 2})
    tracker.log_epoch("t0000", {"valid/macro_f1": 0.2}, 1)
    tracker.flush(timeout_s=60)
    tracker.start_run("t0000", parent_key=search, name="t0000", params={"a": 3})

    assert tracker.close(timeout_s=60) == 0
    run = _runs(database, "refused")["t0000"]
    assert [("a record could not be stored" in line, "rejected.jsonl" in line) for line in told] == [(True, True)]
    assert (run.data.params, run.data.metrics) == ({"a": "1"}, {"valid/macro_f1": 0.2})
    assert "Changing param values is not allowed" in (tmp_path / "rejected.jsonl").read_text()


@pytest.mark.slow
def test_replay_stores_each_point_once_when_a_crash_forgot_what_was_sent(database: str, tmp_path: Path) -> None:
    tracker = Tracker(database, "crashed", tmp_path)
    _record(tracker, n_epochs=4)
    tracker.close(timeout_s=60)
    _forget_progress(tmp_path)

    assert replay(tmp_path) == 0
    runs = _runs(database, "crashed")
    history = _client(database).get_metric_history(runs["t0000"].info.run_id, "valid/macro_f1")
    assert set(runs) == {"search", "t0000", "t0001"}
    assert [point.step for point in history] == [1, 2, 3, 4]


@pytest.mark.slow
def test_replay_sends_all_of_a_search_to_a_server_that_never_saw_it(database: str, tmp_path: Path) -> None:
    tracker = Tracker("http://127.0.0.1:9", "moved", tmp_path, on_trouble=lambda _: None)
    _record(tracker)
    assert tracker.close(timeout_s=0) > 0

    assert replay(tmp_path, database) == 0
    assert replay(tmp_path, database) == 0
    runs = _runs(database, "moved")
    history = _client(database).get_metric_history(runs["t0001"].info.run_id, "train/loss")
    assert [point.step for point in history] == [1, 2, 3]


@pytest.mark.slow
def test_views_stand_with_the_experiment_and_their_filter_is_one_that_mlflow_understands(
    database: str, tmp_path: Path
) -> None:
    tracker = Tracker(database, "viewed", tmp_path)
    _record(tracker)
    tracker.show_views("search", search_views(tracker.search_id, load_space("core")))
    tracker.close(timeout_s=60)

    tags = _client(database).get_experiment(tracker.experiment_id).tags
    link = runs_link("", str(tracker.experiment_id), search_id=tracker.search_id)
    view = json.loads(tags[VIEW_TAG + parse_qs(link.partition("?")[2])["viewStateShareKey"][0]])
    found = _client(database).search_runs(
        [tracker.experiment_id], view["searchFilter"], order_by=[f"{view['orderByKey']} DESC"]
    )

    assert sorted(run.data.tags["affectune.key"] for run in found) == ["t0000", "t0001"]


@pytest.mark.slow
def test_views_that_are_refused_hold_up_nothing(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow import MlflowClient

    def refuse(*_: object) -> None:
        raise PermissionError("not yours")

    monkeypatch.setattr(MlflowClient, "set_experiment_tag", refuse)
    said: list[str] = []
    tracker = Tracker(database, "refused", tmp_path, on_trouble=said.append)
    tracker.start_search(name="refused")
    tracker.show_views("search", {"mlflow.sharedViewState.a": "{}"})
    tracker.log_epoch("search", {"n": 1.0}, step=1)

    waiting = tracker.close(timeout_s=60)

    assert waiting == 0 and len(said) == 1 and "not yours" in said[0]


def test_writer_sends_a_run_in_three_requests(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow import MlflowClient

    asked: list[str] = []
    for method in ("create_run", "log_batch", "set_terminated", "update_run"):
        original = getattr(MlflowClient, method)

        def counted(*args: Any, _name: str = method, _original: Any = original, **settings: Any) -> Any:
            asked.append(_name)
            return _original(*args, **settings)

        monkeypatch.setattr(MlflowClient, method, counted)
    with monkeypatch.context() as still:
        still.setattr("search.tracking.Tracker._work", lambda _: None)  # all of it waits, as where a server is slow
        _record(Tracker(database, "three requests", tmp_path))

    assert replay(tmp_path) == 0

    assert asked == ["create_run", "log_batch", "set_terminated"] * 3


def test_tracker_that_rests_sends_at_once_when_it_is_asked_to(database: str, tmp_path: Path) -> None:
    tracker = Tracker(database, "resting", tmp_path)
    search = tracker.start_search(name="x")
    assert tracker.flush(30.0) == 0
    tracker.log_epoch(search, {"a": 1.0}, 1)
    tracker.log_epoch(search, {"a": 2.0}, 2)
    begin = time.monotonic()

    waiting = tracker.flush(30.0)

    assert waiting == 0
    assert time.monotonic() - begin < 4.0
    tracker.close()

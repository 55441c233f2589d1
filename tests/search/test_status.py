"""How a search stands, from its folder alone."""

import fcntl
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from search.cli import main
from search.folder import SearchFolder, SearchManifest, TrialRecord
from search.status import SILENT_S, read_status
from search.tracking_journal import server_mark

NOW_S = time.time()
URI = "http://me:hush@mlflow.example:5000"
MANIFEST = SearchManifest(
    name="faces",
    data="/data/faces",
    content_hash="ab12",
    classes=("anger", "fear"),
    seed=0,
    n_trials=6,
    time_budget_s=None,
    tracking_uri=URI,
    launched_s=NOW_S - 100,
)
CONFIG = {"train.epochs": 8}
TRIALS = [
    TrialRecord("t0000", 0, {}, CONFIG, end="completed", best_macro_f1=0.5, epochs=8, wall_s=40.0),
    TrialRecord("t0001", 1, {}, CONFIG, end="diverged", best_macro_f1=0.9, epochs=2, wall_s=20.0),
    TrialRecord("t0002", 2, {}, CONFIG, end="stopped", best_macro_f1=0.3, epochs=1, wall_s=30.0),
    TrialRecord("t0003", 3, {}, CONFIG, best_macro_f1=0.4, epochs=3, wall_s=15.0),
]


@pytest.fixture
def folder(tmp_path: Path) -> SearchFolder:
    """Of a search with three ended trials and one that runs on another machine."""
    made = SearchFolder(tmp_path / "runs" / "faces")
    made.write_manifest(MANIFEST)
    for record in TRIALS:
        made.write_record(record)
    pulse = made.trial_dir("t0003") / "pulse.json"
    pulse.write_text(json.dumps({"host": "gpu-7", "pid": 99}))
    for file in made.path.rglob("*.json"):
        os.utime(file, (NOW_S - 60, NOW_S - 60))
    os.utime(pulse, (NOW_S - 4, NOW_S - 4))
    return made


@pytest.fixture
def driver(folder: SearchFolder) -> Iterator[subprocess.Popen[bytes]]:
    """A process that holds the search's folder, as its driver does."""
    program = (
        "import sys, time; from pathlib import Path\n"
        "from search.folder import SearchFolder; from search.folder_lock import only_driver\n"
        "with only_driver(SearchFolder(Path(sys.argv[1]))):\n    print(flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", program, str(folder.path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    yield process
    process.kill()
    process.wait()


def hold(folder: SearchFolder, words: str) -> None:
    (folder.path / "lock").write_text(words + "\n")


def test_search_runs_where_its_process_is_there(folder: SearchFolder, driver: subprocess.Popen[bytes]) -> None:
    found = read_status(folder, now_s=NOW_S)

    assert (found.state, found.driver) == ("running", f"process {driver.pid} on {socket.gethostname()}")
    assert found.next == f"affectune ui --storage {folder.path.parent}"


def test_search_is_interrupted_when_its_process_was_killed(
    folder: SearchFolder, driver: subprocess.Popen[bytes]
) -> None:
    driver.kill()
    driver.wait()

    found = read_status(folder, now_s=NOW_S)

    assert (found.state, found.running) == ("interrupted", [])
    assert found.next == f"affectune resume faces --storage {folder.path.parent}"


def test_search_is_interrupted_when_another_process_has_got_its_number(folder: SearchFolder) -> None:
    hold(folder, f"process {os.getpid()} on {socket.gethostname()}")
    os.utime(folder.path / "lock", (NOW_S - 10**6,) * 2)

    assert read_status(folder, now_s=NOW_S).state == "interrupted"


@pytest.mark.parametrize(("later_s", "state"), [(0.0, "running"), (SILENT_S + 10, "silent")])
def test_search_of_another_machine_is_judged_by_what_it_writes(
    folder: SearchFolder, later_s: float, state: str
) -> None:
    hold(folder, "process 12 on head-of-the-cluster")

    found = read_status(folder, now_s=NOW_S + later_s)

    assert (found.state, found.driver) == (state, "process 12 on head-of-the-cluster")


def test_status_counts_trials_and_says_what_runs_where(folder: SearchFolder) -> None:
    found = read_status(folder, now_s=NOW_S)

    assert found.ends == {"completed": 1, "stopped": 1, "diverged": 1, "open": 1}
    [trial] = found.running
    assert (trial.trial_id, trial.epoch, trial.n_epochs, trial.node) == ("t0003", 3, 8, "gpu-7")
    assert trial.silent_s == pytest.approx(4.0, abs=0.1)
    assert found.best == ("t0000", 0.5)


def test_status_guesses_the_time_from_what_trials_took(folder: SearchFolder) -> None:
    found = read_status(folder, now_s=NOW_S)

    assert found.time_left_s is None
    assert found.about_left_s == pytest.approx(3 * 30 - 15)


def test_status_knows_the_time_that_is_left_of_a_budget(folder: SearchFolder) -> None:
    folder.write_manifest(replace(MANIFEST, n_trials=None, time_budget_s=600.0, wall_s=50.0))

    found = read_status(folder, now_s=NOW_S)

    assert found.time_left_s == pytest.approx(600 - 50 - 100)


def test_status_of_a_search_that_ended_names_the_next_step(folder: SearchFolder) -> None:
    folder.write_manifest(replace(MANIFEST, status="ended"))
    before = read_status(folder, now_s=NOW_S)
    folder.write_ensemble({})
    after = read_status(folder, now_s=NOW_S)

    assert (before.state, before.next.split()[1]) == ("ended", "ensemble")
    assert (after.state, after.next.split()[1]) == ("ended", "export")


def test_status_points_at_the_heads_that_go_first(tmp_path: Path) -> None:
    folder = SearchFolder(tmp_path / "faces")
    for each in (folder, folder.heads):
        each.write_manifest(replace(MANIFEST, launched_s=NOW_S - 2000, plan={"first": "heads:200"}))
        os.utime(each.path / "search.json", (NOW_S - 2000,) * 2)
    os.utime(folder.heads.path / "search.json", (NOW_S - 3,) * 2)
    hold(folder, "process 12 on head-of-the-cluster")

    found = read_status(folder, now_s=NOW_S)

    assert (found.state, found.heard_s) == ("running", pytest.approx(NOW_S - 3))
    assert found.next == f"affectune status faces-heads --storage {tmp_path}"


def test_status_counts_the_records_that_wait_for_mlflow(folder: SearchFolder) -> None:
    folder.tracking_dir.mkdir()
    lines = [json.dumps({"op": "start", "key": f"t{i}"}) + "\n" for i in range(5)]
    (folder.tracking_dir / "operations.jsonl").write_text("".join(lines))
    sent = {"offset": len(lines[0]) * 2, "experiment_id": "1"}
    (folder.tracking_dir / f"sent-{server_mark(URI)}.json").write_text(json.dumps(sent))

    assert read_status(folder, now_s=NOW_S).n_waiting == 3


def test_status_shows_no_password(folder: SearchFolder) -> None:
    found = read_status(folder, now_s=NOW_S)

    assert found.tracking_uri == "http://...@mlflow.example:5000"
    assert "hush" not in json.dumps(asdict(found))


def test_status_leaves_the_folder_as_it_is_and_does_not_wait_for_its_lock(folder: SearchFolder) -> None:
    def seen() -> dict[str, Any]:
        return {str(file): file.stat().st_mtime_ns for file in folder.path.rglob("*")}

    with (folder.path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        before = seen()

        read_status(folder)

    assert seen() == before


def test_command_tells_a_person(folder: SearchFolder, capsys: pytest.CaptureFixture[str]) -> None:
    hold(folder, "process 12 on head-of-the-cluster")

    code = main(["status", "faces", "--storage", str(folder.path.parent)])

    said = capsys.readouterr().out
    assert code == 0
    assert "by process 12 on head-of-the-cluster" in said
    assert "trials      4 of 6: 1 completed, 1 stopped, 1 diverged, 1 open" in said
    assert "running     t0003, epoch 3/8 on gpu-7, best 0.4000, last sign of life " in said
    assert "best        t0000, macro-F1 0.5000 on valid" in said


def test_command_gives_one_document(folder: SearchFolder, capsys: pytest.CaptureFixture[str]) -> None:
    main(["status", "faces", "--storage", str(folder.path.parent), "--json"])

    document = json.loads(capsys.readouterr().out)
    assert (document["search"], document["n_trials"], document["best"]) == ("faces", 6, ["t0000", 0.5])
    assert document["running"][0]["node"] == "gpu-7"


def test_command_offers_the_searches_that_are_there(folder: SearchFolder, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["status", "face", "--storage", str(folder.path.parent)])

    assert code == 1
    assert "did you mean 'faces'" in capsys.readouterr().err


def test_status_of_a_thousand_trials_comes_at_once(folder: SearchFolder) -> None:
    history = [{"epoch": epoch, "valid/macro_f1": 0.5, "train/loss": 1.0, "time/epoch_s": 2.0} for epoch in range(30)]
    for number in range(4, 1000):
        folder.write_record(replace(TRIALS[0], trial_id=f"t{number:04d}", number=number, history=history))

    started_s = time.process_time()
    found = read_status(folder, now_s=NOW_S)

    assert time.process_time() - started_s < 2.0
    assert found.ends["completed"] == 997

"""A driver that is killed outright, and the command that goes on."""

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

if TYPE_CHECKING:
    from trainables.data.table import FaceTable

ROOT = Path(__file__).resolve().parents[2]
MAIN = "import sys; from search.cli import main; sys.exit(main())"
SPACE = """
name: small
description: two dimensions of a tiny network
parameters:
  optimiser.lr: {log_uniform: [1.0e-4, 1.0e-2], default: 1.0e-3}
  loss.label_smoothing: {uniform: [0.0, 0.6], default: 0.1}
fixed: {model.backbone: test_efficientnet, model.weights: none, model.image_px: 32, train.epochs: 2}
"""
N_TRIALS = 4


def start(*words: str) -> "subprocess.Popen[str]":
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", MAIN, *words],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def kill_after(driver: "subprocess.Popen[str]", text: str, *, delay_s: float) -> str:
    """Kill the driver a while after it printed a line with `text`; wait until the workers it left have ended."""
    assert driver.stdout is not None
    lines = []
    for line in driver.stdout:
        lines.append(line)
        if text in line:
            break
    time.sleep(delay_s)
    children = psutil.Process(driver.pid).children(recursive=True) if driver.poll() is None else []
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    deadline_s = time.monotonic() + 60
    while any(map(is_alive, children)) and time.monotonic() < deadline_s:
        time.sleep(0.2)
    return "".join(lines)


def is_alive(process: psutil.Process) -> bool:
    """Ray's agents, which train nothing, stay for a minute; a zombie is what nobody has reaped."""
    try:
        is_agent = "Agent" in " ".join(process.cmdline())
        return not is_agent and process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def run_to_end(*words: str) -> str:
    driver = start(*words)
    output, _ = driver.communicate(timeout=300)
    assert driver.returncode == 0, output
    return output


def trial_documents(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(file.read_text(encoding="utf-8")) for file in sorted(folder.glob("trials/*/trial.json"))]


def ask_mlflow(storage: Path, query: str) -> list[tuple[Any, ...]]:
    with sqlite3.connect(storage / "mlflow.db") as database:
        return database.execute(query).fetchall()


def assert_whole(folder: Path, *, n_trials: int) -> None:
    """What must hold of a search that was killed and went on."""
    documents = trial_documents(folder)
    assert [document["number"] for document in documents] == list(range(n_trials))
    assert {document["end"] for document in documents} <= {"completed", "stopped"}
    configs = [json.dumps(document["config"], sort_keys=True) for document in documents]
    assert len(set(configs)) == n_trials
    for document in documents:
        assert [epoch["epoch"] for epoch in document["history"]] == list(range(1, document["epochs"] + 1))
    assert json.loads((folder / "search.json").read_text(encoding="utf-8"))["status"] == "ended"
    assert list(folder.glob("tune*")) == []
    assert list(folder.glob("trials/*/checkpoint.pt")) == []
    assert ask_mlflow(folder.parent, "select run_uuid from runs where status = 'RUNNING'") == []
    twice = "select run_uuid, key, step from metrics where key = 'train/loss' group by 1, 2, 3 having count(*) > 1"
    assert ask_mlflow(folder.parent, twice) == []
    n_points = ask_mlflow(folder.parent, "select count(*) from metrics where key = 'train/loss'")[0][0]
    assert n_points == sum(document["epochs"] for document in documents)


@pytest.mark.slow
def test_search_goes_on_after_its_driver_was_killed(face_table: "FaceTable", tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(SPACE, encoding="utf-8")
    storage = tmp_path / "runs"
    moment = random.SystemRandom().uniform(0.0, 4.0)
    words = ["--data", str(face_table.path), "--name", "cut", "--trials", str(N_TRIALS), "--storage", str(storage)]

    kill_after(start("search", str(tmp_path / "small.yaml"), *words), "epoch 1/2", delay_s=moment)
    finished = {document["trial_id"]: document for document in trial_documents(storage / "cut") if document["end"]}
    run_to_end("resume", "cut", "--storage", str(storage))

    assert_whole(storage / "cut", n_trials=N_TRIALS)
    after = {document["trial_id"]: document for document in trial_documents(storage / "cut")}
    assert {trial_id: after[trial_id] for trial_id in finished} == finished, f"killed after {moment:.2f} s"

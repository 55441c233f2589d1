"""The tracking server's files: a server that starts, and a search that outlives it."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from search.tracking import Tracker
from search.tracking_server import answers

ROOT = Path(__file__).resolve().parents[1]
START = ROOT / "mlflow" / "start.sh"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _environment(folder: Path, **settings: str) -> dict[str, str]:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "AFFECTUNE_TRACKING_DIR": str(folder), **settings}


class Server:
    """start.sh on a port of its own, in a process group of its own."""

    def __init__(self, folder: Path, *, port: int) -> None:
        self.uri = f"http://127.0.0.1:{port}"
        self.log = folder.parent / "server.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [START], env=_environment(folder, MLFLOW_PORT=str(port)), stdout=log, stderr=log, start_new_session=True
            )

    def wait_until_ready(self) -> None:
        for _ in range(600):
            assert self.process.poll() is None, self.log.read_text()
            if answers(self.uri, timeout_s=2):
                return
            time.sleep(0.3)
        raise AssertionError(f"not ready: {self.log.read_text()}")

    def kill(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server that is starting."""
    started = Server(tmp_path / "store", port=_free_port())
    yield started
    started.kill()


def test_mlflow_folder_holds_no_python_file() -> None:
    assert list((ROOT / "mlflow").rglob("*.py")) == []


def test_start_script_is_sound_bash_that_stops_at_the_first_error() -> None:
    assert subprocess.run(["bash", "-n", START], check=False).returncode == 0
    assert "set -euo pipefail" in START.read_text()
    assert os.access(START, os.X_OK)


def test_server_settings_keep_the_server_private() -> None:
    lines = (ROOT / "mlflow" / "server.env").read_text().splitlines()
    settings = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))

    assert settings["MLFLOW_HOST"] == "127.0.0.1"
    assert settings["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert settings["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"


@pytest.mark.parametrize("port", ["", "5055"])
def test_start_script_lets_the_environment_win(port: str, tmp_path: Path) -> None:
    fake = tmp_path / "bin" / "mlflow"
    fake.parent.mkdir()
    fake.write_text(
        '#!/usr/bin/env bash\necho "$PWD $MLFLOW_PORT $MLFLOW_HOST $* ${MLFLOW_SERVER_ALLOWED_HOSTS-unset}"'
    )
    fake.chmod(0o755)
    script = tmp_path / "mlflow" / "start.sh"
    script.parent.mkdir()
    for name in ("start.sh", "server.env"):
        (script.parent / name).write_text((ROOT / "mlflow" / name).read_text())
    settings = {"MLFLOW_PORT": port} if port else {}
    environment = {"PATH": f"{fake.parent}:/usr/bin:/bin", **settings}

    done = subprocess.run(["bash", script, "--dev"], env=environment, capture_output=True, text=True, check=True)

    store = (tmp_path / "mlflow" / "store").resolve()
    assert done.stdout.splitlines()[-1] == f"{store} {port or '5000'} 127.0.0.1 server --dev unset"
    assert store.is_dir()


def test_start_script_refuses_a_line_that_is_no_setting(tmp_path: Path) -> None:
    (tmp_path / "start.sh").write_text(START.read_text())
    (tmp_path / "server.env").write_text("port 5000\n")

    done = subprocess.run(["bash", tmp_path / "start.sh"], capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert "must be a comment or NAME=VALUE, got 'port 5000'" in done.stderr


@pytest.mark.slow
def test_search_outlives_a_server_that_starts_late_and_dies(server: Server, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    told: list[str] = []
    tracker = Tracker(server.uri, "late", tmp_path / "tracking", on_trouble=told.append)
    search = tracker.start_search(name="launch")
    tracker.start_run("t0000", parent_key=search, name="t0000", params={"optimiser.lr": 0.1})
    tracker.log_epoch("t0000", {"valid/macro_f1": 0.1}, 1)
    server.wait_until_ready()
    tracker.log_epoch("t0000", {"valid/macro_f1": 0.2}, 2)
    notes = tmp_path / "notes.txt"  # the server's own log would grow while it is sent, longer than was announced
    notes.write_text("late\n")
    tracker.log_artifact("t0000", notes, "logs")
    assert tracker.flush(timeout_s=120) == 0

    history = MlflowClient(server.uri).get_metric_history(tracker.run_id("t0000"), "valid/macro_f1")
    files = MlflowClient(server.uri).list_artifacts(tracker.run_id("t0000"), "logs")
    server.kill()
    begin = time.monotonic()
    tracker.log_epoch("t0000", {"valid/macro_f1": 0.3}, 3)
    waiting = tracker.close(timeout_s=20)

    assert [(point.step, point.value) for point in history] == [(1, 0.1), (2, 0.2)]
    assert [file.path for file in files] == ["logs/notes.txt"]
    assert waiting == 1
    assert time.monotonic() - begin < 15
    assert (tmp_path / "store" / "mlflow.db").is_file()
    assert "connection refused" in told[0].lower()

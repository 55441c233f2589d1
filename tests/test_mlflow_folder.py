"""The tracking server's files: a server that starts, and a search that outlives it."""

import configparser
import os
import shutil
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


def read_settings(name: str) -> dict[str, str]:
    """The settings of a file, without its comments."""
    lines = (ROOT / "mlflow" / name).read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def test_server_settings_keep_the_server_private() -> None:
    settings = read_settings("server.env")

    assert settings["MLFLOW_HOST"] == "127.0.0.1"
    assert settings["AFFECTUNE_TRACKING_LOGIN"] == "none"
    assert settings["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert settings["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"


def test_settings_of_a_team_ask_for_a_password_and_hold_none() -> None:
    settings = read_settings("team.env")

    assert settings["AFFECTUNE_TRACKING_LOGIN"] == "password"
    assert settings["MLFLOW_SERVER_ALLOWED_HOSTS"]
    assert "*" not in settings["MLFLOW_SERVER_ALLOWED_HOSTS"].split(",")
    assert not [name for name in settings if "PASSWORD" in name]
    assert settings["MLFLOW_BACKEND_STORE_URI"].startswith("postgresql+psycopg2://mlflow@")


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """start.sh in a copy of the folder, with an `mlflow` on the PATH that says how it was called."""
    fake = tmp_path / "bin" / "mlflow"
    fake.parent.mkdir()
    fake.write_text(
        '#!/usr/bin/env bash\necho "$PWD $MLFLOW_PORT $MLFLOW_HOST $* ${MLFLOW_SERVER_ALLOWED_HOSTS-unset}"'
    )
    fake.chmod(0o755)
    shutil.copytree(ROOT / "mlflow", tmp_path / "mlflow", ignore=shutil.ignore_patterns("store"))
    return tmp_path / "mlflow" / "start.sh"


def run_script(script: Path, *words: str, **settings: str) -> "subprocess.CompletedProcess[str]":
    """Run the script with nothing in its environment but the settings."""
    environment = {"PATH": f"{script.parents[1] / 'bin'}:/usr/bin:/bin", **settings}
    return subprocess.run(["bash", script, *words], env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("port", ["", "5055"])
def test_start_script_lets_the_environment_win(port: str, copied: Path) -> None:
    done = run_script(copied, "--dev", **({"MLFLOW_PORT": port} if port else {}))

    store = (copied.parent / "store").resolve()
    assert done.stdout.splitlines()[-1] == f"{store} {port or '5000'} 127.0.0.1 server --dev unset"
    assert store.is_dir()


def test_start_script_takes_the_settings_of_a_team_before_its_own(copied: Path) -> None:
    done = run_script(copied, "team.env", "--dev")

    called = done.stdout.splitlines()[-1].split()
    assert called[1:6] == ["5000", "0.0.0.0", "server", "--app-name", "basic-auth"]
    assert called[6] == "--dev"
    assert "mlflow.example.org" in called[7]


def test_start_script_leaves_what_a_login_needs_to_its_owner(copied: Path) -> None:
    run_script(copied, "team.env", MLFLOW_BACKEND_STORE_URI="postgresql://mlflow:odd%21word@db/mlflow")
    key = (copied.parent / "store" / "login.key").read_text()
    run_script(copied, "team.env", MLFLOW_BACKEND_STORE_URI="postgresql://mlflow:odd%21word@db/mlflow")

    settings = configparser.ConfigParser()
    settings.read(copied.parent / "store" / "login.ini")
    assert settings["mlflow"]["database_uri"] == "postgresql://mlflow:odd%21word@db/mlflow"
    assert settings["mlflow"]["default_permission"] == "READ"
    assert (copied.parent / "store" / "login.key").read_text() == key
    assert len(key) > 32
    for name in ("login.ini", "login.key"):
        assert (copied.parent / "store" / name).stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("settings", "words", "complaint"),
    [
        ({"MLFLOW_HOST": "0.0.0.0"}, (), "MLFLOW_HOST must be 127.0.0.1 while nobody logs in, got 0.0.0.0"),
        ({}, ("--host", "0.0.0.0"), "the address must be named by MLFLOW_HOST, got the option --host"),
        ({}, ("-h0.0.0.0",), "the address must be named by MLFLOW_HOST, got the option -h0.0.0.0"),
        (
            {"AFFECTUNE_TRACKING_LOGIN": "yes"},
            (),
            "AFFECTUNE_TRACKING_LOGIN must be none, password or proxy, got 'yes'",
        ),
        ({}, ("mine.env",), "settings must be a file that can be read, got "),
    ],
    ids=["open address", "address as option", "address as short option", "unknown login", "missing file"],
)
def test_start_script_refuses(settings: dict[str, str], words: tuple[str, ...], complaint: str, copied: Path) -> None:
    done = run_script(copied, *words, **settings)

    assert done.returncode == 1
    assert complaint in done.stderr
    assert done.stdout == ""


def test_start_script_listens_elsewhere_where_a_proxy_asks_for_passwords(copied: Path) -> None:
    done = run_script(copied, MLFLOW_HOST="10.0.0.7", AFFECTUNE_TRACKING_LOGIN="proxy")

    assert done.stdout.splitlines()[-1].split()[2:4] == ["10.0.0.7", "server"]


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

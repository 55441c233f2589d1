"""Before a search starts, it is known whether its records can be stored."""

import http.server
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from search.tracking_server import (
    check_server,
    create_database,
    hide_password,
    is_mlflow_database,
    sqlite_path,
)
from spaces.errors import TrackingError

ROOT = Path(__file__).resolve().parents[2]

KILLED_ON_THE_WAY = """
import os, sys
from pathlib import Path
import mlflow.store.db.utils as utils
from search.tracking_server import create_database
utils._upgrade_db = lambda engine: os._exit(9)
create_database(Path(sys.argv[1]), artifact_root=Path(sys.argv[1]).parent)
"""


@pytest.mark.slow
def test_database_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    from mlflow import MlflowClient

    path = tmp_path / "storage" / "mlflow.db"
    killed = subprocess.run([sys.executable, "-c", KILLED_ON_THE_WAY, path], cwd=ROOT, check=False)
    was_there = path.exists()

    create_database(path, artifact_root=tmp_path)
    made = path.read_bytes()
    create_database(path, artifact_root=tmp_path)

    assert (killed.returncode, was_there) == (9, False)
    assert path.read_bytes() == made
    client = MlflowClient(tracking_uri=f"sqlite:///{path}")
    experiment_id = client.create_experiment("faces")
    assert client.get_experiment(experiment_id).name == "faces"


@pytest.mark.slow
def test_database_of_a_quicker_search_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(source: Path, target: Path) -> None:
        target.write_text("the other's")
        raise FileExistsError

    monkeypatch.setattr("os.link", link)

    create_database(tmp_path / "mlflow.db", artifact_root=tmp_path)

    assert (tmp_path / "mlflow.db").read_text() == "the other's"
    assert [file.name for file in tmp_path.iterdir()] == ["mlflow.db"]


@pytest.mark.slow
def test_two_threads_make_two_databases_at_once(tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as threads:
        made = [threads.submit(create_database, tmp_path / f"{n}.db", artifact_root=tmp_path) for n in range(2)]

    assert [one.exception() for one in made] == [None, None]
    assert all(is_mlflow_database(tmp_path / f"{n}.db") for n in range(2))


@pytest.fixture
def dead_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that takes connections and never says a word."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(8)
        yield listener.getsockname()[1]


@pytest.fixture
def other_program() -> Iterator[int]:
    """An HTTP server that is no MLflow."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>")

        def log_message(self, *words: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def test_check_server_says_at_once_when_nobody_listens(dead_port: int) -> None:
    begin = time.monotonic()

    with pytest.raises(TrackingError) as caught:
        check_server(f"http://127.0.0.1:{dead_port}")

    assert "must answer, got connection refused" in str(caught.value)
    assert f"http://127.0.0.1:{dead_port}" in str(caught.value)
    assert time.monotonic() - begin < 2


def test_check_server_waits_no_longer_than_told_when_a_server_hangs(silent_port: int) -> None:
    begin = time.monotonic()

    with pytest.raises(TrackingError, match=r"must answer within 0\.3 s, got nothing"):
        check_server(f"http://127.0.0.1:{silent_port}", timeout_s=0.3)

    assert time.monotonic() - begin < 2


@pytest.fixture
def closed_server() -> Iterator[Callable[[int], str]]:
    """Starts a server that is well, and answers whoever asks for experiments with a status."""
    servers = []

    def start(status: int) -> str:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                is_health = self.path == "/health"
                self.send_response(200 if is_health else status)
                self.end_headers()
                self.wfile.write(b"OK" if is_health else b"")

            def log_message(self, *words: object) -> None:
                pass

        servers.append(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=servers[-1].serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return f"http://me:hush@127.0.0.1:{servers[-1].server_address[1]}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        (401, r"must let us in, got status 401; its login belongs into MLFLOW_TRACKING_USERNAME"),
        (403, r"must let us in, got status 403; the address must be one of its allowed hosts"),
        (500, r"must answer with status 200, got 500; start it"),
    ],
    ids=["wrong password", "no allowed host", "no database"],
)
def test_check_server_refuses_one_that_is_well_but_takes_nothing(
    closed_server: Callable[[int], str], status: int, sentence: str
) -> None:
    with pytest.raises(TrackingError, match=sentence) as caught:
        check_server(closed_server(status))

    assert "hush" not in str(caught.value)


def test_check_server_tells_another_program_from_mlflow(other_program: int) -> None:
    with pytest.raises(TrackingError, match=r"/health with OK, got b'<html>': some other program\?"):
        check_server(f"http://127.0.0.1:{other_program}")


@pytest.mark.parametrize("uri", ["postgresql://me:word@db/mlflow", "runs/mlflow.db", "file:///tmp/mlruns", "ftp://x"])
def test_check_server_names_the_schemes_when_it_knows_another(uri: str) -> None:
    with pytest.raises(TrackingError, match="must start with http:, https:, sqlite:") as caught:
        check_server(uri)

    assert "word" not in str(caught.value)


def test_check_server_takes_a_database_that_is_still_to_be_made(tmp_path: Path) -> None:
    check_server(f"sqlite:///{tmp_path}/new/folder/mlflow.db")

    assert not (tmp_path / "new").exists()


def test_check_server_refuses_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("no database, but long enough")

    with pytest.raises(TrackingError, match=r"must be an SQLite file, got .*mlflow\.db"):
        check_server(f"sqlite:///{tmp_path}/mlflow.db")


def test_check_server_refuses_a_folder_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(TrackingError, match="must lie in a folder that can be written"):
        check_server(f"sqlite:///{tmp_path}/file/mlflow.db")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_check_server_refuses_a_folder_that_can_not_be_written(tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)

    with pytest.raises(TrackingError, match="must lie in a folder that can be written"):
        check_server(f"sqlite:///{tmp_path}/locked/mlflow.db")


@pytest.mark.parametrize("uri", ["sqlite://", "sqlite:///", "sqlite:///:memory:"])
def test_sqlite_path_refuses_an_address_without_a_file(uri: str) -> None:
    with pytest.raises(TrackingError, match="must name a file after sqlite:///"):
        sqlite_path(uri)


def test_sqlite_path_tells_absolute_from_relative() -> None:
    assert sqlite_path("sqlite:////srv/mlflow.db") == Path("/srv/mlflow.db")
    assert sqlite_path("sqlite:///runs/mlflow.db") == Path("runs/mlflow.db")


def test_is_mlflow_database_is_false_for_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").touch()

    assert not is_mlflow_database(tmp_path / "mlflow.db")


def test_hide_password_leaves_scheme_and_host() -> None:
    assert hide_password("https://me:secret@host:5000/x") == "https://...@host:5000/x"

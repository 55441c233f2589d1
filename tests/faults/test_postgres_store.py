"""A team's tracking server: mlflow/start.sh before a real PostgreSQL, which is restarted while a search runs."""

import base64
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from books import GOOD_ENDS, RUNS, TRIAL_POINTS, read_records, wrongs_in_points, wrongs_in_records, wrongs_in_study
from measure import Row, Target, compare
from outages import SLOWER, note_pace, search_through
from processes import free_port
from searches import Place

from search.tracking import Tracker
from search.tracking_server import answers, check_server
from spaces.errors import TrackingError

if TYPE_CHECKING:
    from conftest import Scale

pytestmark = pytest.mark.faults

ROOT = Path(__file__).resolve().parents[2]
BIN = max(Path("/usr/lib/postgresql").glob("*/bin/initdb"), default=Path("none")).parent
PASSWORD = "long enough for a test"
LOGIN = {"MLFLOW_TRACKING_USERNAME": "admin", "MLFLOW_TRACKING_PASSWORD": PASSWORD}
AWAY_S = {"small": 10.0, "full": 30.0}


class Postgres:
    """A PostgreSQL of our own: a free port of this machine, a folder under /tmp, a user who is not root."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self._as = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.getuid() == 0 else {}
        if self._as:
            shutil.chown(folder, "postgres", "postgres")
        (folder / "word").write_text(PASSWORD, encoding="utf-8")
        words = ["--auth=scram-sha-256", f"--pwfile={folder / 'word'}", "--username=mlflow", "--no-sync"]
        self._run("initdb", "--pgdata", str(folder / "data"), *words)

    @property
    def uri(self) -> str:
        """As MLflow takes it, without the password, which is in the environment."""
        return f"postgresql+psycopg2://mlflow@127.0.0.1:{self.port}/mlflow"

    def start(self) -> None:
        """Start it and wait until it takes connections."""
        words = ["-D", "data", "-k", str(self.folder), "-p", str(self.port), "-c", "listen_addresses=127.0.0.1"]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen([BIN / "postgres", *words], cwd=self.folder, stderr=log, **self._as)
        for _ in range(300):
            if subprocess.run([BIN / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)]).returncode == 0:
                return
            assert self._process.poll() is None, (self.folder / "log").read_text(encoding="utf-8")
            time.sleep(0.1)
        raise AssertionError("PostgreSQL takes no connections")

    def stop(self) -> None:
        """Its fast mode: whoever is connected is cut off."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
        assert self._process.wait(timeout=60) == 0

    def create_database(self) -> None:
        """Make the one that is for MLflow."""
        self._run("createdb", "--host=127.0.0.1", f"--port={self.port}", "--username=mlflow", "mlflow")

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """What the database says; a value stands as %s in the query."""
        import psycopg2

        connection = psycopg2.connect(
            host="127.0.0.1", port=self.port, user="mlflow", dbname="mlflow", password=PASSWORD
        )
        try:
            with connection.cursor() as cursor:
                cursor.execute(query, values)
                return list(cursor.fetchall())
        finally:
            connection.close()

    def _run(self, program: str, *words: str) -> None:
        environment = {**os.environ, "PGPASSWORD": PASSWORD}
        done = subprocess.run(
            [BIN / program, *words], cwd=self.folder, env=environment, capture_output=True, text=True, **self._as
        )
        assert done.returncode == 0, done.stderr


class TeamServer:
    """A copy of mlflow/ run as a team does, with its log-in, by the Python that runs the tests."""

    def __init__(self, folder: Path, *, store_uri: str) -> None:
        self.uri = f"http://127.0.0.1:{free_port()}"
        self.log = folder / "server.log"
        self.store = folder / "store"
        shutil.copytree(ROOT / "mlflow", folder / "mlflow")
        environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PGPASSWORD": PASSWORD,
            "MLFLOW_AUTH_ADMIN_PASSWORD": PASSWORD,
            "AFFECTUNE_TRACKING_DIR": str(self.store),
            "MLFLOW_HOST": "127.0.0.1",
            "MLFLOW_PORT": self.uri.rpartition(":")[2],
            "MLFLOW_BACKEND_STORE_URI": store_uri,
            "MLFLOW_ARTIFACTS_DESTINATION": "./mlartifacts",
        }
        with self.log.open("wb") as log:
            words = [folder / "mlflow" / "start.sh", "team.env"]
            self._process = subprocess.Popen(words, env=environment, stdout=log, stderr=log, start_new_session=True)

    def wait_until_ready(self) -> None:
        for _ in range(600):
            assert self._process.poll() is None, self.log.read_text()
            if answers(self.uri.replace("//", f"//admin:{PASSWORD}@"), timeout_s=2):
                return
            time.sleep(0.3)
        raise AssertionError(f"not ready: {self.log.read_text()}")

    def status_of(self, path: str, *, word: str = "", host: str = "") -> int:
        """The HTTP status that a path gives."""
        request = urllib.request.Request(f"{self.uri}{path}")
        if word:
            request.add_header("Authorization", "Basic " + base64.b64encode(f"admin:{word}".encode()).decode())
        if host:
            request.add_header("Host", host)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    def kill(self) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    """A database that is running; skipped where there is none to start."""
    if not (BIN / "postgres").exists():
        pytest.skip("needs PostgreSQL under /usr/lib/postgresql: apt-get install postgresql")
    for module in ("psycopg2", "flask_wtf"):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"needs {module}: pip install psycopg2-binary 'mlflow[auth]'")
    with tempfile.TemporaryDirectory(prefix="affectune-postgres-") as name:
        database = Postgres(Path(name))
        try:
            database.start()
            database.create_database()
            yield database
        finally:
            database.stop()


@pytest.fixture(scope="module")
def server(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TeamServer]:
    """A team's server that is ready."""
    started = TeamServer(tmp_path_factory.mktemp("team"), store_uri=postgres.uri)
    try:
        started.wait_until_ready()
        yield started
    finally:
        started.kill()


@pytest.fixture(autouse=True)
def logged_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients log in by the environment, as a search does."""
    for name, value in LOGIN.items():
        monkeypatch.setenv(name, value)


def close_when_sent(tracker: Tracker) -> int:
    """Close a tracker once all is sent, or after ten tries; returns what still waits."""
    for _ in range(10):
        if tracker.flush(timeout_s=60) == 0:
            break
    return tracker.close(timeout_s=60)


def test_server_of_a_team_turns_strangers_away(server: TeamServer) -> None:
    path = "/api/2.0/mlflow/experiments/get-by-name?experiment_name=Default"

    assert server.status_of(path) == 401
    assert server.status_of(path, word="not the password") == 401
    assert server.status_of(path, word=PASSWORD) == 200
    assert server.status_of(path, word=PASSWORD, host="elsewhere.example.com") == 403


def test_search_with_a_wrong_password_does_not_start(server: TeamServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "not the password")

    with pytest.raises(TrackingError, match="must let us in, got status 401; its login belongs into MLFLOW_TRACKING"):
        check_server(server.uri)


def test_server_of_a_team_keeps_its_secrets_to_itself(server: TeamServer) -> None:
    for name in ("login.ini", "login.key"):
        assert (server.store / name).stat().st_mode & 0o077 == 0
    written = [path for path in (server.store / "login.ini", server.log) if PASSWORD in path.read_text()]
    assert written == []


def test_records_arrive_once_though_the_database_was_restarted(
    server: TeamServer, postgres: Postgres, tmp_path: Path
) -> None:
    told: list[str] = []
    tracker = Tracker(server.uri, "restarted", tmp_path / "tracking", on_trouble=told.append)
    search = tracker.start_search(name="launch")
    tracker.start_run("t0000", parent_key=search, name="t0000", params={"optimiser.lr": 0.1})
    tracker.log_epoch("t0000", {"valid/macro_f1": 0.1}, 1)
    assert tracker.flush(timeout_s=60) == 0
    run_id = tracker.run_id("t0000")

    postgres.stop()
    tracker.log_epoch("t0000", {"valid/macro_f1": 0.2}, 2)
    tracker.flush(timeout_s=60)
    waiting, trouble = tracker.flush(timeout_s=60), tracker.trouble
    postgres.start()
    tracker.log_epoch("t0000", {"valid/macro_f1": 0.3}, 3)
    tracker.end_run("t0000", "completed")
    left = close_when_sent(tracker)

    assert waiting > 0
    assert trouble is not None
    assert left == 0
    points = postgres.rows("select step, value from metrics where run_uuid = %s order by step", run_id)
    assert points == [(1, 0.1), (2, 0.2), (3, 0.3)]
    assert postgres.rows("select status from runs where run_uuid = %s", run_id) == [("FINISHED",)]
    assert [line for line in told if "answers again" in line]


def test_file_arrives_though_the_database_was_away_when_it_was_sent(
    server: TeamServer, postgres: Postgres, tmp_path: Path
) -> None:
    notes = tmp_path / "notes.txt"
    notes.write_text("kept\n", encoding="utf-8")
    tracker = Tracker(server.uri, "files", tmp_path / "tracking", on_trouble=lambda _: None)
    tracker.start_run("t0000", parent_key=tracker.start_search(name="launch"), name="t0000")
    assert tracker.flush(timeout_s=60) == 0

    postgres.stop()
    tracker.log_artifact("t0000", notes)
    tracker.flush(timeout_s=60)
    postgres.start()
    left = close_when_sent(tracker)

    assert left == 0
    assert not (tmp_path / "tracking" / "rejected.jsonl").exists()
    assert [file.name for file in (server.store / "mlartifacts").rglob("*.txt")] == ["notes.txt"]


def test_database_of_the_tracking_server_that_is_restarted_slows_no_trial_and_misses_nothing(
    server: TeamServer, postgres: Postgres, place: Place, scale: "Scale", figures: Callable[[Row], None]
) -> None:
    place.settings.update(LOGIN)

    outage = search_through(
        place, "--tracking-uri", server.uri, away_s=AWAY_S[scale], scale=scale, stop=postgres.stop, start=postgres.start
    )

    wrongs = wrongs_in_books_of_a_team(place.storage / "alone", postgres, n_trials=outage.n_trials)
    note_pace(outage, f"PostgreSQL behind MLflow stopped for {AWAY_S[scale]:.0f} s", figures)
    figures(compare("of all numbers of that search, missing, wrong or twice in MLflow afterwards", len(wrongs), "",
                    target=Target(value_at_most=0)))  # fmt: skip
    assert wrongs == []
    assert "the search goes on, records wait in" in outage.told
    assert "tracking server answers again" in outage.told
    assert outage.slower_within()[0] <= SLOWER  # that it is slower by more is not shown


def wrongs_in_books_of_a_team(folder: Path, postgres: Postgres, *, n_trials: int) -> list[str]:
    """What is out of order in a search that has ended, a sentence each."""
    records = read_records(folder)
    points = postgres.rows(TRIAL_POINTS.replace("?", "%s"), folder.name)
    runs = postgres.rows(RUNS.replace("?", "%s"), folder.name)
    places = Counter((key, metric, step) for key, metric, step, _ in points)
    return [
        *wrongs_in_records(folder, records, n_trials=n_trials, ends=GOOD_ENDS),
        *wrongs_in_study(folder / "study.jsonl", records),
        *wrongs_in_points({(key, metric, step): value for key, metric, step, value in points}, records),
        *(f"{n} values of {where}" for where, n in places.items() if n > 1),
        *(f"{n} runs have the key {key}" for key, n in Counter(key for key, _ in runs).items() if n > 1),
        *(f"run {key} is {status}" for key, status in runs if status != "FINISHED"),
    ]

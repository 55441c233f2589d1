"""MLflow's own server on this machine, for looking at searches: started, watched, and ended without a trace."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import webbrowser
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import IO, NoReturn

from search.folder import SearchFolder
from search.privacy import PRIVATE_ENVIRONMENT
from search.run_views import runs_link
from search.tracking_journal import experiment_of, read_identity
from search.tracking_server import answers, is_mlflow_database, sqlite_path
from spaces.errors import SearchError, TrackingError

HOST = "127.0.0.1"
START_LIMIT_S = 240.0
STOP_LIMIT_S = 15.0
_SCREENS = ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")
"""Variables of which one is set where pages can be shown; a browser of letters would take the terminal."""


def check_database(uri: str) -> Path:
    """The file behind a `sqlite:///` address.

    Raises:
        SearchError: there is none, or it is not MLflow's.
    """
    path = sqlite_path(uri).absolute()
    if not path.is_file() or not is_mlflow_database(path):
        raise SearchError(
            f"storage must hold MLflow's database, got no {path}; run a search first, or name its --storage "
            "or --tracking-uri"
        )
    return path


def check_port(port: int) -> None:
    """Raise TrackingError where the port is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except (OSError, OverflowError) as error:
            why = str(getattr(error, "strerror", None) or error).lower()
            raise TrackingError(f"port must be free, got {port}: {why}; choose another with --port") from None


def search_links(storage: Path, uri: str, *, base: str) -> dict[str, str]:
    """Name of every search of a storage that was recorded at `uri`, newest last, and the UI's page of its trials."""
    links = {}
    for folder in sorted(storage.glob("*/tracking"), key=_launched_s):
        with contextlib.suppress(SearchError):
            identity, experiment_id = read_identity(folder), experiment_of(folder)
            if experiment_id is not None and _store(identity["uri"]) == _store(uri):
                links[folder.parent.name] = runs_link(base, experiment_id, search_id=identity["search_id"])
    return links


def open_browser(link: str) -> bool:
    """Show a page to whoever sits here; whether a browser was asked to. Where there is no screen nothing happens."""
    has_screen = sys.platform == "darwin" or any(os.environ.get(name) for name in _SCREENS)
    return sys.stdout.isatty() and has_screen and webbrowser.open(link)


def _launched_s(tracking_dir: Path) -> tuple[float, str]:
    """When a search was launched last, and its name for those that are alike."""
    with contextlib.suppress(SearchError):
        return SearchFolder(tracking_dir.parent).read_manifest().launched_s, tracking_dir.parent.name
    return 0.0, tracking_dir.parent.name


@contextlib.contextmanager
def tracking_ui(database: Path, *, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """MLflow's server on one SQLite file, on this machine's own address alone; ready inside, gone after.

    Raises:
        TrackingError: the port is taken, or the server did not start.
    """
    check_port(port)
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            _server_command(database, port=port),
            env={**os.environ, **PRIVATE_ENVIRONMENT, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            cwd=database.parent,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            _wait_until_ready(process, port=port, log=log)
            yield process
        finally:
            _stop_group(process)


@contextlib.contextmanager
def signals_as_interrupt() -> Iterator[None]:
    """Make a termination, or a closed terminal, end the block the way Ctrl-C does."""

    def interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    old = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def _server_command(database: Path, *, port: int) -> list[str]:
    artifacts = database.parent / "mlartifacts"
    return [
        *(sys.executable, "-m", "mlflow", "server"),
        *("--host", HOST, "--port", str(port), "--workers", "1"),
        *("--backend-store-uri", f"sqlite:///{database}"),
        *("--artifacts-destination", artifacts.as_uri()),
    ]


def _wait_until_ready(process: subprocess.Popen[bytes], *, port: int, log: IO[bytes]) -> None:
    deadline = time.monotonic() + START_LIMIT_S
    while process.poll() is None:
        if answers(f"http://{HOST}:{port}", timeout_s=2.0):
            return
        if time.monotonic() > deadline:
            raise TrackingError(f"MLflow's server must be ready within {START_LIMIT_S:g} s, got nothing")
        time.sleep(0.3)
    log.seek(0)
    lines = log.read().decode(errors="replace").strip().splitlines() or ["nothing said"]
    raise TrackingError(f"MLflow's server must start, got exit code {process.returncode}: {lines[-1]}")


def _stop_group(process: subprocess.Popen[bytes]) -> None:
    """End the server and all it started: they are a process group of their own."""
    _signal_group(process, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=STOP_LIMIT_S)
    _signal_group(process, signal.SIGKILL)
    process.wait()


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def _store(uri: str) -> str:
    return str(sqlite_path(uri).resolve()) if uri.startswith("sqlite:") else uri.rstrip("/")

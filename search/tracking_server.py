"""Where records go: is the tracking server there, and what is the address of a search's page in its UI."""

import os
import socket
import sqlite3
import tempfile
import threading
import urllib.error
import urllib.request
from base64 import b64encode
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from spaces.errors import TrackingError

SCHEMES = ("http", "https", "sqlite")
HEALTH = "/health"
BOOKS = "/api/2.0/mlflow/experiments/search?max_results=1"
"""An answer needs the server's database, and a login where it wants one."""

REFUSALS = {
    401: "its login belongs into MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN",
    403: "the address must be one of its allowed hosts, and the login one that may read experiments",
}
_SQLITE_MAGIC = b"SQLite format 3\x00"
_ONE_DATABASE = threading.Lock()
"""alembic, which makes the tables, keeps its state in its module: databases made in two threads at once break."""


def default_tracking_uri(storage: Path) -> str:
    """The embedded default: one SQLite file for all searches of a storage."""
    return f"sqlite:///{storage.resolve() / 'mlflow.db'}"


def default_artifact_root(storage: Path) -> Path:
    """Where artifacts lie beside the embedded default."""
    return storage.resolve() / "mlartifacts"


def check_server(uri: str, *, timeout_s: float = 5.0) -> None:
    """Say at once, in a sentence, that records could not be stored at `uri`.

    Args:
        uri: `http(s)://...` of an MLflow server, or `sqlite:///` and a path.
        timeout_s: how long a server may take to answer.

    Raises:
        TrackingError: the scheme is unknown, the server or its database does not answer, the login is wrong, or the
            folder of an SQLite file can't be written.
    """
    scheme = uri.partition(":")[0]
    if "://" not in uri or scheme not in SCHEMES:
        raise TrackingError(
            f"tracking address must start with {', '.join(f'{name}:' for name in SCHEMES)}, got {hide_password(uri)!r}"
            "; a database other than SQLite belongs behind a server (mlflow/start.sh)"
        )
    if scheme == "sqlite":
        _check_sqlite(uri)
    else:
        _check_http(uri, timeout_s=timeout_s)


def sqlite_path(uri: str) -> Path:
    """The file a `sqlite:///` address names.

    Raises:
        TrackingError: it names none.
    """
    path = uri.removeprefix("sqlite://").partition("?")[0].removeprefix("/")
    if not path or path == ":memory:" or not uri.startswith("sqlite:///"):
        raise TrackingError(f"tracking address must name a file after sqlite:///, got {uri!r}")
    return Path(path)


def hide_password(uri: str) -> str:
    """`uri` without what stands between the scheme and the host's name."""
    head, at, tail = uri.rpartition("@")
    return f"{head.partition('://')[0]}://...@{tail}" if at and "://" in head else uri


def answers(uri: str, *, timeout_s: float) -> bool:
    """Whether the store behind `uri` can be talked to now."""
    try:
        check_server(uri, timeout_s=timeout_s)
    except TrackingError:
        return False
    return True


def _check_sqlite(uri: str) -> None:
    path = sqlite_path(uri).absolute()
    advice = "; choose another with --tracking-uri"
    if path.exists():
        _check_database(path, advice=advice)
        return
    parent = next(folder for folder in path.parents if folder.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise TrackingError(f"tracking database must lie in a folder that can be written, got {path}{advice}")


def _check_database(path: Path, *, advice: str) -> None:
    if not path.is_file() or not os.access(path, os.R_OK | os.W_OK):
        raise TrackingError(f"tracking database must be a file that can be written, got {path}{advice}")
    with path.open("rb") as file:
        head = file.read(len(_SQLITE_MAGIC))
    if head not in (b"", _SQLITE_MAGIC):
        raise TrackingError(f"tracking database must be an SQLite file, got {path}{advice}")


def is_mlflow_database(path: Path) -> bool:
    """Whether a SQLite file holds MLflow's tables."""
    try:
        with sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=2) as database:
            query = "select 1 from sqlite_master where name = 'experiments'"
            return database.execute(query).fetchone() is not None
    except sqlite3.Error:
        return False


def create_database(path: Path, *, artifact_root: Path) -> None:
    """Make MLflow's SQLite file where there is none. It appears whole or not at all.

    MLflow makes its tables in dozens of steps; a database of which a killed process left half is refused ever after.

    Args:
        path: of the file; one that is there stays as it is.
        artifact_root: of experiments that name no place for artifacts.

    Raises:
        MlflowException, OSError: it could not be made.
    """
    with _ONE_DATABASE:
        if not path.exists():
            _create_database(path, artifact_root=artifact_root)


def _create_database(path: Path, *, artifact_root: Path) -> None:
    from mlflow.store.tracking import sqlalchemy_store

    make_store: Any = sqlalchemy_store.SqlAlchemyStore
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as folder:
        staging = Path(folder) / path.name
        make_store(f"sqlite:///{staging.absolute()}", str(artifact_root)).engine.dispose()
        try:
            os.link(staging, path)
        except FileExistsError:  # another search in this storage was quicker
            pass
        except OSError:  # a file system without hard links
            if not path.exists():
                staging.replace(path)


def _check_http(uri: str, *, timeout_s: float) -> None:
    where = hide_password(uri)
    advice = f"; start it, or leave --tracking-uri out to record into a local file: {where}"
    try:
        status, body = _ask(uri, HEALTH, timeout_s=timeout_s)
        if status == 200 and body.strip() == b"OK":
            status, _ = _ask(uri, BOOKS, timeout_s=timeout_s)
        elif status == 200:
            other = f"got {body!r}: some other program?{advice}"
            raise TrackingError(f"tracking server must answer {HEALTH} with OK, {other}")
    except TimeoutError:
        raise TrackingError(f"tracking server must answer within {timeout_s:g} s, got nothing{advice}") from None
    except (OSError, HTTPException, ValueError) as error:
        if isinstance(getattr(error, "reason", None), TimeoutError):
            raise TrackingError(f"tracking server must answer within {timeout_s:g} s, got nothing{advice}") from None
        raise TrackingError(f"tracking server must answer, got {_reason(error)}{advice}") from None
    if status in REFUSALS:
        raise TrackingError(f"tracking server must let us in, got status {status}; {REFUSALS[status]}: {where}")
    if status != 200:
        raise TrackingError(f"tracking server must answer with status 200, got {status}{advice}")


def _ask(uri: str, path: str, *, timeout_s: float) -> tuple[int, bytes]:
    """Status, and how the answer begins."""
    parts = urlsplit(uri)
    host = parts.netloc.rpartition("@")[2]
    request = urllib.request.Request(f"{parts.scheme}://{host}{parts.path.rstrip('/')}{path}", headers=_login(uri))
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as answer:
            return answer.status, answer.read(16)
    except urllib.error.HTTPError as error:
        return error.code, b""


def _login(uri: str) -> dict[str, str]:
    """The header that MLflow's own client would send."""
    parts = urlsplit(uri)
    user = os.environ.get("MLFLOW_TRACKING_USERNAME") or parts.username
    word = os.environ.get("MLFLOW_TRACKING_PASSWORD") or parts.password
    token = os.environ.get("MLFLOW_TRACKING_TOKEN")
    if user and word:
        return {"Authorization": "Basic " + b64encode(f"{user}:{word}".encode()).decode()}
    return {"Authorization": f"Bearer {token}"} if token else {}


def _reason(error: Exception) -> str:
    reason = getattr(error, "reason", error)
    if isinstance(reason, ConnectionRefusedError):
        return "connection refused"
    if isinstance(reason, socket.gaierror):
        return "no such host"
    return str(reason) or type(reason).__name__

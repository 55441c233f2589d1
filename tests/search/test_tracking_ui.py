"""The MLflow UI starts on this machine alone and leaves nothing behind."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import psutil
import pytest

from search.tracking import Tracker
from search.tracking_journal import Journal
from search.tracking_ui import check_database, check_port, search_links
from spaces.errors import SearchError, TrackingError

ROOT = Path(__file__).resolve().parents[2]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _lines_until(process: "subprocess.Popen[str]", last: str) -> list[str]:
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line.rstrip())
        if lines[-1] == last:
            break
    return lines


def test_check_port_names_a_port_that_is_taken() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]

        with pytest.raises(TrackingError, match=f"port must be free, got {port}: address already in use; .*--port"):
            check_port(port)


def test_check_port_refuses_a_number_that_is_no_port() -> None:
    with pytest.raises(TrackingError, match="port must be free, got 70000"):
        check_port(70000)


def test_check_database_says_where_no_search_was_run(tmp_path: Path) -> None:
    with pytest.raises(SearchError, match=r"must hold MLflow's database, got no .*mlflow\.db; run a search first"):
        check_database(f"sqlite:///{tmp_path}/mlflow.db")


def test_search_links_lists_only_what_this_server_has(tmp_path: Path) -> None:
    here, elsewhere = f"sqlite:///{tmp_path}/mlflow.db", "http://elsewhere:5000"
    for name, uri in (("faces", here), ("others", elsewhere)):
        journal = Journal(tmp_path / name / "tracking", experiment=name, uri=uri)
        journal.progress.set_experiment("7")
        journal.close()
    Journal(tmp_path / "never_sent" / "tracking", experiment="never_sent", uri=here).close()
    (tmp_path / "no_search" / "tracking").mkdir(parents=True)

    links = search_links(tmp_path, here, base="http://127.0.0.1:5000")

    identity = json.loads((tmp_path / "faces" / "tracking" / "identity.json").read_text())
    assert list(links) == ["faces"]
    assert links["faces"].startswith("http://127.0.0.1:5000/#/experiments/7/runs?viewStateShareKey=")
    assert identity["search_id"] in links["faces"]


def _listen_to_ctrl_c() -> None:
    """A shell lets what it starts in the background ignore Ctrl-C, and children inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.slow
def test_ui_command_serves_until_ctrl_c_and_leaves_no_process(tmp_path: Path) -> None:
    tracker = Tracker(f"sqlite:///{tmp_path}/mlflow.db", "faces", tmp_path / "faces" / "tracking")
    tracker.end_run(tracker.start_search(name="launch"), "completed")
    assert tracker.close(timeout_s=120) == 0
    port = _free_port()
    words = [sys.executable, "-m", "search.cli", "ui", "--storage", str(tmp_path), "--port", str(port)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        words, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True, preexec_fn=_listen_to_ctrl_c
    )
    try:
        lines = _lines_until(process, "Ctrl-C ends it")
        children = psutil.Process(process.pid).children(recursive=True)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=10) as answer:
            body = answer.read()
        begin = time.monotonic()
        process.send_signal(signal.SIGINT)
        code = process.wait(timeout=60)
    finally:
        process.kill()

    assert lines[1] == f"MLflow: http://127.0.0.1:{port}"
    assert lines[2].startswith(f"  faces: http://127.0.0.1:{port}/#/experiments/1/runs?")
    assert (body, code) == (b"OK", 0)
    assert children
    assert not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children)
    assert time.monotonic() - begin < 40

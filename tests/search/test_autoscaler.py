"""What an autoscaler was told is read where its process runs."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from search.autoscaler import read_autoscaler

CONFIG = "max_workers: 3\navailable_node_types:\n  spot: {resources: {GPU: 1}, max_workers: 3}\n"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "cluster.yaml"
    file.write_text(CONFIG)
    return file


@pytest.fixture
def monitor(config: Path) -> Iterator[None]:
    """A process with the words of the one that starts machines."""
    words = ("/x/ray/autoscaler/_private/monitor.py", "--gcs-address=10.0.0.1:1379", f"--autoscaling-config={config}")
    process = subprocess.Popen(
        [sys.executable, "-c", "import time; print(flush=True); time.sleep(60)", *words], stdout=-1
    )
    assert process.stdout is not None
    process.stdout.readline()
    yield
    process.kill()
    process.wait()


def test_kinds_of_machines_are_read_from_the_file_of_its_process(monitor: None) -> None:
    found = read_autoscaler("head:1379")

    assert found["available_node_types"] == {"spot": {"resources": {"GPU": 1}, "max_workers": 3}}


def test_autoscaler_of_another_cluster_says_nothing(monitor: None) -> None:
    assert read_autoscaler("10.0.0.1:1380") == {}


@pytest.mark.parametrize("text", ["", "[1, 2]", "a: b: c", "x: !!python/object/apply:os.system [true]"])
def test_file_that_is_no_configuration_says_nothing(monitor: None, config: Path, text: str) -> None:
    config.write_text(text)

    assert read_autoscaler("10.0.0.1:1379") == {}

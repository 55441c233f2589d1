"""What a process says of its versions and its code."""

import platform
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from spaces.errors import SearchError
from trainables.environment import CODE, PACKAGES, check_environment, difference, read_environment

ROOT = Path(__file__).resolve().parents[2]
HOST = socket.gethostname()


def test_environment_names_versions_without_builds() -> None:
    found = read_environment()

    assert found["Python"] == platform.python_version()
    assert found["torch"] == torch.__version__.partition("+")[0]
    assert {*PACKAGES, "Python", "code"} == found.keys()
    assert "none" not in found.values()


def test_difference_names_the_first_thing_and_both_values() -> None:
    ours = {"torch": "2.15.0", "numpy": "2.4"}

    assert difference({"torch": "2.13.0", "numpy": "2.4"}, ours) == ("torch", "2.13.0", "2.15.0")
    assert difference({"torch": "2.15.0"}, ours) == ("numpy", "none", "2.4")
    assert difference(dict(ours), ours) is None


def test_worker_with_another_version_than_its_driver_is_refused() -> None:
    check_environment(read_environment())

    with pytest.raises(SearchError, match=rf"^timm must be the driver's \(9.9\) on every node, got 1.*: {HOST}$"):
        check_environment({**read_environment(), "timm": "9.9"})


def test_hash_of_the_code_follows_the_code_and_not_its_place(tmp_path: Path) -> None:
    for package in CODE:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    program = "from trainables.environment import read_environment; print(read_environment()['code'])"
    command = [sys.executable, "-P", "-c", program]

    def hash_there() -> str:
        env = {"PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
        return subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout.strip()

    same = hash_there()
    with (tmp_path / "spaces" / "errors.py").open("a") as file:
        file.write("# another\n")

    assert same == read_environment()["code"]
    assert hash_there() != same

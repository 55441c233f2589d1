"""What Ray is told when it is started or joined."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from search.checkout import CHECKOUT
from search.cluster import _joining_options, _local_options


@pytest.fixture
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What options put into this process's environment, and into Ray's constants, is taken back."""
    monkeypatch.setattr(os, "environ", {**os.environ, "RAY_AUTH_MODE": "disabled"})
    monkeypatch.setattr("ray._private.ray_constants.ENABLE_RAY_CLUSTER", True)
    monkeypatch.setattr("search.cluster.check_address", lambda _: None)


def test_workers_get_the_checkout_without_what_they_do_not_need(own_environment: None) -> None:
    from ray._private.runtime_env.packaging import _get_excludes

    env = _joining_options("10.0.0.7:6379")["runtime_env"]

    is_left_out = _get_excludes(CHECKOUT, env["excludes"])
    assert env["working_dir"] == str(CHECKOUT)
    assert not [path for path in (CHECKOUT / "trainables").rglob("*.py") if is_left_out(path)]
    assert all(is_left_out(CHECKOUT / name) for name in ("data", "runs", "models", ".venv", "x.arrow"))


def test_workers_are_told_to_be_quiet_and_no_secret(own_environment: None) -> None:
    os.environ["MLFLOW_TRACKING_PASSWORD"] = "hush"

    env = _joining_options("auto")["runtime_env"]

    assert env["env_vars"]["RAY_USAGE_STATS_ENABLED"] == "0"
    assert "hush" not in json.dumps(env)


def test_job_keeps_the_code_and_the_variables_that_it_came_with(own_environment: None) -> None:
    job = {"working_dir": "gcs://code.zip", "env_vars": {"MLFLOW_DISABLE_TELEMETRY": "false"}}
    os.environ["RAY_JOB_CONFIG_JSON_ENV_VAR"] = json.dumps({"runtime_env": job})

    env = _joining_options("auto")["runtime_env"]

    assert "working_dir" not in env
    assert "MLFLOW_DISABLE_TELEMETRY" not in env["env_vars"]
    assert "RAY_USAGE_STATS_ENABLED" in env["env_vars"]


def test_local_ray_stays_on_this_machine(own_environment: None) -> None:
    import ray._private.ray_constants as constants

    _local_options()

    assert constants.ENABLE_RAY_CLUSTER is False
    assert os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] == "0"


@pytest.mark.slow
def test_folder_with_too_long_a_path_for_rays_sockets_is_named_with_the_way_out(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 20)
    folder.mkdir()
    program = "from search.cluster import start_ray; start_ray(None)"

    ended = subprocess.run(
        [sys.executable, "-c", program],
        cwd=CHECKOUT,
        env={**os.environ, "RAY_TMPDIR": str(folder)},
        capture_output=True,
        text=True,
    )

    last = ended.stderr.strip().splitlines()[-1]
    assert last.startswith("spaces.errors.SearchError: Ray must be reachable, got validate_socket_filename failed")
    assert last.endswith("name a folder with a shorter path for Ray's own files (RAY_TMPDIR=/tmp)")

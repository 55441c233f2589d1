"""cluster.yaml is one that Ray's launcher takes, and keeps the cluster private."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def cluster() -> dict[str, Any]:
    """cluster.yaml as written."""
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    return loaded


@pytest.fixture(scope="module")
def prepared(cluster: dict[str, Any]) -> dict[str, Any]:
    """cluster.yaml as Ray's launcher completes it."""
    from ray.autoscaler._private.util import prepare_config

    completed: dict[str, Any] = prepare_config(cluster)
    return completed


@pytest.mark.slow
def test_cluster_file_passes_the_schema_check_of_ray(prepared: dict[str, Any]) -> None:
    from ray.autoscaler._private.util import validate_config

    validate_config(prepared)


@pytest.mark.slow
def test_schema_check_of_ray_would_see_a_misspelt_key(prepared: dict[str, Any]) -> None:
    from ray.autoscaler._private.util import validate_config

    with pytest.raises(Exception, match="max_wrokers"):
        validate_config({**prepared, "max_wrokers": 3})


@pytest.mark.slow
def test_cluster_file_replaces_the_set_up_of_ray_by_ours(prepared: dict[str, Any]) -> None:
    for commands in ("setup_commands", "head_setup_commands", "worker_setup_commands"):
        assert not any("ray-wheels" in command for command in prepared[commands])
    assert any("make setup" in command for command in prepared["head_setup_commands"])
    assert any("make setup" in command for command in prepared["worker_setup_commands"])


def test_workers_are_spot_machines_with_a_gpu_that_come_and_go(cluster: dict[str, Any]) -> None:
    workers = [kind for name, kind in cluster["available_node_types"].items() if name != cluster["head_node_type"]]

    for worker in workers:
        assert worker["min_workers"] == 0
        assert 0 < worker["max_workers"] <= cluster["max_workers"]
        assert worker["resources"]["GPU"] >= 1
        assert worker["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}


def test_cluster_file_sets_every_variable_that_keeps_work_private(cluster: dict[str, Any]) -> None:
    from search.privacy import PRIVATE_ENVIRONMENT

    environment = cluster["initialization_commands"][0]

    for name, value in {**PRIVATE_ENVIRONMENT, "RAY_AUTH_MODE": "token"}.items():
        assert f"export {name}={value}\n" in environment


def test_ray_starts_in_that_environment_and_shows_its_dashboard_to_nobody(cluster: dict[str, Any]) -> None:
    head, worker = cluster["head_start_ray_commands"][-1], cluster["worker_start_ray_commands"][-1]

    assert head.startswith(". ~/.affectune_env;")
    assert worker.startswith(". ~/.affectune_env;")
    assert "--dashboard-host=127.0.0.1" in head
    assert "--address=$RAY_HEAD_IP:6379" in worker


def test_commands_of_the_cluster_file_are_sound_bash(cluster: dict[str, Any]) -> None:
    commands = [command for name, part in cluster.items() if name.endswith("_commands") for command in part]

    for command in commands:  # in brackets, as the launcher sends them
        checked = subprocess.run(["bash", "-n", "-c", f"({command})"], check=False, capture_output=True)
        assert checked.returncode == 0, command


def test_environment_file_that_the_cluster_writes_can_be_read(cluster: dict[str, Any], tmp_path: Path) -> None:
    script = f"({cluster['initialization_commands'][0]}) && . ~/.affectune_env && echo $AFFECTUNE_STORAGE"

    done = subprocess.run(
        ["bash", "-c", script], env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}, capture_output=True, text=True
    )

    assert done.stdout.strip() == "/mnt/affectune/runs"

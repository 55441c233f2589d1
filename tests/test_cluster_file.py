"""cluster.yaml is one that Ray's launcher takes, and keeps the cluster private."""

import os
import re
import shlex
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "docs" / "cluster.md", ROOT / "docs" / "kubernetes.md", ROOT / "mlflow" / "README.md"]


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
    commands = cluster["head_start_ray_commands"] + cluster["worker_start_ray_commands"]
    head, worker = [command for command in commands if "ray start" in command]

    assert head.startswith(". ~/.affectune_env;")
    assert worker.startswith(". ~/.affectune_env;")
    assert "--dashboard-host=127.0.0.1" in head
    assert "--address=$RAY_HEAD_IP:6379" in worker


def test_file_of_the_autoscaler_is_named_so_that_a_search_finds_it(cluster: dict[str, Any]) -> None:
    head = next(command for command in cluster["head_start_ray_commands"] if "ray start" in command)

    assert "--autoscaling-config=$HOME/" in head  # a search reads it off Ray's command line, where no ~ is expanded


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


def test_five_places_are_marked_for_editing_and_listed_at_the_top() -> None:
    head, _, body = (ROOT / "cluster.yaml").read_text().partition("\ncluster_name:")

    assert re.findall(r"^#   EDIT (\d) ", head, flags=re.MULTILINE) == ["1", "2", "3", "4", "5"]
    assert re.findall(r"^ *# EDIT (\d)\. ", body, flags=re.MULTILINE) == ["1", "2", "3", "4", "5"]


def test_every_node_gets_the_locked_environment(cluster: dict[str, Any]) -> None:
    installs = [command for name, part in cluster.items() if name.endswith("setup_commands") for command in part]

    assert any("make setup" in command for command in cluster["setup_commands"])
    assert all("--constraint constraints.txt" in command for command in installs if "pip install" in command)


def test_head_starts_one_tracking_server_however_often_it_is_told(cluster: dict[str, Any], tmp_path: Path) -> None:
    start = tmp_path / "affectune" / "mlflow" / "start.sh"
    start.parent.mkdir(parents=True)
    start.write_text("#!/usr/bin/env bash\necho started $$\nexec sleep 60\n")
    start.chmod(0o755)
    environment = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    log = tmp_path / "affectune-tracking" / "log"

    def run(*commands: str) -> None:
        for command in commands:
            subprocess.run(["bash", "-c", f"({command})"], env=environment, check=True, timeout=20)

    run(cluster["initialization_commands"][0], cluster["head_start_ray_commands"][-1])
    for _ in range(200):
        if log.exists() and log.read_text().endswith("\n"):
            break
        time.sleep(0.05)
    run(cluster["head_start_ray_commands"][-1], cluster["head_start_ray_commands"][-1])
    time.sleep(0.5)
    lines = log.read_text().splitlines()
    for line in lines:
        os.kill(int(line.split()[1]), signal.SIGKILL)

    assert len(lines) == 1


@pytest.mark.parametrize("page", PAGES, ids=lambda page: f"{page.parent.name}_{page.stem}")
def test_commands_of_a_page_for_clusters_are_sound(page: Path) -> None:
    from search.cli import build_parser

    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    script = "\n".join(block for language, block in blocks if not language)
    checked = subprocess.run(["bash", "-n", "-c", script], check=False, capture_output=True, text=True)
    joined = script.replace("\\\n", " ").splitlines()
    commands = [line[line.index("affectune ") :] for line in joined if re.search(r"^(.* -- )?affectune ", line)]

    assert checked.returncode == 0, checked.stderr
    assert commands
    for command in commands:
        assert callable(build_parser().parse_words(shlex.split(command, comments=True)[1:]).run)

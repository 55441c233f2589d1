"""The RayCluster in docs/kubernetes.md is one that Ray's autoscaler reads, and keeps the cluster private."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def resources() -> dict[str, Any]:
    """The page's resources by kind and name."""
    page = (ROOT / "docs" / "kubernetes.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```yaml\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)
    documents = [document for block in blocks for document in yaml.safe_load_all(block)]
    return {f"{document['kind']}/{document['metadata']['name']}": document for document in documents}


@pytest.fixture(scope="module")
def cluster(resources: dict[str, Any]) -> dict[str, Any]:
    """The RayCluster, in a namespace as the operator sees it."""
    found: dict[str, Any] = resources["RayCluster/affectune"]
    return {**found, "metadata": {**found["metadata"], "namespace": "default"}}


def pods(cluster: dict[str, Any]) -> list[dict[str, Any]]:
    """Of the head and of each group of workers."""
    groups = [cluster["spec"]["headGroupSpec"], *cluster["spec"]["workerGroupSpecs"]]
    return [group["template"]["spec"] for group in groups]


@pytest.mark.slow
def test_cluster_is_one_that_the_autoscaler_of_ray_reads(cluster: dict[str, Any]) -> None:
    from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr

    config: dict[str, Any] = _derive_autoscaling_config_from_ray_cr(cluster)

    kinds = config["available_node_types"]
    assert kinds["headgroup"]["resources"]["CPU"] == 0
    assert kinds["gpu"]["resources"] == {"CPU": 4, "GPU": 1, "memory": 16 * 2**30}
    assert (kinds["gpu"]["min_workers"], kinds["gpu"]["max_workers"]) == (2, 8)
    assert config["idle_timeout_minutes"] == 10


@pytest.mark.slow
def test_reader_of_ray_would_miss_the_processors_of_a_worker(cluster: dict[str, Any]) -> None:
    from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr

    group = cluster["spec"]["workerGroupSpecs"][0]
    container = {**group["template"]["spec"]["containers"][0], "resources": {}}
    without = {**group, "template": {"spec": {"containers": [container]}}}

    with pytest.raises(ValueError, match="CPU"):
        _derive_autoscaling_config_from_ray_cr({**cluster, "spec": {**cluster["spec"], "workerGroupSpecs": [without]}})


def test_every_ray_process_takes_its_password_from_the_secret_and_reports_to_nobody(cluster: dict[str, Any]) -> None:
    from search.privacy import PRIVATE_ENVIRONMENT

    environments = [
        cluster["spec"]["autoscalerOptions"]["env"],
        *(pod["containers"][0]["env"] for pod in pods(cluster)),
    ]

    for environment in environments:
        variables = {variable["name"]: variable for variable in environment}
        assert variables["RAY_AUTH_MODE"]["value"] == "token"
        assert variables["RAY_AUTH_TOKEN"]["valueFrom"]["secretKeyRef"]["name"] == "affectune-ray"
        assert {name: variables[name]["value"] for name in PRIVATE_ENVIRONMENT} == dict(PRIVATE_ENVIRONMENT)


def test_pods_share_image_volume_and_version_of_ray(cluster: dict[str, Any], resources: dict[str, Any]) -> None:
    containers = [container for pod in pods(cluster) for container in pod["containers"]]
    ray_version = re.search(r"^ray==(.+)$", (ROOT / "constraints.txt").read_text(), flags=re.MULTILINE)

    assert len({container["image"] for container in containers}) == 1
    assert ray_version is not None
    assert cluster["spec"]["rayVersion"] == ray_version[1]
    for pod in pods(cluster):
        assert pod["containers"][0]["volumeMounts"] == [{"name": "shared", "mountPath": "/mnt/affectune"}]
        assert {"name": "shared", "persistentVolumeClaim": {"claimName": "affectune-shared"}} in pod["volumes"]
    assert resources["PersistentVolumeClaim/affectune-shared"]["spec"]["accessModes"] == ["ReadWriteMany"]
    assert "PersistentVolumeClaim/affectune-tracking" in resources


def test_head_runs_the_tracking_server_on_a_disk_of_its_own(cluster: dict[str, Any]) -> None:
    tracking = next(container for container in pods(cluster)[0]["containers"] if container["name"] == "tracking")

    assert tracking["command"] == ["/home/affectune/affectune/mlflow/start.sh"]
    assert tracking["env"] == [{"name": "AFFECTUNE_TRACKING_DIR", "value": "/mnt/tracking"}]
    assert [mount["mountPath"] for mount in tracking["volumeMounts"]] == ["/mnt/tracking"]

"""What a trial takes of a cluster's machines."""

import pickle
from typing import Any

import pytest

from search.machines import Machine
from search.resources import OwnRequest, Resources, plan_resources
from spaces.errors import DeviceError

GPU_NODE = {"CPU": 4.0, "GPU": 1.0}


def plan(monkeypatch: pytest.MonkeyPatch, *there: dict[str, float] | Machine, **wanted: Any) -> Resources:
    machines = [kind if isinstance(kind, Machine) else Machine("node", kind) for kind in there]
    monkeypatch.setattr("search.resources.list_machines", lambda: machines)
    settings = {"cpus_per_trial": None, "gpus_per_trial": None, "max_concurrent": None, **wanted}
    return plan_resources(**settings)


def test_trials_take_a_core_each_when_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    found = plan(monkeypatch, {"CPU": 4.0})

    assert found == Resources(cpus=1.0, gpus=0.0, max_concurrent=4)
    assert found.device == "cpu"


def test_trials_share_the_cores_beside_their_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    found = plan(monkeypatch, {"CPU": 16.0, "GPU": 2.0})

    assert found == Resources(cpus=8.0, gpus=1.0, max_concurrent=2)
    assert (found.device, found.n_workers) == ("cuda", 7)


def test_trial_with_many_cores_has_a_few_of_them_prepare_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    found = plan(monkeypatch, {"CPU": 96.0, "GPU": 1.0})

    assert (found.cpus, found.n_workers) == (96.0, 8)


def test_trials_share_a_gpu_when_they_ask_for_a_part(monkeypatch: pytest.MonkeyPatch) -> None:
    assert plan(monkeypatch, {"CPU": 8.0, "GPU": 1.0}, gpus_per_trial=0.25).max_concurrent == 4


def test_trials_run_on_cores_when_no_gpu_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    found = plan(monkeypatch, {"CPU": 8.0, "GPU": 1.0}, gpus_per_trial=0.0, cpus_per_trial=2.0)

    assert found == Resources(cpus=2.0, gpus=0.0, max_concurrent=4)


def test_fewer_trials_run_at_once_when_fewer_are_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    assert plan(monkeypatch, {"CPU": 8.0}, max_concurrent=3).max_concurrent == 3
    assert plan(monkeypatch, {"CPU": 2.0}, max_concurrent=30).max_concurrent == 2


def test_cores_of_machines_without_a_gpu_are_not_shared_among_those_with_one(monkeypatch: pytest.MonkeyPatch) -> None:
    found = plan(monkeypatch, {"CPU": 64.0}, GPU_NODE, GPU_NODE)

    assert found == Resources(cpus=4.0, gpus=1.0, max_concurrent=2)


def test_trial_must_find_its_cores_on_one_node(monkeypatch: pytest.MonkeyPatch) -> None:
    found = plan(monkeypatch, {"CPU": 3.0}, {"CPU": 3.0}, {"CPU": 0.0}, cpus_per_trial=2.0)

    assert found.max_concurrent == 2


def test_machines_that_may_still_be_started_count(monkeypatch: pytest.MonkeyPatch) -> None:
    found = plan(monkeypatch, {"CPU": 0.0}, Machine("gpu_spot", GPU_NODE, n=8))

    assert found == Resources(cpus=4.0, gpus=1.0, max_concurrent=8)


def test_trial_takes_what_else_the_owner_of_a_cluster_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    there = ({"CPU": 8.0, "memory": 16e9}, {"CPU": 8.0, "memory": 64e9, "a100": 2.0})

    found = plan(monkeypatch, *there, others={"memory": 8e9, "a100": 1})

    assert found.max_concurrent == 2
    assert found.request() == {"cpu": 1.0, "gpu": 0.0, "memory": 8e9, "a100": 1}


def test_bag_asks_ray_for_what_a_trial_asks_tune_for(monkeypatch: pytest.MonkeyPatch) -> None:
    found = plan(monkeypatch, {**GPU_NODE, "memory": 64e9, "a100": 2.0}, others={"memory": 8e9, "a100": 1})

    assert found.of_task() == {"num_cpus": 4.0, "num_gpus": 1.0, "memory": 8e9, "resources": {"a100": 1}}


def test_request_of_a_trial_can_be_pickled_for_tune(monkeypatch: pytest.MonkeyPatch) -> None:
    request = OwnRequest(plan(monkeypatch, {**GPU_NODE, "memory": 8e9}, others={"memory": 1e9}))

    assert pickle.loads(pickle.dumps(request)) == request


@pytest.mark.parametrize(
    ("wanted", "sentence"),
    [
        ({"gpus_per_trial": 1.0}, r"gpus-per-trial must be at most what the cluster has on one node \(0\), got 1"),
        ({"gpus_per_trial": 1.5}, "gpus-per-trial must be a whole number where it is above 1, got 1.5"),
        ({"cpus_per_trial": 64.0}, r"cpus-per-trial must be at most what the cluster has on one node \(4\), got 64"),
        ({"cpus_per_trial": 5.0}, r"on one node \(4\), got 5: node \(4 CPU, 0 GPU\); node \(4 CPU, 0 GPU\)$"),
        ({"cpus_per_trial": 0.0}, "cpus-per-trial must be above 0 where a trial has no GPU, got 0"),
        ({"others": {"a100": 1}}, r"resource 'a100' of a trial must be at most .* on one node \(0\), got 1"),
        (
            {"others": {"memory": 2.0**33}},
            r"resource 'memory' .* \(0 GiB\), got 8 GiB: node \(4 CPU, 0 GPU, 0 GiB memory\)",
        ),
    ],
    ids=["no gpu", "one and a half gpus", "too many cores", "cores of two nodes", "no core", "resource", "memory"],
)
def test_plan_is_refused_when_no_node_has_enough(
    monkeypatch: pytest.MonkeyPatch, wanted: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(DeviceError, match=sentence):
        plan(monkeypatch, {"CPU": 4.0}, {"CPU": 4.0}, **wanted)


def test_plan_is_refused_when_cores_and_gpu_are_on_different_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DeviceError, match=r"cpus-per-trial .* one node \(4\), got 8: node \(4 CPU, 1 GPU\)"):
        plan(monkeypatch, {"CPU": 64.0}, GPU_NODE, cpus_per_trial=8.0, gpus_per_trial=1.0)

"""Which trials machines hold, and what an autoscaler may still start."""

from typing import Any

import pytest

from search.machines import Machine, machine_of, startable

CONFIG: dict[str, Any] = {
    "max_workers": 4,
    "head_node_type": "head",
    "available_node_types": {
        "head": {"resources": {"CPU": 0}},
        "gpu_spot": {"resources": {"CPU": 4, "GPU": 1}, "min_workers": 0, "max_workers": 3},
        "cpu": {"resources": {"CPU": 16}, "max_workers": 8},
    },
}
HEAD = Machine("head", {"CPU": 0.0}, is_head=True)
GPU_NODE = Machine("n1", {"CPU": 4.0, "GPU": 1.0})


@pytest.mark.parametrize(
    ("wanted", "n"),
    [({"CPU": 1}, 4), ({"CPU": 1, "GPU": 0.5}, 2), ({"CPU": 3}, 1), ({"GPU": 2}, 0), ({"a100": 1}, 0)],
    ids=["cores", "half a gpu", "most cores", "two gpus", "unknown"],
)
def test_machine_holds_as_many_trials_as_its_scarcest_resource(wanted: dict[str, float], n: int) -> None:
    assert GPU_NODE.slots(wanted) == n


def test_autoscaler_may_start_machines_of_every_kind_but_the_heads() -> None:
    found = startable([HEAD], CONFIG)

    assert [(kind.name, kind.n, kind.gpus) for kind in found] == [("gpu_spot", 3, 1.0), ("cpu", 4, 0.0)]


def test_machines_that_run_already_are_not_started_again() -> None:
    found = startable([HEAD, GPU_NODE, GPU_NODE], CONFIG)

    assert [(kind.name, kind.n) for kind in found] == [("gpu_spot", 1), ("cpu", 2)]


def test_nothing_is_started_without_an_autoscaler() -> None:
    assert startable([HEAD, GPU_NODE], {}) == []


def test_node_is_known_by_host_and_address() -> None:
    node = {
        "NodeID": "ab12",
        "NodeManagerHostname": "worker-3",
        "NodeManagerAddress": "10.0.0.7",
        "Resources": {"CPU": 2.0, "node:10.0.0.7": 1.0, "node:__internal_head__": 1.0},
    }

    found = machine_of(node)

    assert (found.name, found.node_id, found.is_head) == ("worker-3 (10.0.0.7)", "ab12", True)
    assert dict(found.resources) == {"CPU": 2.0}

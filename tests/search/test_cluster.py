"""What a trial takes of a cluster, and addresses where no cluster is."""

import socket
import time
from typing import Any

import pytest

from search.cluster import Resources, _check_address, plan_resources
from spaces.errors import DeviceError, SearchError


def plan(monkeypatch: pytest.MonkeyPatch, there: dict[str, float], **wanted: Any) -> Resources:
    monkeypatch.setattr("ray.cluster_resources", lambda: there)
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


@pytest.mark.parametrize(
    ("wanted", "sentence"),
    [
        ({"gpus_per_trial": 1.0}, r"gpus-per-trial must be at most what the cluster has \(0\), got 1"),
        ({"gpus_per_trial": 1.5}, "gpus-per-trial must be a whole number where it is above 1, got 1.5"),
        ({"cpus_per_trial": 64.0}, r"cpus-per-trial must be at most what the cluster has \(4\), got 64"),
        ({"cpus_per_trial": 0.0}, "cpus-per-trial must be above 0 where a trial has no GPU, got 0"),
    ],
    ids=["no gpu", "one and a half gpus", "too many cores", "no core"],
)
def test_plan_is_refused_when_the_cluster_has_not_enough(
    monkeypatch: pytest.MonkeyPatch, wanted: dict[str, float], sentence: str
) -> None:
    with pytest.raises(DeviceError, match=sentence):
        plan(monkeypatch, {"CPU": 4.0}, **wanted)


def test_address_is_refused_at_once_when_nobody_answers() -> None:
    started_s = time.monotonic()

    with pytest.raises(SearchError, match=r"a Ray cluster must answer, got .*refused: address 127.0.0.1:9"):
        _check_address("127.0.0.1:9")

    assert time.monotonic() - started_s < 1.0


@pytest.mark.parametrize("address", ["nowhere", "host:", "host:port", ":6379", "host:99999"])
def test_address_is_refused_when_it_is_none(address: str) -> None:
    with pytest.raises(SearchError, match="must be auto or HOST:PORT"):
        _check_address(address)


def test_address_is_taken_when_somebody_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        _check_address(f"ray://127.0.0.1:{server.getsockname()[1]}")

"""Ray: a local one of our own, or a cluster that runs already; and what a trial may take of it."""

import json
import logging
import os
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, NodeDiedError, RayError, TaskUnschedulableError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from search.address import check_address
from search.autoscaler import read_autoscaler
from search.environment import MARK_FILE, compare, look_around
from search.gpu_sharing import GpuSharing, floored
from search.interrupts import kept_signals
from search.machines import Machine, gpu_slots, machine_of, startable
from search.plan import GpuWish
from search.privacy import PRIVATE_ENVIRONMENT, hide_logins, without_secrets
from spaces.errors import DeviceError, SearchError
from trainables.outputs import staging_folder

CHECKOUT = Path(__file__).resolve().parent.parent
SETTINGS = {
    "RAY_memory_monitor_refresh_ms": "0",  # Ray's kill ends a whole search; the kernel's, one worker
    "RAY_DEDUP_LOGS": "0",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",  # a search goes on from its own folder, never from Tune's snapshots
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
NOT_SENT = (".git", ".venv", "/runs", "/data", "/models", "/demo*", "/tests", "*.arrow", "*.safetensors")
"""Of the checkout, what workers do not need."""

NODE_LIMIT_S = 180.0
"""In which a node must have looked around: its first worker unpacks our code."""

OBJECT_STORE_BYTES = 200 * 2**20
"""Nothing large goes through the object store: tables are mapped from files."""

SHOWN_MACHINES = 8
"""In an error's sentence."""

MOST_WORKERS = 8
"""Processes that prepare one trial's batches: more than a GPU waits for, on a machine with many cores."""


@dataclass(frozen=True)
class Resources:
    """What one trial takes, and how many run at once.

    Attributes:
        cpus: cores; of the smallest trial, where `sharing` has each take its own.
        gpus: likewise.
        max_concurrent: trials at once.
        sharing: what each trial takes of a GPU by its own config; None where all take the same.
        n_gpus: of the cluster, where trials share them.
        cpus_beside_gpu: cores that go with a whole GPU, of which a trial takes as large a share as of the GPU; 0 where
            all trials take the same.
        others: what a trial takes beside, by Ray's names.
    """

    cpus: float
    gpus: float
    max_concurrent: int
    sharing: GpuSharing | None = None
    n_gpus: float = 0.0
    cpus_beside_gpu: float = 0.0
    others: Mapping[str, float] = field(default_factory=dict)

    @property
    def device(self) -> str:
        """Where a trial computes."""
        return "cuda" if self.gpus else "cpu"

    @property
    def n_threads(self) -> int:
        """Of the processor, for one trial."""
        return max(1, int(self.cpus))

    @property
    def n_workers(self) -> int:
        """Processes that prepare a trial's batches: where a GPU computes, the processor's other cores do that."""
        return min(max(1, int(self.cpus) - 1), MOST_WORKERS) if self.gpus else 0

    @property
    def gpu_share(self) -> float:
        """Of one GPU's memory."""
        return min(self.gpus, 1.0) or 1.0

    def of(self, settings: Mapping[str, Any]) -> "Resources":
        """What a trial with this config (flat) takes."""
        return self if self.sharing is None else self._with(self.sharing.share_of(settings))

    def whole(self) -> "Resources":
        """The same machines with a GPU for each trial, where trials would share them: for what was not measured."""
        return self if self.sharing is None else self._with(1.0)

    def request(self) -> Any:
        """What Ray Tune is to set aside for a trial: a dictionary, or what gives one for a trial's config."""
        return self.amounts() if self.sharing is None else OwnRequest(self)

    def amounts(self) -> dict[str, float]:
        """Of one trial, in Tune's words."""
        return {"cpu": self.cpus, "gpu": self.gpus, **self.others}

    def _with(self, gpus: float) -> "Resources":
        cpus = _cores(self.cpus_beside_gpu * gpus) if self.cpus_beside_gpu else self.cpus
        n_at_once = min(self.max_concurrent, gpu_slots(self.n_gpus, gpus))
        return Resources(cpus=cpus, gpus=gpus, max_concurrent=n_at_once, others=self.others)


@dataclass(frozen=True)
class OwnRequest:
    """Asks for what a trial takes by its own order. Ray Tune pickles it."""

    resources: Resources

    def __call__(self, config: Mapping[str, Any]) -> dict[str, float]:
        """From Tune's config of a trial, which holds its order."""
        return self.resources.of(config["order"]["settings"]).amounts()


def start_ray(address: str | None) -> None:
    """Start a local Ray, or join the cluster at an address; one that runs in this process is used as it is.

    A local one listens on this machine alone, and like a cluster lets in whoever has the token (`RAY_AUTH_MODE`).

    Raises:
        SearchError: no cluster answers there, or not to this machine.
    """
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # of lost workers we tell ourselves
    if ray.is_initialized():
        return
    _hush()
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    options |= _local_options() if address is None else _joining_options(address)
    try:
        with kept_signals(), without_secrets():  # Ray's own signal handlers leave at once, and shout
            ray.init(**options)
    except (ConnectionError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        advice = "" if address is None else "; its token must be yours too (RAY_AUTH_MODE=token, ~/.ray/auth_token)"
        raise SearchError(f"Ray must be reachable, got {reason}: address {address or 'local'}{advice}") from error


def _hush() -> None:
    """Ray prints a lost worker's obituary on stdout, whatever `log_to_driver` says; stdout is for our results.

    It also shows the command line of a driver to all who may see the cluster; passwords in it are nobody's business.
    """
    import ray._private.utils as names
    import ray._private.worker as worker

    worker.print_to_stdstream = lambda *_, **__: None
    if names.get_entrypoint_name.__module__ != __name__:
        command = hide_logins(names.get_entrypoint_name())  # type: ignore[no-untyped-call]
        names.get_entrypoint_name = lambda: command


def _local_options() -> dict[str, Any]:
    """Local workers inherit this process's environment; a runtime environment of their own would only start slower."""
    import ray._private.ray_constants as constants

    for name, value in PRIVATE_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    before = os.environ.get("PYTHONPATH", "")
    if str(CHECKOUT) not in before.split(os.pathsep):
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(CHECKOUT), before]))
    os.environ[constants.ENABLE_RAY_CLUSTERS_ENV_VAR] = "0"
    constants.ENABLE_RAY_CLUSTER = False  # Ray's own switch between this machine alone and all its networks
    return {"address": "local", "include_dashboard": False, "object_store_memory": OBJECT_STORE_BYTES}


def _joining_options(address: str) -> dict[str, Any]:
    """A worker gets this checkout and what keeps it quiet, unless the job that this process is has brought both."""
    from ray._private.authentication.authentication_token_setup import maybe_enable_token_auth_if_token_available
    from ray._private.runtime_env.constants import RAY_JOB_CONFIG_JSON_ENV_VAR as JOB

    check_address(address)
    maybe_enable_token_auth_if_token_available(warn_if_disabled=False)
    job = json.loads(os.environ.get(JOB) or "{}").get("runtime_env") or {}
    known = job.get("env_vars") or {}
    own: dict[str, Any] = {
        "env_vars": {name: value for name, value in PRIVATE_ENVIRONMENT.items() if name not in known}
    }
    if "working_dir" not in job:
        own |= {"working_dir": str(CHECKOUT), "excludes": list(NOT_SENT)}
    return {"address": address, "runtime_env": own}


def list_machines() -> list[Machine]:
    """The nodes that are there, and those that an autoscaler may still start. Ray runs.

    Raises:
        SearchError: the head does not answer.
    """
    if _is_ours_alone():
        return [Machine("here", ray.cluster_resources())]  # type: ignore[no-untyped-call]
    there = _nodes()
    return [*there, *startable(there, _autoscaler_config(there))]


def check_nodes(folder: Path, table: Path | None, *, table_hash: str = "") -> None:
    """Refuse a cluster of which a node has other code or libraries than this process, or does not see its files.

    Args:
        folder: of the search, which is there; nothing is left in it.
        table: folder of the face table; None where nodes do not open it from there.
        table_hash: of its content.

    Raises:
        SearchError: what differs is named, with node and both values.
    """
    nodes = [] if _is_ours_alone() else [node for node in _nodes() if node.cpus or node.gpus]
    if not nodes:
        return
    until_s = time.monotonic() + NODE_LIMIT_S
    with staging_folder(folder / "nodes") as marked:
        mark = uuid.uuid4().hex
        (marked / MARK_FILE).write_text(mark, encoding="utf-8")
        words = str(marked), None if table is None else str(table)
        tasks = [(node, _task_on(node, look_around, *words)) for node in nodes]
        for node, task in tasks:
            seen = _answer(node, task, until_s=until_s)
            if seen is not None:
                compare(seen, node=node.name, mark=mark, folder=folder, table=table, table_hash=table_hash)


def _is_ours_alone() -> bool:
    """Whether this process has started the Ray that it uses, which then has one node."""
    node: Any = ray._private.worker._global_node
    return node is None or bool(node.is_head())


def _nodes() -> list[Machine]:
    return [machine_of(node) for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]


def _task_on(node: Machine, work: Callable[..., Any], *words: Any) -> Any:
    task: Any = ray.remote(num_cpus=0)(work)
    place = NodeAffinitySchedulingStrategy(node.node_id, soft=False)
    return task.options(scheduling_strategy=place, max_retries=0).remote(*words)


def _answer(node: Machine, task: Any, *, until_s: float) -> Any:
    """What a task on a node gave; None where the node has gone. Raises SearchError."""
    try:
        return ray.get(task, timeout=max(until_s - time.monotonic(), 0.0))
    except (NodeDiedError, TaskUnschedulableError):
        return None
    except GetTimeoutError:
        raise SearchError(f"node must answer within {NODE_LIMIT_S:g} s, got nothing: {node.name}") from None
    except RayError as error:
        original = getattr(error, "cause", None)
        reason = str(original if isinstance(original, Exception) else error).strip().splitlines() or [str(type(error))]
        raise SearchError(f"node must run our code, got {reason[0]}: {node.name}") from error


def _autoscaler_config(there: Sequence[Machine]) -> dict[str, Any]:
    head = next((node for node in there if node.is_head), None)
    if head is None:
        return {}
    task = _task_on(head, read_autoscaler, ray.get_runtime_context().gcs_address)
    return _answer(head, task, until_s=time.monotonic() + NODE_LIMIT_S) or {}


def plan_resources(
    *,
    cpus_per_trial: float | None,
    gpus_per_trial: GpuWish,
    max_concurrent: int | None,
    sharing: GpuSharing | None = None,
    others: Mapping[str, float] | None = None,
) -> Resources:
    """What trials take of the cluster, with what its autoscaler may add: where it has GPUs, one each, else one core.

    Args:
        cpus_per_trial: cores; one, or a share of those beside the GPUs, if None.
        gpus_per_trial: GPUs or a part of one; one where there are any, if None; with auto, what `sharing` says.
        max_concurrent: trials at once, at most.
        sharing: what was measured for auto; without it auto is as None.
        others: what a trial takes beside, by Ray's names: `memory` in bytes, and what the cluster's owner added.

    Raises:
        DeviceError: no node, there or to be started, has as much as one trial is to take.
    """
    if gpus_per_trial == "auto":
        gpus_per_trial = None if sharing is None else sharing.smallest
    else:
        sharing = None
    others = dict(others or {})
    able = _holding(list_machines(), others)
    gpus = gpus_per_trial if gpus_per_trial is not None else float(any(machine.gpus >= 1 for machine in able))
    if gpus > 1 and gpus != int(gpus):
        raise DeviceError(f"gpus-per-trial must be a whole number where it is above 1, got {gpus:g}")
    able = _holding(able, {"GPU": gpus})
    cpus = cpus_per_trial if cpus_per_trial is not None else _fair_cpus(able, gpus, is_shared=sharing is not None)
    if not cpus and not gpus:
        raise DeviceError("cpus-per-trial must be above 0 where a trial has no GPU, got 0")
    able = _holding(able, {"CPU": cpus})
    slots = sum(machine.n * machine.slots({**others, "CPU": cpus, "GPU": gpus}) for machine in able)
    n_gpus = sum(machine.n * int(machine.gpus) for machine in able)
    beside = min(machine.cpus / machine.gpus for machine in able) if sharing and cpus_per_trial is None else 0.0
    n_at_once = min(max_concurrent or slots, slots)
    return Resources(cpus, gpus, n_at_once, sharing, float(n_gpus) if sharing else 0.0, beside, others)


def _holding(machines: Sequence[Machine], wanted: Mapping[str, float]) -> list[Machine]:
    """Those that have so much each. Raises DeviceError where none has."""
    able = list(machines)
    for name, amount in wanted.items():
        most = max(machine.resources.get(name, 0.0) for machine in able)
        if amount > most:
            what = {"CPU": "cpus-per-trial", "GPU": "gpus-per-trial"}.get(name, f"resource {name!r} of a trial")
            where = "; ".join(machine.in_words() for machine in able[:SHOWN_MACHINES])
            raise DeviceError(
                f"{what} must be at most what the cluster has on one node ({most:g}), got {amount:g}: {where}"
            )
        able = [machine for machine in able if machine.resources.get(name, 0.0) >= amount]
    return able


def _fair_cpus(machines: Sequence[Machine], gpus: float, *, is_shared: bool) -> float:
    """A core for each trial; where it has a GPU, the share of the cores beside it that is there on every machine."""
    if not gpus:
        return 1.0
    share = min(machine.cpus / gpu_slots(machine.gpus, gpus) for machine in machines)
    return _cores(share) if is_shared else max(1.0, float(int(share)))


def _cores(number: float) -> float:
    """Whole cores, or a part of one in hundredths: rounded down, so that trials which share a GPU all find room."""
    return float(int(number + 1e-6)) if number >= 1 else max(floored(number, digits=2), 0.01)

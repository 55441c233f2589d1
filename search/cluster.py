"""Ray: a local one of our own, or a cluster that runs already."""

import json
import logging
import os
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, NodeDiedError, RayError, TaskUnschedulableError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from search.address import check_address
from search.autoscaler import read_autoscaler
from search.checkout import CHECKOUT, path_with_checkout
from search.environment import MARK_FILE, clock_sentence, compare, look_around
from search.interrupts import kept_signals
from search.machines import Machine, machine_of, startable
from search.privacy import PRIVATE_ENVIRONMENT, hide_logins, without_secrets
from spaces.errors import SearchError
from trainables.outputs import staging_folder
from trainables.shared_clock import clock_lead_s

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
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        advice = "" if address is None else "; its token must be yours too (RAY_AUTH_MODE=token, ~/.ray/auth_token)"
        if "AF_UNIX" in reason:
            advice = "; name a folder with a shorter path for Ray's own files (RAY_TMPDIR=/tmp)"
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
    os.environ["PYTHONPATH"] = path_with_checkout()
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


def check_nodes(
    folder: Path, table: Path | None, *, table_hash: str = "", say: Callable[[str], None] = lambda _: None
) -> None:
    """Refuse a cluster of which a node has other code or libraries than this process, or does not see its files.

    Args:
        folder: of the search, which is there; nothing is left in it.
        table: folder of the face table; None where nodes do not open it from there.
        table_hash: of its content.
        say: is told, in a sentence, what the user should know and is no reason to refuse.

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
        lead_s = clock_lead_s(marked)
        tasks = [(node, _task_on(node, look_around, *words)) for node in nodes]
        for node, task in tasks:
            seen = _answer(node, task, until_s=until_s)
            if seen is not None:
                compare(seen, node=node.name, mark=mark, folder=folder, table=table, table_hash=table_hash)
                if told := clock_sentence(seen, node=node.name, lead_s=lead_s):
                    say(told)


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

"""Ray: a local one of our own, or a cluster that runs already; and what a trial may take of it."""

import logging
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

from search.gpu_sharing import GpuSharing, floored
from search.interrupts import kept_signals
from search.plan import GpuWish
from search.privacy import PRIVATE_ENVIRONMENT
from spaces.errors import DeviceError, SearchError

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
KNOCK_S = 10.0
OBJECT_STORE_BYTES = 200 * 2**20
"""Nothing large goes through the object store: tables are mapped from files."""

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
    """

    cpus: float
    gpus: float
    max_concurrent: int
    sharing: GpuSharing | None = None
    n_gpus: float = 0.0
    cpus_beside_gpu: float = 0.0

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
        return {"cpu": self.cpus, "gpu": self.gpus} if self.sharing is None else OwnRequest(self)

    def _with(self, gpus: float) -> "Resources":
        cpus = _cores(self.cpus_beside_gpu * gpus) if self.cpus_beside_gpu else self.cpus
        n_at_once = min(self.max_concurrent, _gpu_slots(self.n_gpus, gpus))
        return Resources(cpus=cpus, gpus=gpus, max_concurrent=n_at_once)


@dataclass(frozen=True)
class OwnRequest:
    """Asks for what a trial takes by its own order. Ray Tune pickles it."""

    resources: Resources

    def __call__(self, config: Mapping[str, Any]) -> dict[str, float]:
        """From Tune's config of a trial, which holds its order."""
        own = self.resources.of(config["order"]["settings"])
        return {"cpu": own.cpus, "gpu": own.gpus}


def start_ray(address: str | None) -> None:
    """Start a local Ray, or join the cluster at an address; one that runs in this process is used as it is.

    Raises:
        SearchError: no cluster answers there.
    """
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    logging.getLogger("ray.tune").setLevel(logging.ERROR)
    if ray.is_initialized():
        return
    _hush()
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        _set_for_local_workers()
        options |= {
            "address": "local",
            "include_dashboard": False,
            "object_store_memory": OBJECT_STORE_BYTES,
        }
    else:
        _check_address(address)
        excludes = [".git", ".venv", "runs", "data", "models", "*.arrow", "*.safetensors"]
        options |= {
            "address": address,
            "runtime_env": {"working_dir": str(CHECKOUT), "excludes": excludes, "env_vars": dict(PRIVATE_ENVIRONMENT)},
        }
    try:
        with kept_signals():  # Ray's own leaves at once, and shouts
            ray.init(**options)
    except (ConnectionError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SearchError(f"Ray must be reachable, got {reason}: address {address or 'local'}") from error


def _hush() -> None:
    """Ray prints a lost worker's obituary on stdout, whatever `log_to_driver` says; stdout is for our results."""
    import ray._private.worker as worker

    worker.print_to_stdstream = lambda *_, **__: None


def _check_address(address: str) -> None:
    """Knock at the door: Ray itself tries a closed one for minutes. Raises SearchError."""
    if address == "auto":
        return
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if not (host and colon and port.isdigit() and int(port) < 2**16):
        raise SearchError(f"address of a Ray cluster must be auto or HOST:PORT, got {address!r}")
    try:
        socket.create_connection((host, int(port)), timeout=KNOCK_S).close()
    except OSError as error:
        reason = "no answer" if isinstance(error, TimeoutError) else error.strerror or str(error)
        raise SearchError(
            f"a Ray cluster must answer, got {reason}: address {address}; leave --address out to start one here"
        ) from error


def _set_for_local_workers() -> None:
    """Local workers inherit this process's environment; a runtime environment of their own would only start slower."""
    for name, value in PRIVATE_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    before = os.environ.get("PYTHONPATH", "")
    if str(CHECKOUT) not in before.split(os.pathsep):
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(CHECKOUT), before]))


def plan_resources(
    *,
    cpus_per_trial: float | None,
    gpus_per_trial: GpuWish,
    max_concurrent: int | None,
    sharing: GpuSharing | None = None,
) -> Resources:
    """What trials take of the cluster as it stands: where it has GPUs, one each, else one core each.

    Args:
        cpus_per_trial: cores; one, or a share of those beside the GPUs, if None.
        gpus_per_trial: GPUs or a part of one; one where there are any, if None; with auto, what `sharing` says.
        max_concurrent: trials at once, at most.
        sharing: what was measured for auto; without it auto is as None.

    Raises:
        DeviceError: a GPU is asked for where there is none, or more of something than the cluster has.
    """
    there: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    n_cpus, n_gpus = there.get("CPU", 0.0), there.get("GPU", 0.0)
    if gpus_per_trial == "auto":
        gpus_per_trial = None if sharing is None else sharing.smallest
    else:
        sharing = None
    gpus = gpus_per_trial if gpus_per_trial is not None else (1.0 if n_gpus >= 1 else 0.0)
    if gpus > 1 and gpus != int(gpus):
        raise DeviceError(f"gpus-per-trial must be a whole number where it is above 1, got {gpus:g}")
    if gpus > n_gpus:
        raise DeviceError(f"gpus-per-trial must be at most what the cluster has ({n_gpus:g}), got {gpus:g}")
    gpu_slots = _gpu_slots(n_gpus, gpus)
    cpus = cpus_per_trial
    if cpus is None:
        cpus = _cores(n_cpus / gpu_slots) if sharing else max(1.0, n_cpus // gpu_slots)
    if not cpus and not gpus:
        raise DeviceError("cpus-per-trial must be above 0 where a trial has no GPU, got 0")
    if cpus > n_cpus:
        raise DeviceError(f"cpus-per-trial must be at most what the cluster has ({n_cpus:g}), got {cpus:g}")
    slots = max(1, min(gpu_slots, int(n_cpus / cpus + 1e-6) if cpus else gpu_slots))
    beside = n_cpus / n_gpus if sharing and cpus_per_trial is None else 0.0
    return Resources(cpus, gpus, min(max_concurrent or slots, slots), sharing, n_gpus if sharing else 0.0, beside)


def _gpu_slots(n_gpus: float, gpus: float) -> int:
    """How many trials find room on the GPUs; a trial's part is never of two."""
    if not gpus:
        return 10**6
    return int(n_gpus) * int(1 / gpus + 1e-6) if gpus < 1 else int(n_gpus / gpus)


def _cores(number: float) -> float:
    """Whole cores, or a part of one in hundredths: rounded down, so that trials which share a GPU all find room."""
    return float(int(number + 1e-6)) if number >= 1 else max(floored(number, digits=2), 0.01)

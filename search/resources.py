"""What a trial may take of the machines, and how many trials run at once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from search.cluster import list_machines
from search.gpu_sharing import GpuSharing, floored
from search.machines import Machine, gpu_slots, in_amount
from search.plan import GpuWish
from spaces.errors import DeviceError

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

    def of_task(self) -> dict[str, Any]:
        """The same in the words of Ray's own tasks."""
        named = {name: amount for name, amount in self.others.items() if name != "memory"}
        memory = {"memory": self.others["memory"]} if "memory" in self.others else {}
        return {"num_cpus": self.cpus, "num_gpus": self.gpus, "resources": named, **memory}

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
            where = "; ".join(machine.in_words(name) for machine in able[:SHOWN_MACHINES])
            found = f"({in_amount(name, most)}), got {in_amount(name, amount)}: {where}"
            raise DeviceError(f"{what} must be at most what the cluster has on one node {found}")
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

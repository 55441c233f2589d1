"""Machines of a cluster: those that are there, and those that an autoscaler may still start. Which trials they hold."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

_HEAD_MARK = "node:__internal_head__"
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Machine:
    """One kind of machine.

    Attributes:
        name: of the node, or of the kind that an autoscaler knows.
        resources: of one, by Ray's names: `CPU`, `GPU`, `memory` in bytes, and what the cluster's owner added.
        n: how many there are, or may be started.
        node_id: Ray's, of one that is there.
        is_head: whether the cluster's books are kept there.
    """

    name: str
    resources: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    n: int = 1
    node_id: str = ""
    is_head: bool = False

    @property
    def cpus(self) -> float:
        """Cores of one."""
        return self.resources.get("CPU", 0.0)

    @property
    def gpus(self) -> float:
        """GPUs of one."""
        return self.resources.get("GPU", 0.0)

    def slots(self, wanted: Mapping[str, float]) -> int:
        """How many trials that want so much one machine holds at once; 10**6 where they want nothing."""
        room = [
            gpu_slots(self.gpus, amount) if name == "GPU" else int(self.resources.get(name, 0.0) / amount + _ROUNDING)
            for name, amount in wanted.items()
            if amount
        ]
        return min(room, default=10**6)

    def in_words(self, *others: str) -> str:
        """`node 10.0.0.7 (4 CPU, 1 GPU)`, and what it has of others."""
        names = dict.fromkeys(("CPU", "GPU", *others))
        amounts = ", ".join(f"{in_amount(name, self.resources.get(name, 0.0))} {name}" for name in names)
        return f"{self.name} ({amounts})"


def in_amount(name: str, amount: float) -> str:
    """`4`; of memory `7.5 GiB`."""
    return f"{amount / 2**30:.4g} GiB" if name == "memory" else f"{amount:g}"


def gpu_slots(n_gpus: float, gpus: float) -> int:
    """How many trials find room on a machine's GPUs; a trial's part is never of two."""
    if not gpus:
        return 10**6
    return int(n_gpus) * int(1 / gpus + _ROUNDING) if gpus < 1 else int(n_gpus / gpus)


def machine_of(node: Mapping[str, Any]) -> Machine:
    """From Ray's description of a node."""
    resources = {name: float(amount) for name, amount in node["Resources"].items()}
    name = str(node.get("NodeManagerHostname") or node.get("NodeName") or node["NodeID"])
    address = str(node.get("NodeManagerAddress", ""))
    return Machine(
        f"{name} ({address})" if address and address != name else name,
        MappingProxyType({name: amount for name, amount in resources.items() if not name.startswith("node:")}),
        node_id=str(node["NodeID"]),
        is_head=_HEAD_MARK in resources,
    )


def startable(there: Sequence[Machine], config: Mapping[str, Any]) -> list[Machine]:
    """What an autoscaler may start beside the machines that are there.

    Args:
        there: a machine each.
        config: the cluster's, as `ray up` takes it: `available_node_types`, `head_node_type`, `max_workers`.
    """
    free = int(config.get("max_workers", 0)) - sum(not machine.is_head for machine in there)
    found = []
    for name, kind in config.get("available_node_types", {}).items():
        resources = {key: float(amount) for key, amount in kind.get("resources", {}).items()}
        if name == config.get("head_node_type"):
            continue
        n_alike = sum(not machine.is_head and _is_alike(machine, resources) for machine in there)
        n = min(int(kind.get("max_workers", 0)) - n_alike, free)
        if n > 0:
            found.append(Machine(name, MappingProxyType(resources), n=n))
    return found


def _is_alike(machine: Machine, resources: Mapping[str, float]) -> bool:
    return all(machine.resources.get(name, 0.0) == resources.get(name, 0.0) for name in ("CPU", "GPU"))

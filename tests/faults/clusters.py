"""A Ray cluster on this machine, a node being a `ray start --block` of its own with all that it starts."""

import itertools
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from processes import NODE_MARK, end_all, free_port, new_mark, trial_workers, wait_until
from searches import Place

HOST = "127.0.0.1"
RAY = Path(sys.executable).with_name("ray")
OBJECT_STORE_BYTES = 80 * 2**20
START_S = 240.0
OTHER_CLOCK = """
import time
_time = time.time
time.time = lambda: _time() + {ahead_s}
"""
"""What Python reads first (sitecustomize) on a node whose clock is ahead."""

TRIES = 3
"""A node that is about to listen on a port may find that another process has taken it meanwhile, and ends."""


@dataclass
class Node:
    """A node that runs.

    Attributes:
        mark: in the environment of its processes.
        log: what `ray start` prints.
    """

    process: "subprocess.Popen[bytes]"
    log: Path
    mark: str = field(default_factory=new_mark)

    @property
    def text(self) -> str:
        """What `ray start` printed so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    @property
    def is_up(self) -> bool:
        """Whether it has started, and still runs."""
        return "Ray runtime started" in self.text and not self.has_ended

    @property
    def has_ended(self) -> bool:
        """Whether it does not run, or no longer."""
        return self.process.poll() is not None

    @property
    def n_training(self) -> int:
        """Processes on it that train trials."""
        return len(trial_workers(self.mark, name=NODE_MARK))

    def kill(self) -> None:
        """SIGKILL to all of it, as when its machine goes away."""
        end_all(self.mark, name=NODE_MARK)
        self.process.wait()


@dataclass
class Cluster:
    """A head without cores, and nodes; it asks for a token. Everything listens on this machine alone.

    Attributes:
        place: whose end is the cluster's too.
        port: of the head.
        dashboard: port of the dashboard, which takes jobs.
        nodes: beside the head.
    """

    place: Place
    port: int = field(default_factory=free_port)
    dashboard: int = field(default_factory=free_port)
    nodes: list[Node] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    @property
    def address(self) -> str:
        """For `--address`."""
        return f"{HOST}:{self.port}"

    def start(self, *, cpus: Sequence[int], jobs: bool = False) -> "Cluster":
        """Start the head, then a node for each number of cores.

        Args:
            cpus: of each node.
            jobs: whether the head takes jobs, for which it needs ray[default].
        """
        token = self.place.folder / "ray-token"
        token.write_text(secrets.token_hex(32), encoding="utf-8")
        token.chmod(0o600)
        self.place.settings |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
        board = (
            ("--include-dashboard=true", f"--dashboard-port={self.dashboard}")
            if jobs
            else ("--include-dashboard=false",)
        )
        head = self._start("head", "--head", f"--port={self.port}", "--num-cpus=0", *board)
        wait_until(lambda: head.is_up or head.has_ended, timeout_s=START_S, what="the head starts")
        assert head.is_up, f"the head must start, printed:\n{head.text[-3000:]}"
        self.grow(cpus)
        return self

    def shrink(self, *, to: int) -> None:
        """Kill the nodes that came last; Ray knows a moment later."""
        for node in self.nodes[to:]:
            node.kill()
        del self.nodes[to:]

    def grow(self, cpus: Sequence[int]) -> None:
        """Start a node for each number of cores, one after the other: at once, they would take each other's ports."""
        for n_cpus in cpus:
            for _ in range(TRIES):
                node = self.add(n_cpus)
                wait_until(lambda node=node: node.is_up or node.has_ended, timeout_s=START_S, what="a node starts")
                if node.is_up:
                    break
                self.nodes.remove(node)
            else:
                raise AssertionError(
                    f"a node must start, got {TRIES} that ended; the last printed:\n{node.text[-3000:]}"
                )

    def add(self, n_cpus: int, *, clock_ahead_s: float = 0.0) -> Node:
        """Start one more node, and do not wait for it. Its clock may be ahead; files are stamped by the right one."""
        name = f"node-{next(self._numbers)}"
        first = self.place.folder / f"{name}-clock"
        first.mkdir()
        (first / "sitecustomize.py").write_text(OTHER_CLOCK.format(ahead_s=clock_ahead_s), encoding="utf-8")
        known = self.place.environment.get("PYTHONPATH", "")
        path = os.pathsep.join(filter(None, [str(first) if clock_ahead_s else "", known]))
        self.nodes.append(self._start(name, f"--address={self.address}", f"--num-cpus={n_cpus}", PYTHONPATH=path))
        return self.nodes[-1]

    def job(self, command: str, *words: str) -> "subprocess.CompletedProcess[str]":
        """A command of `ray job`, to its end."""
        board = f"--address=http://{HOST}:{self.dashboard}"
        return subprocess.run(
            [str(RAY), "job", command, board, *words], env=self.place.environment, capture_output=True, text=True
        )

    def _start(self, name: str, *words: str, **environment: str) -> Node:
        """A node has files of its own, as on a machine of its own: one that starts or ends tidies up in them."""
        mark, log = new_mark(), self.place.folder / f"{name}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [str(RAY), "start", "--block", "--disable-usage-stats", f"--node-ip-address={HOST}",
                 f"--object-store-memory={OBJECT_STORE_BYTES}", f"--temp-dir={self.place.ray_dir / name}",
                 "--dashboard-agent-listen-port=0", *words],
                env={**self.place.environment, NODE_MARK: mark, **environment},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip
        return Node(process, log, mark)

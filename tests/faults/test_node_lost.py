"""A node of a cluster goes away while it trains, and another comes."""

import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from books import read_operations, read_records, wrongs_in_books
from clusters import Cluster
from measure import Row, Target, compare
from processes import wait_until
from searches import EPOCH, Place

if TYPE_CHECKING:
    from conftest import Scale

EPOCHS = 8
TRIALS = {"small": 8, "full": 12}
MOVED_S = 30.0


@pytest.mark.faults
def test_trials_of_a_lost_node_go_on_elsewhere_within_half_a_minute(
    place: Place, scale: "Scale", figures: Callable[[Row], None]
) -> None:
    cluster = Cluster(place).start(cpus=[1, 1, 1])
    command = place.search(
        "moved", "--address", cluster.address, "--let-finish", "1", trials=TRIALS[scale], epochs=EPOCHS
    )
    wait_until(lambda: n_telling(command.text) == len(cluster.nodes), timeout_s=300.0, what="a trial runs on each node")

    killed_s = time.time()
    cluster.nodes[1].kill()
    added = cluster.add(1)
    wait_until(lambda: added.n_training or not command.is_running, timeout_s=300.0, what="a trial runs on the new node")
    was_used = command.is_running
    command.finish()

    moves = moves_of(read_operations(place.storage / "moved"))
    records = read_records(place.storage / "moved")
    ended = sum(record["end"] in ("completed", "stopped") for record in records)
    noticed_s = [move["noticed_s"] - killed_s for move in moves]
    moved_s = [move["moved_s"] - move["noticed_s"] for move in moves]
    figures(compare("a node of three killed, another added: trials that end", ended, f"of {TRIALS[scale]}",
                    target=Target(value_at_least=TRIALS[scale])))  # fmt: skip
    figures(compare("until the loss of the node is noticed", max(noticed_s, default=-1.0), "s"))
    figures(compare("from then until its trial tells an epoch elsewhere", max(moved_s, default=-1.0), "s",
                    target=Target(value_at_most=MOVED_S)))  # fmt: skip
    assert wrongs_in_books(place.storage / "moved", n_trials=TRIALS[scale]) == []
    assert len(moves) == 1
    assert max(moved_s) <= MOVED_S
    assert was_used


def n_telling(text: str) -> int:
    """Trials of which an epoch was printed."""
    return len({trial_id for trial_id, _ in EPOCH.findall(text)})


def moves_of(operations: list[dict[str, Any]]) -> list[dict[str, float]]:
    """For each lost worker, Unix seconds: when its loss was noticed, and when its trial told the next epoch."""
    moves = []
    for place, operation in enumerate(operations):
        if operation["op"] == "tags" and "affectune.n_preempted" in operation["tags"]:
            later = [o["t"] for o in operations[place:] if o["op"] == "metrics" and o["key"] == operation["key"]]
            moved_s = later[0] / 1000 if later else math.inf
            moves.append({"noticed_s": operation["t"] / 1000, "moved_s": moved_s})
    return moves

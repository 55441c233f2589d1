"""Many nodes: what a trial costs the driver, against what it costs on one node."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from books import wrongs_in_books
from clusters import Cluster
from measure import Row, Target, compare
from searches import LONG_S, Place

if TYPE_CHECKING:
    from conftest import Scale

CPUS, TRIALS_A_CPU = 8, 3
NODES = {"small": 2, "full": 8}
LINEAR = 1.15
SEARCH = Path(__file__).with_name("idle_search.py")


@pytest.mark.faults
def test_trial_costs_the_driver_on_many_nodes_what_it_costs_on_one(
    place: Place, scale: "Scale", figures: Callable[[Row], None]
) -> None:
    n_nodes = NODES[scale]
    cluster = Cluster(place).start(cpus=[CPUS])

    one = search(cluster, "one", n_slots=CPUS)
    cluster.grow([CPUS] * (n_nodes - 1))
    many = search(cluster, "many", n_slots=CPUS * n_nodes)
    cluster.shrink(to=1)
    again = search(cluster, "again", n_slots=CPUS)  # what else the machine did may have changed meanwhile

    n_one, n_many = CPUS * TRIALS_A_CPU, CPUS * n_nodes * TRIALS_A_CPU
    cost_one = 1000 * (one["cpu_s"] + again["cpu_s"]) / (2 * n_one)
    cost_many = 1000 * many["cpu_s"] / n_many
    at_once = f"{many['most_at_once']:.0f} trials without work at once on {n_nodes} nodes"
    figures(compare(f"{at_once}: the driver's part of one", cost_many, "CPU ms",
                    peer=f"{one['most_at_once']:.0f} on one node", peer_value=cost_one, is_smaller_better=False,
                    target=Target(ratio_at_most=LINEAR)))  # fmt: skip
    figures(compare(f"{n_many} of them in all", many["wall_s"], "s", peer=f"{n_one} on one node",
                    peer_value=one["wall_s"], is_smaller_better=False))  # fmt: skip
    assert wrongs_in_books(place.storage / "many", n_trials=n_many) == []
    assert [each["most_at_once"] for each in (one, many, again)] == [CPUS, CPUS * n_nodes, CPUS]
    assert cost_many <= cost_one * LINEAR


def search(cluster: Cluster, name: str, *, n_slots: int) -> dict[str, float]:
    """A search of trials that wait, so many at once, in a process of its own, which says what it took."""
    place = cluster.place
    words = [cluster.address, str(place.storage / name), str(place.table), str(n_slots * TRIALS_A_CPU), str(n_slots)]
    ended = subprocess.run(
        [sys.executable, str(SEARCH), *words],
        env=place.environment,
        capture_output=True,
        text=True,
        timeout=LONG_S,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    found: dict[str, float] = json.loads(ended.stdout.splitlines()[-1])
    return found

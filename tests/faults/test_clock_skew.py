"""The clock of a node is minutes ahead of the driver's."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from books import read_records, wrongs_in_books
from clusters import Cluster
from measure import Row, Target, compare
from processes import wait_until
from searches import Place

if TYPE_CHECKING:
    from conftest import Scale

AHEAD_S = 600.0
EPOCHS = 4
TRIALS = {"small": 4, "full": 8}


@pytest.mark.faults
def test_trials_on_a_node_whose_clock_is_ahead_have_the_time_that_they_were_given(
    place: Place, scale: "Scale", figures: Callable[[Row], None]
) -> None:
    cluster = Cluster(place).start(cpus=[1])
    ahead = cluster.add(1, clock_ahead_s=AHEAD_S)
    wait_until(lambda: ahead.is_up, timeout_s=240.0, what="the node whose clock is ahead has started")

    words = ("--address", cluster.address, "--let-finish", "1", "--time-budget", "9m")
    told = place.search("skewed", *words, trials=TRIALS[scale], epochs=EPOCHS).finish()

    records = read_records(place.storage / "skewed")
    full = sum(record["end"] == "completed" and record["epochs"] == EPOCHS for record in records)
    figures(compare(f"a node's clock {AHEAD_S:.0f} s ahead: trials that train all their epochs", full,
                    f"of {len(records)}", target=Target(value_at_least=TRIALS[scale])))  # fmt: skip
    assert "600 s ahead of this machine's; deadlines there allow for it" in told
    assert full == TRIALS[scale]
    assert wrongs_in_books(place.storage / "skewed", n_trials=TRIALS[scale]) == []

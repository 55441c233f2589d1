"""The tracking server is killed while a search runs, for longer than its client would ever retry."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from books import read_records, wrongs_in_books
from measure import Row, Target, compare
from outages import SLOWER, note_pace, search_through
from searches import Place
from servers import TrackingServer

if TYPE_CHECKING:
    from conftest import Scale

AWAY_S = {"small": 10.0, "full": 180.0}


@pytest.mark.faults
def test_tracking_server_that_is_away_slows_no_trial_and_misses_nothing_in_the_end(
    place: Place, scale: "Scale", figures: Callable[[Row], None]
) -> None:
    server = TrackingServer(place).start()

    outage = search_through(
        place, "--tracking-uri", server.uri, away_s=AWAY_S[scale], scale=scale, stop=server.kill, start=server.start
    )

    folder = place.storage / "alone"
    wrongs = wrongs_in_books(folder, n_trials=outage.n_trials, database=server.database)
    n_points = sum(len(epoch) - 1 for record in read_records(folder) for epoch in record["history"])
    note_pace(outage, f"MLflow's server killed for {AWAY_S[scale]:.0f} s", figures)
    figures(compare(f"of {n_points} numbers, missing, wrong or twice in MLflow afterwards", len(wrongs), "",
                    target=Target(value_at_most=0)))  # fmt: skip
    assert wrongs == []
    assert "the search goes on, records wait in" in outage.told
    assert "tracking server answers again" in outage.told
    assert outage.slower_within()[0] <= SLOWER  # that it is slower by more is not shown

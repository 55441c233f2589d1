"""The tracking server is killed while a search runs, for longer than its client would ever retry."""

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from books import read_operations, read_records, wrongs_in_books
from measure import Row, Target, compare
from searches import EPOCH, Place
from servers import TrackingServer

if TYPE_CHECKING:
    from conftest import Scale

EPOCHS = 10
OUTAGE_S = {"small": 10.0, "full": 180.0}
CALM_TRIALS = {"small": 2, "full": 8}
SLACK_S = 20.0
"""Of work that is left for after the outage."""
SLOWER = 1.02


@dataclass(frozen=True)
class Outage:
    """When the server was away, Unix seconds; and what the search printed."""

    began_s: float
    ended_s: float
    told: str
    n_trials: int


@pytest.mark.faults
def test_tracking_server_that_is_away_slows_no_trial_and_misses_nothing_in_the_end(
    place: Place, scale: "Scale", figures: Callable[[Row], None]
) -> None:
    server = TrackingServer(place).start()
    calm_s = run_calmly(place, server, n_trials=CALM_TRIALS[scale])

    outage = run_without_server(place, server, away_s=OUTAGE_S[scale], epoch_s=statistics.median(calm_s))

    folder = place.storage / "alone"
    alone_s = epochs_between(folder, outage.began_s, outage.ended_s)
    halves = [statistics.median(half) for half in (calm_s[::2], calm_s[1::2])]
    noise = max(halves) / min(halves)
    wrongs = wrongs_in_books(folder, n_trials=outage.n_trials, database=server.database)
    n_points = sum(len(epoch) - 1 for record in read_records(folder) for epoch in record["history"])
    figures(compare(f"MLflow's server killed for {OUTAGE_S[scale]:.0f} s: a trial's median epoch meanwhile",
                    statistics.median(alone_s), "s", peer="a search beside a server that answers",
                    peer_value=statistics.median(calm_s), is_smaller_better=False,
                    target=Target(ratio_at_most=SLOWER)))  # fmt: skip
    figures(compare("every second epoch of the search beside a server that answers (noise)", halves[0], "s",
                    peer="the others", peer_value=halves[1], is_smaller_better=False))  # fmt: skip
    figures(compare(f"of {n_points} numbers, missing, wrong or twice in MLflow afterwards", len(wrongs), "",
                    target=Target(value_at_most=0)))  # fmt: skip
    assert wrongs == []
    assert "the search goes on, records wait in" in outage.told
    assert "tracking server answers again" in outage.told
    assert statistics.median(alone_s) <= statistics.median(calm_s) * max(SLOWER, noise)


def run_calmly(place: Place, server: TrackingServer, *, n_trials: int) -> list[float]:
    """Seconds of each epoch of a search beside a server that answers, in the order in which they were told."""
    words = ("--tracking-uri", server.uri, "--let-finish", "1")
    place.search("beside", *words, trials=n_trials, epochs=EPOCHS).finish()
    assert wrongs_in_books(place.storage / "beside", n_trials=n_trials, database=server.database) == []
    return epochs_between(place.storage / "beside", 0.0, math.inf)


def run_without_server(place: Place, server: TrackingServer, *, away_s: float, epoch_s: float) -> Outage:
    """A search whose server is killed after the first epoch, and started again so much later, before its end."""
    n_trials = math.ceil(2 * (away_s + SLACK_S) / (epoch_s * EPOCHS))  # two at a time
    words = ("--tracking-uri", server.uri, "--let-finish", "1")
    command = place.search("alone", *words, trials=n_trials, epochs=EPOCHS)
    command.wait_for(EPOCH)
    server.kill()
    began_s = time.time()
    assert command.run_for(away_s), "the search must outlast the outage"
    ended_s = time.time()
    server.start()
    return Outage(began_s, ended_s, command.finish(), n_trials)


def epochs_between(folder: Path, low_s: float, high_s: float) -> list[float]:
    """Seconds of those epochs of a search that were told between two Unix times, but for each trial's first."""
    told = {(o["key"], o["step"]): o["t"] / 1000 for o in read_operations(folder) if o["op"] == "metrics"}
    epochs = [
        (told[record["trial_id"], epoch["epoch"]], epoch) for record in read_records(folder) for epoch in later(record)
    ]
    return [
        epoch["time/epoch_s"] for time_s, epoch in sorted(epochs, key=lambda told: told[0]) if low_s < time_s < high_s
    ]


def later(record: dict[str, Any]) -> Sequence[dict[str, Any]]:
    """A trial's epochs but the first, in which things are made ready, and the last, which looks at faces again."""
    history: list[dict[str, Any]] = record["history"]
    return history[1:-1]

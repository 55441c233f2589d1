"""A search beside a tracking server that goes away in the middle of it: does anybody wait for that?"""

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from books import read_operations, read_records
from measure import Row, Target, compare
from searches import Place

if TYPE_CHECKING:
    from conftest import Scale

EPOCHS = 20
AROUND_S = {"small": 8.0, "full": 30.0}
"""How long the server answers before it goes away, and after it has come back."""

SETTLE_S = 6.0
"""In which a server that has come back starts, and gets what waited."""

SLACK_S = 8.0
"""Of work that is left after all that."""

SLOWER = 1.02


@dataclass(frozen=True)
class Outage:
    """What a search went through.

    Attributes:
        before_s: seconds of its epochs before the server went away; each trial's first and last are left out.
        meanwhile_s: of those while it was away.
        after_s: of those after it had come back.
        told: what the search printed.
        n_trials: that it was asked for.
    """

    before_s: list[float]
    meanwhile_s: list[float]
    after_s: list[float]
    told: str
    n_trials: int

    @property
    def calm_s(self) -> float:
        """The median epoch beside a server that answers, as it would have been in the middle of the outage."""
        return (statistics.median(self.before_s) + statistics.median(self.after_s)) / 2

    @property
    def slower(self) -> float:
        """How much longer the median epoch took meanwhile, as a factor."""
        return statistics.median(self.meanwhile_s) / self.calm_s

    @property
    def noise(self) -> float:
        """The same factor between before and after, the longer against the shorter."""
        medians = statistics.median(self.before_s), statistics.median(self.after_s)
        return max(medians) / min(medians)


def search_through(
    place: Place, *words: str, away_s: float, scale: "Scale", stop: Callable[[], Any], start: Callable[[], Any]
) -> Outage:
    """A search, a trial at a time, whose server is stopped and started again on the way.

    Args:
        place: of the search, which is called `alone`.
        words: that name the server.
        away_s: how long it is away.
        scale: of the times before and after.
        stop: has it go away.
        start: has it come back.
    """
    folder, alone = place.storage / "alone", ("--max-concurrent", "1")
    place.search("alone", *words, *alone, "--let-finish", "1", trials=1, epochs=EPOCHS).finish()
    epoch_s = statistics.median(epochs_between(folder, 0.0, math.inf))
    n_more = math.ceil((away_s + 2 * AROUND_S[scale] + SETTLE_S + SLACK_S) / (epoch_s * EPOCHS))

    command = place.resume("alone", "--trials", f"+{n_more}", *alone)
    command.wait_for(f"t0001 epoch 2/{EPOCHS}")
    first_s = time.time()
    assert command.run_for(AROUND_S[scale])
    stop()
    began_s = time.time()
    assert command.run_for(away_s), "the search must outlast the outage"
    ended_s = time.time()
    start()
    assert command.run_for(SETTLE_S), "the search must outlast the outage"
    settled_s = time.time()
    told = command.finish()
    return Outage(
        epochs_between(folder, first_s, began_s),
        epochs_between(folder, began_s, ended_s),
        epochs_between(folder, settled_s, math.inf),
        told,
        1 + n_more,
    )


def note_pace(outage: Outage, what: str, figures: Callable[[Row], None]) -> None:
    """The rows of an outage, as far as time goes."""
    figures(compare(f"{what}: a trial's median epoch meanwhile", statistics.median(outage.meanwhile_s), "s",
                    peer="before and after", peer_value=outage.calm_s, is_smaller_better=False,
                    target=Target(ratio_at_most=SLOWER)))  # fmt: skip
    figures(compare("the median epoch before (noise)", statistics.median(outage.before_s), "s", peer="after",
                    peer_value=statistics.median(outage.after_s), is_smaller_better=False))  # fmt: skip


def epochs_between(folder: Path, low_s: float, high_s: float) -> list[float]:
    """Seconds of the epochs of a search that were begun and told between two Unix times, in their order."""
    told = {(o["key"], o["step"]): o["t"] / 1000 for o in read_operations(folder) if o["op"] == "metrics"}
    epochs = [
        (told[record["trial_id"], epoch["epoch"]], float(epoch["time/epoch_s"]))
        for record in read_records(folder)
        for epoch in later(record)
    ]
    return [epoch_s for time_s, epoch_s in sorted(epochs) if low_s < time_s - epoch_s and time_s < high_s]


def later(record: dict[str, Any]) -> Sequence[dict[str, Any]]:
    """A trial's epochs but the first, in which things are made ready, and the last, which looks at faces again."""
    history: list[dict[str, Any]] = record["history"]
    return history[1:-1]

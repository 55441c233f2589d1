"""A search beside a tracking server that goes away in the middle of it: does anybody wait for that?"""

import math
import random
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

BESIDE_EACH_OTHER = 1.1
"""How much longer an epoch takes where two searches share two cores, at least."""

MORE_BESIDE = 4
"""Trials more that the other search has, so that it is still there at the end; it is interrupted then."""

SLOWER = 1.02


@dataclass(frozen=True)
class Outage:
    """What a search went through, and one beside it, on the same machine in the same minutes, whose records stay there.

    Whatever else slows the machine, slows both: only how the two compare is looked at.

    Attributes:
        there_s: seconds of its epochs before the server went away and after it had come back; each trial's first and
            last are left out.
        away_s: of those while it was away.
        beside_there_s: of the other search, in the minutes of `there_s`.
        beside_away_s: in those of `away_s`.
        told: what the search printed.
        n_trials: that it was asked for.
    """

    there_s: list[float]
    away_s: list[float]
    beside_there_s: list[float]
    beside_away_s: list[float]
    told: str
    n_trials: int

    def slower_within(self, *, n_draws: int = 1000) -> tuple[float, float]:
        """Low and high end of how many times as long the median epoch took while the server was away, with 90 %."""
        draw = random.Random(0)
        parts = (self.away_s, self.beside_away_s, self.there_s, self.beside_there_s)
        found = []
        for _ in range(n_draws):
            away, beside_away, there, beside_there = (draw.choices(part, k=len(part)) for part in parts)
            found.append(_pace(away, beside_away) / _pace(there, beside_there))
        found.sort()
        return found[n_draws // 20], found[-n_draws // 20]


def _pace(own_s: Sequence[float], beside_s: Sequence[float]) -> float:
    return statistics.median(own_s) / statistics.median(beside_s)


def search_through(
    place: Place, *words: str, away_s: float, scale: "Scale", stop: Callable[[], Any], start: Callable[[], Any]
) -> Outage:
    """A search, a trial at a time, whose server is stopped and started again on the way; and another one beside it.

    Args:
        place: of the searches, which are called `alone` and `beside`.
        words: that name the server.
        away_s: how long it is away.
        scale: of the times before and after.
        stop: has it go away.
        start: has it come back.
    """
    folder, beside = place.storage / "alone", place.storage / "beside"
    own = ("--max-concurrent", "1")
    place.search("beside", *own, "--let-finish", "1", trials=1, epochs=EPOCHS).finish()
    epoch_s = BESIDE_EACH_OTHER * statistics.median(epochs_between(beside, 0.0, math.inf))
    n_trials = math.ceil((away_s + 2 * AROUND_S[scale] + SETTLE_S + SLACK_S) / (epoch_s * EPOCHS))

    command = place.search("alone", *words, *own, "--let-finish", "1", trials=n_trials, epochs=EPOCHS)
    other = place.resume("beside", "--trials", f"+{n_trials + MORE_BESIDE}", *own)
    command.wait_for(f"t0000 epoch 2/{EPOCHS}")
    other.wait_for(f"t0001 epoch 2/{EPOCHS}")
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
    last_s = time.time()
    other.interrupt()
    other.wait()
    there, away = ((first_s, began_s), (settled_s, last_s)), (began_s, ended_s)
    return Outage(
        [epoch_s for times in there for epoch_s in epochs_between(folder, *times)],
        epochs_between(folder, *away),
        [epoch_s for times in there for epoch_s in epochs_between(beside, *times)],
        epochs_between(beside, *away),
        told,
        n_trials,
    )


def note_pace(outage: Outage, what: str, figures: Callable[[Row], None]) -> None:
    """The row of an outage, as far as time goes: by how much, at least, it slowed the trials."""
    low, high = outage.slower_within()
    seen = _pace(outage.away_s, outage.beside_away_s) / _pace(outage.there_s, outage.beside_there_s)
    words = f"took {seen:.3f} times as long as before and after ({low:.3f} to {high:.3f}, 90 %); at least"
    figures(compare(f"{what}: a trial's median epoch, against one beside it, {words}", low, "times",
                    target=Target(value_at_most=SLOWER)))  # fmt: skip


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

"""The process of a trial is killed outright while the search goes on."""

import random
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from books import GOOD_ENDS, read_records, wrongs_in_books
from measure import Row, Target, compare
from processes import kill, stragglers, trial_workers
from searches import EPOCH, Place, epochs_told

if TYPE_CHECKING:
    from conftest import Scale

EPOCHS, TRIALS = 4, 16
KILLS = {"small": 3, "full": 20}
EPOCHS_BETWEEN, LONGEST_WAIT_S = 1, 2.0
"""Between two kills: so many epochs are told, by whichever trial, and then a random while goes by."""
GIVEN_UP = "worker was lost 4 times in a row"
"""What a trial's record says that was hit more often than it may be."""


@pytest.mark.faults
def test_trials_whose_processes_are_killed_end_and_lose_no_epoch_that_was_told(
    place: Place, scale: "Scale", figures: Callable[[Row], None], moments: random.Random
) -> None:
    n_killed, names, wrongs, again = 0, [], [], {}

    while n_killed < KILLS[scale]:
        names.append(f"cut{len(names)}")
        n_now, told = run_killed(place, names[-1], n_kills=KILLS[scale] - n_killed, moments=moments)
        n_killed += n_now
        wrongs += wrongs_in_books(place.storage / names[-1], n_trials=TRIALS, ends=(*GOOD_ENDS, "failed"))
        again |= {(names[-1], *where): n for where, n in epochs_told(told).items() if n > 1}

    records = [record for name in names for record in read_records(place.storage / name)]
    failed = [record["error"] for record in records if record["end"] == "failed"]
    ended = sum(record["end"] is not None for record in records)
    figures(compare(f"a trial's process killed {n_killed} times: trials that end", ended, f"of {len(records)}",
                    target=Target(value_at_least=len(records))))  # fmt: skip
    figures(compare("of them given up after four processes in a row", len(failed), f"of {len(records)}"))
    figures(compare("epochs that were told before and run again, beside the one under way", sum(again.values()),
                    f"in {n_killed} kills", target=Target(value_at_most=0)))  # fmt: skip
    assert wrongs == []
    assert [error for error in failed if not error.startswith(GIVEN_UP)] == []
    assert again == {}
    assert stragglers(place.mark) == []


def run_killed(place: Place, name: str, *, n_kills: int, moments: random.Random) -> tuple[int, str]:
    """A search of whose trials' processes one is killed every now and then: how many were, and what it printed."""
    command = place.search(name, trials=TRIALS, epochs=EPOCHS)
    command.wait_for(EPOCH)
    n_killed = 0
    while n_killed < n_kills and command.run_for(moments.uniform(0.0, LONGEST_WAIT_S)):
        if not (workers := trial_workers(place.mark)):
            continue
        kill([moments.choice(workers)])
        n_killed, n_told = n_killed + 1, len(EPOCH.findall(command.text))
        while command.is_running and len(EPOCH.findall(command.text)) < n_told + EPOCHS_BETWEEN:
            time.sleep(0.05)
    return n_killed, command.finish()

"""The driver of a search is killed outright, again and again, and the search goes on each time."""

import math
import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from books import read_records, wrongs_in_books
from measure import Row, Target, compare
from processes import stragglers
from searches import STARTED, Command, Place

from search.resume import resume_search

if TYPE_CHECKING:
    from conftest import Scale

EPOCHS = 12
"""An undisturbed search takes some 80 s then: each kill costs it an epoch under way and the loading of two workers."""
TRIALS = {"small": 6, "full": 24}
KILLS = {"small": 3, "full": 20}
ENDED = re.compile(r"t\d{4} (?:completed|stopped) ")
IN_START = 0.35
"""Of the kills, before the launch has given a trial to a worker."""


@dataclass
class Story:
    """What a search went through.

    Attributes:
        wall_s: of all its launches.
        restart_s: of that, from the launches after the first until each had given its first trial to a worker.
        kills: what was killed and when, in words.
        ended: records of trials that had ended when a driver was killed.
        begun: values of trials that had begun then.
    """

    wall_s: float = 0.0
    restart_s: float = 0.0
    kills: list[str] = field(default_factory=list)
    ended: dict[str, dict[str, Any]] = field(default_factory=dict)
    begun: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add_launch(self, command: Command, *, to_first_trial_s: float, is_first: bool) -> None:
        """Take in a launch that is over."""
        self.wall_s += time.monotonic() - command.began_s
        self.restart_s += 0.0 if is_first else to_first_trial_s

    def look(self, records: list[dict[str, Any]]) -> None:
        """Take in what stands in the search's folder."""
        self.begun |= {record["trial_id"]: record["values"] for record in records}
        self.ended |= {record["trial_id"]: record for record in records if record["end"] not in (None, "preempted")}


@pytest.mark.faults
def test_search_whose_driver_is_killed_ends_with_each_trial_once(
    place: Place, scale: "Scale", figures: Callable[[Row], None], moments: random.Random
) -> None:
    n_trials, n_kills = TRIALS[scale], KILLS[scale]
    calm_s, start_s = run_calmly(place, n_trials=n_trials)

    story = run_killed(place, n_trials=n_trials, n_kills=n_kills, calm_s=calm_s, start_s=start_s, moments=moments)
    calm, records = read_records(place.storage / "calm"), read_records(place.storage / "cut")
    again = place.resume("cut").finish()

    as_many = sum(map(n_epochs, records)) / sum(map(n_epochs, calm))
    slower = (story.wall_s - story.restart_s) / (calm_s * as_many)
    ended = sum(record["end"] in ("completed", "stopped") for record in records)
    figures(compare(f"driver killed {len(story.kills)} times: trials that end", ended, f"of {n_trials}",
                    target=Target(value_at_least=n_trials)))  # fmt: skip
    figures(compare("its wall time without the restarts, for as many epochs", story.wall_s - story.restart_s, "s",
                    peer="an undisturbed search", peer_value=calm_s * as_many, is_smaller_better=False,
                    target=Target(ratio_at_most=1.3)))  # fmt: skip
    figures(compare("a restart, until the first trial is with a worker", story.restart_s / len(story.kills), "s"))
    print("\n".join(story.kills))
    assert wrongs_in_books(place.storage / "cut", n_trials=n_trials) == []
    by_id = {record["trial_id"]: record for record in records}
    assert {trial_id: by_id[trial_id]["values"] for trial_id in story.begun} == story.begun
    assert {trial_id: by_id[trial_id] for trial_id in story.ended} == story.ended
    assert len(story.kills) == n_kills
    assert f"has all its {n_trials} trials" in again
    assert stragglers(place.mark) == []
    assert slower <= 1.3


@pytest.mark.faults
def test_books_are_closed_by_resume_when_the_driver_was_killed_after_the_last_trial(place: Place) -> None:
    command = place.search("last", trials=1, epochs=1)

    command.wait_for("t0000 completed")
    command.kill()
    outcome = resume_search(place.storage, "last")

    assert "has all its 1 trials" in outcome.note
    assert wrongs_in_books(place.storage / "last", n_trials=1) == []


def run_calmly(place: Place, *, n_trials: int) -> tuple[float, float]:
    """A search that nobody disturbs: seconds in all, and of those until its first trial was with a worker."""
    command = place.search("calm", trials=n_trials, epochs=EPOCHS)
    start_s = command.wait_for(STARTED)
    command.finish()
    return time.monotonic() - command.began_s, start_s


def run_killed(
    place: Place, *, n_trials: int, n_kills: int, calm_s: float, start_s: float, moments: random.Random
) -> Story:
    """The same search, killed at random moments of its work and of its starts; then it may end."""
    story, folder, command = Story(), place.storage / "cut", launch(place, n_trials)
    while len(story.kills) < n_kills:
        n_left = n_trials - len(story.ended)
        work_s = (calm_s - start_s) * n_left / n_trials / (n_kills - len(story.kills) + 2)
        is_in_start = moments.random() < IN_START
        to_first_trial_s = let_run(
            command,
            until_s=moments.uniform(0.0, start_s) if is_in_start else math.inf,
            work_s=moments.uniform(0.0, 2 * work_s),
            most_ends=max(0, n_trials * (len(story.kills) + 1) // (n_kills + 1) - len(story.ended)),
        )
        if not command.is_running:
            break
        what = moments.choice(["driver", "driver and all its processes"])
        if what == "driver":
            command.kill()
        else:
            place.kill_everything_of(command)
        story.add_launch(command, to_first_trial_s=to_first_trial_s, is_first=not story.kills)
        story.kills.append(f"{what} after {time.monotonic() - command.began_s:.1f} s, {n_left} trials to go")
        story.look(read_records(folder))
        time.sleep(moments.choice([0.0, moments.uniform(0.0, 2.0)]))
        command = launch(place, n_trials)
    to_first_trial_s = let_run(command, until_s=math.inf, work_s=math.inf, most_ends=n_trials)
    command.finish()
    story.add_launch(command, to_first_trial_s=to_first_trial_s, is_first=not story.kills)
    return story


def launch(place: Place, n_trials: int) -> Command:
    """Go on with the search, or begin it where a kill came before there was one."""
    if (place.storage / "cut" / "search.json").exists():
        return place.resume("cut")
    return place.search("cut", trials=n_trials, epochs=EPOCHS)


def let_run(command: Command, *, until_s: float, work_s: float, most_ends: int) -> float:
    """Let a launch run until so many seconds after its start, or so many after its first trial was with a worker.

    And no longer than until more trials have ended than may, else a search would be over before it was killed enough.

    Returns:
        Seconds from its start until its first trial was with a worker, or all that it ran.
    """
    to_first_trial_s, ran_s = math.inf, 0.0
    while command.is_running and ran_s < min(until_s, to_first_trial_s + work_s):
        text = command.text
        if to_first_trial_s == math.inf and STARTED.search(text):
            to_first_trial_s = ran_s
        if len(ENDED.findall(text)) > most_ends:
            break
        time.sleep(0.02)
        ran_s = time.monotonic() - command.began_s
    return min(to_first_trial_s, ran_s)


def n_epochs(record: dict[str, Any]) -> int:
    """Of a trial."""
    return int(record["epochs"])

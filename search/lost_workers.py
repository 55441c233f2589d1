"""Why workers are lost, and how often a trial may lose one.

| cause | what happened | counts |
|---|---|---|
| preempted | its machine went away, or is about to | never against the trial |
| hung | it gave no sign of life for too long, and was ended | against it |
| lost | its process crashed or was killed, for want of memory or else | against it |

Whatever the cause, the trial goes on from its last checkpoint in another worker. What counts against it is forgotten
once it comes further than it was when it lost the last one: a trial that is hit now and then gets on, one that brings
its workers down does not.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Literal

Cause = Literal["preempted", "hung", "lost"]

MOST_LOST = 3
"""Workers that a trial may lose in a row, by hanging and crashing; with the next one it has failed."""

_WORDS: dict[Cause, str] = {
    "preempted": "its machine went away",
    "hung": "it gave no sign of life",
    "lost": "its process was killed or crashed; the machine may be out of memory",
}
_NODE_SIGNS = ("node has died", "node is dead", "node died", "node was", "preempted")


@dataclass(frozen=True)
class Loss:
    """One lost worker.

    Attributes:
        cause: why.
        words: the same, for a sentence.
        n: how many the trial has lost in a row by its own doing, this one included where it counts.
        is_last: whether that is more than it may lose.
    """

    cause: Cause
    words: str
    n: int
    is_last: bool

    @property
    def sentence(self) -> str:
        """Why a trial failed that lost too many."""
        times = "once" if self.n == 1 else f"{self.n} times in a row"
        return f"worker was lost {times}: {self.words}"


class LostWorkers:
    """Counts the workers that trials lose, by any name of theirs."""

    def __init__(self, *, most: int = MOST_LOST) -> None:
        self._most = most
        self._expected: dict[str, tuple[Cause, str]] = {}
        self._in_a_row: Counter[str] = Counter()
        self._reached: dict[str, int] = {}

    def expect(self, name: str, cause: Cause, words: str) -> None:
        """The next loss of this trial is our own doing, for this cause."""
        self._expected[name] = (cause, words)

    def note(self, name: str, error: str, *, reached: int = 0) -> Loss:
        """Count a loss.

        Args:
            name: of the trial.
            error: what Ray says of it.
            reached: how far it had come, such as the epochs that it has told.
        """
        cause, words = self._expected.pop(name) if name in self._expected else _read(error)
        if reached > self._reached.get(name, reached):
            self._in_a_row[name] = 0
        self._reached[name] = max(reached, self._reached.get(name, reached))
        self._in_a_row[name] += cause != "preempted"
        n = self._in_a_row[name]
        return Loss(cause, words, n, is_last=cause != "preempted" and n > self._most)


def _read(error: str) -> tuple[Cause, str]:
    text = error.lower()
    cause: Cause = "preempted" if any(sign in text for sign in _NODE_SIGNS) else "lost"
    return cause, _WORDS[cause]

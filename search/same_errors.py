"""Whether a search is hopeless: its trials fail one after the other, all with the same error."""

from search.ends import TrialEnd

MOST_SAME = 8


class SameErrors:
    """Counts trials in a row that failed with one error."""

    def __init__(self, *, most: int = MOST_SAME) -> None:
        self._most = most
        self._error = ""
        self._n = 0

    def note(self, end: TrialEnd, error: str) -> None:
        """A trial has ended; one that went away without a word of its own says nothing about the others."""
        if end == "preempted":
            return
        if end != "failed":
            self._error, self._n = "", 0
        elif error == self._error:
            self._n += 1
        else:
            self._error, self._n = error, 1

    @property
    def hopeless(self) -> str | None:
        """The error, once as many trials as may failed with it; None before."""
        return self._error if self._n >= self._most else None

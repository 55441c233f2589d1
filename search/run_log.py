"""Where the trials of a search have runs: in MLflow, through the tracker, or nowhere."""

from collections.abc import Mapping
from typing import Any, Protocol

from search.ends import TrialEnd


class RunLog(Protocol):
    """What a recorder needs of `search.tracking.Tracker`."""

    def start_run(
        self,
        key: str,
        *,
        parent_key: str,
        name: str,
        params: Mapping[str, Any] | None = None,
        tags: Mapping[str, Any] | None = None,
    ) -> None:
        """Open a trial's run."""

    def log_epoch(self, key: str, metrics: Mapping[str, Any], step: int) -> None:
        """Record an epoch's numbers."""

    def log_summary(self, key: str, metrics: Mapping[str, Any]) -> None:
        """Record numbers of the whole run."""

    def set_tags(self, key: str, tags: Mapping[str, Any]) -> None:
        """Set tags of a run."""

    def end_run(self, key: str, end: TrialEnd, note: str = "") -> None:
        """Close a run."""

    def last_step(self, key: str) -> int:
        """The latest epoch that was recorded of a run."""


class NoRuns:
    """Trials without runs of their own: there are too many of them, and each takes less time than a run does."""

    def start_run(
        self,
        key: str,
        *,
        parent_key: str,
        name: str,
        params: Mapping[str, Any] | None = None,
        tags: Mapping[str, Any] | None = None,
    ) -> None:
        """Nothing."""

    def log_epoch(self, key: str, metrics: Mapping[str, Any], step: int) -> None:
        """Nothing."""

    def log_summary(self, key: str, metrics: Mapping[str, Any]) -> None:
        """Nothing."""

    def set_tags(self, key: str, tags: Mapping[str, Any]) -> None:
        """Nothing."""

    def end_run(self, key: str, end: TrialEnd, note: str = "") -> None:
        """Nothing."""

    def last_step(self, key: str) -> int:
        """No epoch was recorded."""
        return 0

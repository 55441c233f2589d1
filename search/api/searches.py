"""A search for notebooks and scripts: to wait for, to look at, to go on with.

Searches and final jobs run in processes of their own, as the commands do. A notebook whose kernel was restarted finds
its search again with `open_search`.
"""

import itertools
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from search.api.models import Ensemble
from search.api.own_process import OwnProcess
from search.interrupts import INTERRUPTED_CODE
from spaces.errors import SearchError

if TYPE_CHECKING:
    import pandas as pd

    from search.folder import SearchFolder, TrialRecord
    from search.report.canvas import Drawing
    from search.status import SearchStatus

warnings.filterwarnings("ignore", message="IProgress not found")  # tqdm's, which Optuna loads: no bar of it is drawn

POLL_S = 1.0
_LEFT_BY_POLLING = 10
"""Reading a search's folder takes at most one part in so many of the time."""


@dataclass(frozen=True)
class Search:
    """A search, by its folder; it need not have been launched from here.

    Attributes:
        folder: where it is kept, storage / name.
    """

    folder: Path
    _process: OwnProcess | None = field(default=None, repr=False, compare=False)

    @property
    def name(self) -> str:
        """Of the search and of its MLflow experiment."""
        return self.folder.name

    @cached_property
    def _open(self) -> "SearchFolder":
        from search.folder import SearchFolder

        return SearchFolder(self.folder)

    def status(self) -> "SearchStatus":
        """How it stands: state, trials by their ends, the best so far, the time left.

        Raises:
            SearchError: a document of the search is broken.
        """
        from search.status import read_status

        return read_status(self._open)

    def wait(self, *, timeout_s: float | None = None, tell: Callable[[str], object] | None = print) -> "SearchStatus":
        """Wait until nobody works on it any more. Interrupting the wait leaves the search at work.

        Args:
            timeout_s: seconds after which waiting ends, whatever the search does.
            tell: is given a line for each trial that ends from now on; None for silence.

        Returns:
            How it stands then.

        Raises:
            SearchError: its process ended with an error, which is named.
        """
        until_s = float("inf") if timeout_s is None else time.monotonic() + timeout_s
        told = {record.trial_id for record in self._open.read_records() if record.end}
        while True:
            began_s = time.monotonic()
            code = self._process.exit_code if self._process else None  # first: what it wrote is all there then
            status = self.status()
            n_ended = sum(n for end, n in status.ends.items() if end != "open")
            if tell is not None and n_ended != len(told):
                _tell_ends(self._open.read_records(), told, asked=status.n_trials, tell=tell)
            if self._process is not None and code not in (None, 0, INTERRUPTED_CODE):
                raise SearchError(self._process.complaint)
            is_over = status.state in ("ended", "interrupted") if self._process is None else code is not None
            if is_over or time.monotonic() >= until_s:
                return status
            took_s = time.monotonic() - began_s
            time.sleep(min(max(POLL_S, _LEFT_BY_POLLING * took_s), max(0.0, until_s - time.monotonic())))

    def stop(self, *, timeout_s: float = 60.0) -> "SearchStatus":
        """End a search that was launched from here as Ctrl-C does; `resume` goes on with it.

        Raises:
            SearchError: it was not launched from here, or does not end in time.
        """
        if self._process is None:
            raise SearchError(f"search must have been launched from here to be stopped, got another: {self.name}")
        self._process.interrupt()
        until_s = time.monotonic() + timeout_s
        while self._process.exit_code is None:
            if time.monotonic() > until_s:
                raise SearchError(f"search must end within {timeout_s:g} s, got none of that: {self.name}")
            time.sleep(0.1)
        return self.status()

    def resume(self, *, trials: int | str | None = None, time_budget: float | str | None = None) -> "Search":
        """Go on with it, after an interruption or with more trials.

        Args:
            trials: so many in all, or with a plus so many more ("+10"); as asked first if None.
            time_budget: from now, in seconds or as text ("20m").

        Returns:
            The search, of which `wait` tells the end.

        Raises:
            SearchError: it can't go on; the reason is named.
        """
        words = ["resume", self.name, *storage_words(self.folder.parent)]
        words += options_of({"trials": trials, "time-budget": time_budget})
        n_launches = self._open.read_manifest().n_launches
        process = OwnProcess(words, log_of(self.folder))
        process.wait_for(lambda: self._open.read_manifest().n_launches > n_launches)
        return Search(self.folder, process)

    def trials(self, *, whole_config: bool = False) -> "pd.DataFrame":
        """All trials, best first.

        Args:
            whole_config: a column for every setting, not only for the space's parameters.

        Returns:
            A row a trial, by its id: `end`, `macro_f1` on the valid faces (of the best epoch), `gain` over the default,
            `best_epoch`, `epochs`, `seconds`, `error`, and a column for each parameter.
        """
        import pandas as pd

        from search.ranking import rank

        records = rank(self._open.read_records())
        default = next((r.best_macro_f1 for r in records if r.number == 0 and r.best_macro_f1 is not None), None)
        rows = [
            {
                "end": record.end or "running",
                "macro_f1": record.best_macro_f1,
                "gain": _gain(record.best_macro_f1, default),
                "best_epoch": record.best_epoch,
                "epochs": record.epochs,
                "seconds": record.wall_s,
                "error": record.error,
                **(record.config if whole_config else record.values),
            }
            for record in records
        ]
        return pd.DataFrame(rows, index=pd.Index([record.trial_id for record in records], name="trial"))

    def epochs(self) -> "pd.DataFrame":
        """What every trial reported, a row an epoch: `trial`, `epoch`, and a column for each metric."""
        import pandas as pd

        records = self._open.read_records()
        return pd.DataFrame([{"trial": record.trial_id, **epoch} for record in records for epoch in record.history])

    def figures(self) -> "dict[str, Drawing]":
        """The figures of the report by their names, each as it can be drawn from the trials so far.

        A notebook shows one by itself; its `figure` is matplotlib's.
        """
        from search.report.facts import read_facts
        from search.report.figures import draw_figures

        sections = draw_figures(read_facts(self._open))
        return {drawing.name: drawing for drawing in itertools.chain.from_iterable(sections.values())}

    def report(self, out: Path | str | None = None) -> Path:
        """Write the report, one HTML file, into the search's folder, and to `out` where that is given; where it is."""
        from search.report.job import write_report

        return write_report(self._open, Path(out) if out is not None else None)

    def build_ensemble(
        self,
        *,
        bags: int | None = None,
        configs: int | None = None,
        members: int | None = None,
        time_budget: float | str | None = None,
        also: Path | str | None = None,
        objective: Literal["own", "mean", "worst"] = "own",
        snapshots: int = 0,
        soup: bool = False,
        seed: int = 0,
        tell: Callable[[str], object] | None = print,
    ) -> "Ensemble":
        """The final job: bags of the best configs, and a selection among all.

        Args:
            bags: of each config; 0 only selects; as time allows if None.
            configs: best trials that bags repeat.
            members: at most.
            time_budget: for all bags together, in seconds or as text ("20m").
            also: labelled faces of another kind, a table or a source, to be scored on too.
            objective: choose by the search's own faces, or by both kinds: their mean, or the worse.
            snapshots: late epochs of bags that may vote.
            soup: average the weights of networks of one start, as one more candidate each.
            seed: of the bags.
            tell: is given the lines that the job prints; None for silence.

        Raises:
            SearchError: the job can't be done; the reason is named.
        """
        words = ["ensemble", self.name, *storage_words(self.folder.parent)]
        chosen: dict[str, Any] = {"bags": bags, "configs": configs, "members": members, "time-budget": time_budget}
        chosen |= {"seed": seed, "also": also, "objective": objective, "snapshots": snapshots, "soup": soup}
        process = OwnProcess([*words, *options_of(chosen)], log_of(self.folder))
        process.follow(tell)
        return self.ensemble()

    def ensemble(self) -> "Ensemble":
        """The ensemble that the final job built last.

        Raises:
            SearchError: there is none yet.
        """
        from search.ensemble_document import check_ensemble
        from search.folder import ENSEMBLE_FILE

        content = self._open.read_ensemble()
        check_ensemble(content, self.folder / ENSEMBLE_FILE)
        return Ensemble(self.folder, content)


def open_search(name: str, *, storage: Path | str | None = None) -> Search:
    """A search that is there already, running or not.

    Args:
        name: of the search.
        storage: where it is kept; AFFECTUNE_STORAGE, else `runs` here, if None.

    Raises:
        SearchError: there is none of this name; a near one is offered.
    """
    from search.storage import default_storage, open_folder

    return Search(open_folder(Path(storage) if storage is not None else default_storage(), name).path.absolute())


def storage_words(storage: Path) -> list[str]:
    """For a command that works in a storage."""
    return ["--storage", str(storage)]


def options_of(chosen: Mapping[str, Any]) -> list[str]:
    """For a command, by the options' names. None and False leave one out, True is one without a value."""
    given = {name: value for name, value in chosen.items() if value is not None and value is not False}
    return [f"--{name}" if value is True else f"--{name}={value}" for name, value in given.items()]


def log_of(folder: Path) -> Path:
    """Where a search's processes print to."""
    return folder.with_name(f"{folder.name}.log")


def _gain(score: float | None, default: float | None) -> float | None:
    return None if score is None or default is None else score - default


def _tell_ends(
    records: "Sequence[TrialRecord]", told: set[str], *, asked: int | None, tell: Callable[[str], object]
) -> None:
    from search.ranking import usable

    ended = [record for record in records if record.end]
    best = next(iter(usable(ended)), None)
    for record in ended:
        if record.trial_id in told:
            continue
        told.add(record.trial_id)
        score = "" if record.best_macro_f1 is None else f"  macro-F1 {record.best_macro_f1:.4f}"
        of_all = f" of {asked}" if asked is not None else ""
        leads = "" if best is None else f", best {best.best_macro_f1:.4f} {best.trial_id}"
        tell(f"{record.trial_id} {record.end}{score}  | {len(told)}{of_all} trials{leads}")

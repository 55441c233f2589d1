"""What MLflow is told of a head-only search: a run for each pack, with the table of its trials, and for the best."""

import csv
import io
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from search.folder import SearchFolder, TrialRecord
from search.packs.searcher import Pack, pack_id_of
from search.ranking import count_ends, usable
from search.state import end_trial_run, epoch_metrics, start_trial_run
from search.tracking import Tracker
from trainables.outputs import write_text

BEST_RUNS = 10
"""Trials that get a run of their own: opening one takes MLflow longer than a head takes to train."""


class PackRuns:
    """The runs of packs and of the best trials, below a launch's run.

    Args:
        tracker: of the search.
        parent_key: of the launch.
        folder: of the search; the packs' tables are kept in its `packs`.
    """

    def __init__(self, tracker: Tracker, parent_key: str, folder: SearchFolder) -> None:
        self._tracker = tracker
        self._parent_key = parent_key
        self._folder = folder
        self._open: dict[str, _OpenPack] = {}

    @property
    def last_pack(self) -> int:
        """The highest number of a pack that has a table; 0 where none has."""
        return max((int(path.stem.removeprefix("pack-")) for path in self._tables()), default=0)

    def started(self, pack: Pack) -> None:
        """A pack was given to a worker."""
        if pack.pack_id in self._open:
            return
        self._open[pack.pack_id] = _OpenPack(pack, time.monotonic())
        self._start_run(pack)

    def ended(self, pack: Pack) -> None:
        """A pack is over: its table is kept and sent, with its best score. Its workers may all have been lost."""
        self.started(pack)
        self._end_run(pack, {"time/pack_s": time.monotonic() - self._open[pack.pack_id].begun_s})
        del self._open[pack.pack_id]

    def close_open_packs(self) -> None:
        """End what was still in training when the search ended, with what it had come to."""
        for pack, _ in list(self._open.values()):
            self.ended(pack)

    def keep_lost_trials(self, records: Sequence[TrialRecord]) -> None:
        """Give trials that ended, and whose driver was killed before their pack had a table, one that they share."""
        in_tables = {trial_id for path in self._tables() for trial_id in _ended_trials(path)}
        lost = [record for record in records if record.end is not None and record.trial_id not in in_tables]
        if lost:
            pack = Pack(pack_id_of(self.last_pack + 1), lost)
            self._start_run(pack)
            self._end_run(pack, {})

    def publish_best(self, records: Sequence[TrialRecord]) -> None:
        """Give the best trials of the search, and the default, runs of their own, beside the packs' runs."""
        defaults = [record for record in records if record.number == 0 and record.best_macro_f1 is not None]
        config = defaults[0].config if defaults else {}
        for record in [*defaults, *usable(records)[:BEST_RUNS]]:
            if record.end is None or self._tracker.is_known(record.trial_id):
                continue
            start_trial_run(self._tracker, record, parent_key=self._parent_key, default=config)
            for epoch in record.history:
                self._tracker.log_epoch(record.trial_id, epoch_metrics(epoch), step=int(epoch["epoch"]))
            end_trial_run(self._tracker, record)

    def _start_run(self, pack: Pack) -> None:
        self._tracker.start_run(
            self._key(pack),
            parent_key=self._parent_key,
            name=pack.pack_id,
            params={
                "n_trials": len(pack.records),
                "first_trial": pack.records[0].trial_id,
                "last_trial": pack.records[-1].trial_id,
                "backbones": ", ".join(sorted({str(r.config["model.backbone"]) for r in pack.records})),
            },
            tags={"affectune.kind": "pack"},
        )

    def _end_run(self, pack: Pack, numbers: dict[str, float]) -> None:
        path = self._folder.packs_dir / f"{pack.pack_id}.csv"
        self._folder.patience(lambda: write_text(path, trial_table(pack.records)))
        key, best, ends = self._key(pack), usable(pack.records)[:1], count_ends(pack.records)
        self._tracker.log_artifact(key, path)
        numbers = {**{f"n_{end}": n for end, n in ends.items()}, **numbers}
        if best and best[0].best_macro_f1 is not None:
            numbers["best/macro_f1"] = best[0].best_macro_f1
        self._tracker.log_summary(key, numbers)
        self._tracker.end_run(key, "preempted" if ends["preempted"] else "completed" if best else "failed")

    def _tables(self) -> list[Path]:
        return list(self._folder.packs_dir.glob("pack-[0-9]*.csv"))

    def _key(self, pack: Pack) -> str:
        return f"{self._parent_key}/{pack.pack_id}"


class _OpenPack(NamedTuple):
    """A pack that has begun and not ended, and when it did."""

    pack: Pack
    begun_s: float


def trial_table(records: Sequence[TrialRecord]) -> str:
    """A pack's trials as CSV, best first: end, score, and what the sampler chose for each."""
    names = sorted({name for record in records for name in record.values})
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["trial", "end", "macro_f1", *names, "error"])
    for record in sorted(records, key=lambda r: (-(r.best_macro_f1 or 0.0), r.number)):
        score = "" if record.best_macro_f1 is None else f"{record.best_macro_f1:.6f}"
        values = [record.values.get(name, "") for name in names]
        writer.writerow([record.trial_id, record.end or "", score, *values, record.error])
    return text.getvalue()


def _ended_trials(table: Path) -> list[str]:
    """Of a pack's table, the trials that came to an end in it; one that was preempted ends in another."""
    rows = csv.DictReader(io.StringIO(table.read_text(encoding="utf-8"), newline=""))
    return [row["trial"] for row in rows if row["end"] not in ("", "preempted")]

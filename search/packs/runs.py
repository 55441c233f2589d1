"""What MLflow is told of a head-only search: a run for each pack, with the table of its trials, and for the best."""

import csv
import io
import time
from collections.abc import Sequence

from search.folder import SearchFolder, TrialRecord
from search.packs.searcher import Pack
from search.recorder import count_ends, usable
from search.state import end_trial_run, epoch_metrics
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
        self._begun_s: dict[str, float] = {}

    def started(self, pack: Pack) -> None:
        """A pack was given to a worker."""
        if pack.pack_id in self._begun_s:
            return
        self._begun_s[pack.pack_id] = time.monotonic()
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

    def ended(self, pack: Pack) -> None:
        """A pack is over: its table is kept and sent, with its best score."""
        path = self._folder.packs_dir / f"{pack.pack_id}.csv"
        write_text(path, trial_table(pack.records))
        key, best = self._key(pack), usable(pack.records)[:1]
        self._tracker.log_artifact(key, path)
        numbers: dict[str, float] = {f"n_{end}": n for end, n in count_ends(pack.records).items()}
        numbers["time/pack_s"] = time.monotonic() - self._begun_s.get(pack.pack_id, time.monotonic())
        if best and best[0].best_macro_f1 is not None:
            numbers["best/macro_f1"] = best[0].best_macro_f1
        self._tracker.log_summary(key, numbers)
        self._tracker.end_run(key, "completed" if best else "failed")

    def publish_best(self, records: Sequence[TrialRecord]) -> None:
        """Give the best trials of the search, and the default, runs of their own, beside the packs' runs."""
        default = [record for record in records if record.number == 0 and record.best_macro_f1 is not None]
        for record in [*default, *usable(records)[:BEST_RUNS]]:
            if record.end is None or self._tracker.is_known(record.trial_id):
                continue
            self._tracker.start_run(
                record.trial_id,
                parent_key=self._parent_key,
                name=record.trial_id,
                params=record.config,
                tags={"affectune.number": record.number},
            )
            for epoch in record.history:
                self._tracker.log_epoch(record.trial_id, epoch_metrics(epoch), step=int(epoch["epoch"]))
            end_trial_run(self._tracker, record)

    def _key(self, pack: Pack) -> str:
        return f"{self._parent_key}/{pack.pack_id}"


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

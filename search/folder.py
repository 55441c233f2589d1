"""The folder of a search, storage/NAME: what was asked, what every trial left, what came out."""

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from search.ends import TrialEnd
from spaces.documents import read_document
from spaces.errors import SearchError, shown
from spaces.loading import parse_space, space_text
from spaces.space import SearchSpace
from trainables.outputs import write_text
from trainables.patience import Patience

MANIFEST_FILE = "search.json"
SPACE_FILE = "space.yaml"
SUMMARY_FILE = "summary.json"
STUDY_FILE = "study.jsonl"
LOCK_FILE = "lock"
ENSEMBLE_FILE = "ensemble/ensemble.json"
DEFAULT_TRIAL = "t0000"
"""The trial of the space's default."""
LAST_S = 253402300800.0
"""Unix time of the year 10000, which no clock shows."""


@dataclass(frozen=True)
class SearchManifest:
    """What a search was asked to do, and how far it came; `search.json`.

    Attributes:
        name: of the search and of its MLflow experiment.
        data: folder of the face table.
        content_hash: of the face table.
        classes: names, in order.
        seed: of the sampler.
        n_trials: asked for; None where only time bounds the search.
        time_budget_s: asked for; None where only trials bound it.
        tracking_uri: of MLflow.
        experiment_id: MLflow's, once known.
        parent_run_id: MLflow's run of the launch, once known.
        status: running, ended, or interrupted; running is also what a killed driver leaves.
        wall_s: seconds from launch to end, of all launches that ended.
        launched_s: Unix time of the latest launch.
        n_launches: so far.
        plan: how it is searched, as `SearchPlan` has it.
        space: the text of space.yaml, to know a later change of that by; empty in older folders.
    """

    name: str
    data: str
    content_hash: str
    classes: tuple[str, ...]
    seed: int
    n_trials: int | None
    time_budget_s: float | None
    tracking_uri: str
    experiment_id: str | None = None
    parent_run_id: str | None = None
    status: str = "running"
    wall_s: float = 0.0
    launched_s: float = 0.0
    n_launches: int = 1
    plan: dict[str, Any] = field(default_factory=dict)
    space: str = ""


@dataclass
class TrialRecord:
    """One trial as the driver saw it; `trials/ID/trial.json`.

    Attributes:
        trial_id: t0000, t0001, in the order of proposal.
        number: the same as a number; 0 is the space's default.
        values: what the sampler chose.
        config: the complete config, flat.
        end: None while it runs.
        best_macro_f1: on the valid split, of the best epoch; None before the first.
        best_epoch: its number.
        epochs: how many were run.
        history: the reports, an epoch each.
        wall_s: seconds of training and scoring.
        n_preempted: how often its machine went away, or its search ended, and it went on in another worker.
        n_lost: how often its worker crashed, was killed or hung.
        error: one sentence, where it failed.
        spared: faces it had seen when the scheduler would have stopped it and let it go on; None if it never would.
    """

    trial_id: str
    number: int
    values: dict[str, Any]
    config: dict[str, Any]
    end: TrialEnd | None = None
    best_macro_f1: float | None = None
    best_epoch: int = 0
    epochs: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    wall_s: float = 0.0
    n_preempted: int = 0
    n_lost: int = 0
    error: str = ""
    spared: int | None = None

    def add_epoch(self, report: Mapping[str, Any]) -> None:
        """Take in an epoch's report; one that was run again after a lost worker replaces the first."""
        numbers = {k: v for k, v in report.items() if isinstance(v, int | float) and not isinstance(v, bool)}
        self.history = [old for old in self.history if old["epoch"] < report["epoch"]] + [numbers]
        self.epochs = int(report["epoch"])
        if report.get("end") != "diverged" or report["best/macro_f1"] > 0:
            self.best_macro_f1 = float(report["best/macro_f1"])
            self.best_epoch = int(report["best/epoch"])
        self.wall_s = sum(float(old.get("time/epoch_s", 0.0)) for old in self.history)


class SearchFolder:
    """Paths and documents of one search.

    Args:
        path: of the folder.
        patience: how what a search notes while it runs waits for a full disk.
    """

    def __init__(self, path: Path, patience: Patience | None = None) -> None:
        self.path = path
        self.patience = patience or Patience()

    @property
    def name(self) -> str:
        """The search's name."""
        return self.path.name

    @property
    def tracking_dir(self) -> Path:
        """The journal of what MLflow is told."""
        return self.path / "tracking"

    @property
    def packs_dir(self) -> Path:
        """Tables of the trials that were trained together."""
        return self.path / "packs"

    @property
    def ensemble_dir(self) -> Path:
        """Bags, and the ensemble's description."""
        return self.path / "ensemble"

    @property
    def heads(self) -> "SearchFolder":
        """Of the search of heads alone that goes before this one, where one does."""
        return SearchFolder(self.path.with_name(f"{self.name}-heads"), self.patience)

    def trial_dir(self, trial_id: str) -> Path:
        """What a trial left."""
        return self.path / "trials" / trial_id

    def write_manifest(self, manifest: SearchManifest) -> None:
        """Replace search.json; it takes up what space.yaml says where it did not know that yet."""
        space_file = self.path / SPACE_FILE
        if not manifest.space and space_file.exists():
            manifest = replace(manifest, space=space_file.read_text(encoding="utf-8", errors="replace"))
        self._write_json(MANIFEST_FILE, asdict(manifest))

    def read_manifest(self) -> SearchManifest:
        """What was asked.

        Raises:
            SearchError: search.json is broken, or of a newer version.
        """
        file = self.path / MANIFEST_FILE
        manifest = read_document(file, SearchManifest, error=SearchError)
        if not 0 <= manifest.launched_s < LAST_S:
            raise SearchError(f"launched_s of search.json must be a Unix time, got {manifest.launched_s:g}: {file}")
        return manifest

    def update_manifest(self, **changes: Any) -> SearchManifest:
        """Change some fields of search.json."""
        manifest = replace(self.read_manifest(), **changes)
        self.patience(lambda: self.write_manifest(manifest))
        return manifest

    def read_space(self) -> SearchSpace:
        """The space that is searched.

        Raises:
            SearchError: space.yaml is gone.
            SpaceError: it makes no sense.
        """
        path = self.path / SPACE_FILE
        if not path.is_file():
            raise SearchError(f"search {self.name!r} must have its {SPACE_FILE}, got none: {self.path}")
        text, _ = space_text(path)
        return parse_space(text, where=str(path))

    def remove_tune_dirs(self) -> None:
        """Ray Tune's own state is of use to nobody once a launch has ended: all that counts stands in this folder."""
        for folder in self.path.glob("tune-*"):
            shutil.rmtree(folder, ignore_errors=True)

    def spent_s(self) -> float:
        """Seconds that all launches took; of one that was killed, until it or its heads last wrote something."""
        manifest = self.read_manifest()
        if manifest.status != "running":
            return manifest.wall_s
        last_s = max(self._last_write_s(), self.heads._last_write_s() if manifest.plan.get("first") else 0.0)
        return manifest.wall_s + max(0.0, last_s - manifest.launched_s)

    def write_record(self, record: TrialRecord) -> None:
        """Replace a trial's trial.json."""
        # A field a line: with json's own indentation, C's encoder would not be used, and this is written every epoch.
        fields = ",\n".join(f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in vars(record).items())
        path = self.path / "trials" / record.trial_id / "trial.json"
        self.patience(lambda: write_text(path, f"{{\n{fields}\n}}\n"))

    def read_records(self) -> list[TrialRecord]:
        """All trials, by number.

        Raises:
            SearchError: a trial.json is broken.
        """
        return [_read_record(file) for file in sorted((self.path / "trials").glob("*/trial.json"))]

    def read_record(self, trial_id: str) -> TrialRecord:
        """One trial.

        Raises:
            SearchError: its trial.json is broken, or not there.
        """
        return _read_record(self.trial_dir(trial_id) / "trial.json")

    def write_summary(self, summary: Mapping[str, Any]) -> Path:
        """Replace summary.json."""
        self._write_json(SUMMARY_FILE, summary)
        return self.path / SUMMARY_FILE

    def read_summary(self) -> dict[str, Any]:
        """summary.json, or nothing where no ensemble was built yet.

        Raises:
            SearchError: it is broken.
        """
        file = self.path / SUMMARY_FILE
        return read_document(file, dict[str, Any], error=SearchError) if file.exists() else {}

    def write_ensemble(self, ensemble: Mapping[str, Any]) -> None:
        """Replace ensemble.json."""
        self._write_json(ENSEMBLE_FILE, ensemble)

    def read_ensemble(self) -> dict[str, Any]:
        """The ensemble's members and scores.

        Raises:
            SearchError: there is none yet, or it is broken.
        """
        file = self.path / ENSEMBLE_FILE
        if not file.exists():
            raise SearchError(f"search {self.name!r} has no ensemble yet; run `affectune ensemble {self.name}` first")
        return read_document(file, dict[str, Any], error=SearchError)

    def _last_write_s(self) -> float:
        """Unix time at which a trial of the search was last heard of; 0 where none was."""
        files = [self.path / STUDY_FILE, *self.path.glob("trials/*/trial.json")]
        return max((file.stat().st_mtime for file in files if file.exists()), default=0.0)

    def _write_json(self, name: str, document: Mapping[str, Any]) -> None:
        write_text(self.path / name, json.dumps(document, indent=2) + "\n")


def _read_record(file: Path) -> TrialRecord:
    record = read_document(file, TrialRecord, error=SearchError)
    if record.trial_id != file.parent.name or not re.fullmatch(rf"t0*{record.number}", record.trial_id):
        got = f"{shown(record.trial_id)} with number {record.number}"
        raise SearchError(f"trial.json must be of the trial in whose folder it stands, got {got}: {file}")
    for epoch in record.history:
        if not isinstance(epoch.get("epoch"), int) or not all(isinstance(each, int | float) for each in epoch.values()):
            raise SearchError(f"epochs of trial.json must be numbers, got {shown(epoch)}: {file}")
    return record

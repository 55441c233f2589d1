"""What a report tells of: a search's folder, read once. Nothing in it is locked or written."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from search.bag_record import BagRecord, iter_bags
from search.ensemble_document import check_ensemble
from search.folder import ENSEMBLE_FILE, MANIFEST_FILE, SearchFolder, SearchManifest, TrialRecord
from search.ranking import usable
from search.status import SearchStatus, read_status
from search.tracking_journal import OPERATIONS
from spaces.config import Value
from spaces.space import SearchSpace


@dataclass(frozen=True)
class SearchFacts:
    """A search as its folder has it.

    Attributes:
        folder: of the search.
        manifest: what was asked.
        status: how it stands.
        space: that is searched.
        records: of all trials, by number.
        heads: of the search of heads alone that went before, where one did.
        bags: of the final job, whatever became of them.
        ensemble: the content of ensemble.json; None where there is no ensemble yet.
        summary: the content of summary.json; empty where there is none.
        cpus, gpus: of a trial, as the latest launch planned it; None where that is not known.
    """

    folder: SearchFolder
    manifest: SearchManifest
    status: SearchStatus
    space: SearchSpace
    records: Sequence[TrialRecord]
    heads: Sequence[TrialRecord]
    bags: Sequence[BagRecord]
    ensemble: Mapping[str, Any] | None
    summary: Mapping[str, Any]
    cpus: float | None
    gpus: float | None

    @cached_property
    def scored(self) -> list[TrialRecord]:
        """Best first, those that were scored and neither diverged nor failed."""
        return usable(self.records)

    @cached_property
    def unscored(self) -> list[TrialRecord]:
        """The others, by number."""
        scored = {record.trial_id for record in self.scored}
        return [record for record in self.records if record.trial_id not in scored]

    @cached_property
    def best(self) -> TrialRecord | None:
        """The best trial; None where none was scored."""
        return self.scored[0] if self.scored else None

    @cached_property
    def default(self) -> TrialRecord | None:
        """Trial 0, where it was scored."""
        return next((record for record in self.scored if record.number == 0), None)

    @cached_property
    def backbones(self) -> list[str]:
        """Of the scored trials, by their names."""
        return sorted({backbone_of(record) for record in self.scored})

    @cached_property
    def default_config(self) -> dict[str, Value]:
        """The complete config of the space's default, flat."""
        return self.space.to_config(self.space.default()).to_flat()


def backbone_of(record: TrialRecord) -> str:
    """The backbone of a trial."""
    return str(record.config.get("model.backbone", "?"))


def read_facts(folder: SearchFolder) -> SearchFacts:
    """Read a search, whether it runs or has ended.

    Raises:
        SearchError: a document of it is broken.
        SpaceError: its space makes no sense.
    """
    manifest = folder.read_manifest()
    ensemble = folder.read_ensemble() if (folder.path / ENSEMBLE_FILE).exists() else None
    if ensemble is not None:
        check_ensemble(ensemble, folder.path / ENSEMBLE_FILE)
    resources = _planned_resources(folder)
    return SearchFacts(
        folder=folder,
        manifest=manifest,
        status=read_status(folder),
        space=folder.read_space(),
        records=folder.read_records(),
        heads=folder.heads.read_records() if (folder.heads.path / MANIFEST_FILE).is_file() else (),
        bags=[record for _, record in iter_bags(folder.ensemble_dir)],
        ensemble=ensemble,
        summary=folder.read_summary(),
        cpus=_number(resources.get("cpus_per_trial")),
        gpus=_number(resources.get("gpus_per_trial")),
    )


def _planned_resources(folder: SearchFolder) -> Mapping[str, Any]:
    """The parameters of the latest launch, as the tracking journal has them."""
    found: Mapping[str, Any] = {}
    try:
        with (folder.tracking_dir / OPERATIONS).open("rb") as file:
            for line in file:
                if line.startswith(b'{"op":"start","key":"search') and b'"parent":null' in line:
                    found = json.loads(line).get("params", found)
    except (OSError, ValueError):
        pass  # written by an older version, or not there: then it is not known
    return found


def _number(text: Any) -> float | None:
    try:
        return float(text)
    except (TypeError, ValueError):
        return None

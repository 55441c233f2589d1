"""From a search's ensemble to its artifact: networks, card and provenance in one place, and in the summary."""

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from search.candidates import ONE_LOOK
from search.card_pictures import card_pictures
from search.card_sections import search_card
from search.ensemble_document import as_written, check_ensemble
from search.export import CARD_FILE, ArtifactNetwork, write_artifact
from search.folder import ENSEMBLE_FILE, SearchFolder, SearchManifest
from search.options import Limits, Option, pick_option
from search.prelaunch import open_same_table
from search.ranking import count_ends
from search.registry import Registration, register_artifact
from search.tracking import Tracker
from spaces.errors import SearchError


@dataclass(frozen=True)
class ExportOrder:
    """How an ensemble is exported.

    Attributes:
        limits: of what it may cost.
        register: name in MLflow's registry, if it shall be a version there; empty for none.
        force: whether that version becomes the champion in any case.
        replace: whether an earlier export in the same place makes room.
        with_onnx: whether one ONNX graph is put beside.
        licence: of the faces, for the card.
    """

    limits: Limits = field(default_factory=Limits)
    register: str = ""
    force: bool = False
    replace: bool = False
    with_onnx: bool = False
    licence: str = ""


PLAINLY = ExportOrder()


@dataclass(frozen=True)
class Exported:
    """What came of an export.

    Attributes:
        path: of the artifact.
        option: that was exported.
        registration: None where it was not registered.
    """

    path: Path
    option: Option
    registration: Registration | None


def export_search(folder: SearchFolder, out: Path, order: ExportOrder = PLAINLY) -> Exported:
    """Write a search's ensemble as an artifact, the whole or one that costs no more than it may.

    Args:
        folder: of a search whose final job was done.
        out: a new or empty folder; with `replace` also an earlier export.
        order: how.

    Raises:
        SearchError: there is no ensemble yet, it is of an earlier version, or a member's weights are gone.
        EnsembleError: no option keeps within the limits.
        OutputError: `out` already holds something, or the disk is full.
        TrackingError: the registry does not answer.
    """
    ensemble, manifest = folder.read_ensemble(), folder.read_manifest()
    parts = check_ensemble(ensemble, folder.path / ENSEMBLE_FILE)
    option = _option(parts.options, order.limits, folder)
    networks = _networks(folder, ensemble, option)
    summary = folder.read_summary()
    ends = count_ends(folder.read_records())
    with as_written(folder.path / ENSEMBLE_FILE):
        card = search_card(folder.name, ensemble, option, ends=ends, data=_data(manifest, order.licence))
        pictures = card_pictures(ensemble)
    path = write_artifact(
        out,
        networks=networks,
        classes=ensemble["classes"],
        card=card,
        provenance=_provenance(folder, manifest, ensemble, option),
        temperature=option.temperature,
        replace=order.replace,
        with_onnx=order.with_onnx,
        attachments=pictures,
    )
    folder.write_summary({**summary, "artifact": str(path.absolute())})
    _note_artifact(folder, path)
    registration = None
    if order.register:
        table = open_same_table(manifest)
        registration = register_artifact(path, order.register, manifest.tracking_uri, table=table, force=order.force)
    return Exported(path, option, registration)


def _option(options: Sequence[Option], limits: Limits, folder: SearchFolder) -> Option:
    """What is exported: without limits the ensemble as it was chosen."""
    if limits.are_none:
        return next(option for option in options if option.is_chosen)
    return pick_option(options, limits, where=str(folder.path))


def _networks(folder: SearchFolder, ensemble: Mapping[str, Any], option: Option) -> list[ArtifactNetwork]:
    looks = ONE_LOOK if option.looks == "one" else {}
    networks = [
        ArtifactNetwork(
            path=folder.path / network["path"],
            weight=weight * network["weight"],
            member=member,
            role=network["role"],
            space=ensemble["voters"][member]["space"],
            **looks,
        )
        for member, weight in option.members.items()
        for network in ensemble["voters"][member]["networks"]
    ]
    for network in networks:
        if not network.path.is_file():
            raise SearchError(
                f"weights of member {network.member} are gone: {network.path}; run `affectune ensemble {folder.name}`"
            )
    return networks


def _data(manifest: SearchManifest, licence: str) -> dict[str, str]:
    """What the card says of data and versions."""
    info = open_same_table(manifest).info
    sources = ", ".join(f"{split}: {source}" for split, source in sorted(info.sources.items()))
    rows = ", ".join(f"{n:,} {split}" for split, n in info.rows.items())
    return {
        "faces": f"{rows}; {info.image_px} x {info.image_px} px; content hash {info.content_hash}",
        "sources": sources or "not told",
        "licence of the faces": licence or "not told; look it up before you pass the model on",
        "made by": f"affectune {version('affectune')}{_commit()}",
        "made on": datetime.now(UTC).date().isoformat(),
    }


def _commit() -> str:
    """The commit of the checkout that this runs from, where there is one."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short=12", "HEAD"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
    return f", commit {said}"


def _provenance(
    folder: SearchFolder, manifest: SearchManifest, ensemble: Mapping[str, Any], option: Option
) -> dict[str, Any]:
    """What members.json remembers of the ensemble's making."""
    estimate = {"score": option.estimate, "low": option.low, "high": option.high}
    return {
        "search": folder.name,
        "data": manifest.data,
        "data_hash": manifest.content_hash,
        "tracking_uri": manifest.tracking_uri,
        "parent_run_id": manifest.parent_run_id,
        "estimate": None if option.estimate is None else estimate,
        "option": option.to_document(),
        "scores": ensemble["scores"],
    }


def _note_artifact(folder: SearchFolder, path: Path) -> None:
    """Let MLflow's run of the ensemble show the card beside its pictures, which the final job has logged."""
    manifest = folder.read_manifest()
    tracker = Tracker(manifest.tracking_uri, manifest.name, folder.tracking_dir)
    key = folder.read_ensemble()["run_key"]
    tracker.set_tags(key, {"affectune.artifact": str(path.absolute())})
    tracker.log_artifact(key, path / CARD_FILE)
    tracker.close(timeout_s=20.0)

"""From a search's ensemble to its artifact: networks, card and provenance in one place, and in the summary."""

from pathlib import Path

from search.export import ArtifactNetwork, write_artifact
from search.final_records import card_scores
from search.folder import SearchFolder
from search.model_card import choice_section
from search.recorder import count_ends
from search.registry import register_artifact
from search.tracking import Tracker
from spaces.errors import SearchError


def export_search(folder: SearchFolder, out: Path, *, register: str | None = None) -> tuple[Path, str | None]:
    """Write a search's ensemble as an artifact.

    Args:
        folder: of a search whose final job was done.
        out: a new or empty folder.
        register: name in MLflow's registry, if it shall be a version there.

    Returns:
        The artifact's folder, and its version where it was registered.

    Raises:
        SearchError: there is no ensemble yet, or a member's weights are gone.
        OutputError: `out` already holds something, or the disk is full.
        TrackingError: the registry does not answer.
    """
    ensemble, manifest = folder.read_ensemble(), folder.read_manifest()
    networks = [
        ArtifactNetwork(
            path=folder.path / network["path"],
            weight=member["weight"] * network["weight"],
            member=member["member"],
            role=network["role"],
            space=member.get("space", "probs"),
        )
        for member in ensemble["members"]
        for network in member["networks"]
    ]
    for network in networks:
        if not network.path.is_file():
            raise SearchError(
                f"weights of member {network.member} are gone: {network.path}; run `affectune ensemble {folder.name}`"
            )
    ends = count_ends(folder.read_records())
    card = choice_section(search=folder.name, ends=ends, scores=card_scores(ensemble["scores"]))
    provenance = {
        "search": folder.name,
        "data": manifest.data,
        "data_hash": manifest.content_hash,
        "tracking_uri": manifest.tracking_uri,
        "parent_run_id": manifest.parent_run_id,
        "scores": ensemble["scores"],
    }
    path = write_artifact(out, networks=networks, classes=ensemble["classes"], card=card, provenance=provenance)
    summary = folder.read_summary()
    folder.write_summary({**summary, "artifact": str(path.absolute())})
    _note_artifact(folder, path)
    version = register_artifact(path, register, manifest.tracking_uri) if register else None
    return path, version


def _note_artifact(folder: SearchFolder, path: Path) -> None:
    """Let MLflow's run of the ensemble show the card."""
    manifest = folder.read_manifest()
    tracker = Tracker(manifest.tracking_uri, manifest.name, folder.tracking_dir)
    key = folder.read_ensemble()["run_key"]
    tracker.set_tags(key, {"affectune.artifact": str(path.absolute())})
    tracker.log_artifact(key, path / "MODEL_CARD.md")
    tracker.close(timeout_s=20.0)

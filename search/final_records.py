"""What the final job writes down: ensemble.json, summary.json, and runs in MLflow."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from search.candidates import Candidate
from search.comparison import Comparison
from search.folder import SearchFolder, SearchManifest, TrialRecord
from search.model_card import choice_section
from search.plan import EnsemblePlan
from search.recorder import count_ends
from search.stopping import measure_stopping
from search.tracking import Tracker
from spaces.errors import EnsembleError


def parent_key(tracker: Tracker) -> str:
    """The run under which the final job's runs stand: the latest launch's."""
    return tracker.launch_key or tracker.start_search(name="ensemble")


def run_key(name: str, tracker: Tracker) -> str:
    """What a bag or the ensemble is called in the tracking journal."""
    return f"{parent_key(tracker)}/{name}"


def free_key(name: str, tracker: Tracker) -> str:
    """A run of its own for each final job: MLflow's parameters can't change."""
    key, number = run_key(name, tracker), 1
    while tracker.is_known(key):
        number += 1
        key = run_key(f"{name}-{number}", tracker)
    return key


def ensemble_document(
    folder: SearchFolder,
    candidates: Sequence[Candidate],
    members: Mapping[str, float],
    *,
    comparison: Comparison,
    plan: EnsemblePlan,
) -> dict[str, Any]:
    """The content of ensemble.json, members by weight. Raises EnsembleError where there is none."""
    by_key = {candidate.key: candidate for candidate in candidates}
    if not members:
        raise EnsembleError("an ensemble must have a member, got none")
    return {
        "classes": list(candidates[0].scores.classes),
        "plan": asdict(plan),
        "candidates": [candidate.key for candidate in candidates],
        "members": [
            {
                "member": key,
                "weight": weight,
                "space": by_key[key].blend_space,
                "networks": [
                    {"path": _relative(v.path, folder), "weight": v.weight, "role": v.role} for v in by_key[key].voters
                ],
            }
            for key, weight in sorted(members.items(), key=lambda item: -item[1])
        ],
        "scores": comparison.scores,
        "n_test_rows": comparison.n_test_rows,
    }


def _relative(path: Path, folder: SearchFolder) -> str:
    """Within the search's folder, so that it can be moved; a partner from elsewhere keeps its whole path."""
    path = path.absolute()
    return str(path.relative_to(folder.path) if path.is_relative_to(folder.path) else path)


def summary_document(
    folder: SearchFolder,
    manifest: SearchManifest,
    records: list[TrialRecord],
    ensemble: Mapping[str, Any],
    *,
    wall_s: float,
) -> dict[str, Any]:
    """The content of summary.json; it counts how often the sealed test was read."""
    before = folder.read_summary()
    return {
        "search": manifest.name,
        "n_trials": len(records),
        **count_ends(records),
        "stopping": asdict(measure_stopping(records, manifest.plan)),
        "scores": ensemble["scores"],
        "members": [{"member": m["member"], "weight": m["weight"]} for m in ensemble["members"]],
        "artifact": None,
        "tracking_uri": manifest.tracking_uri,
        "experiment_id": manifest.experiment_id,
        "parent_run_id": manifest.parent_run_id,
        "n_test_reads": int(before.get("n_test_reads", 0)) + (1 if ensemble["n_test_rows"] else 0),
        "wall_s": round(wall_s, 1),
    }


def track_ensemble(
    tracker: Tracker, ensemble: Mapping[str, Any], folder: SearchFolder, records: list[TrialRecord]
) -> None:
    """Open a run of the ensemble beside the trials', with the comparison as numbers and as text."""
    key = ensemble["run_key"]
    params = {f"plan.{name}": value for name, value in ensemble["plan"].items()}
    params |= {f"weight.{member['member']}": round(member["weight"], 6) for member in ensemble["members"]}
    tracker.start_run(
        key, parent_key=parent_key(tracker), name="ensemble", params=params, tags={"affectune.kind": "ensemble"}
    )
    metrics = {
        f"{row}/{split}_macro_f1": score[split]
        for row, score in ensemble["scores"].items()
        for split in ("valid", "estimate", "test")
        if score.get(split) is not None
    }
    tracker.log_summary(key, {**metrics, "best/macro_f1": ensemble["scores"]["ensemble"]["valid"]})
    scores = card_scores(ensemble["scores"])
    note = {"mlflow.note.content": choice_section(search=folder.name, ends=count_ends(records), scores=scores)}
    tracker.set_tags(key, note)
    tracker.set_tags(parent_key(tracker), note)
    tracker.log_artifact(key, folder.ensemble_dir / "ensemble.json")
    tracker.end_run(key, "completed")


def card_scores(scores: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Scores of ensemble.json in the form of the model card."""
    found = {}
    for row, score in scores.items():
        low, high = score["estimate_interval"]
        found[row] = {**score, "estimate": {"score": score["estimate"], "low": low, "high": high}}
    return found

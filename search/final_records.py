"""What the final job writes down: ensemble.json, summary.json, and runs in MLflow."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from search.candidates import Candidate
from search.card_pictures import card_pictures
from search.card_sections import choice_section
from search.comparison import Choice
from search.ensemble.sweep import StepCurve
from search.folder import SearchFolder, SearchManifest, TrialRecord
from search.launch_note import describe_launch
from search.leaderboard import NOTE_TAG
from search.options import Option
from search.plan import EnsemblePlan
from search.ranking import count_ends
from search.stopping import measure_stopping
from search.tracking import Tracker
from trainables.metrics import macro_f1
from trainables.scores import Scores

N_DRAWN = 201
"""Points of a curve that are kept for drawing it."""
SMOOTHED_BY = 0.05
"""Half the width of the smoothing, in weight."""


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


@dataclass(frozen=True, eq=False)
class Finished:
    """What a final job found.

    Attributes:
        candidates: that could vote.
        choice: who votes, and what to expect of it.
        curve: of the ensemble mixed with the plain average.
        options: ensembles to pick from by their cost.
        others: scores on faces of another kind; None where there are none.
        people: scores by person; None where they are not known.
        out_of_bag: what the bags say of training faces that they did not see; None where there are none.
        notes: what to know of it, in sentences.
        n_test_rows: faces of the sealed test that were read.
    """

    candidates: Sequence[Candidate]
    choice: Choice
    curve: StepCurve
    options: Sequence[Option]
    others: Mapping[str, Any] | None
    people: Mapping[str, Any] | None
    out_of_bag: Scores | None
    notes: Sequence[str]
    n_test_rows: int


def ensemble_document(folder: SearchFolder, found: Finished, *, plan: EnsemblePlan) -> dict[str, Any]:
    """The content of ensemble.json, members by weight."""
    choice = found.choice
    weights = choice.rows["ensemble"].tolist()
    members = {c.key: weight for c, weight in zip(found.candidates, weights, strict=True) if weight > 0}
    by_key = {candidate.key: candidate for candidate in found.candidates}
    voting = {*members, *(key for option in found.options for key in option.members)}
    return {
        "classes": list(found.candidates[0].scores.classes),
        "plan": asdict(plan),
        "candidates": list(by_key),
        "method": choice.method,
        "members": [
            {"member": key, "weight": weight} for key, weight in sorted(members.items(), key=lambda item: -item[1])
        ],
        "voters": {key: _voters(by_key[key], folder) for key in sorted(voting)},
        "temperature": 1.0 if choice.calibration is None else choice.calibration.temperature,
        "scores": choice.scores,
        "methods": choice.methods,
        "differences": choice.differences,
        "others": found.others,
        "options": [option.to_document() for option in found.options],
        "calibration": None if choice.calibration is None else asdict(choice.calibration),
        "confusion": None if choice.confusion is None else choice.confusion.round(3).tolist(),
        "curve": _drawn(found.curve),
        "people": found.people,
        "out_of_bag": _out_of_bag_score(found.out_of_bag),
        "notes": list(found.notes),
        "n_test_rows": found.n_test_rows,
    }


def _voters(candidate: Candidate, folder: SearchFolder) -> dict[str, Any]:
    """A candidate's networks, and how they are mixed."""
    return {
        "space": candidate.blend_space,
        "networks": [{"path": _relative(v.path, folder), "weight": v.weight, "role": v.role} for v in candidate.voters],
    }


def _drawn(curve: StepCurve) -> dict[str, list[float]]:
    """A curve at enough points to draw it."""
    weights = np.linspace(0.0, 1.0, N_DRAWN)
    return {
        "weight": weights.tolist(),
        "exact": [curve.score_at(weight) for weight in weights.tolist()],
        "smoothed": curve.smoothed(weights, window=SMOOTHED_BY).tolist(),
    }


def _out_of_bag_score(scores: Scores | None) -> dict[str, Any] | None:
    if scores is None:
        return None
    n_faces = int((scores.labels >= 0).sum())
    return {"macro_f1": macro_f1(scores.labels, scores.logits.argmax(axis=1), len(scores.classes)), "n": n_faces}


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
        "method": ensemble["method"],
        "differences": ensemble["differences"],
        "others": ensemble["others"],
        "out_of_bag": ensemble["out_of_bag"],
        "notes": ensemble["notes"],
        "members": ensemble["members"],
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
    metrics |= {f"{row}/optimism": s["optimism"] for row, s in ensemble["scores"].items() if s["optimism"] is not None}
    metrics |= {f"gain_over_{row}/macro_f1": found["difference"] for row, found in ensemble["differences"].items()}
    if ensemble["others"]:
        metrics |= {f"{row}/other_macro_f1": found["score"] for row, found in ensemble["others"]["scores"].items()}
    if ensemble["out_of_bag"]:
        metrics["out_of_bag/macro_f1"] = ensemble["out_of_bag"]["macro_f1"]
    if ensemble["calibration"]:
        before, after = ensemble["calibration"]["error"]
        metrics |= {"calibration/error_before": before, "calibration/error": after}
    tracker.log_summary(key, {**metrics, "best/macro_f1": ensemble["scores"]["ensemble"]["valid"]})
    text = choice_section(search=folder.name, ends=count_ends(records), scores=ensemble["scores"])
    tracker.set_tags(key, {NOTE_TAG: text})
    page = describe_launch(tracker, records, state="ended", ensemble=text)
    tracker.set_tags(parent_key(tracker), {NOTE_TAG: page})
    tracker.log_artifact(key, folder.ensemble_dir / "ensemble.json")
    for name, picture in card_pictures(ensemble).items():
        file = folder.ensemble_dir / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(picture)
        tracker.log_artifact(key, file)
    tracker.end_run(key, "completed")

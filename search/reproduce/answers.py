"""Answers of trials and saved models on the valid faces and on another set, whose classes are met by name."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from search.candidates import load_candidate
from search.folder import SearchFolder, TrialRecord
from search.reproduce.measures import Answer, Faces
from search.reproduce.rows import Answers, Told
from search.reproduce.tables import Partner
from spaces.errors import DataError
from trainables.checkpoint import load_network, load_spec
from trainables.data.classes import usual_word
from trainables.data.table import FaceTable, Split
from trainables.models.inputs import predict_outputs
from trainables.models.partner import partner_logits
from trainables.scoring import extras_of

FloatArray = npt.NDArray[np.float32]


def valid_faces(table: FaceTable) -> Faces:
    """The valid split of the table that was trained on."""
    classes = tuple(table.info.classes)
    return _faces(table.split("valid"), table.split("valid").expression, classes, counted=tuple(range(len(classes))))


def other_faces(other: FaceTable, table: FaceTable) -> Faces:
    """The valid split of another table, labelled with the classes that both have.

    Raises:
        DataError: they have fewer than two classes in common, or no face is labelled with one.
    """
    classes = tuple(table.info.classes)
    words = [usual_word(name) for name in classes]
    places = [words.index(word) if (word := usual_word(name)) in words else -1 for name in other.info.classes]
    counted = tuple(sorted(place for place in places if place >= 0))
    if len(counted) < 2:
        raise DataError(
            f"--also must have two classes of the table or more ({', '.join(classes)}), "
            f"got {', '.join(other.info.classes)}: {other.path}"
        )
    split = other.split("valid")
    labels = np.array([*places, -1], dtype=np.int8)[split.expression]  # the last stands for -1
    if not (labels >= 0).any():
        raise DataError(f"--also must have labelled faces in its valid split, got 0 of {len(split)}: {other.path}")
    return _faces(split, labels, classes, counted=counted)


def trial_answers(folder: SearchFolder, record: TrialRecord | None, *, also: Split | None) -> Told:
    """What a trial left, and what its network says of other faces; or why there is nothing."""
    if record is None:
        return "not run: the search ended before"
    if record.end == "diverged":
        return f"diverged in epoch {record.epochs}"
    if record.end == "failed":
        return f"failed: {record.error}"
    is_complete = record.end == "completed"
    candidate = load_candidate(
        record.trial_id, folder.trial_dir(record.trial_id), record.config, is_complete=is_complete
    )
    if candidate is None:
        return "no score: the search ended before its first epoch did"
    valid = Answer(candidate.scores.logits, dict(candidate.scores.extras))
    notes = () if is_complete else (f"cut short after {record.epochs} epoch{'s' if record.epochs != 1 else ''}",)
    if also is None:
        return Answers(valid, notes=notes)
    logits = np.log(np.maximum(candidate.probs_on(also.images), 1e-30))
    other = Answer(logits, _extras_on(candidate.voters[0].path, also, candidate.scores.classes))
    return Answers(valid, other, notes=notes)


def partner_answers(path: Path, table: FaceTable, *, also: Split | None) -> Answers:
    """A saved model's answers, those of the table's classes.

    Raises:
        ModelError: it is no model of ours, or does not know every class.
    """
    device = torch.device("cpu")
    classes = tuple(table.info.classes)
    valid = Answer(partner_logits(path, table.split("valid"), classes, device=device))
    return Answers(valid, None if also is None else Answer(partner_logits(path, also, classes, device=device)))


def unlike(path: Path, partner: Partner) -> str:
    """Why a saved model is not the one that a row is about; empty where it is."""
    spec = load_spec(path)
    if not spec.backbone.startswith(partner.backbone):
        return f"not run: needs --partner on {partner.backbone}, got {spec.backbone}"
    if (spec.design.affect == "joint") != partner.joint:
        kind = "with joint heads for valence and arousal" if partner.joint else "for expressions alone"
        return f"not run: needs --partner {kind}, got another"
    return ""


def _extras_on(path: Path, split: Split, classes: tuple[str, ...]) -> dict[str, FloatArray]:
    """What a trial would have stored of these faces beside its logits; nothing where its network has no such heads."""
    spec = load_spec(path)
    if spec.design.affect == "none" and not spec.design.hand_backbone:
        return {}
    network, spec = load_network(path)
    extras = extras_of(predict_outputs(network, split.images, spec))
    if "plain_logits" in extras:
        extras["plain_logits"] = extras["plain_logits"][:, [spec.classes.index(name) for name in classes]]
    return extras


def _faces(split: Split, labels: npt.NDArray[np.int8], classes: tuple[str, ...], *, counted: tuple[int, ...]) -> Faces:
    valence, arousal, units = (split.column(name) for name in ("valence", "arousal", "action_units"))
    return Faces(
        classes=classes,
        labels=labels,
        subjects=tuple(split.subjects),
        counted=counted,
        valence_arousal=None if valence is None or arousal is None else np.stack([valence, arousal], axis=1),
        action_units=None if units is None else np.where(units > 0, 1, units).astype(np.int8),
    )

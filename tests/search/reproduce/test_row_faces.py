"""Where answers come from: another table's classes met by name, saved models, and trials that left nothing."""

from pathlib import Path

import numpy as np
import pytest

from search.folder import SearchFolder, TrialRecord
from search.reproduce.answers import other_faces, partner_answers, trial_answers, unlike, valid_faces
from search.reproduce.job import Order, reproduce
from search.reproduce.rows import Answers
from search.reproduce.tables import Partner, find_table
from spaces.errors import DataError, ModelError, UsageError
from trainables.checkpoint import NetworkSpec, save_network
from trainables.data.split_file import Faces as TableFaces
from trainables.data.table import FaceTable, write_table
from trainables.models.architectures.design import Design
from trainables.models.backbones import build_network


def write_other(folder: Path, classes: tuple[str, ...], expression: list[int]) -> FaceTable:
    """A table of blank faces of 40 px, its valid split labelled as told."""
    generator = np.random.default_rng(2)
    splits = {}
    for name, labels in (("train", list(range(len(classes)))), ("valid", expression)):
        splits[name] = TableFaces(
            images=generator.integers(0, 255, (len(labels), 40, 40, 1), dtype=np.uint8),
            expression=np.array(labels, dtype=np.int8),
            sample_ids=[f"{name}{row}" for row in range(len(labels))],
            subjects=[None] * len(labels),
        )
    return write_table(folder, splits=splits, classes=classes, sources={"train": "a test"})  # type: ignore[arg-type]


def save_model(path: Path, classes: tuple[str, ...], design: Design) -> Path:
    spec = NetworkSpec("test_efficientnet", classes, 40, 40, 1, (0.5,) * 3, (0.25,) * 3, design=design)
    network = build_network(spec.backbone, n_classes=len(classes), design=design)
    save_network(path, network.state_dict(), spec)
    return path


def test_valid_faces_know_what_the_table_knows(face_table: FaceTable) -> None:
    found = valid_faces(face_table)

    assert (len(found.labels), found.counted) == (96, (0, 1, 2, 3, 4, 5))
    assert found.action_units is not None and set(np.unique(found.action_units)) <= {-1, 0, 1}
    assert found.valence_arousal is not None and found.valence_arousal.shape == (96, 2)


def test_other_faces_are_labelled_with_the_classes_in_common(face_table: FaceTable, tmp_path: Path) -> None:
    other = write_other(tmp_path / "other", ("neutral", "Happy", "anger"), [0, 1, 2, -1, 1])

    found = other_faces(other, face_table)

    happiness, anger = (face_table.info.classes.index(name) for name in ("happiness", "anger"))
    assert found.labels.tolist() == [-1, happiness, anger, -1, happiness]
    assert found.counted == tuple(sorted((happiness, anger)))
    assert found.classes == tuple(face_table.info.classes)


@pytest.mark.parametrize(
    ("classes", "expression", "sentence"),
    [
        (("neutral", "anger"), [0, 1], "--also must have two classes of the table or more .* got neutral, anger"),
        (("neutral", "anger", "fear"), [0, -1], "--also must have labelled faces in its valid split, got 0 of 2"),
    ],
    ids=["classes", "labels"],
)
def test_other_faces_are_refused_when_nothing_can_be_compared(
    classes: tuple[str, ...], expression: list[int], sentence: str, face_table: FaceTable, tmp_path: Path
) -> None:
    other = write_other(tmp_path / "other", classes, expression)

    with pytest.raises(DataError, match=sentence):
        other_faces(other, face_table)


def test_given_model_answers_with_the_tables_classes(face_table: FaceTable, tmp_path: Path) -> None:
    wider = ("contempt", *reversed(face_table.info.classes), "neutral")
    path = save_model(tmp_path / "wide.safetensors", wider, Design())

    found = partner_answers(path, face_table, also=face_table.split("train"))

    assert found.valid.logits.shape == (96, 6)
    assert found.also is not None and found.also.logits.shape == (240, 6)


def test_given_model_is_refused_when_it_lacks_a_class(face_table: FaceTable, tmp_path: Path) -> None:
    path = save_model(tmp_path / "narrow.safetensors", ("anger", "fear"), Design())

    with pytest.raises(ModelError, match=r"must know every class of the table, got anger, fear without disgust"):
        partner_answers(path, face_table, also=None)


def test_given_model_that_is_no_rows_is_refused_before_anything_is_trained(
    face_table: FaceTable, tmp_path: Path
) -> None:
    model = save_model(tmp_path / "partner.safetensors", tuple(face_table.info.classes), Design())
    paper, table = find_table("002:8")

    with pytest.raises(UsageError, match=r"--partner must be of use .* table 8, got .*: needs --partner on tf_effic"):
        reproduce(Order(paper, table, data=face_table.path, storage=tmp_path / "s", name="a", partner=model))
    assert not (tmp_path / "s").exists()


def test_given_model_that_cannot_be_loaded_is_refused_before_anything_is_trained(
    face_table: FaceTable, tmp_path: Path
) -> None:
    classes, model = tuple(face_table.info.classes), tmp_path / "partner.safetensors"
    spec = NetworkSpec("tf_efficientnet_b0.ns_jft_in1k", classes, 40, 40, 1, (0.5,) * 3, (0.25,) * 3)
    save_network(model, {}, spec)
    paper, table = find_table("002:8")

    with pytest.raises(ModelError, match="saved model must have the weights of its backbone"):
        reproduce(Order(paper, table, data=face_table.path, storage=tmp_path / "s", name="a", partner=model))
    assert not (tmp_path / "s").exists()


def test_second_set_must_not_be_the_first(face_table: FaceTable, tmp_path: Path) -> None:
    paper, table = find_table("001:1")
    order = Order(paper, table, data=face_table.path, also=face_table.path, storage=tmp_path / "s", name="a")

    with pytest.raises(UsageError, match="--also must have other faces than --data, got the same: "):
        reproduce(order)


def test_given_model_of_another_kind_is_not_the_rows(tmp_path: Path) -> None:
    path = save_model(tmp_path / "joint.safetensors", ("anger", "fear"), Design(affect="joint"))

    assert unlike(path, Partner(backbone="test_efficientnet", joint=True)) == ""
    assert unlike(path, Partner(backbone="tf_efficientnet_b2", joint=True)) == (
        "not run: needs --partner on tf_efficientnet_b2, got test_efficientnet"
    )
    assert "for expressions alone" in unlike(path, Partner(backbone="test_efficientnet", joint=False))


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (None, "not run: the search ended before"),
        (TrialRecord("t0000", 0, {}, {}, end="diverged", epochs=3), "diverged in epoch 3"),
        (TrialRecord("t0000", 0, {}, {}, end="failed", error="disk is full"), "failed: disk is full"),
        (TrialRecord("t0000", 0, {}, {}, end="preempted"), "no score: the search ended before its first epoch did"),
    ],
    ids=["none", "diverged", "failed", "preempted"],
)
def test_trial_without_scores_says_why(record: TrialRecord | None, reason: str, tmp_path: Path) -> None:
    assert trial_answers(SearchFolder(tmp_path), record, also=None) == reason


@pytest.mark.ray
def test_trial_answers_other_faces_as_it_did_its_own(small_search: object, face_table: FaceTable) -> None:
    folder: SearchFolder = small_search[0].folder  # type: ignore[index]

    found = trial_answers(folder, folder.read_records()[0], also=face_table.split("valid"))

    assert isinstance(found, Answers) and found.also is not None
    assert (found.also.logits.argmax(axis=1) == found.valid.logits.argmax(axis=1)).all()

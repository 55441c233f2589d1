"""What a paper's preset does not get along with is said before anything is written, in one sentence that helps."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from search.prelaunch import check_launch
from spaces.errors import AffectuneError, ConfigError, DataError, ModelError, SpaceError
from spaces.loading import load_space
from trainables.checkpoint import NetworkSpec, save_network
from trainables.data.faces.expression import EXPRESSIONS
from trainables.data.labels import LABEL_COLUMNS
from trainables.data.synth import generate_split
from trainables.data.table import Faces, FaceTable, write_table
from trainables.models.backbones import build_network

THREE = {"anger": 0, "fear": 2, "happiness": 3}
PX: dict[str, Any] = {"model.image_px": 40}
SMALL: dict[str, dict[str, Any]] = {
    "paper000": {**PX, "model.backbone": "test_resnet", "branches.appearance_backbone": "test_resnet"},
    "paper001": {**PX, "model.backbone": "test_resnet"},
    "paper002": {**PX, "model.backbone": "test_efficientnet"},
    "paper002-mtl": {**PX, "model.backbone": "test_efficientnet"},
    "paper003": {**PX, "model.backbone": "test_resnet", "hand.backbone": "test_resnet"},
    "paper004": {**PX, "model.backbone": "test_resnet"},
}
"""Settings that make the presets fit small faces."""


@pytest.fixture(scope="module")
def train() -> Faces:
    return generate_split("train", n=24, image_px=40)


@pytest.fixture(scope="module")
def valid() -> Faces:
    return generate_split("valid", n=12, image_px=40)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Saved models and weights by what they are, a folder and a place where nothing is."""
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("files")
    found = {name: folder / f"{name}.safetensors" for name in ("bare", "few", "gone", "good", "text")}
    for name, classes in (("good", EXPRESSIONS), ("few", EXPRESSIONS[:4])):
        spec = NetworkSpec("test_efficientnet", tuple(classes), 40, 40, 3, (0.5,) * 3, (0.25,) * 3)
        network = build_network(spec.backbone, n_classes=len(classes))
        save_network(found[name], network.state_dict(), spec)
    save_file(network.encoder.backbone.net.state_dict(), found["bare"])
    found["text"].write_text("no weights")
    return {**found, "folder": folder}


def written(out: Path, train: Faces, valid: Faces, classes: tuple[str, ...] = tuple(EXPRESSIONS)) -> FaceTable:
    return write_table(out / "table", splits={"train": train, "valid": valid}, classes=classes, sources={})


def of_three_classes(faces: Faces) -> Faces:
    """The faces of three classes, as a table of these classes has them."""
    rows = np.flatnonzero(np.isin(faces.expression, list(THREE.values())))
    return Faces(
        images=faces.images[rows],
        expression=np.searchsorted(list(THREE.values()), faces.expression[rows]).astype(np.int8),
        sample_ids=[faces.sample_ids[row] for row in rows.tolist()],
        hand=np.asarray(faces.hand)[rows],
    )


def refused(preset: str, table: FaceTable, fixes: Mapping[str, Any] | None = None) -> AffectuneError:
    """What is wrong with a preset on a table, once it is made small and settings are fixed."""
    with pytest.raises(AffectuneError) as caught:
        check_launch(load_space(preset).fix({**SMALL[preset], **(fixes or {})}), table)
    return caught.value


@pytest.mark.parametrize("preset", SMALL)
def test_preset_is_launched_on_faces_with_all_labels(preset: str, face_table: FaceTable) -> None:
    for fixes in ({}, SMALL[preset]):
        check_launch(load_space(preset).fix(fixes), face_table)


@pytest.mark.parametrize("is_there", [False, True], ids=["absent", "empty"])
@pytest.mark.parametrize(
    ("preset", "column", "setting"),
    [
        ("paper000", "landmarks", "loss.landmark_weight is above 0"),
        ("paper002-mtl", "valence", "affect.heads is 'separate'"),
        ("paper002-mtl", "arousal", "affect.heads is 'separate'"),
        ("paper002-mtl", "action_units", "affect.heads is 'separate' and loss.unit_weight is above 0"),
        ("paper003", "hand", "hand.backbone is 'test_resnet'"),
    ],
)
def test_preset_is_refused_when_its_labels_are_missing(
    preset: str, column: str, setting: str, is_there: bool, train: Faces, valid: Faces, tmp_path: Path
) -> None:
    column_of_train: dict[str, Any] = {column: LABEL_COLUMNS[column].empty(len(train)) if is_there else None}
    table = written(tmp_path, replace(train, **column_of_train), valid)

    error = refused(preset, table)

    assert isinstance(error, DataError) and error.exit_code == 1
    got = "none of 24" if is_there else "no such column"
    assert str(error).startswith(
        f"column {column!r} must be known on training faces where {setting}, got {got}: {table.path}; "
    )
    assert "`affectune data ingest`" in str(error) and "`affectune data synth`" in str(error)


@pytest.mark.parametrize(
    ("preset", "fixes", "lacking"),
    [
        ("paper000", {"loss.landmark_weight": 0.0}, "landmarks"),
        ("paper002-mtl", {"heads": "joint"}, "action_units"),
        ("paper003", {"decision": "alone"}, "hand"),
    ],
    ids=["000", "002-mtl", "003"],
)
def test_preset_does_without_a_label_as_its_comment_says(
    preset: str, fixes: dict[str, Any], lacking: str, train: Faces, valid: Faces, tmp_path: Path
) -> None:
    without: dict[str, Any] = {lacking: None}
    table = written(tmp_path, replace(train, **without), valid)

    check_launch(load_space(preset).fix(fixes), table)


@pytest.mark.parametrize("split", ["train", "valid"])
@pytest.mark.parametrize("value", [1.25, -0.5, np.inf], ids=["right", "left", "infinite"])
def test_preset_is_refused_when_a_landmark_lies_outside_its_face(
    split: str, value: float, train: Faces, valid: Faces, tmp_path: Path
) -> None:
    faces = {"train": train, "valid": valid}
    points: npt.NDArray[np.float32] = np.array(faces[split].landmarks)
    points[5, 3] = value
    changed = {**faces, split: replace(faces[split], landmarks=points)}
    table = written(tmp_path, changed["train"], changed["valid"])

    error = refused("paper000", table)

    assert isinstance(error, DataError)
    assert str(error) == (
        f"landmarks must lie within 0..1 of the image where loss.landmark_weight is above 0, got {value:g} "
        f"for {faces[split].sample_ids[5]!r} (1 of {len(faces[split])} faces of {split}): {table.path}"
    )
    check_launch(load_space("paper000").fix({"loss.landmark_weight": 0.0}), table)


@pytest.mark.parametrize("preset", SMALL)
def test_preset_is_refused_when_a_class_has_no_training_face(
    preset: str, train: Faces, valid: Faces, tmp_path: Path
) -> None:
    without = np.where(train.expression == EXPRESSIONS.index("fear"), 0, train.expression).astype(np.int8)
    table = written(tmp_path, replace(train, expression=without), valid)

    error = refused(preset, table)

    assert isinstance(error, DataError)
    assert str(error).startswith(f"class 'fear' must have a training face, got 0: {table.path}")


def test_six_class_weights_are_refused_where_there_are_three_classes(
    train: Faces, valid: Faces, tmp_path: Path
) -> None:
    table = written(tmp_path, of_three_classes(train), of_three_classes(valid), tuple(THREE))

    error = refused("paper001", table)

    assert isinstance(error, ConfigError) and error.exit_code == 2
    assert str(error) == (
        "loss.class_weights must have one weight a class (3), got 6; null leaves them to loss.class_weight_exponent"
    )
    check_launch(load_space("paper001").fix({"loss.class_weights": None}), table)


@pytest.mark.parametrize(
    ("fixes", "setting", "got"),
    [
        ({"hand.target": "fearful"}, "hand.target", "fearful"),
        ({"hand.target": "Fear"}, "hand.target", "Fear"),
        ({"hand.exceptions": "happiness, joy"}, "hand.exceptions", "joy"),
        ({"hand.exceptions": "surprise"}, "hand.exceptions", "surprise"),
    ],
    ids=["other_word", "other_case", "one_of_two", "class_of_another_table"],
)
def test_hand_rule_is_refused_when_it_names_no_class(
    fixes: dict[str, Any], setting: str, got: str, train: Faces, valid: Faces, tmp_path: Path
) -> None:
    table = written(tmp_path, of_three_classes(train), of_three_classes(valid), tuple(THREE))

    error = refused("paper003", table, fixes)

    assert isinstance(error, ConfigError) and error.exit_code == 2
    assert str(error) == f"{setting} must name classes of the table (anger, fear, happiness), got {got!r}: {table.path}"


@pytest.mark.parametrize(
    ("preset", "fixes", "sentence"),
    [
        ("paper003", {"hand.backbone": "none"}, "hand.backbone must name a network where hand.rule is 'fixed'"),
        ("paper004", {"loss.landmark_weight": 1.0}, "model.encoder must be two_branch where loss.landmark_weight"),
        ("paper001", {"loss.name": "focal"}, "loss.label_smoothing must be 0 where loss.name is 'focal'"),
        ("paper004", {"loss.label_smoothing": 0.1}, "loss.label_smoothing must be 0 where loss.name is 'focal'"),
        ("paper001", {"loss.partition_weight": 1.0}, "no attention heads (model.encoder is 'pooled'), got 1.0"),
        ("paper004", {"attention.heads": 1}, "attention.heads must be at least 2 where loss.partition_weight"),
        ("paper000", {"augment.mix": "mixup"}, "augment.mix must be none or mix_augment beside loss.landmark_weight"),
        ("paper001", {"train.head_epochs": 1}, "train.head_epochs must be 0 where model.encoder is 'deviation'"),
        ("paper002", {"train.head_epochs": 0}, "train.epochs and train.head_epochs must not both be 0"),
        ("paper003", {"train.frozen_stages": 2}, "train.frozen_share and train.frozen_stages must not both be given"),
        ("paper004", {"lr_schedule.name": "cosine"}, "lr_schedule.name must be exponential where epoch_gamma is given"),
        ("paper002", {"train.precision": "float16"}, "train.precision must be auto, bfloat16 or float32 where"),
    ],
)
def test_settings_that_contradict_a_preset_are_refused(
    preset: str, fixes: dict[str, Any], sentence: str, face_table: FaceTable
) -> None:
    error = refused(preset, face_table, fixes)

    assert isinstance(error, SpaceError) and error.exit_code == 2
    assert "makes no config" in str(error) and sentence in str(error)
    assert str(error).endswith(f"preset {preset} with --fix")


@pytest.mark.parametrize(
    ("preset", "setting", "name", "near"),
    [
        ("paper004", "model.backbone", "resnet05", "resnet50"),
        ("paper001", "model.backbone", "googlenet", "torchvision/googlenet"),
        ("paper000", "branches.appearance_backbone", "mobilevit2_100", "mobilevitv2_100"),
        ("paper003", "hand.backbone", "resnet05", "resnet50"),
    ],
)
def test_unknown_backbone_is_refused_with_its_setting_and_the_near_miss(
    preset: str, setting: str, name: str, near: str, face_table: FaceTable
) -> None:
    error = refused(preset, face_table, {setting: name})

    assert str(error) == f"{setting} must be a timm model, got {name!r}; did you mean {near!r}"
    assert error.exit_code == 2


@pytest.mark.parametrize(
    ("preset", "setting"),
    [
        ("paper000", "model.backbone"),
        ("paper000", "branches.appearance_backbone"),
        ("paper001", "model.backbone"),
        ("paper003", "hand.backbone"),
        ("paper004", "model.backbone"),
    ],
)
def test_transformer_of_another_size_is_refused_in_every_part_of_a_network(
    preset: str, setting: str, face_table: FaceTable
) -> None:
    error = refused(preset, face_table, {setting: "test_vit"})

    assert isinstance(error, ModelError)
    assert str(error) == f"model.image_px must be 160 for backbone 'test_vit', got 40: {setting}"
    check_launch(load_space(preset).fix({**SMALL[preset], "model.image_px": 160, setting: "test_vit"}), face_table)


@pytest.mark.parametrize(
    ("preset", "setting", "file", "sentence"),
    [
        ("paper002", "blend.partner", "gone", "saved model could not be read, there is no such file"),
        ("paper002", "blend.partner", "folder", "saved model could not be read, it is a folder"),
        ("paper002", "blend.partner", "bare", "saved model must be one that affectune wrote, got bare weights"),
        ("paper002", "blend.partner", "few", "blend.partner must know every class of the table, got anger, disgust, "),
        ("paper001", "model.start", "gone", "saved model could not be read, there is no such file"),
        ("paper001", "model.start", "bare", "saved model must be one that affectune wrote, got bare weights"),
        (
            "paper004",
            "model.start",
            "good",
            "model.start must be on the backbone 'test_resnet', got 'test_efficientnet'",
        ),
        ("paper000", "branches.appearance_weights", "bare", "must all belong to backbone 'test_resnet', got blocks."),
        ("paper000", "branches.appearance_weights", "text", "weights must be a safetensors file, got"),
        (
            "paper003",
            "hand.weights",
            "bare",
            "keys in the weights must all belong to backbone 'test_resnet', got blocks.",
        ),
        ("paper003", "hand.weights", "gone", "weights must be none, hub or a safetensors file that exists, got"),
    ],
)
def test_file_that_does_not_fit_is_refused(
    preset: str, setting: str, file: str, sentence: str, face_table: FaceTable, files: dict[str, Path]
) -> None:
    error = refused(preset, face_table, {setting: str(files[file])})

    assert isinstance(error, ModelError) and error.exit_code == 1
    assert sentence in str(error) and str(files[file]) in str(error)

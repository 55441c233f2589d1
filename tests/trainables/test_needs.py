"""Which labels a config needs, and the sentence for a table that lacks them."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from spaces.config import TrialConfig
from spaces.errors import ConfigError, DataError
from trainables.data.labels import LABEL_COLUMNS
from trainables.data.needs import check_labels, labelled_otherwise, needed_labels
from trainables.data.table import FaceTable
from trainables.trainer import Trainer

MakeConfig = Callable[..., TrialConfig]
MakeTable = Callable[..., FaceTable]

JOINT = {"affect.heads": "joint"}
SEPARATE = {"affect.heads": "separate"}
LANDMARKS = {"model.encoder": "two_branch", "loss.landmark_weight": 1.0}
HAND = {"hand.backbone": "test_efficientnet"}
KNOWN: dict[str, Any] = {
    "valence": np.full(6, 0.5, np.float32),
    "arousal": np.full(6, 0.5, np.float32),
    "action_units": np.ones((6, 12), np.int8),
    "landmarks": np.full((6, 136), 0.5, np.float32),
    "hand": np.array([0, 1] * 3, np.int8),
}
NEEDS = [
    ("valence", JOINT, "affect.heads is 'joint'"),
    ("arousal", SEPARATE, "affect.heads is 'separate'"),
    ("action_units", SEPARATE, "affect.heads is 'separate' and loss.unit_weight is above 0"),
    ("landmarks", LANDMARKS, "loss.landmark_weight is above 0"),
    ("hand", HAND, "hand.backbone is 'test_efficientnet'"),
]


@pytest.fixture(scope="module")
def table_without(make_table: MakeTable) -> Callable[..., FaceTable]:
    """Six training faces on which all is known but one label, which is unknown or no column at all."""

    def make(column: str, *, is_there: bool) -> FaceTable:
        known = {name: values for name, values in KNOWN.items() if name != column}
        unknown = {column: LABEL_COLUMNS[column].empty(6)} if is_there else {}
        return make_table(train=[0, 1, 2] * 2, columns={"train": {**known, **unknown}})

    return make


@pytest.mark.parametrize(
    ("settings", "needed"),
    [
        ({}, set()),
        (JOINT, {"valence_arousal"}),
        ({**JOINT, "loss.va_weight": 0.0}, set()),
        (SEPARATE, {"valence_arousal", "action_units"}),
        ({**SEPARATE, "loss.unit_weight": 0.0}, {"valence_arousal"}),
        (LANDMARKS, {"landmarks"}),
        ({"model.encoder": "two_branch"}, set()),
        (HAND, {"hand"}),
    ],
)
def test_losses_need_their_labels(make_config: MakeConfig, settings: dict[str, Any], needed: set[str]) -> None:
    assert set(needed_labels(make_config(settings))) == needed


@pytest.mark.parametrize(("column", "settings", "reason"), NEEDS, ids=[need[0] for need in NEEDS])
@pytest.mark.parametrize(("is_there", "got"), [(False, "no such column"), (True, "none of 6")])
def test_label_that_is_missing_is_refused_with_what_asks_for_it_and_what_brings_it(
    table_without: Callable[..., FaceTable],
    make_config: MakeConfig,
    column: str,
    settings: dict[str, Any],
    reason: str,
    is_there: bool,
    got: str,
) -> None:
    table = table_without(column, is_there=is_there)
    sentence = (
        f"column {column!r} must be known on training faces where {reason}, got {got}: {table.path}; "
        "`affectune data ingest` takes it from a CSV or Parquet source, `affectune data synth` draws faces with it"
    )

    with pytest.raises(DataError, match=f"^{re.escape(sentence)}$"):
        check_labels(make_config(settings), table)
    with pytest.raises(DataError, match=re.escape(sentence)):
        Trainer(make_config(settings), table)


def test_labels_that_nothing_asks_for_may_be_missing(toy_table: FaceTable, make_config: MakeConfig) -> None:
    check_labels(make_config(), toy_table)


def test_one_known_face_is_enough(make_table: MakeTable, make_config: MakeConfig) -> None:
    hand = np.array([-1, -1, 1], np.int8)

    check_labels(make_config(HAND), make_table(train=[0, 1, 2], columns={"train": {"hand": hand}}))


@pytest.mark.parametrize("split", ["train", "valid"])
def test_landmarks_outside_the_image_are_refused_by_the_faces_name(
    make_table: MakeTable, make_config: MakeConfig, split: str
) -> None:
    landmarks = {name: np.full((3, 136), 0.5, np.float32) for name in ("train", "valid")}
    landmarks[split][1, 7] = 1.25
    landmarks[split][2, :2] = -0.5
    landmarks[split][0] = np.nan
    columns = {name: {"landmarks": points} for name, points in landmarks.items()}
    table = make_table(train=[0, 1, 2], valid=[0, 1, 2], columns=columns)
    face = table.split(split).sample_ids[1]  # type: ignore[arg-type]
    sentence = (
        "landmarks must lie within 0..1 of the image where loss.landmark_weight is above 0, got 1.25 "
        f"for {face!r} (2 of 3 faces of {split}): {table.path}"
    )

    with pytest.raises(DataError, match=f"^{re.escape(sentence)}$"):
        check_labels(make_config(LANDMARKS), table)
    check_labels(make_config({"model.encoder": "two_branch"}), table)


@pytest.mark.parametrize(
    ("settings", "setting", "name"),
    [
        ({"hand.target": "disgust"}, "hand.target", "disgust"),
        ({"hand.exceptions": "joy, happiness"}, "hand.exceptions", "happiness"),
    ],
)
def test_hand_rule_on_a_class_that_the_table_lacks_is_refused(
    labelled_table: FaceTable, make_config: MakeConfig, settings: dict[str, Any], setting: str, name: str
) -> None:
    rule = {**HAND, "hand.rule": "fixed", "hand.exceptions": "none"}
    sentence = f"{setting} must name classes of the table (anger, fear, joy), got {name!r}: {labelled_table.path}"

    with pytest.raises(ConfigError, match=f"^{re.escape(sentence)}$"):
        check_labels(make_config({**rule, **settings}), labelled_table)
    check_labels(make_config(rule), labelled_table)
    check_labels(make_config({**HAND, **settings, "hand.rule": "none"}), labelled_table)


def test_faces_count_without_an_expression_where_another_needed_label_is_known(
    make_table: MakeTable, make_config: MakeConfig
) -> None:
    valence = np.array([np.nan, 0.1, np.nan, 0.2, np.nan], np.float32)
    columns = {"train": {"valence": valence, "arousal": valence, "hand": np.array([-1, -1, 1, -1, 0], np.int8)}}
    split = make_table(train=[-1, -1, -1, 1, 2], columns=columns).split("train")

    assert labelled_otherwise(split, make_config(JOINT)).tolist() == [1]
    assert labelled_otherwise(split, make_config(HAND)).tolist() == [2]
    assert labelled_otherwise(split, make_config({**JOINT, **HAND})).tolist() == [1, 2]
    assert labelled_otherwise(split, make_config()).tolist() == []


def test_best_exceptions_are_refused_where_there_are_too_many_classes_to_try_all(
    make_table: MakeTable, make_config: MakeConfig
) -> None:
    classes = ("fear", *(f"class {i}" for i in range(10)))
    labels = np.arange(22) % 11
    table = make_table(
        train=labels, valid=labels, classes=classes, px=96, columns={"train": {"hand": (labels % 2).astype(np.int8)}}
    )
    sentence = (
        r"hand\.rule must not be tune_all, which tries every set of exceptions, with more than 10 classes, got 11"
    )

    with pytest.raises(ConfigError, match=sentence):
        check_labels(make_config({**HAND, "hand.rule": "tune_all", "hand.exceptions": "none"}), table)


def test_table_is_looked_at_once_for_the_same_needs(
    toy_table: FaceTable, make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[str] = []
    table = FaceTable(toy_table.path, toy_table.info)
    monkeypatch.setattr("trainables.data.needs._look_for_labels", lambda config, _: looked.append(config.hand.rule))

    for settings in ({}, {"optimiser.lr": 1e-4}, HAND, {**HAND, "loss.label_smoothing": 0.3}):
        check_labels(make_config(settings), table)
    check_labels(make_config({}), FaceTable(toy_table.path, toy_table.info))

    assert len(looked) == 3, "the first two are one need, the others another; a table opened anew is another table"


def test_table_that_lacks_a_label_is_refused_each_time(
    table_without: Callable[..., FaceTable], make_config: MakeConfig
) -> None:
    table = table_without("hand", is_there=False)

    for _ in range(2):
        with pytest.raises(DataError, match=r"^column 'hand' must be known on training faces"):
            check_labels(make_config(HAND), table)

"""What a trial trains with: the faces in their numbers, and a loss whose weights are counted on each of them once."""

from collections.abc import Callable

import numpy as np
import pytest

from spaces.config import TrialConfig
from spaces.errors import DataError
from trainables.data.sampling import Items
from trainables.data.table import FaceTable
from trainables.losses.class_weights import class_weights
from trainables.preparation import build_loss, choose_items

MakeConfig = Callable[..., TrialConfig]
MakeTable = Callable[..., FaceTable]

JOINT = {"affect.heads": "joint"}
SEPARATE = {"affect.heads": "separate"}


def all_items(n: int, *, rounds: int = 1) -> Items:
    return Items(rows=np.repeat(np.arange(n), rounds), copies=np.tile(np.arange(rounds), n))


def test_items_are_the_labelled_faces_and_those_with_another_needed_label(
    labelled_table: FaceTable, make_config: MakeConfig
) -> None:
    split = labelled_table.split("train")
    valence = split.column("valence")
    assert valence is not None

    plain, joint = (choose_items(split, make_config(settings)).rows for settings in ({}, JOINT))

    assert plain.tolist() == np.flatnonzero(split.expression >= 0).tolist()
    assert joint.tolist() == np.flatnonzero((split.expression >= 0) | ~np.isnan(valence)).tolist()


def test_subsample_takes_its_share_of_the_faces_without_an_expression_too(
    make_table: MakeTable, make_config: MakeConfig
) -> None:
    known = np.zeros(60, np.float32)
    labels = [0, 1, 2] * 10 + [-1] * 30
    split = make_table(train=labels, columns={"train": {"valence": known, "arousal": known}}).split("train")

    chosen = [
        choose_items(split, make_config({**JOINT, "data.subsample_ratio": 0.5, "train.seed": seed})).rows
        for seed in (1, 1, 2)
    ]

    for rows in chosen:
        assert np.bincount(split.expression[rows] + 1).tolist() == [15, 5, 5, 5]
        assert (np.diff(rows) > 0).all()
    assert chosen[0].tolist() == chosen[1].tolist() != chosen[2].tolist()


def test_subsample_by_subjects_cuts_nobody_and_counts_faces_without_an_expression_too(
    make_table: MakeTable, make_config: MakeConfig
) -> None:
    known = np.zeros(240, np.float32)
    subjects = [f"p{row // 8}" for row in range(240)]
    columns = {"valence": known, "arousal": known, "subjects": subjects}
    split = make_table(train=[0, 1, 2, -1] * 60, columns={"train": columns}).split("train")
    settings = {**JOINT, "data.subsample_by": "subjects", "data.subsample_ratio": 0.4, "train.seed": 3}

    rows = choose_items(split, make_config(settings)).rows

    inside = {subjects[row] for row in rows}
    assert len(inside) == 12 and len(rows) == 96
    assert np.bincount(split.expression[rows] + 1).tolist() == [24, 24, 24, 24]


def test_subsample_by_subjects_needs_a_label(make_table: MakeTable, make_config: MakeConfig) -> None:
    split = make_table(train=[-1, -1]).split("train")

    with pytest.raises(DataError, match="train split must have labelled faces, got 0 of 2"):
        choose_items(split, make_config({"data.subsample_by": "subjects"}))


def test_upsampled_items_hold_every_class_as_often_and_others_once(
    make_table: MakeTable, make_config: MakeConfig
) -> None:
    known = np.zeros(12, np.float32)
    labels = [0] * 6 + [1] * 2 + [2] * 1 + [-1] * 3
    split = make_table(train=labels, columns={"train": {"valence": known, "arousal": known}}).split("train")

    items = choose_items(split, make_config({**JOINT, "data.sampler": "upsample"}))

    assert np.bincount(split.expression[items.rows] + 1).tolist() == [3, 6, 6, 6]


def test_class_weights_count_each_face_of_the_subsample_once(make_table: MakeTable, make_config: MakeConfig) -> None:
    split = make_table(train=[0] * 6 + [1] * 3 + [2] * 1 + [-1] * 2).split("train")
    config = make_config({"loss.class_weight_exponent": 1.0})

    loss = build_loss(config, split, all_items(12, rounds=4), n_classes=3, feature_width=8)

    expected = class_weights(np.array([6, 3, 1]), config.loss)
    np.testing.assert_allclose(loss.expression.weights.numpy(), expected, rtol=1e-6)
    assert loss.affinity is None


def test_centres_are_as_wide_as_the_features(toy_table: FaceTable, make_config: MakeConfig) -> None:
    config = make_config({"loss.affinity_weight": 1.0})

    loss = build_loss(config, toy_table.split("train"), all_items(48), n_classes=3, feature_width=8)

    assert loss.affinity is not None
    assert loss.affinity.centres.shape == (3, 8)


def test_units_are_counted_where_they_are_needed(labelled_table: FaceTable, make_config: MakeConfig) -> None:
    split = labelled_table.split("train")
    units = split.column("action_units")
    assert units is not None
    rows = np.arange(0, 48, 2)

    items = Items(rows=np.tile(rows, 2), copies=np.repeat([0, 1], len(rows)))
    loss = build_loss(make_config(SEPARATE), split, items, n_classes=3, feature_width=8)
    plain = build_loss(make_config(JOINT), split, items, n_classes=3, feature_width=8)

    shown, known = (units[rows] > 0).sum(axis=0), (units[rows] >= 0).sum(axis=0)
    assert loss.units is not None and plain.units is None
    expected = known[:, None] / (2 * np.stack([known - shown, shown], axis=1))
    np.testing.assert_allclose(loss.units.weights.numpy(), expected, rtol=1e-5)


def test_fewer_than_two_faces_with_an_expression_are_refused(make_table: MakeTable, make_config: MakeConfig) -> None:
    split = make_table(train=[0, -1, -1]).split("train")

    with pytest.raises(DataError, match=r"^train split must have at least 2 labelled faces, got 1$"):
        build_loss(make_config(), split, all_items(3), n_classes=3, feature_width=8)

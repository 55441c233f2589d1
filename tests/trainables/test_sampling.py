"""Stratified subsamples: shares by class, other faces by other seeds."""

import numpy as np
import pytest

from spaces.errors import DataError
from trainables.data.sampling import stratified_subsample

LABELS = np.repeat(np.array([0, 1, 2, -1], np.int8), [100, 40, 3, 20])


def test_subsample_keeps_the_share_of_each_class_and_a_face_of_the_rarest() -> None:
    rows = stratified_subsample(LABELS, ratio=0.1, seed=0)

    assert np.bincount(LABELS[rows]).tolist() == [10, 4, 1]


def test_subsample_is_sorted_without_repeats_and_without_unlabelled_faces() -> None:
    rows = stratified_subsample(LABELS, ratio=0.5, seed=3)

    assert (np.diff(rows) > 0).all()
    assert (LABELS[rows] >= 0).all()


def test_subsample_is_every_labelled_face_when_the_ratio_is_one() -> None:
    np.testing.assert_array_equal(stratified_subsample(LABELS, ratio=1.0, seed=5), np.arange(143))


def test_subsample_depends_on_the_seed_alone() -> None:
    first, again, other = (stratified_subsample(LABELS, ratio=0.2, seed=seed) for seed in (1, 1, 2))

    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_subsample_is_refused_when_no_face_is_labelled() -> None:
    with pytest.raises(DataError, match="train split must have labelled faces, got 0 of 4"):
        stratified_subsample(np.full(4, -1, np.int8), ratio=1.0, seed=0)

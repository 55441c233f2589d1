"""Scores come back as they were written, and what is none gets a sentence."""

from pathlib import Path

import numpy as np
import pytest

from spaces.errors import DataError
from trainables.scores import Scores, blend_logits, load_scores, save_scores, softmax, to_logits


def make_scores(n: int = 5) -> Scores:
    return Scores(
        sample_ids=tuple(f"face {i}" for i in range(n)),
        subjects=tuple(None if i % 2 else "ann" for i in range(n)),
        labels=(np.arange(n) % 4 - 1).astype(np.int8),
        logits=np.random.default_rng(0).normal(size=(n, 3)).astype(np.float32),
        classes=("anger", "höhere Freude", "joy"),
    )


@pytest.mark.parametrize("n", [0, 1, 5])
def test_scores_come_back_as_they_were_written(tmp_path: Path, n: int) -> None:
    scores = make_scores(n)
    path = tmp_path / "new folder" / "valid.arrow"

    save_scores(path, scores)
    loaded = load_scores(path)

    assert (loaded.sample_ids, loaded.subjects, loaded.classes) == (scores.sample_ids, scores.subjects, scores.classes)
    np.testing.assert_array_equal(loaded.labels, scores.labels)
    np.testing.assert_array_equal(loaded.logits, scores.logits)
    assert (loaded.labels.dtype, loaded.logits.dtype) == (np.int8, np.float32)


def test_scores_can_be_written_over_while_they_are_in_use(tmp_path: Path) -> None:
    save_scores(tmp_path / "s.arrow", make_scores(4))
    loaded = load_scores(tmp_path / "s.arrow")

    save_scores(tmp_path / "s.arrow", make_scores(2))

    assert loaded.labels.tolist() == [-1, 0, 1, 2]
    assert len(load_scores(tmp_path / "s.arrow").labels) == 2


@pytest.mark.parametrize("content", [None, b"", b"no arrow file at all"], ids=["missing", "empty", "text"])
def test_scores_are_refused_when_the_file_is_none(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "s.arrow"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(DataError, match=r"scores must be an Arrow file that a trial wrote, got .*s\.arrow"):
        load_scores(path)


def test_softmax_is_a_distribution_when_logits_are_huge() -> None:
    probs = softmax(np.array([[1e30, 0.0, -1e30], [1.0, 1.0, 1.0]], np.float32))

    np.testing.assert_allclose(probs, [[1, 0, 0], [1 / 3, 1 / 3, 1 / 3]])


def test_scores_give_probabilities_of_their_logits() -> None:
    scores = make_scores()

    exponents = np.exp(scores.logits.astype(np.float64))
    np.testing.assert_allclose(scores.probs, exponents / exponents.sum(axis=1, keepdims=True))


def test_blend_mixes_probabilities_or_logits() -> None:
    own, partner = make_scores().logits, make_scores().logits[::-1]

    probs = softmax(blend_logits(own, partner, weight=0.3, space="probs"))
    logits = blend_logits(own, partner, weight=0.3, space="logits")

    np.testing.assert_allclose(probs, 0.3 * softmax(partner) + 0.7 * softmax(own), atol=1e-6)
    np.testing.assert_allclose(logits, 0.3 * partner + 0.7 * own, atol=1e-6)


def test_logits_of_probabilities_stay_finite_when_one_is_zero() -> None:
    probs = np.array([[1.0, 0.0], [0.25, 0.75]])

    np.testing.assert_allclose(softmax(to_logits(probs)), probs, atol=1e-6)

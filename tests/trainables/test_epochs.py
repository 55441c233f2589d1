"""The answers of a trial's best epochs: which are kept, and that they come back as they were written."""

from pathlib import Path

import numpy as np
import pytest

from spaces.errors import DataError
from trainables.epochs import MOST_EPOCHS, BestEpochs, EpochScores, load_epoch_scores, save_epoch_scores
from trainables.scores import Scores, save_scores, softmax


def draw_logits(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(scale=4.0, size=shape).astype(np.float32)


def keep(scores: list[float]) -> BestEpochs:
    """The best epochs of a run with this macro-F1 in its epochs 1, 2, ..."""
    best = BestEpochs()
    for epoch, score in enumerate(scores, start=1):
        best = best.with_epoch(epoch, draw_logits(5, 3, seed=epoch), macro_f1=score)
    return best


def test_epoch_scores_come_back_as_they_were_written(tmp_path: Path) -> None:
    logits = draw_logits(3, 50, 4)
    path = tmp_path / "new folder" / "epochs.arrow"

    save_epoch_scores(path, EpochScores(np.array([2, 5, 11]), best_epoch=5, logits=logits))
    loaded = load_epoch_scores(path)

    assert (loaded.epochs.tolist(), loaded.best_epoch) == ([2, 5, 11], 5)
    assert (loaded.logits.shape, loaded.logits.dtype, loaded.epochs.dtype) == ((3, 50, 4), np.float32, np.int64)
    np.testing.assert_allclose(softmax(loaded.logits), softmax(logits), atol=2e-3)
    assert path.stat().st_size < 4000


def test_half_precision_changes_no_prediction() -> None:
    logits = np.float32(300.0) + draw_logits(1, 2000, 3)
    logits[0, :, 1] = np.nextafter(logits[0, :, 0], np.float32(np.inf))  # as close as two logits can be

    kept = BestEpochs().with_epoch(1, logits[0], macro_f1=0.5).scores().logits

    np.testing.assert_array_equal(kept.argmax(axis=2), logits.argmax(axis=2))


def test_logits_that_half_precision_cannot_hold_stay_finite() -> None:
    wild = np.array([[1e30, 0.0, -1e30]], np.float32)

    kept = BestEpochs().with_epoch(1, wild, macro_f1=0.5).scores().logits

    np.testing.assert_array_equal(softmax(kept)[0, 0], [1.0, 0.0, 0.0])


def test_best_epochs_are_kept_in_their_order() -> None:
    scores = [0.1, 0.9, 0.2, 0.8, 0.3, 0.7, 0.4, 0.6, 0.5, 0.55]

    kept = keep(scores).scores()

    assert kept.epochs.tolist() == [2, 4, 5, 6, 7, 8, 9, 10]
    assert kept.best_epoch == 2
    assert len(kept.epochs) == MOST_EPOCHS


def test_earlier_of_two_epochs_that_are_as_good_is_kept() -> None:
    assert keep([0.5, 0.7, 0.7]).scores().best_epoch == 2
    assert keep([0.5] * 20).scores().epochs.tolist() == list(range(1, MOST_EPOCHS + 1))


def test_best_epochs_are_the_same_object_when_another_is_not_among_them() -> None:
    best = keep([0.5] * MOST_EPOCHS)

    assert best.with_epoch(9, draw_logits(5, 3), macro_f1=0.4) is best
    assert best.with_epoch(9, draw_logits(5, 3), macro_f1=0.6) is not best


def test_best_epochs_survive_plain_tensors() -> None:
    best = keep([0.5, 0.7, 0.6])

    again = BestEpochs.from_tensors(best.to_tensors()).with_epoch(4, draw_logits(5, 3), macro_f1=0.65)

    assert again.scores().epochs.tolist() == [1, 2, 3, 4]
    np.testing.assert_array_equal(again.scores().logits[:3], best.scores().logits)


@pytest.mark.parametrize("content", [None, b"", b"no arrow file"], ids=["missing", "empty", "text"])
def test_epoch_scores_are_refused_when_the_file_is_none(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "epochs.arrow"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(DataError, match=r"epoch scores must be an Arrow file that a trial wrote, got .*epochs\.arrow"):
        load_epoch_scores(path)


def test_epoch_scores_are_refused_when_the_file_holds_scores(tmp_path: Path) -> None:
    labels = np.zeros(2, np.int8)
    save_scores(tmp_path / "s.arrow", Scores(("a", "b"), (None, None), labels, draw_logits(2, 2), ("joy", "fear")))

    with pytest.raises(DataError, match="epoch scores must be"):
        load_epoch_scores(tmp_path / "s.arrow")


def test_epoch_scores_are_refused_when_the_best_epoch_is_not_among_them(tmp_path: Path) -> None:
    save_epoch_scores(tmp_path / "e.arrow", EpochScores(np.array([1]), best_epoch=4, logits=draw_logits(1, 2, 3)))

    with pytest.raises(DataError, match="its best epoch is 4, which it does not hold"):
        load_epoch_scores(tmp_path / "e.arrow")

"""Dropout of embeddings: its share, its scale, another mask for each face, the same again for the same seed."""

import numpy as np
import pytest

from trainables.heads.dropout import Dropout


@pytest.mark.parametrize("rate", [0.001, 0.2, 0.9])
@pytest.mark.parametrize("width", [7, 1280, 20_000])
def test_dropout_strikes_its_share_and_scales_up_the_rest(rate: float, width: int) -> None:
    masks = Dropout(rate=rate, width=width, seed=3, epoch=1).draw(500).numpy()

    assert masks.shape == (500, width)
    assert set(np.unique(masks)) <= {np.float32(0.0), np.float32(1.0 / (1.0 - rate))}
    spread = np.sqrt(rate * (1 - rate) / min(masks.size, 2**18))
    assert (masks == 0).mean() == pytest.approx(rate, abs=5 * spread + 1e-5)


def test_almost_every_face_has_a_mask_of_its_own() -> None:
    masks = Dropout(rate=0.5, width=256, seed=0, epoch=1).draw(300).numpy() > 0

    agreement = (masks[:, None] == masks[None]).mean(axis=2)[np.triu_indices(300, k=1)]
    assert agreement.mean() == pytest.approx(0.5, abs=0.01)
    assert np.quantile(agreement, 0.999) < 0.65


def test_elements_are_dropped_independently_of_their_neighbours() -> None:
    kept = Dropout(rate=0.5, width=256, seed=0, epoch=1).draw(1000).numpy() > 0

    together = (kept[:, 1:] & kept[:, :-1]).mean()
    assert together == pytest.approx(0.25, abs=0.01)


def test_same_seed_and_epoch_drop_the_same_and_others_do_not() -> None:
    def draw(seed: int, epoch: int) -> bytes:
        return Dropout(rate=0.5, width=64, seed=seed, epoch=epoch).draw(10).numpy().tobytes()

    assert draw(0, 1) == draw(0, 1)
    assert len({draw(0, 1), draw(0, 2), draw(1, 1)}) == 3

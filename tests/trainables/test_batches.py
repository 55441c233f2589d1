"""An epoch's batches: every face once, repeatable, the same from worker processes, never a face alone."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from spaces.training_sections import AugmentConfig
from trainables.data.augment import Augmenter
from trainables.data.batches import EpochBatches, iter_batches
from trainables.data.table import FaceTable

IDLE = AugmentConfig(flip_p=0, affine_p=0, light_p=0, erase_p=0)


def make_batches(
    table: FaceTable, *, n: int = 48, batch_size: int = 16, seed: int = 0, epoch: int = 1, config: AugmentConfig = IDLE
) -> EpochBatches:
    rows = np.arange(n)
    return EpochBatches(table.split("train"), rows, Augmenter(config), batch_size=batch_size, seed=seed, epoch=epoch)


def gather(batches: EpochBatches, n_workers: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    images, labels = zip(*iter_batches(batches, n_workers=n_workers, pin_memory=False), strict=True)
    return torch.cat(images), torch.cat(labels)


def test_batches_hold_every_face_once(toy_table: FaceTable) -> None:
    images, labels = gather(make_batches(toy_table))

    split = toy_table.split("train")
    seen = sorted((image.numpy().tobytes(), int(label)) for image, label in zip(images, labels, strict=True))
    assert seen == sorted((i.tobytes(), int(e)) for i, e in zip(split.images, split.expression, strict=True))
    assert (images.dtype, labels.dtype) == (torch.uint8, torch.int64)


def test_batches_are_shuffled_by_seed_and_epoch(toy_table: FaceTable) -> None:
    first, again, epoch, seed = (
        gather(make_batches(toy_table, seed=s, epoch=e))[0] for s, e in ((0, 1), (0, 1), (0, 2), (1, 1))
    )

    assert torch.equal(first, again)
    assert not torch.equal(first, epoch)
    assert not torch.equal(first, seed)


@pytest.mark.parametrize(("n", "batch_size"), [(2, 2), (3, 2), (7, 2), (33, 16), (5, 64), (41, 20)])
def test_batches_never_hold_a_face_alone(toy_table: FaceTable, n: int, batch_size: int) -> None:
    sizes = [
        len(labels)
        for _, labels in iter_batches(
            make_batches(toy_table, n=n, batch_size=batch_size), n_workers=0, pin_memory=False
        )
    ]

    assert min(sizes) >= 2
    assert max(sizes) - min(sizes) <= 1
    assert sum(sizes) == n


def test_batches_are_the_same_when_worker_processes_make_them(toy_table: FaceTable) -> None:
    batches = make_batches(toy_table, config=AugmentConfig())

    images, labels = gather(batches, n_workers=2)

    expected_images, expected_labels = gather(batches)
    assert torch.equal(images, expected_images)
    assert torch.equal(labels, expected_labels)


def test_batches_of_worker_processes_draw_none_of_the_callers_random_numbers(toy_table: FaceTable) -> None:
    state = torch.random.get_rng_state()

    gather(make_batches(toy_table), n_workers=1)

    assert torch.equal(torch.random.get_rng_state(), state)


def test_batches_take_colour_faces(make_table: Callable[..., FaceTable]) -> None:
    images, _ = gather(make_batches(make_table(channels=3), config=AugmentConfig()))

    assert images.shape == (48, 32, 32, 3)

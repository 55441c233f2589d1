"""An epoch's batches: every item once, repeatable, never a face alone."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from spaces.training_sections import AugmentConfig
from trainables.data.augment import Augmenter
from trainables.data.batches import Batch, EpochBatches, split_targets
from trainables.data.sampling import Sampler, training_items
from trainables.data.table import Faces, FaceTable, Split, write_table

IDLE = AugmentConfig(flip_p=0, affine_p=0, light_p=0, erase_p=0)
TARGETS = ("valence_arousal", "action_units", "landmarks", "hand")


def make_batches(
    table: FaceTable,
    *,
    n: int = 48,
    sampler: Sampler = "shuffle",
    batch_size: int = 16,
    seed: int = 0,
    epoch: int = 1,
    config: AugmentConfig = IDLE,
    labels: tuple[str, ...] = (),
    two_views: bool = False,
) -> EpochBatches:
    split = table.split("train")
    return EpochBatches(
        split,
        training_items(split.expression, np.arange(n), sampler=sampler),
        Augmenter(config),
        sampler=sampler,
        sampler_power=1.0,
        batch_size=batch_size,
        seed=seed,
        epoch=epoch,
        labels=labels,
        two_views=two_views,
    )


def list_batches(batches: EpochBatches) -> list[Batch]:
    return [batches[i] for i in range(len(batches))]


def gather(batches: EpochBatches) -> Batch:
    """An epoch's batches as one."""
    parts = list_batches(batches)
    views = [part.appearance for part in parts if part.appearance is not None]
    return Batch(
        images=torch.cat([part.images for part in parts]),
        appearance=torch.cat(views) if views else None,
        targets={name: torch.cat([part.targets[name] for part in parts]) for name in parts[0].targets},
        positions=torch.cat([part.positions for part in parts]),
    )


@pytest.fixture(scope="module")
def labelled_table(tmp_path_factory: pytest.TempPathFactory) -> FaceTable:
    """12 colour faces with every label, some of them not known; the valid split has none but the expression."""
    n, generator = 12, np.random.default_rng(0)
    bare = Faces(
        images=generator.integers(0, 256, (n, 32, 32, 3), dtype=np.uint8),
        expression=np.array([0, 0, 0, 0, 0, 0, 0, 1, 1, 1, -1, -1], np.int8),
        sample_ids=[f"face {row}" for row in range(n)],
    )
    units = generator.integers(0, 6, (n, 12)).astype(np.int8)
    units[3] = -1
    landmarks = generator.random((n, 136)).astype(np.float32)
    landmarks[4] = np.nan
    full = replace(
        bare,
        valence=np.linspace(-1, 1, n, dtype=np.float32),
        arousal=np.full(n, np.nan, np.float32),
        action_units=units,
        landmarks=landmarks,
        hand=np.array([0, 1, -1] * 4, np.int8),
    )
    out: Path = tmp_path_factory.mktemp("labelled") / "table"
    valid = replace(bare, sample_ids=[f"other {row}" for row in range(n)])
    return write_table(out, splits={"train": full, "valid": valid}, classes=("anger", "joy"), sources={})


def column(split: Split, name: str) -> Any:
    values = split.column(name)
    assert values is not None
    return values


def test_batches_hold_every_face_once(toy_table: FaceTable) -> None:
    batch = gather(make_batches(toy_table))

    split, labels = toy_table.split("train"), batch.targets["expression"]
    seen = sorted((image.numpy().tobytes(), int(label)) for image, label in zip(batch.images, labels, strict=True))
    assert seen == sorted((i.tobytes(), int(e)) for i, e in zip(split.images, split.expression, strict=True))
    assert (batch.images.dtype, labels.dtype) == (torch.uint8, torch.int64)
    assert batch.appearance is None
    assert list(batch.targets) == ["expression"]


def test_batches_say_which_items_they_hold(toy_table: FaceTable) -> None:
    batch = gather(make_batches(toy_table))

    np.testing.assert_array_equal(batch.images, toy_table.split("train").images[batch.positions.numpy()])
    assert sorted(batch.positions.tolist()) == list(range(48))


def test_batches_are_shuffled_by_seed_and_epoch(toy_table: FaceTable) -> None:
    first, again, epoch, seed = (
        gather(make_batches(toy_table, seed=s, epoch=e)).images for s, e in ((0, 1), (0, 1), (0, 2), (1, 1))
    )

    assert torch.equal(first, again)
    assert not torch.equal(first, epoch)
    assert not torch.equal(first, seed)


def test_batches_are_those_that_plain_rows_were_always_cut_into(toy_table: FaceTable) -> None:
    """Runs of older settings must repeat: rows shuffled, cut, sorted within a batch, altered by the batch's seed."""
    split, rows = toy_table.split("train"), np.random.default_rng([5, 2, 0x0DE2]).permutation(np.arange(48))

    made = make_batches(toy_table, seed=5, epoch=2, config=AugmentConfig())

    batches = list_batches(made)
    assert len(batches) == 3
    for index, (own_rows, batch) in enumerate(zip(np.array_split(rows, 3), batches, strict=True)):
        seed = int(np.random.SeedSequence([5, 2, index]).generate_state(1)[0]) % 2**31
        altered = Augmenter(AugmentConfig()).alter(split.images[np.sort(own_rows)], seed=seed)
        np.testing.assert_array_equal(batch.images, altered)
        np.testing.assert_array_equal(batch.targets["expression"], split.expression[np.sort(own_rows)])


@pytest.mark.parametrize(("n", "batch_size"), [(2, 2), (3, 2), (7, 2), (33, 16), (5, 64), (41, 20)])
def test_batches_never_hold_a_face_alone(toy_table: FaceTable, n: int, batch_size: int) -> None:
    batches = make_batches(toy_table, n=n, batch_size=batch_size)

    sizes = [len(batch.images) for batch in list_batches(batches)]

    assert min(sizes) >= 2
    assert max(sizes) - min(sizes) <= 1
    assert sum(sizes) == n


def test_batches_take_colour_faces(make_table: Callable[..., FaceTable]) -> None:
    batch = gather(make_batches(make_table(channels=3), config=AugmentConfig()))

    assert batch.images.shape == (48, 32, 32, 3)


def test_upsampled_batches_hold_copies_that_are_the_same_every_epoch(labelled_table: FaceTable) -> None:
    split = labelled_table.split("train")
    items = training_items(split.expression, np.arange(12), sampler="upsample")

    first, other = (
        gather(make_batches(labelled_table, n=12, sampler="upsample", batch_size=4, epoch=epoch)) for epoch in (1, 2)
    )

    assert torch.bincount(first.targets["expression"] + 1).tolist() == [2, 7, 7]
    assert not torch.equal(first.positions, other.positions)
    one, two = first.images[first.positions.argsort()], other.images[other.positions.argsort()]
    assert torch.equal(one, two)
    as_they_are = items.copies == 0
    np.testing.assert_array_equal(one[as_they_are], split.images[items.rows[as_they_are]])
    assert len({image.numpy().tobytes() for image in one}) > 12  # copies are more than repeats


def test_upsampled_copies_are_altered_anew_each_epoch_on_top(labelled_table: FaceTable) -> None:
    config = AugmentConfig(flip_p=1, affine_p=0, light_p=0, erase_p=0)

    plain, flipped = (
        gather(make_batches(labelled_table, n=12, sampler="upsample", config=chosen)).images
        for chosen in (IDLE, config)
    )

    assert torch.equal(flipped, plain.flip(2))


def test_weighted_batches_hold_as_many_faces_as_there_are_items(labelled_table: FaceTable) -> None:
    batch = gather(make_batches(labelled_table, n=12, sampler="weighted"))

    np.testing.assert_array_equal(batch.images, labelled_table.split("train").images[batch.positions.numpy()])
    assert len(batch.positions) == 12 > len(set(batch.positions.tolist()))


def test_second_view_shows_faces_and_copies_where_the_table_has_them(labelled_table: FaceTable) -> None:
    split, config = labelled_table.split("train"), AugmentConfig(erase_p=1, rand_p=1)
    items = training_items(split.expression, np.arange(12), sampler="upsample")

    batch = gather(make_batches(labelled_table, n=12, sampler="upsample", config=config, two_views=True))

    assert batch.appearance is not None
    np.testing.assert_array_equal(batch.appearance, split.images[items.rows[batch.positions.numpy()]])
    assert not torch.equal(batch.appearance, batch.images)


def test_second_view_leaves_the_first_as_it_was(labelled_table: FaceTable) -> None:
    config = AugmentConfig(jitter_p=1)

    one, two = (gather(make_batches(labelled_table, n=12, config=config, two_views=views)) for views in (False, True))

    assert torch.equal(one.images, two.images)
    assert two.appearance is not None and two.appearance.shape == two.images.shape


def test_targets_go_with_their_faces(labelled_table: FaceTable) -> None:
    split = labelled_table.split("train")

    batch = gather(make_batches(labelled_table, n=12, labels=("landmarks", "hand")))

    rows = batch.positions.numpy()
    np.testing.assert_array_equal(batch.targets["landmarks"], column(split, "landmarks")[rows])
    np.testing.assert_array_equal(batch.targets["hand"], column(split, "hand")[rows])
    assert list(batch.targets) == ["expression", "landmarks", "hand"]


def test_targets_hold_what_is_known_and_say_what_is_not(labelled_table: FaceTable) -> None:
    split, rows = labelled_table.split("train"), np.array([1, 3, 4, 11])

    targets = split_targets(split, rows, TARGETS)

    assert targets["expression"].tolist() == [0, 0, 0, -1]
    assert targets["hand"].tolist() == [1, 0, 1, -1]
    np.testing.assert_array_equal(targets["valence_arousal"][:, 0], column(split, "valence")[rows])
    assert targets["valence_arousal"][:, 1].isnan().all()
    assert targets["landmarks"].isnan().any(dim=1).tolist() == [False, False, True, False]
    shapes = {name: (tuple(target.shape), target.dtype) for name, target in targets.items()}
    assert shapes == {
        "expression": ((4,), torch.int64),
        "valence_arousal": ((4, 2), torch.float32),
        "action_units": ((4, 12), torch.int64),
        "landmarks": ((4, 136), torch.float32),
        "hand": ((4,), torch.int64),
    }


def test_action_units_of_any_intensity_count_as_there(labelled_table: FaceTable) -> None:
    split = labelled_table.split("train")

    units = split_targets(split, np.arange(12), ("action_units",))["action_units"]

    stored = column(split, "action_units")
    assert set(stored.ravel().tolist()) == {-1, 0, 1, 2, 3, 4, 5}
    np.testing.assert_array_equal(units == 1, stored > 0)
    np.testing.assert_array_equal(units == -1, stored == -1)
    assert units[3].tolist() == [-1] * 12


def test_targets_are_all_unknown_when_the_split_has_no_such_column(labelled_table: FaceTable) -> None:
    targets = split_targets(labelled_table.split("valid"), np.arange(12), TARGETS)

    assert targets["valence_arousal"].isnan().all() and targets["landmarks"].isnan().all()
    assert (targets["action_units"] == -1).all() and (targets["hand"] == -1).all()
    assert {name: len(target) for name, target in targets.items()} == dict.fromkeys(("expression", *TARGETS), 12)


def test_targets_are_refused_when_there_is_none_of_such_a_name(labelled_table: FaceTable) -> None:
    with pytest.raises(KeyError, match="gaze"):
        split_targets(labelled_table.split("train"), np.arange(2), ("gaze",))


def test_batch_is_moved_whole_but_for_its_positions(labelled_table: FaceTable) -> None:
    batch = make_batches(labelled_table, n=12, labels=TARGETS, two_views=True)[0]

    moved = batch.to(torch.device("meta"))

    assert moved.appearance is not None
    assert {tensor.device.type for tensor in (moved.images, moved.appearance, *moved.targets.values())} == {"meta"}
    assert list(moved.targets) == list(batch.targets)
    assert moved.positions is batch.positions

"""The memory of a frozen twin: it says what computing says, asks once a face, and serves where faces stay the same."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from spaces.config import TrialConfig
from trainables import frozen_memory
from trainables.data.table import FaceTable
from trainables.frozen_memory import GROUP, FrozenMemory
from trainables.models.architectures.backbone import Backbone
from trainables.models.architectures.deviation import DeviationEncoder
from trainables.preparation import build_memory
from trainables.trainer import Trainer

MakeConfig = Callable[..., TrialConfig]

DEVIATION = {
    "model.encoder": "deviation",
    "data.sampler": "upsample",
    "augment.flip_p": 0.0,
    "augment.affine_p": 0.0,
    "augment.light_p": 0.0,
    "augment.erase_p": 0.0,
}


@pytest.fixture
def encoder() -> DeviationEncoder:
    torch.manual_seed(0)
    return DeviationEncoder(Backbone("test_efficientnet"), eps=1e-6, eps_when="training").train()


def draw_faces(n: int) -> torch.Tensor:
    return torch.randn(n, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def count_faces(encoder: DeviationEncoder) -> list[int]:
    """A list that takes in the size of every batch which the frozen twin sees from now on."""
    seen: list[int] = []
    encoder.frozen.register_forward_hook(lambda module, inputs, output: seen.append(len(inputs[0])))
    return seen


def test_recall_is_what_the_twin_says_in_any_order(encoder: DeviationEncoder) -> None:
    faces = draw_faces(6)
    expected = encoder.embed_frozen(faces)
    memory = FrozenMemory(encoder, 9)

    for positions in ([0, 3, 5], [5, 1, 0, 2], [4, 3, 2, 1, 0]):
        found = memory.recall(torch.tensor(positions), faces[positions])
        torch.testing.assert_close(found, expected[positions], rtol=1e-4, atol=1e-6)


def test_each_face_is_computed_once(encoder: DeviationEncoder) -> None:
    faces, seen = draw_faces(6), count_faces(encoder)
    memory = FrozenMemory(encoder, 6)

    for positions in ([0, 3, 5], [5, 1, 0, 2], [4, 3, 2, 1, 0], [0, 1, 2, 3, 4, 5]):
        memory.recall(torch.tensor(positions), faces[positions])

    assert seen == [GROUP, GROUP, GROUP]  # none for the last, which are all known


@pytest.mark.parametrize("n", [1, 2, 15, 16, 17, 40])
def test_face_is_remembered_the_same_to_the_last_bit_whatever_batch_it_first_stands_in(
    encoder: DeviationEncoder, n: int
) -> None:
    faces = draw_faces(40)
    whole = FrozenMemory(encoder, 40).recall(torch.arange(40), faces)

    alone = FrozenMemory(encoder, 40).recall(torch.arange(40)[-n:], faces[-n:])

    assert torch.equal(alone, whole[-n:])


def test_recalled_embeddings_carry_no_gradient(encoder: DeviationEncoder) -> None:
    found = FrozenMemory(encoder, 2).recall(torch.arange(2), draw_faces(2))

    assert not found.requires_grad
    assert (found.dtype, found.shape) == (torch.float32, (2, encoder.width))


def test_memory_is_kept_where_faces_stay_the_same_and_it_fits(
    encoder: DeviationEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert build_memory(encoder, n_items=10, is_offline=True) is not None
    assert build_memory(encoder, n_items=10, is_offline=False) is None
    assert build_memory(Backbone("test_efficientnet"), n_items=10, is_offline=True) is None

    monkeypatch.setattr(frozen_memory, "MOST_BYTES", 4 * 10 * encoder.width)
    assert build_memory(encoder, n_items=10, is_offline=True) is not None
    assert build_memory(encoder, n_items=11, is_offline=True) is None


@pytest.mark.parametrize(
    ("settings", "remembers"),
    [
        ({}, True),
        ({"augment.mix": "mix_augment"}, True),
        ({"augment.mix": "mixup"}, False),
        ({"augment.flip_p": 0.1}, False),
        ({"augment.rand_p": 0.1}, False),
        ({"augment.policy": "alternatives"}, False),
        ({"model.encoder": "pooled"}, False),
    ],
    ids=["still", "mixed beside the real", "mixed alone", "flipped", "RandAugment", "alternatives", "no twin"],
)
def test_trainer_remembers_only_faces_that_look_the_same_in_every_epoch(
    toy_table: FaceTable, make_config: MakeConfig, settings: dict[str, Any], remembers: bool
) -> None:
    trainer = Trainer(make_config({**DEVIATION, **settings}), toy_table)

    assert (trainer._stepper._memory is not None) == remembers


def test_trial_is_the_same_with_the_memory_and_without(
    make_table: Callable[..., FaceTable], make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = make_table(train=[0] * 20 + [1] * 9 + [2] * 7)
    config = make_config({**DEVIATION, "train.epochs": 3})
    reports: dict[str, list[dict[str, Any]]] = {}
    n_seen = {}
    for name, most_bytes in (("remembered", frozen_memory.MOST_BYTES), ("computed", 0)):
        monkeypatch.setattr(frozen_memory, "MOST_BYTES", most_bytes)
        trainer = Trainer(config, table)
        encoder = trainer._stepper.network.encoder
        assert isinstance(encoder, DeviationEncoder)
        seen = count_faces(encoder)
        reports[name] = [trainer.run_epoch() for _ in range(3)]
        n_seen[name] = sum(seen)

    n_scored = 3 * 2 * len(table.split("valid"))  # mirrored
    n_groups = 4  # of batches of 15
    assert n_seen == {"remembered": n_groups * GROUP + n_scored, "computed": 3 * 60 + n_scored}
    for left, right in zip(reports["remembered"], reports["computed"], strict=True):
        assert left["train/loss"] == pytest.approx(right["train/loss"], abs=1e-5)
        assert left["valid/loss"] == pytest.approx(right["valid/loss"], abs=1e-3)  # rounding, grown over 12 steps

"""A training step: how a batch is cut into parts, and in which arithmetic it is computed."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from spaces.config import TrialConfig
from trainables.data.table import FaceTable
from trainables.stepper import arithmetic
from trainables.trainer import Trainer

MakeConfig = Callable[..., TrialConfig]


@pytest.mark.parametrize("micro", [4, 5, 7])
def test_each_part_of_a_batch_has_the_classes_of_the_whole_where_the_table_is_sorted_by_class(
    make_table: Callable[..., FaceTable], make_config: MakeConfig, micro: int
) -> None:
    table = make_table(train=[0] * 16 + [1] * 8 + [2] * 8, valid=[0, 1, 2] * 2)
    trainer = Trainer(make_config({"train.batch_size": 32, "train.micro_batch": micro}), table)
    batch = trainer._batches(epoch=1)[0]

    parts = trainer._stepper._parts(batch)

    assert all(2 <= len(part.positions) <= micro for part in parts)
    assert all(set(part.targets["expression"].tolist()) == {0, 1, 2} for part in parts)
    assert sorted(torch.cat([part.positions for part in parts]).tolist()) == batch.positions.tolist()
    for part in parts:
        np.testing.assert_array_equal(part.images, batch.images[np.searchsorted(batch.positions, part.positions)])


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, torch.bfloat16),
        ({"model.encoder": "deviation"}, torch.float32),
        ({"model.encoder": "deviation", "train.precision": "bfloat16"}, torch.bfloat16),
    ],
    ids=["plain", "deviation", "deviation asked for bfloat16"],
)
def test_deviation_is_computed_in_float32_unless_asked_otherwise(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], expected: torch.dtype
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)

    assert arithmetic(make_config(settings), torch.device("cuda")) is expected

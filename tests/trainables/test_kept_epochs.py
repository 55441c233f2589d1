"""The epochs that a trial keeps whole."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from trainables.checkpoint import NetworkSpec
from trainables.data.table import FaceTable
from trainables.kept_epochs import KeptEpochs, ScoredEpoch
from trainables.models.architectures.answers import HandRuleByName
from trainables.scoring import Scored

RULE = HandRuleByName("joy", 0.5, ("fear",))


def score(macro_f1: float) -> Scored:
    logits = np.full((24, 3), macro_f1, np.float32)
    return Scored(macro_f1, logits, extras={"hand": logits[:, 0]}, rule=RULE)


def keep(table: FaceTable, scores: list[float], *, n_snapshots: int) -> KeptEpochs:
    """What is kept of epochs 1, 2, ... whose only weight is the epoch's number."""
    spec = NetworkSpec("none", tuple(table.info.classes), 32, 32, 1, (0.5,), (0.2,))
    kept = KeptEpochs(table.split("valid"), spec.classes, spec, n_snapshots=n_snapshots)
    network = nn.Linear(1, 1)
    for epoch, macro_f1 in enumerate(scores, start=1):
        network.weight.data.fill_(epoch)
        kept.note(score(macro_f1), network, epoch=epoch)
    return kept


def weight(one: ScoredEpoch | None) -> float:
    assert one is not None
    return float(one.state["weight"])


@pytest.mark.parametrize(
    ("n_snapshots", "scores", "beside"),
    [
        (0, [0.1, 0.2, 0.3], []),
        (2, [0.1, 0.5, 0.2, 0.3], [3, 4]),
        (2, [0.1, 0.2, 0.5, 0.3], [2, 4]),
        (2, [0.1, 0.2, 0.3, 0.5], [2, 3]),
        (9, [0.1, 0.5, 0.2], [1, 3]),
        (2, [0.5, 0.1, 0.2, 0.3], [3, 4]),
    ],
    ids=["none", "best before", "best among", "best last", "more than there are", "best first"],
)
def test_latest_epochs_are_kept_beside_the_best(
    toy_table: FaceTable, n_snapshots: int, scores: list[float], beside: list[int]
) -> None:
    kept = keep(toy_table, scores, n_snapshots=n_snapshots)

    assert [one.epoch for one in kept.snapshots] == beside
    assert [weight(one) for one in kept.snapshots] == beside
    assert weight(kept.best) == 1 + int(np.argmax(scores))


def test_epoch_of_the_heads_alone_is_no_snapshot(toy_table: FaceTable) -> None:
    kept = keep(toy_table, [], n_snapshots=3)
    kept.note(score(0.9), nn.Linear(1, 1), epoch=0)
    kept.note(score(0.5), nn.Linear(1, 1), epoch=1)
    kept.note(score(0.95), nn.Linear(1, 1), epoch=2)

    assert [one.epoch for one in kept.snapshots] == [1]


def test_kept_epochs_survive_a_checkpoint(toy_table: FaceTable, tmp_path: Any) -> None:
    kept = keep(toy_table, [0.1, 0.5, 0.2], n_snapshots=1)
    torch.save(kept.state_dict(), tmp_path / "state.pt")
    again = keep(toy_table, [], n_snapshots=1)

    again.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))

    assert again.best is not None and kept.best is not None
    assert (again.best.epoch, again.best.rule, weight(again.best)) == (2, RULE, 2.0)
    np.testing.assert_array_equal(again.best.extras["hand"], kept.best.extras["hand"])
    assert [one.epoch for one in again.snapshots] == [3]
    assert again.answers.scores().epochs.tolist() == [1, 2, 3]


def test_epochs_that_are_asked_again_keep_their_weights_and_take_the_new_scores(toy_table: FaceTable) -> None:
    kept = keep(toy_table, [0.1, 0.5, 0.2, 0.3], n_snapshots=2)

    asked = kept.ask_again(
        lambda one: None if one.epoch == 3 else ScoredEpoch.of(score(0.9), epoch=one.epoch, state=one.state, shift_px=2)
    )

    assert asked and kept.best is not None
    assert (kept.best.epoch, kept.best.shift_px, kept.best.macro_f1) == (2, 2, 0.9)
    assert [(one.epoch, one.shift_px) for one in kept.snapshots] == [(3, 0), (4, 2)]
    assert kept.answers.scores().best_epoch == 2


def test_nothing_changes_when_the_best_epoch_cannot_be_asked_again(toy_table: FaceTable) -> None:
    kept = keep(toy_table, [0.1, 0.5], n_snapshots=1)
    before = kept.best

    assert not kept.ask_again(lambda one: None)
    assert kept.best is before

"""Each system of the papers, as settings of one trainer: it trains, says its terms, goes on bit by bit, and saves."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from spaces.config import TrialConfig
from trainables.checkpoint import load_network, load_spec
from trainables.data.table import FaceTable
from trainables.models.inputs import predict_logits
from trainables.scores import SCORES_FILE, load_scores, softmax
from trainables.trainer import HEAD_FILE, WEIGHTS_FILE, Trainer

MakeConfig = Callable[..., TrialConfig]

STILL = {"augment.flip_p": 0.0, "augment.affine_p": 0.0, "augment.light_p": 0.0, "augment.erase_p": 0.0}
DAN = {"attention.heads": 2, "attention.width": 16}
HAND = {"hand.backbone": "test_efficientnet", "hand.target": "fear", "hand.exceptions": "joy"}
SYSTEMS: dict[str, tuple[dict[str, Any], set[str]]] = {
    "dan": (
        {
            **DAN,
            "model.encoder": "dan",
            "loss.name": "focal",
            "loss.label_smoothing": 0.0,
            "loss.affinity_weight": 1.0,
            "loss.partition_weight": 1.0,
        },
        {"expression", "affinity", "partition"},
    ),
    "deviation, upsampled": ({"model.encoder": "deviation", "data.sampler": "upsample", **STILL}, set()),
    "deviation, sampled by weight": ({"model.encoder": "deviation", "data.sampler": "weighted", **STILL}, set()),
    "two branches, mixed": (
        {
            **DAN,
            "model.encoder": "two_branch",
            "branches.appearance_backbone": "test_efficientnet",
            "branches.trunk_width": 16,
            "branches.trunk_width_2": 8,
            "loss.landmark_weight": 1.0,
            "augment.mix": "mix_augment",
            "augment.jitter_p": 0.5,
        },
        {"expression", "landmarks", "mixed"},
    ),
    "joint affect": ({"affect.heads": "joint"}, {"expression", "affect"}),
    "separate affect": (
        {"affect.heads": "separate", "affect.unit_width": 8},
        {"expression", "base_expression", "affect", "base_affect", "units"},
    ),
    "hand, fixed": ({**HAND, "hand.rule": "fixed"}, {"expression", "hand"}),
    "hand, threshold tuned": ({**HAND, "hand.rule": "tune_threshold"}, {"expression", "hand"}),
    "hand, all tuned": ({**HAND, "hand.rule": "tune_all"}, {"expression", "hand"}),
    "in parts": ({"train.micro_batch": 6, "optimiser.sam_rho": 0.05}, set()),
    "sharpness-aware": ({"optimiser.sam_rho": 0.05, "optimiser.name": "adam"}, set()),
    "sampled by weight": ({"data.sampler": "weighted"}, set()),
    "mixup": ({"augment.mix": "mixup"}, set()),
    "80 % frozen": ({"train.frozen_share": 0.8, "train.batch_norm": "eval"}, set()),
}


@dataclass(frozen=True)
class Ended:
    """A system's run that has ended, and what it reported. Read it; do not train it on."""

    config: TrialConfig
    terms: set[str]
    trainer: Trainer
    reports: list[dict[str, Any]]


def run(trainer: Trainer) -> list[dict[str, Any]]:
    reports = []
    while not trainer.is_done:
        reports.append(trainer.run_epoch())
    return reports


@pytest.fixture(scope="module", params=list(SYSTEMS))
def ended(request: pytest.FixtureRequest, labelled_table: FaceTable, make_config: MakeConfig) -> Ended:
    settings, terms = SYSTEMS[request.param]
    config = make_config(settings)
    trainer = Trainer(config, labelled_table)
    return Ended(config, terms, trainer, run(trainer))


def test_system_trains_and_says_its_terms(ended: Ended) -> None:
    assert [report["end"] for report in ended.reports] == ["", "completed"]
    for report in ended.reports:
        assert all(math.isfinite(value) for value in report.values() if not isinstance(value, str)), report
        found = {name.removeprefix("train/"): value for name, value in report.items() if name.startswith("train/")}
        assert set(found) == ended.terms | {"loss"}
        assert not ended.terms or found.pop("loss") == pytest.approx(sum(found.values()), rel=1e-5)


def test_system_goes_on_bit_by_bit_from_its_state(ended: Ended, labelled_table: FaceTable, tmp_path: Path) -> None:
    cut, resumed = (Trainer(ended.config, labelled_table) for _ in range(2))

    cut.run_epoch()
    torch.save(cut.state_dict(), tmp_path / "state.pt")
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    (report,) = run(resumed)

    assert {**report, "time/epoch_s": 0} == {**ended.reports[-1], "time/epoch_s": 0}
    assert_same(resumed._stepper.state_dict(), ended.trainer._stepper.state_dict())
    np.testing.assert_array_equal(resumed.scores().logits, ended.trainer.scores().logits)
    for name, numbers in ended.trainer.scores().extras.items():
        np.testing.assert_array_equal(resumed.scores().extras[name], numbers)


def assert_same(left: Any, right: Any) -> None:
    """Equal to the last bit, however deep."""
    if isinstance(left, torch.Tensor):
        assert torch.equal(left, right)
    elif isinstance(left, dict):
        assert list(left) == list(right)
        for name, value in left.items():
            assert_same(value, right[name])
    elif isinstance(left, list | tuple):
        for mine, other in zip(left, right, strict=True):
            assert_same(mine, other)
    else:
        assert left == right


def test_saved_network_says_what_its_scores_say(ended: Ended, labelled_table: FaceTable, tmp_path: Path) -> None:
    ended.trainer.save_outputs(tmp_path)

    network, spec = load_network(tmp_path / WEIGHTS_FILE)
    stored = load_scores(tmp_path / SCORES_FILE)
    best = ended.trainer.best
    assert best is not None
    assert spec.hand_rule == best.rule
    assert (best.rule is None) == (ended.config.hand.rule == "none")
    assert set(stored.extras) == set(best.extras)
    for name, numbers in best.extras.items():
        np.testing.assert_array_equal(stored.extras[name], numbers)
    logits = predict_logits(network, labelled_table.split("valid").images, spec)
    np.testing.assert_allclose(logits, stored.logits, rtol=1e-4, atol=1e-5)


def test_centres_of_the_affinity_loss_move_and_live_in_the_checkpoint(
    labelled_table: FaceTable, make_config: MakeConfig
) -> None:
    trainer = Trainer(make_config(SYSTEMS["dan"][0]), labelled_table)
    before = trainer._loss.state_dict()["affinity.centres"].clone()

    trainer.run_epoch()

    after = trainer.state_dict()["stepper"]["loss"]["affinity.centres"]
    assert after.shape == (3, 16)
    assert not torch.equal(after, before)


@pytest.mark.parametrize(
    ("system", "extras"),
    [
        ("joint affect", {"valence_arousal": (24, 2)}),
        ("separate affect", {"valence_arousal": (24, 2), "action_units": (24, 12)}),
        ("hand, fixed", {"hand": (24,), "plain_logits": (24, 3)}),
        ("dan", {}),
    ],
)
def test_scores_hold_what_else_the_network_says(
    labelled_table: FaceTable, make_config: MakeConfig, system: str, extras: dict[str, tuple[int, ...]]
) -> None:
    trainer = Trainer(make_config({**SYSTEMS[system][0], "train.epochs": 1}), labelled_table)

    run(trainer)

    assert {name: numbers.shape for name, numbers in trainer.scores().extras.items()} == extras


def test_faces_without_an_expression_are_trained_on_where_another_label_is_known(
    labelled_table: FaceTable, make_config: MakeConfig
) -> None:
    plain, joint = (Trainer(make_config(settings), labelled_table) for settings in ({}, {"affect.heads": "joint"}))

    unlabelled = labelled_table.split("train").expression < 0
    valence = labelled_table.split("train").column("valence")
    assert valence is not None
    assert len(plain._items) == (~unlabelled).sum() == 42
    assert len(joint._items) == 42 + (unlabelled & ~np.isnan(valence)).sum() > 42


HEAD_STAYS_BEST = {"optimiser.lr": 1e-9, "train.batch_norm": "eval"}


@pytest.mark.parametrize("settings", [{}, HEAD_STAYS_BEST], ids=["full epochs count", "the head-only epoch stays best"])
def test_head_only_epochs_come_before_a_system_too(
    labelled_table: FaceTable, make_config: MakeConfig, tmp_path: Path, settings: dict[str, Any]
) -> None:
    settings = {**SYSTEMS["separate affect"][0], **HAND, "train.head_epochs": 1, **settings}
    settings |= {"hand.rule": "fixed", "hand.threshold": 0.3, "hand.target": "joy", "hand.exceptions": "none"}
    trainer = Trainer(make_config({**settings, "blend.partner": "head", "blend.weight": 0.4}), labelled_table)
    reports = run(trainer)

    trainer.save_outputs(tmp_path)

    assert "head/macro_f1" in reports[0]
    assert load_spec(tmp_path / HEAD_FILE).hand_rule is None
    assert trainer.best is not None
    assert trainer.best.epoch == 0 or "optimiser.lr" not in settings
    images = labelled_table.split("valid").images
    tuned, head = (
        softmax(predict_logits(network, images, spec))
        for network, spec in (load_network(tmp_path / file) for file in (WEIGHTS_FILE, HEAD_FILE))
    )
    np.testing.assert_allclose(load_scores(tmp_path / SCORES_FILE).probs, 0.4 * head + 0.6 * tuned, atol=1e-5)


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_frozen_weights_are_the_same_to_the_last_bit_after_a_trial(
    labelled_table: FaceTable, make_config: MakeConfig, share: float
) -> None:
    settings = {"train.frozen_share": share, "train.ema_decay": 0.9, "optimiser.decay_on": "all"}
    trainer = Trainer(make_config(settings), labelled_table)
    network = trainer._stepper.network
    frozen = {name for name, parameter in network.named_parameters() if not parameter.requires_grad}
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}

    run(trainer)

    assert trainer.best is not None and frozen
    moved = {name for name, tensor in network.named_parameters() if not torch.equal(tensor, before[name])}
    kept = {name for name in frozen if torch.equal(trainer.best.state[name], before[name])}
    assert kept == frozen
    assert moved == {name for name, _ in network.named_parameters()} - frozen

"""Trials with a cache of embeddings: the same outcome as without, and no face goes through a network a second time."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spaces.config import TrialConfig
from trainables.data.table import FaceTable
from trainables.embeddings.cache import EmbeddingCache
from trainables.models.architectures.deviation import DeviationEncoder
from trainables.run import TrialOrder, TrialRun
from trainables.trainer import Trainer

MakeConfig = Callable[..., TrialConfig]

HEAD_ONLY = {"train.epochs": 0, "train.head_epochs": 5, "optimiser.head_only_lr": 0.05}
SLOW_LOOP = {"optimiser.sam_rho": 0.02}
"""No pack takes it."""

STILL = {f"augment.{name}_p": 0.0 for name in ("flip", "affine", "light", "erase")}


def count_faces(trainer: Trainer) -> list[int]:
    """A list that takes in the size of every batch which the backbone sees from now on."""
    seen: list[int] = []
    backbone = trainer._stepper.network.encoder.backbone
    backbone.register_forward_hook(lambda module, inputs, output: seen.append(len(inputs[0])))
    return seen


@pytest.mark.parametrize("loop", [{}, SLOW_LOOP], ids=["pack", "general"])
@pytest.mark.parametrize("views", [1, 3])
def test_head_only_trial_ends_the_same_with_the_cache_and_without(
    toy_table: FaceTable, make_config: MakeConfig, cache: EmbeddingCache, loop: dict[str, Any], views: int
) -> None:
    config = make_config({**HEAD_ONLY, **loop, "train.head_views": views, "data.subsample_ratio": 0.7})
    trainers = [Trainer(config, toy_table, embeddings=each) for each in (None, cache, cache)]

    reports = [trainer.run_epoch() for trainer in trainers]

    without, missed, hit = reports
    assert {**missed, "time/epoch_s": 0} == {**hit, "time/epoch_s": 0}
    assert missed.pop("head/embedded") == 1.0
    assert without.keys() == missed.keys()
    assert missed["valid/loss"] == pytest.approx(without["valid/loss"], rel=2e-3)
    assert missed["valid/macro_f1"] == pytest.approx(without["valid/macro_f1"], abs=0.05)
    logits = [trainer.best.logits for trainer in trainers if trainer.best]
    np.testing.assert_allclose(logits[1], logits[0], rtol=2e-3, atol=2e-3 * np.abs(logits[0]).max())


@pytest.mark.parametrize("loop", [{}, SLOW_LOOP], ids=["pack", "general"])
def test_second_head_only_trial_sends_no_face_through_the_network(
    toy_table: FaceTable, make_config: MakeConfig, cache: EmbeddingCache, loop: dict[str, Any]
) -> None:
    Trainer(make_config({**HEAD_ONLY, "train.head_views": 2}), toy_table, embeddings=cache).run_epoch()
    other = {"train.head_views": 2, "data.subsample_ratio": 0.5, "loss.label_smoothing": 0.3}
    trainer = Trainer(make_config({**HEAD_ONLY, **loop, **other}), toy_table, embeddings=cache)
    seen = count_faces(trainer)

    report = trainer.run_epoch()

    assert (report["end"], seen) == ("completed", [])
    assert len(cache.entries()) == 4


def test_first_stage_of_a_trial_takes_the_same_entries(
    toy_table: FaceTable, make_config: MakeConfig, cache: EmbeddingCache
) -> None:
    Trainer(make_config(HEAD_ONLY), toy_table, embeddings=cache).run_epoch()
    trainer = Trainer(make_config({**HEAD_ONLY, "train.epochs": 1}), toy_table, embeddings=cache)
    seen = count_faces(trainer)

    trainer.run_epoch()

    assert sum(seen) == 48 + 2 * 24  # an epoch of all weights, and its scoring
    assert len(cache.entries()) == 3


def test_batch_norm_in_training_mode_runs_without_the_cache_and_says_so(
    toy_table: FaceTable, make_config: MakeConfig, cache: EmbeddingCache
) -> None:
    config = make_config({**HEAD_ONLY, "train.head_batch_norm": "train"})

    report = Trainer(config, toy_table, embeddings=cache).run_epoch()

    assert report["head/embedded"] == 0.0
    assert cache.entries() == []


def test_hand_module_sees_the_faces_themselves(
    labelled_table: FaceTable, make_config: MakeConfig, cache: EmbeddingCache
) -> None:
    config = make_config({**HEAD_ONLY, "train.epochs": 1, "hand.backbone": "test_resnet"})

    report = Trainer(config, labelled_table, embeddings=cache).run_epoch()

    assert 0 <= report["head/macro_f1"] <= 1
    assert len(cache.entries()) == 1  # the valid split goes through the whole network


def test_frozen_twin_is_asked_once_for_all_trials(
    toy_table: FaceTable, make_config: MakeConfig, cache: EmbeddingCache
) -> None:
    seen: dict[str, list[int]] = {}
    reports: dict[str, dict[str, Any]] = {}
    for name, ratio, embeddings in (("alone", 0.7, None), ("first", 0.3, cache), ("second", 0.7, cache)):
        config = make_config({**STILL, "model.encoder": "deviation", "data.subsample_ratio": ratio, "train.epochs": 1})
        trainer = Trainer(config, toy_table, embeddings=embeddings)
        encoder = trainer._stepper.network.encoder
        assert isinstance(encoder, DeviationEncoder)
        sizes = seen[name] = []
        encoder.frozen.register_forward_hook(lambda module, inputs, output, sizes=sizes: sizes.append(len(inputs[0])))
        reports[name] = trainer.run_epoch()

    scored = [24, 24]  # the valid faces and their mirror images
    assert seen["first"] == [16] * 3 + scored  # the whole split, in groups
    assert seen["second"] == scored
    assert {**reports["second"], "time/epoch_s": 0} == {**reports["alone"], "time/epoch_s": 0}  # to the bit
    (entry,) = cache.entries()
    header = entry.header()
    assert header is not None and header.dtype == "float32"


def test_trial_asks_its_twin_as_faces_come_when_time_is_too_short_for_all(
    toy_table: FaceTable, make_config: MakeConfig, cache: EmbeddingCache
) -> None:
    config = make_config({**STILL, "model.encoder": "deviation", "train.epochs": 1})

    report = Trainer(config, toy_table, embeddings=cache, deadline_s=1.0).run_epoch()

    assert report["end"] == "completed"
    assert cache.entries() == []


def test_copies_of_a_sampler_are_not_taken_for_the_faces_themselves(
    make_table: Callable[..., FaceTable], make_config: MakeConfig, cache: EmbeddingCache
) -> None:
    table = make_table(train=[0] * 20 + [1] * 9 + [2] * 7)
    config = make_config({**STILL, "model.encoder": "deviation", "data.sampler": "upsample", "train.epochs": 2})

    losses = []
    for embeddings in (None, cache, cache):
        trainer = Trainer(config, table, embeddings=embeddings)
        losses.append([trainer.run_epoch()["train/loss"] for _ in range(2)])

    assert losses[1] == losses[2] == losses[0]


def test_twin_is_not_kept_where_faces_change_from_epoch_to_epoch(
    toy_table: FaceTable, make_config: MakeConfig, cache: EmbeddingCache
) -> None:
    config = make_config({**STILL, "augment.flip_p": 0.5, "model.encoder": "deviation", "train.epochs": 1})

    Trainer(config, toy_table, embeddings=cache).run_epoch()

    assert cache.entries() == []


@pytest.mark.parametrize("word", ["on", "off"])
def test_trial_of_a_search_uses_the_cache_that_the_environment_names(
    toy_table: FaceTable, make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    monkeypatch.setenv("AFFECTUNE_CACHE", str(tmp_path / "cache") if word == "on" else "off")
    order = TrialOrder("t0000", make_config(HEAD_ONLY).to_flat(), str(toy_table.path), str(tmp_path / "t0000"))

    report = TrialRun(order).step()

    assert report["end"] == "completed"
    assert len(list(tmp_path.glob("cache/embeddings/*.arrow"))) == (3 if word == "on" else 0)


def test_full_disk_ends_the_cache_and_not_the_trial(
    toy_table: FaceTable, make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("where the cache should be")
    monkeypatch.setenv("AFFECTUNE_CACHE", str(tmp_path / "file"))
    reports = []
    for i in range(2):
        order = TrialOrder(f"t{i}", make_config(HEAD_ONLY).to_flat(), str(toy_table.path), str(tmp_path / f"t{i}"))
        reports.append(TrialRun(order).step())

    assert [report["end"] for report in reports] == ["completed"] * 2
    assert reports[1]["valid/loss"] == pytest.approx(reports[0]["valid/loss"], rel=2e-3)

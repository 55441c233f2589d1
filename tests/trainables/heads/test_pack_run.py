"""A pack of head-only trials, from its order to what each trial leaves."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from spaces.config import TrialConfig
from trainables.checkpoint import load_network
from trainables.embeddings.cache import EmbeddingCache, default_cache
from trainables.heads import frozen_network as frozen_network_module
from trainables.heads.pack_run import PackedTrial, PackOrder, PackRun
from trainables.models.backbones import build_backbone
from trainables.models.inputs import predict_logits
from trainables.scores import SCORES_FILE, load_scores
from trainables.trainer import WEIGHTS_FILE, EpochReport, Trainer

if TYPE_CHECKING:
    from trainables.data.table import FaceTable

BASE = {
    "model.backbone": "test_efficientnet",
    "model.image_px": 32,
    "train.epochs": 0,
    "train.head_epochs": 3,
    "train.batch_size": 32,
}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFFECTUNE_CACHE", str(tmp_path / "cache"))


def settings(**changes: Any) -> dict[str, Any]:
    named = {name.replace("__", "."): value for name, value in changes.items()}
    return TrialConfig.from_flat({**BASE, **named}).to_flat()


def order(table: "FaceTable", out: Path, *configs: dict[str, Any], **words: Any) -> PackOrder:
    trials = tuple(PackedTrial(f"t{i:04d}", config, str(out / f"t{i:04d}")) for i, config in enumerate(configs))
    return PackOrder("pack-0001", trials, str(table.path), **words)


def run(work: PackOrder) -> dict[str, EpochReport]:
    pack, reports, end = PackRun(work), {}, ""
    while not end:
        told = pack.step()
        reports |= told["reports"]
        end = told["end"]
    pack.release()
    return reports


def test_each_trial_gets_the_score_and_the_logits_that_it_gets_alone(face_table: "FaceTable", tmp_path: Path) -> None:
    configs = [
        settings(loss__label_smoothing=0.3),
        settings(optimiser__head_only_lr=0.05, data__subsample_ratio=0.5),
        settings(model__head_width=8, model__mirror=False),
        settings(model__backbone="test_resnet", data__sampler="weighted"),
    ]

    reports = run(order(face_table, tmp_path, *configs))

    for i, config in enumerate(configs):
        cache = EmbeddingCache(tmp_path / "cache", max_bytes=10**9)
        trainer = Trainer(TrialConfig.from_flat(config), face_table, embeddings=cache)
        alone = trainer.run_epoch()
        mine = reports[f"t{i:04d}"]
        stored = load_scores(tmp_path / f"t{i:04d}" / SCORES_FILE)
        np.testing.assert_allclose(stored.logits, trainer.scores().logits, rtol=1e-3, atol=1e-4)
        assert mine["best/macro_f1"] == pytest.approx(alone["best/macro_f1"], abs=0.02)
        assert (mine["end"], mine["epoch"]) == (alone["end"], alone["epoch"]) == ("completed", 1)
        assert {name for name in alone if name.startswith("valid/")} <= set(mine)


def test_kept_network_answers_as_its_scores_say(face_table: "FaceTable", tmp_path: Path) -> None:
    run(order(face_table, tmp_path, settings(model__head_width=8), settings(loss__label_smoothing=0.2)))

    for name in ("t0000", "t0001"):
        network, spec = load_network(tmp_path / name / WEIGHTS_FILE)
        logits = predict_logits(network, face_table.split("valid").images, spec)
        stored = load_scores(tmp_path / name / SCORES_FILE)
        np.testing.assert_allclose(stored.logits, logits, rtol=5e-3, atol=5e-3)


def test_weights_are_written_of_the_best_alone(face_table: "FaceTable", tmp_path: Path) -> None:
    configs = [settings(loss__label_smoothing=0.1 * i, optimiser__head_only_lr=0.01 * (i + 1)) for i in range(6)]

    reports = run(order(face_table, tmp_path, *configs, keep_weights=2, keep_always=("t0005",)))

    kept = {path.parent.name for path in tmp_path.glob(f"*/{WEIGHTS_FILE}")}
    best = max(reports, key=lambda name: reports[name]["best/macro_f1"])
    assert {best, "t0005"} <= kept and len(kept) <= 3
    assert len(list(tmp_path.glob(f"*/{SCORES_FILE}"))) == 6


def test_weights_below_what_the_search_keeps_already_are_not_written(face_table: "FaceTable", tmp_path: Path) -> None:
    run(order(face_table, tmp_path, settings(), weights_above=1.0))

    assert list(tmp_path.glob(f"*/{WEIGHTS_FILE}")) == []


def test_trial_that_cannot_be_built_fails_alone_and_says_why(face_table: "FaceTable", tmp_path: Path) -> None:
    missing = settings(model__weights=str(tmp_path / "gone.safetensors"))

    reports = run(order(face_table, tmp_path, settings(), missing))

    assert reports["t0000"]["end"] == "completed"
    assert reports["t0001"]["end"] == "failed"
    assert "gone.safetensors" in reports["t0001"]["error"]


def test_trial_that_trains_its_backbone_is_refused(face_table: "FaceTable", tmp_path: Path) -> None:
    reports = run(order(face_table, tmp_path, settings(train__epochs=1)))

    assert reports["t0000"]["error"] == (
        "train.epochs must be such that heads can be trained together, got 1: trial t0000"
    )


def test_learning_rate_beyond_reason_is_a_divergence(face_table: "FaceTable", tmp_path: Path) -> None:
    wild = settings(optimiser__name="sgd", optimiser__head_only_lr=1.0, optimiser__grad_clip=0.0)
    wild["loss.class_weights"] = (1e30, 1e30, 1e30, 1e30, 1e30, 1e30)
    wild["loss.class_weight_form"] = "max_ratio"

    reports = run(order(face_table, tmp_path, wild, settings()))

    assert [reports[name]["end"] for name in ("t0000", "t0001")] == ["diverged", "completed"]
    assert not (tmp_path / "t0000" / SCORES_FILE).exists()


def test_late_pack_begins_nothing_more(face_table: "FaceTable", tmp_path: Path) -> None:
    assert run(order(face_table, tmp_path, settings(), deadline_s=time.time() - 1)) == {}


def test_pack_without_a_cache_scores_the_same_up_to_half_precision(
    face_table: "FaceTable", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(order(face_table, tmp_path / "cached", settings()))
    monkeypatch.setenv("AFFECTUNE_CACHE", "off")
    frozen_network_module._kept.clear()

    run(order(face_table, tmp_path / "alone", settings()))

    one, other = (load_scores(tmp_path / name / "t0000" / SCORES_FILE).logits for name in ("cached", "alone"))
    np.testing.assert_allclose(one, other, rtol=5e-3, atol=5e-3)


def test_trials_of_other_seeds_begin_with_their_own_heads_on_the_same_backbone(
    face_table: "FaceTable", tmp_path: Path
) -> None:
    weights = tmp_path / "backbone.safetensors"
    with torch.random.fork_rng(devices=[]):
        save_file(build_backbone("test_efficientnet").net.state_dict(), weights)
    configs = [settings(model__weights=str(weights), train__seed=seed, model__drop_rate=0.0) for seed in (0, 1)]

    run(order(face_table, tmp_path, *configs))

    for i, config in enumerate(configs):
        trainer = Trainer(TrialConfig.from_flat(config), face_table, embeddings=default_cache())
        trainer.run_epoch()
        stored = load_scores(tmp_path / f"t{i:04d}" / SCORES_FILE)
        np.testing.assert_allclose(stored.logits, trainer.scores().logits, rtol=1e-4, atol=1e-5)
    assert len(list((tmp_path / "cache" / "embeddings").glob("*.arrow"))) == 3  # one backbone: train, valid, mirrored


def test_trials_score_the_same_whoever_is_in_the_pack_with_them(face_table: "FaceTable", tmp_path: Path) -> None:
    own = settings(loss__label_smoothing=0.2)
    others = [settings(optimiser__head_only_lr=0.5), settings(loss__name="focal", loss__label_smoothing=0.0)]

    few = run(order(face_table, tmp_path / "few", own))
    many = run(order(face_table, tmp_path / "many", own, *others))

    assert few["t0000"]["valid/macro_f1"] == many["t0000"]["valid/macro_f1"]
    one, other = (load_scores(tmp_path / name / "t0000" / SCORES_FILE).logits for name in ("few", "many"))
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


def test_pack_tells_what_it_has_at_each_step(
    face_table: "FaceTable", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainables.heads.pack_run.STEP_S", 1e-6)
    ratios = (0.5, 1.0, 0.5)
    pack = PackRun(order(face_table, tmp_path, *(settings(data__subsample_ratio=ratio) for ratio in ratios)))

    told = [pack.step(), pack.step()]

    assert [set(one["reports"]) for one in told] == [{"t0000", "t0002"}, {"t0001"}]
    assert [one["end"] for one in told] == ["", "completed"]


def test_setting_that_does_not_fit_the_table_fails_its_trial_alone(face_table: "FaceTable", tmp_path: Path) -> None:
    short = settings(loss__class_weights=(1.0, 2.0))

    reports = run(order(face_table, tmp_path, short, settings()))

    assert [reports[name]["end"] for name in ("t0000", "t0001")] == ["failed", "completed"]
    assert "must have one weight a class (6), got 2" in reports["t0000"]["error"]
    assert "class_weights" in (tmp_path / "t0000" / "error.txt").read_text(encoding="utf-8")


def test_folder_that_cannot_be_written_fails_its_trial_alone(face_table: "FaceTable", tmp_path: Path) -> None:
    (tmp_path / "t0000").write_text("in the way")

    reports = run(order(face_table, tmp_path, settings(), settings(loss__label_smoothing=0.2)))

    assert [reports[name]["end"] for name in ("t0000", "t0001")] == ["failed", "completed"]
    assert "a file stands where a folder should be" in reports["t0000"]["error"]


def test_worker_remembers_few_networks(face_table: "FaceTable", tmp_path: Path) -> None:
    run(order(face_table, tmp_path, *(settings(train__seed=seed) for seed in range(4))))

    assert len(frozen_network_module._kept) == frozen_network_module.MOST_KEPT


def test_altered_views_are_seen(face_table: "FaceTable", tmp_path: Path) -> None:
    run(order(face_table, tmp_path, settings(), settings(train__head_views=3, augment__flip_p=1.0)))

    one, other = (load_scores(tmp_path / name / SCORES_FILE).logits for name in ("t0000", "t0001"))
    assert not np.allclose(one, other)


def test_order_survives_being_told_in_plain_values(face_table: "FaceTable", tmp_path: Path) -> None:
    work = order(face_table, tmp_path, settings(), keep_always=("t0000",))

    assert PackOrder.from_dict(work.to_dict()) == work


def test_pack_leaves_the_callers_random_numbers_alone(face_table: "FaceTable", tmp_path: Path) -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)

    run(order(face_table, tmp_path, settings(model__drop_rate=0.5)))

    assert torch.equal(torch.rand(3), expected)

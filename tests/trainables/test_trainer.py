"""One training run: it learns, keeps its best epoch, repeats itself, goes on where it was cut off, and ends in time."""

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from spaces.config import TrialConfig
from spaces.errors import ConfigError, DataError, DeviceError
from trainables.checkpoint import load_network
from trainables.data.table import FaceTable
from trainables.kept_epochs import SNAPSHOTS_DIR
from trainables.metrics import macro_f1
from trainables.models.inputs import predict_logits, predict_outputs
from trainables.scores import SCORES_FILE, load_scores, softmax
from trainables.trainer import HEAD_FILE, WEIGHTS_FILE, Trainer

MakeConfig = Callable[..., TrialConfig]
MakeTable = Callable[..., FaceTable]
STEM = "encoder.backbone.net.conv_stem.weight"
BLENDED = {"train.head_epochs": 1, "blend.partner": "head", "blend.weight": 0.3}


def run(trainer: Trainer) -> list[dict[str, Any]]:
    reports = []
    while not trainer.is_done:
        reports.append(trainer.run_epoch())
    return reports


def assert_finite(reports: list[dict[str, Any]]) -> None:
    for report in reports:
        assert all(math.isfinite(value) for value in report.values() if not isinstance(value, str)), report


def test_trainer_learns_and_ends_completed(toy_table: FaceTable, make_config: MakeConfig) -> None:
    reports = run(Trainer(make_config({"train.epochs": 6}), toy_table))

    assert [report["epoch"] for report in reports] == list(range(1, 7))
    assert [report["end"] for report in reports] == [""] * 5 + ["completed"]
    assert reports[-1]["train/loss"] < 0.8 * reports[0]["train/loss"]
    assert reports[-1]["best/macro_f1"] == max(report["valid/macro_f1"] for report in reports) > 0.5
    assert [report["samples_seen"] for report in reports[:2]] == [48, 96]
    assert_finite(reports)


def test_report_names_f1_of_every_class(toy_table: FaceTable, make_config: MakeConfig) -> None:
    report = Trainer(make_config(), toy_table).run_epoch()

    per_class = [report[f"valid/f1/{name}"] for name in toy_table.info.classes]
    assert report["valid/macro_f1"] == pytest.approx(np.mean(per_class))


def test_saved_files_are_the_best_epochs(trained: Trainer, toy_table: FaceTable, tmp_path: Path) -> None:
    trained.save_outputs(tmp_path)

    assert trained.best is not None
    split = toy_table.split("valid")
    tuned, head = (
        softmax(predict_logits(network, split.images, spec))
        for network, spec in (load_network(tmp_path / file) for file in (WEIGHTS_FILE, HEAD_FILE))
    )
    stored = load_scores(tmp_path / SCORES_FILE)
    np.testing.assert_allclose(stored.probs, 0.3 * head + 0.7 * tuned, atol=1e-5)
    assert stored.sample_ids == tuple(split.sample_ids)
    assert macro_f1(stored.labels, stored.logits.argmax(axis=1), 3) == trained.best.macro_f1


def test_completed_trial_answers_with_the_mean_over_moved_faces(
    toy_table: FaceTable, make_config: MakeConfig, tmp_path: Path
) -> None:
    trainer = Trainer(make_config({**BLENDED, "model.shift": 0.07}), toy_table)
    reports = run(trainer)

    trainer.save_outputs(tmp_path)

    split = toy_table.split("valid")
    (tuned, spec), (head, head_spec) = (load_network(tmp_path / file) for file in (WEIGHTS_FILE, HEAD_FILE))
    assert (spec.shift_px, head_spec.shift_px) == (2, 0)
    tuned_probs = softmax(predict_logits(tuned, split.images, spec))
    stored = load_scores(tmp_path / SCORES_FILE)
    expected = 0.3 * softmax(predict_logits(head, split.images, head_spec)) + 0.7 * tuned_probs
    np.testing.assert_allclose(stored.probs, expected, atol=1e-5)
    assert reports[-1]["best/macro_f1"] == macro_f1(stored.labels, stored.logits.argmax(axis=1), 3)
    unmoved = [report["valid/macro_f1"] for report in reports] + [reports[0]["head/macro_f1"]]
    assert reports[-1]["unmoved/macro_f1"] == max(unmoved)


def test_answers_of_the_epochs_are_those_for_faces_as_they_are(toy_table: FaceTable, make_config: MakeConfig) -> None:
    settings = {**BLENDED, "train.epochs": 3}
    plain, moved = (Trainer(make_config({**settings, "model.shift": shift}), toy_table) for shift in (0.0, 0.07))
    for trainer in (plain, moved):
        run(trainer)

    answers, same = (trainer.kept.answers.scores() for trainer in (plain, moved))

    np.testing.assert_array_equal(answers.logits, same.logits)
    assert answers.epochs.tolist() == [0, 1, 2, 3]
    assert plain.best is not None
    assert answers.best_epoch == plain.best.epoch
    best = answers.logits[answers.epochs.tolist().index(answers.best_epoch)]
    np.testing.assert_allclose(softmax(best), plain.scores().probs, atol=2e-3)


@pytest.mark.parametrize("shift", [0.0, 0.07], ids=["plain", "moved"])
def test_snapshots_are_scored_with_the_looks_of_the_best_epoch(
    toy_table: FaceTable, make_config: MakeConfig, tmp_path: Path, shift: float
) -> None:
    trainer = Trainer(make_config({"train.epochs": 3, "train.snapshots": 1, "model.shift": shift}), toy_table)
    run(trainer)

    trainer.kept.save_snapshots(tmp_path)

    (weights,) = (tmp_path / SNAPSHOTS_DIR).glob("*.safetensors")
    network, spec = load_network(weights)
    stored = load_scores(weights.with_suffix(".arrow"))
    assert spec.shift_px == (2 if shift else 0)
    probs = softmax(predict_logits(network, toy_table.split("valid").images, spec))
    np.testing.assert_allclose(stored.probs, probs, atol=1e-5)


def test_snapshots_change_nothing_of_a_run(toy_table: FaceTable, make_config: MakeConfig) -> None:
    trainers = [Trainer(make_config({"train.epochs": 3, "train.snapshots": n}), toy_table) for n in (0, 2)]

    for trainer in trainers:
        run(trainer)

    np.testing.assert_array_equal(trainers[0].scores().logits, trainers[1].scores().logits)


def test_trial_that_is_cut_short_answers_for_faces_as_they_are(
    toy_table: FaceTable, make_config: MakeConfig, tmp_path: Path
) -> None:
    trainer = Trainer(make_config({"train.epochs": 3, "model.shift": 0.07}), toy_table)
    report = trainer.run_epoch()

    trainer.save_outputs(tmp_path)

    network, spec = load_network(tmp_path / WEIGHTS_FILE)
    assert (spec.shift_px, report["best/macro_f1"]) == (0, report["valid/macro_f1"])
    stored = load_scores(tmp_path / SCORES_FILE)
    logits = predict_logits(network, toy_table.split("valid").images, spec)
    np.testing.assert_allclose(stored.probs, softmax(logits), atol=1e-5)


def test_blend_may_keep_the_head_only_epoch_as_the_best(toy_table: FaceTable, make_config: MakeConfig) -> None:
    trainer = Trainer(make_config({**BLENDED, "blend.weight": 1.0}), toy_table)

    reports = run(trainer)

    assert trainer.best is not None
    assert (trainer.best.epoch, reports[-1]["best/epoch"]) == (0, 0)
    assert reports[-1]["best/macro_f1"] == reports[0]["head/macro_f1"]


def test_trainer_ends_after_the_head_when_that_is_all(
    toy_table: FaceTable, make_config: MakeConfig, tmp_path: Path
) -> None:
    trainer = Trainer(make_config({"train.epochs": 0, "train.head_epochs": 3}), toy_table)

    (report,) = run(trainer)
    trainer.save_outputs(tmp_path)

    assert (report["end"], report["epoch"], report["samples_seen"]) == ("completed", 1, 0)
    assert report["valid/macro_f1"] == report["head/macro_f1"] == report["best/macro_f1"]
    assert len(load_scores(tmp_path / SCORES_FILE).labels) == 24
    assert_finite([report])


def test_trainer_repeats_itself_by_seed_and_leaves_others_random_numbers_alone(
    toy_table: FaceTable, make_config: MakeConfig
) -> None:
    logits, rows = [], []
    for seed in (1, 1, 2):
        torch.rand(seed)
        state = torch.random.get_rng_state()
        trainer = Trainer(make_config({"train.seed": seed, "data.subsample_ratio": 0.5, "train.epochs": 1}), toy_table)
        run(trainer)
        assert torch.equal(torch.random.get_rng_state(), state)
        logits.append(trainer.scores().logits)
        rows.append(trainer._items.rows)

    np.testing.assert_array_equal(logits[0], logits[1])
    assert not np.array_equal(logits[0], logits[2])
    assert len(rows[0]) == len(rows[2]) == 24
    assert not np.array_equal(rows[0], rows[2])


@pytest.mark.parametrize("settings", [{}, BLENDED, {"train.ema_decay": 0.9}], ids=["plain", "blended", "averaged"])
def test_trainer_goes_on_bit_by_bit_from_its_state(
    toy_table: FaceTable, make_config: MakeConfig, settings: dict[str, Any], tmp_path: Path
) -> None:
    config = make_config({**settings, "train.epochs": 3})
    whole, cut, resumed = (Trainer(config, toy_table) for _ in range(3))
    reports = run(whole)

    cut.run_epoch()
    torch.save(cut.state_dict(), tmp_path / "state.pt")
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    resumed_reports = run(resumed)

    for expected, got in zip(reports[1:], resumed_reports, strict=True):
        assert {**expected, "time/epoch_s": 0} == {**got, "time/epoch_s": 0}
    np.testing.assert_array_equal(resumed.scores().logits, whole.scores().logits)
    left, expected = (trainer.kept.answers.scores() for trainer in (resumed, whole))
    assert (left.epochs.tolist(), left.best_epoch) == (expected.epochs.tolist(), expected.best_epoch)
    np.testing.assert_array_equal(left.logits, expected.logits)


def test_averaged_weights_are_what_is_scored_and_saved(
    toy_table: FaceTable, make_config: MakeConfig, tmp_path: Path
) -> None:
    trainer = Trainer(make_config({"train.ema_decay": 0.9}), toy_table)

    run(trainer)
    trainer.save_outputs(tmp_path)

    network, spec = load_network(tmp_path / WEIGHTS_FILE)
    logits = predict_logits(network, toy_table.split("valid").images, spec)
    np.testing.assert_allclose(logits, trainer.scores().logits, atol=1e-5)
    live = dict(trainer._stepper.network.named_parameters())
    assert not torch.equal(live[STEM].detach(), network.state_dict()[STEM])


def test_trainer_ends_diverged_with_finite_numbers(toy_table: FaceTable, make_config: MakeConfig) -> None:
    wild = {"optimiser.lr": 1.0, "optimiser.head_lr_ratio": 1000.0, "optimiser.grad_clip": 0.0, "train.epochs": 9}
    trainer = Trainer(make_config({**wild, "lr_schedule.warmup_ratio": 0.0}), toy_table)
    with torch.no_grad():
        next(trainer._stepper.network.parameters())[0] = 1e38

    reports = run(trainer)

    assert reports[-1]["end"] == "diverged"
    assert len(reports) < 9
    assert_finite(reports)


def test_trainer_ends_diverged_when_the_head_only_epochs_do(toy_table: FaceTable, make_config: MakeConfig) -> None:
    trainer = Trainer(make_config(BLENDED), toy_table)
    with torch.no_grad():
        next(trainer._stepper.network.parameters())[:] = math.nan

    (report,) = run(trainer)

    assert (report["end"], report["best/macro_f1"], trainer.best) == ("diverged", 0.0, None)
    assert_finite([report])


def test_trainer_ends_with_scores_when_the_deadline_has_passed(toy_table: FaceTable, make_config: MakeConfig) -> None:
    trainer = Trainer(make_config({"train.epochs": 50}), toy_table, deadline_s=time.time() - 1.0)

    (report,) = run(trainer)

    assert report["end"] == "completed"
    assert report["samples_seen"] == 16
    assert trainer.best is not None
    assert_finite([report])


def test_trainer_ends_in_time_when_the_deadline_is_near(toy_table: FaceTable, make_config: MakeConfig) -> None:
    deadline_s = time.time() + 2.0
    trainer = Trainer(make_config({"train.epochs": 1000}), toy_table, deadline_s=deadline_s)

    reports = run(trainer)

    assert time.time() < deadline_s + 0.5
    assert reports[-1]["end"] == "completed"
    assert reports[-1]["epoch"] < 1000


def test_trainer_keeps_time_for_its_last_look_at_moved_faces(
    toy_table: FaceTable, make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def predict_slowly(network: Any, images: Any, spec: Any) -> Any:
        time.sleep(0.15 * (5 if spec.shift_px else 1))
        return predict_outputs(network, images, spec)

    monkeypatch.setattr("trainables.trainer.predict_outputs", predict_slowly)
    deadline_s = time.time() + 3.0
    trainer = Trainer(make_config({"train.epochs": 1000, "model.shift": 0.07}), toy_table, deadline_s=deadline_s)

    reports = run(trainer)

    assert time.time() < deadline_s + 0.3
    assert "unmoved/macro_f1" in reports[-1]


@pytest.mark.parametrize(
    ("table", "settings"),
    [
        ({"channels": 3}, {}),
        ({"classes": ("no", "yes"), "train": np.arange(16) % 2, "valid": np.arange(8) % 2}, {}),
        ({"train": np.arange(40) % 2}, {"loss.class_weight_exponent": 1.0}),
        ({"train": [0, 1, 2], "valid": [1]}, {"train.batch_size": 2}),
        ({"train": [-1, 0, 1, 2, -1] * 6, "valid": [-1, 0, -1, 1, 2]}, {}),
        ({}, {"model.image_px": 40, "data.normalise": "backbone"}),
        ({}, {"loss.class_weights": [1, 3, 0]}),
        ({}, {"train.precision": "float16"}),
        ({}, {"optimiser.name": "adam", "optimiser.grad_clip": 0, "model.drop_path_rate": 0.2}),
    ],
    ids=[
        "colour",
        "two classes",
        "a class without training faces",
        "tiny",
        "unlabelled rows",
        "resized",
        "weights given",
        "half on a CPU",
        "adam",
    ],
)
def test_trainer_copes(make_table: MakeTable, make_config: MakeConfig, table: Any, settings: Any) -> None:
    faces = make_table(**table)
    trainer = Trainer(make_config({**settings, "train.epochs": 1, "train.head_epochs": 1}), faces)

    reports = run(trainer)

    assert reports[-1]["end"] == "completed"
    assert trainer.scores().logits.shape == (len(faces.split("valid")), len(faces.info.classes))
    assert_finite(reports)


def test_trainer_takes_a_saved_model_as_its_partner(
    trained: Trainer, toy_table: FaceTable, make_config: MakeConfig, tmp_path: Path
) -> None:
    trained.save_outputs(tmp_path)
    path = tmp_path / WEIGHTS_FILE
    trainer = Trainer(make_config({"blend.partner": str(path), "blend.weight": 1.0}), toy_table)

    run(trainer)

    network, spec = load_network(path)
    expected = softmax(predict_logits(network, toy_table.split("valid").images, spec))
    np.testing.assert_allclose(trainer.scores().probs, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        ({"train": [-1, -1]}, "train split must have labelled faces, got 0 of 2"),
        ({"train": [-1, 2]}, "train split must have at least 2 labelled faces, got 1"),
        ({"valid": [-1, -1, -1]}, "valid split must have labelled faces, got 0 of 3: .*table"),
        ({"valid": []}, "valid split must have labelled faces, got 0 of 0"),
    ],
    ids=["none to train on", "one to train on", "none to score", "empty valid"],
)
def test_trainer_refuses_a_table_without_labels(
    make_table: MakeTable, make_config: MakeConfig, labels: Any, sentence: str
) -> None:
    with pytest.raises(DataError, match=sentence):
        Trainer(make_config(), make_table(**labels))


def test_trainer_refuses_settings_that_do_not_fit(toy_table: FaceTable, make_config: MakeConfig) -> None:
    with pytest.raises(ConfigError, match=r"one weight a class \(3\), got 2"):
        Trainer(make_config({"loss.class_weights": [1, 2]}), toy_table)
    with pytest.raises(DeviceError, match="got 'tpu'"):
        Trainer(make_config(), toy_table, device="tpu")


def test_trainer_gives_the_same_scores_when_worker_processes_prepare_its_batches(
    toy_table: FaceTable, make_config: MakeConfig
) -> None:
    trainers = [Trainer(make_config({"train.epochs": 1}), toy_table, n_workers=n) for n in (0, 1)]

    for trainer in trainers:
        run(trainer)

    np.testing.assert_array_equal(trainers[0].scores().logits, trainers[1].scores().logits)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16", "auto"])
def test_trainer_learns_on_a_gpu(toy_table: FaceTable, make_config: MakeConfig, precision: str, tmp_path: Path) -> None:
    config = make_config({**BLENDED, "train.epochs": 8, "train.precision": precision, "train.ema_decay": 0.5})
    trainer = Trainer(config, toy_table, device="cuda", n_workers=1)

    reports = run(trainer)
    trainer.save_outputs(tmp_path)

    assert reports[-1]["train/loss"] < 0.9 * reports[0]["train/loss"]
    assert_finite(reports)
    network, spec = load_network(tmp_path / WEIGHTS_FILE)
    head, head_spec = load_network(tmp_path / HEAD_FILE)
    images = toy_table.split("valid").images
    probs = 0.3 * softmax(predict_logits(head, images, head_spec)) + 0.7 * softmax(
        predict_logits(network, images, spec)
    )
    np.testing.assert_allclose(load_scores(tmp_path / SCORES_FILE).probs, probs, atol=0.02)


@pytest.mark.gpu
def test_trainer_goes_on_from_its_state_on_a_gpu(toy_table: FaceTable, make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config({**BLENDED, "train.precision": "float16", "train.ema_decay": 0.5})
    cut, resumed = (Trainer(config, toy_table, device="cuda") for _ in range(2))
    cut.run_epoch()
    torch.save(cut.state_dict(), tmp_path / "state.pt")

    resumed.load_state_dict(torch.load(tmp_path / "state.pt", map_location="cpu", weights_only=True))
    (report,) = run(resumed)

    assert (report["epoch"], report["end"]) == (2, "completed")
    assert_finite([report])

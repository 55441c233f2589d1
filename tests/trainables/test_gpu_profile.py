"""Profiles of a GPU: what they are keyed by, kept as files that may break, and when they say that compiling pays."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from spaces.config import TrialConfig
from trainables.data.table import FaceTable
from trainables.gpu_measurement import fetch_profile, measure_profile
from trainables.gpu_profile import GpuProfile, compiles, demand_of, load_profile, save_profile
from trainables.losses.total import TrialLoss

MakeConfig = Callable[..., TrialConfig]
CPU = torch.device("cpu")
PROFILE = GpuProfile(
    8 * 2**30, 2**29, 80 * 2**30, step_s=0.3, compiled_step_s=0.2, compile_s=60.0, tried_compiling=True
)


@pytest.mark.parametrize(
    "settings",
    [
        {"model.backbone": "resnet10t"},
        {"model.image_px": 64},
        {"model.encoder": "dan"},
        {"train.batch_size": 32},
        {"train.micro_batch": 8},
        {"train.precision": "float32"},
        {"train.ema_decay": 0.9},
        {"optimiser.sam_rho": 0.05},
        {"optimiser.name": "sgd"},
        {"augment.mix": "mix_augment"},
        {"train.frozen_share": 0.5},
        {"train.epochs": 0, "train.head_epochs": 1},
    ],
    ids=lambda settings: "-".join(settings),
)
def test_what_changes_memory_or_time_is_another_demand(
    toy_table: FaceTable, make_config: MakeConfig, settings: dict[str, Any]
) -> None:
    one, other = (demand_of(make_config(chosen), toy_table.info) for chosen in ({}, settings))

    assert one != other


def test_what_changes_neither_is_the_same_demand(toy_table: FaceTable, make_config: MakeConfig) -> None:
    settings = {
        "optimiser.lr": 1e-4, "loss.label_smoothing": 0.0, "train.seed": 3, "model.drop_rate": 0.5,
        "data.subsample_ratio": 0.5, "model.weights": "/some/file", "augment.flip_p": 0.1, "train.epochs": 30,
    }  # fmt: skip

    one, other = (demand_of(make_config(chosen), toy_table.info) for chosen in ({}, settings))

    assert one == other


def test_batches_alone_make_demands_of_one_network(toy_table: FaceTable, make_config: MakeConfig) -> None:
    one, other = (demand_of(make_config({"train.batch_size": n}), toy_table.info) for n in (16, 32))

    assert one.network == other.network
    assert (one.n_faces, other.n_faces) == (16, 32)


def test_profile_is_kept_and_found_by_its_demand(toy_table: FaceTable, make_config: MakeConfig, tmp_path: Path) -> None:
    config, info = make_config(), toy_table.info
    save_profile(PROFILE, config, info, CPU, cache=tmp_path)

    assert load_profile(make_config({"train.seed": 9}), info, CPU, cache=tmp_path) == PROFILE
    assert load_profile(make_config({"train.batch_size": 99}), info, CPU, cache=tmp_path) is None


def test_profile_of_another_pytorch_is_not_found(
    toy_table: FaceTable, make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_profile(PROFILE, make_config(), toy_table.info, CPU, cache=tmp_path)
    monkeypatch.setattr(torch, "__version__", "9.9.9")

    assert load_profile(make_config(), toy_table.info, CPU, cache=tmp_path) is None


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "{}", '{"profile": {"peak_bytes": 1}}', '{"profile": null}', "\xff", "NaN"],
    ids=["empty", "cut off", "a list", "without one", "too few fields", "none", "no text", "a number"],
)
def test_profile_that_is_broken_is_measured_again(
    toy_table: FaceTable, make_config: MakeConfig, tmp_path: Path, text: str
) -> None:
    config, info = make_config(), toy_table.info
    save_profile(PROFILE, config, info, CPU, cache=tmp_path)
    (file,) = (tmp_path / "profiles").iterdir()
    file.write_bytes(text.encode("latin-1"))

    assert load_profile(config, info, CPU, cache=tmp_path) is None
    assert fetch_profile(config, info, CPU, n_steps=1, cache=tmp_path).step_s > 0
    assert load_profile(config, info, CPU, cache=tmp_path) is not None


def test_profile_with_a_number_that_none_measures_is_measured_again(
    toy_table: FaceTable, make_config: MakeConfig, tmp_path: Path
) -> None:
    for field, value in (("peak_bytes", -1), ("step_s", float("inf")), ("card_bytes", "80")):
        broken = GpuProfile(**{**vars(PROFILE), field: value})
        save_profile(broken, make_config(), toy_table.info, CPU, cache=tmp_path)

        assert load_profile(make_config(), toy_table.info, CPU, cache=tmp_path) is None


def test_profile_is_used_as_it_is_when_nothing_is_to_be_asked_again(
    toy_table: FaceTable, make_config: MakeConfig, tmp_path: Path
) -> None:
    config, info = make_config({"model.backbone": "no_such_network"}), toy_table.info  # could not be measured
    save_profile(PROFILE, config, info, CPU, cache=tmp_path)

    assert fetch_profile(config, info, CPU, n_steps=10**6, cache=tmp_path) == PROFILE


def test_profile_is_not_kept_when_something_else_is_on_the_card(
    toy_table: FaceTable, make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, info = make_config(), toy_table.info
    with monkeypatch.context() as busy:
        busy.setattr("trainables.gpu_measurement._Gauge.is_card_free", lambda _: False)
        assert fetch_profile(config, info, CPU, n_steps=1, cache=tmp_path).step_s > 0
    assert load_profile(config, info, CPU, cache=tmp_path) is None

    fetch_profile(config, info, CPU, n_steps=1, cache=tmp_path)

    assert load_profile(config, info, CPU, cache=tmp_path) is not None


@pytest.mark.parametrize(("n_faces", "fits"), [(4, True), (1, False)], ids=["in parts", "not at all"])
def test_profile_is_not_kept_when_memory_ran_out(
    toy_table: FaceTable, make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n_faces: int,
    fits: bool,
) -> None:  # fmt: skip
    config, info = make_config({"train.batch_size": 8}), toy_table.info
    whole = TrialLoss.forward

    def short(loss: TrialLoss, outputs: dict[str, torch.Tensor], targets: dict[str, torch.Tensor]) -> Any:
        if len(targets["expression"]) > n_faces:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return whole(loss, outputs, targets)

    monkeypatch.setattr(TrialLoss, "forward", short)

    profile = fetch_profile(config, info, CPU, n_steps=1, cache=tmp_path)

    assert (profile.step_s > 0) is fits
    assert load_profile(config, info, CPU, cache=tmp_path) is None


def test_profile_that_is_kept_stands_when_memory_runs_out_as_compiling_is_to_be_measured(
    toy_table: FaceTable, make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, info, kept = make_config(), toy_table.info, GpuProfile(2**30, 2**29, 80 * 2**30, step_s=0.3)
    save_profile(kept, config, info, CPU, cache=tmp_path)

    def fail(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(TrialLoss, "forward", fail)

    assert fetch_profile(config, info, CPU, n_steps=10**6, cache=tmp_path) == kept


def test_folder_that_cannot_be_written_costs_no_more_than_the_profile(
    toy_table: FaceTable, make_config: MakeConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "profiles").write_text("a file stands here")

    profile = fetch_profile(make_config(), toy_table.info, CPU, n_steps=1, cache=tmp_path)

    assert profile.step_s > 0
    assert "profile could not be kept" in caplog.text


@pytest.mark.parametrize(
    ("setting", "profile", "n_steps", "expected"),
    [
        ("auto", None, 10**6, False),
        ("auto", PROFILE, 601, True),
        ("auto", PROFILE, 599, False),
        ("auto", GpuProfile(1, 1, 1, step_s=0.3, tried_compiling=True), 10**6, False),
        ("on", None, 1, True),
        ("off", PROFILE, 10**6, False),
    ],
    ids=["nothing known", "pays", "costs more", "failed when measured", "on", "off"],
)
def test_trial_is_compiled_where_it_saves_more_than_it_costs(
    make_config: MakeConfig, setting: str, profile: GpuProfile | None, n_steps: int, expected: bool
) -> None:
    assert compiles(make_config({"train.compile": setting}), profile, n_steps=n_steps) is expected


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"train.epochs": 0, "train.head_epochs": 2},
        {"model.encoder": "dan", "loss.affinity_weight": 0.1, "loss.partition_weight": 0.1},
        {"model.encoder": "deviation", "model.weights": "none"},
        {
            "model.encoder": "two_branch",
            "branches.appearance_backbone": "test_efficientnet",
            "loss.landmark_weight": 1.0,
        },
        {"affect.heads": "separate", "hand.backbone": "test_efficientnet"},
        {"blend.partner": "/gone.safetensors", "model.start": "/gone.safetensors"},
        {"loss.class_weights": [1.0, 2.0], "optimiser.sam_rho": 0.05, "augment.mix": "mix_augment"},
    ],
    ids=["plain", "heads alone", "dan", "deviation", "two branches", "affect and hands", "saved models", "the rest"],
)
def test_every_kind_of_network_can_be_measured_without_a_file_or_a_label(
    labelled_table: FaceTable, make_config: MakeConfig, settings: dict[str, Any]
) -> None:
    config = make_config({**settings, "train.batch_size": 4})

    profile = measure_profile(config, labelled_table.info, CPU, n_steps=10)

    assert (profile.step_s > 0) == (config.train.epochs > 0)
    assert not profile.tried_compiling


@pytest.mark.gpu
def test_profile_of_a_gpu_says_what_a_trial_takes(toy_table: FaceTable, make_config: MakeConfig) -> None:
    configs = [make_config({"train.batch_size": n, "model.image_px": 64}) for n in (16, 512)]

    small, large = (measure_profile(each, toy_table.info, torch.device("cuda"), n_steps=1) for each in configs)

    assert 0 < small.peak_bytes < large.peak_bytes < large.card_bytes
    assert small.context_bytes > 0


@pytest.mark.gpu
def test_profile_does_not_last_when_half_of_the_card_is_taken(toy_table: FaceTable, make_config: MakeConfig) -> None:
    assert measure_profile(make_config(), toy_table.info, torch.device("cuda"), n_steps=1).is_lasting
    holds_half = (
        "import torch; held = torch.empty(torch.cuda.mem_get_info()[0] // 2, dtype=torch.uint8, device='cuda');"
        "print('held', flush=True); input()"
    )
    with subprocess.Popen([sys.executable, "-c", holds_half], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None and other.stdout.readline()
        profile = measure_profile(make_config(), toy_table.info, torch.device("cuda"), n_steps=1)
        other.communicate(b"\n")

    assert not profile.is_lasting

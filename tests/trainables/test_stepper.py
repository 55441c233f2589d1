"""A training step: how a batch is cut into parts, in which arithmetic it is computed, and where memory runs out."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from spaces.config import TrialConfig
from spaces.errors import DeviceError
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


def run_short_of_memory(trainer: Trainer, *, n_faces: int, passes_before: int = 0) -> None:
    """From here on training runs out of memory behind the encoder, once some passes went well, on more faces at once.

    By then batch norm has moved its statistics and dropout may have drawn.
    """
    network, n_passes = trainer._stepper.network, 0

    def check(module: torch.nn.Module, inputs: tuple[torch.Tensor]) -> None:
        nonlocal n_passes
        n_passes += 1
        if network.training and len(inputs[0]) > n_faces and n_passes > passes_before:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 MiB.")

    network.heads.register_forward_pre_hook(check)


def states_of(trainer: Trainer) -> dict[str, torch.Tensor]:
    stepper = trainer._stepper
    return {
        **stepper.network.state_dict(),
        **{f"averaged.{n}": t for n, t in stepper.average.network.state_dict().items()},
    }


OOM_SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "sharpness-aware": {"optimiser.sam_rho": 0.05, "optimiser.sam_batch_norm": "both"},
    "mixed": {"augment.mix": "mix_augment"},
    "averaged": {"train.ema_decay": 0.9},
    "begun in parts": {"train.micro_batch": 8},
}


@pytest.mark.parametrize("settings", OOM_SETTINGS.values(), ids=OOM_SETTINGS)
def test_training_short_of_memory_leaves_what_smaller_parts_from_the_start_leave(
    toy_table: FaceTable, make_config: MakeConfig, settings: dict[str, Any]
) -> None:
    short = Trainer(make_config({**settings, "train.epochs": 1}), toy_table)
    expected = Trainer(make_config({**settings, "train.epochs": 1, "train.micro_batch": 4}), toy_table)
    run_short_of_memory(short, n_faces=4)

    report, other = short.run_epoch(), expected.run_epoch()

    n_halvings = 1 if "train.micro_batch" in settings else 2
    assert (report["train/micro_batch"], report["train/n_oom"]) == (4, n_halvings)
    assert "train/micro_batch" not in other
    assert report["train/loss"] == other["train/loss"]
    assert all(torch.equal(tensor, states_of(expected)[name]) for name, tensor in states_of(short).items())


@pytest.mark.parametrize("passes_before", [1, 2], ids=["second pass of a step", "second step"])
def test_step_is_repeated_from_where_it_began_when_memory_runs_out_in_its_middle(
    toy_table: FaceTable, make_config: MakeConfig, passes_before: int
) -> None:
    settings = {"optimiser.sam_rho": 0.05} if passes_before == 1 else {}
    trainer, unharmed = (Trainer(make_config({**settings, "train.ema_decay": 0.5}), toy_table) for _ in range(2))
    batches = [trainer._batches(epoch=1)[i] for i in range(2)]
    n_whole = passes_before - 1
    for each in (trainer, unharmed):
        torch.manual_seed(0)
        for batch in batches[:n_whole]:
            each._stepper.step(batch, progress=0.5)
    random_numbers = torch.get_rng_state()
    run_short_of_memory(trainer, n_faces=8, passes_before=0 if n_whole else 1)

    trainer._stepper.step(batches[n_whole], progress=0.5)

    torch.set_rng_state(random_numbers)
    unharmed._stepper.micro_batch = 8
    unharmed._stepper.step(batches[n_whole], progress=0.5)
    assert all(torch.equal(tensor, states_of(unharmed)[name]) for name, tensor in states_of(trainer).items())


def test_smaller_parts_are_kept_by_a_run_that_goes_on(toy_table: FaceTable, make_config: MakeConfig) -> None:
    cut, resumed = (Trainer(make_config(), toy_table) for _ in range(2))
    run_short_of_memory(cut, n_faces=8)
    cut.run_epoch()

    resumed.load_state_dict(cut.state_dict())
    report = resumed.run_epoch()

    assert (report["train/micro_batch"], report["train/n_oom"]) == (8, 1)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("can't allocate memory")])
def test_trial_fails_with_a_sentence_when_two_faces_do_not_fit(
    toy_table: FaceTable, make_config: MakeConfig, error: Exception
) -> None:
    trainer = Trainer(make_config(), toy_table)

    def fail(*_: Any) -> None:
        raise error

    trainer._stepper.network.heads.register_forward_pre_hook(fail)
    with pytest.raises(DeviceError, match="a step on 2 faces must fit into memory, got out of memory: cpu; choose"):
        trainer.run_epoch()

    assert (trainer._stepper.micro_batch, trainer._stepper.n_oom) == (2, 3)


@pytest.mark.slow
def test_compiled_training_learns_what_training_does_and_names_its_weights_alike(
    toy_table: FaceTable, make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Traced and put together again as for a compiler, whose own part takes a minute and more."""
    monkeypatch.setattr("torch.compile", partial(torch.compile, backend="aot_eager"))
    settings = {"train.epochs": 1, "model.drop_rate": 0.0}
    plain, compiled = (Trainer(make_config({**settings, "train.compile": how}), toy_table) for how in ("off", "on"))

    expected, report = plain.run_epoch(), compiled.run_epoch()

    assert report["train/compiled"] == 1.0
    assert "train/compiled" not in expected
    assert report["train/loss"] == pytest.approx(expected["train/loss"], rel=1e-3)
    assert list(states_of(compiled)) == list(states_of(plain))
    compiled.save_outputs(tmp_path)
    resumed = Trainer(make_config({**settings, "train.compile": "off"}), toy_table)
    resumed.load_state_dict(compiled.state_dict())
    assert all(torch.equal(tensor, states_of(compiled)[name]) for name, tensor in states_of(resumed).items())


@pytest.mark.parametrize("when", ["first pass", "backward pass"])
def test_training_goes_on_without_compiling_where_that_fails(
    toy_table: FaceTable,
    make_config: MakeConfig,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    when: str,
) -> None:
    """As where no compiler is found: PyTorch then raises at the first forward pass, or only at the first backward."""
    trainer, plain = (Trainer(make_config({"train.epochs": 1}), toy_table) for _ in range(2))
    outputs = trainer._stepper._outputs

    class Fails(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, logits: torch.Tensor) -> torch.Tensor:
            return logits.clone()

        @staticmethod
        def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("InvalidCxxCompiler: no working C++ compiler found\nmore")

    def fail(*args: Any, **options: Any) -> dict[str, torch.Tensor]:
        found = outputs(*args, **options)
        if when == "first pass":
            raise RuntimeError("InvalidCxxCompiler: no working C++ compiler found\nmore")
        return {**found, "logits": Fails.apply(found["logits"])}  # type: ignore[no-untyped-call]

    monkeypatch.setattr(trainer._stepper, "_outputs", fail)
    monkeypatch.setattr(trainer._stepper, "is_compiled", True)
    report, expected = trainer.run_epoch(), plain.run_epoch()

    assert report["train/loss"] == expected["train/loss"]
    assert all(torch.equal(tensor, states_of(plain)[name]) for name, tensor in states_of(trainer).items())
    assert "without torch.compile, which failed: RuntimeError: InvalidCxxCompiler: no working" in caplog.text


def test_other_errors_of_a_step_are_not_taken_for_a_lack_of_memory(
    toy_table: FaceTable, make_config: MakeConfig
) -> None:
    trainer = Trainer(make_config(), toy_table)

    def fail(*_: Any) -> None:
        raise RuntimeError("shapes do not fit")

    trainer._stepper.network.heads.register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        trainer.run_epoch()

    assert trainer._stepper.n_oom == 0

"""Going on from a saved model: what is taken over, what begins anew, and which models can't be gone on from."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from spaces.config import TrialConfig
from spaces.errors import ModelError
from trainables.checkpoint import NetworkSpec, save_network
from trainables.data.table import FaceTable
from trainables.models.architectures.deviation import DeviationEncoder
from trainables.models.architectures.network import ExpressionNetwork
from trainables.models.build import build_trial_network
from trainables.models.start import check_start, load_start

MakeConfig = Callable[..., TrialConfig]
Build = Callable[..., tuple[ExpressionNetwork, NetworkSpec]]

SMALL = {"attention.heads": 2, "attention.width": 16, "branches.appearance_backbone": "test_resnet"}


@pytest.fixture
def build(toy_table: FaceTable, make_config: MakeConfig) -> Build:
    """A trial's network with weights drawn by a seed: `build({"model.encoder": "dan"}, seed=1, classes=("a", "b"))`."""

    def make(
        settings: dict[str, Any] | None = None, *, seed: int = 0, classes: tuple[str, ...] = ("anger", "fear", "joy")
    ) -> tuple[ExpressionNetwork, NetworkSpec]:
        torch.manual_seed(seed)
        info = replace(toy_table.info, classes=classes)
        return build_trial_network(make_config({**SMALL, **(settings or {})}), info)

    return make


@pytest.fixture
def save(build: Build, tmp_path: Path) -> Callable[..., tuple[Path, dict[str, torch.Tensor]]]:
    """Write such a network, and give its file and its weights."""

    def write(*args: Any, **named: Any) -> tuple[Path, dict[str, torch.Tensor]]:
        network, spec = build(*args, **named)
        save_network(tmp_path / "start.safetensors", network.state_dict(), spec)
        return tmp_path / "start.safetensors", network.state_dict()

    return write


Save = Callable[..., tuple[Path, dict[str, torch.Tensor]]]


def same_names(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> set[str]:
    """Names of tensors that are equal in both."""
    return {name for name, tensor in found.items() if name in expected and torch.equal(tensor, expected[name])}


def weights(state: dict[str, torch.Tensor], prefix: str) -> set[str]:
    return {name for name in state if name.startswith(prefix)}


def test_plain_model_starts_another_with_the_same_classes_whole(build: Build, save: Save) -> None:
    path, stored = save(seed=1)

    network, _ = build({"model.start": str(path)})

    assert same_names(network.state_dict(), stored) == set(stored)


@pytest.mark.parametrize("classes", [("no", "yes"), ("joy", "fear", "anger")], ids=["others", "another order"])
def test_heads_begin_anew_where_the_classes_are_others(build: Build, save: Save, classes: tuple[str, ...]) -> None:
    path, stored = save(seed=1)
    fresh, _ = build(classes=classes)

    network, _ = build({"model.start": str(path)}, classes=classes)

    found = network.state_dict()
    assert same_names(found, stored) >= weights(stored, "encoder.")
    assert torch.equal(found["heads.linear.weight"], fresh.state_dict()["heads.linear.weight"])
    assert len(found["heads.linear.bias"]) == len(classes)


@pytest.mark.parametrize("widths", [(8, 16), (0, 8), (8, 0)], ids=["wider", "deeper", "linear"])
def test_head_of_other_hidden_units_begins_anew_on_the_start_models_encoder(
    build: Build, save: Save, widths: tuple[int, int]
) -> None:
    path, _ = save({"model.head_width": widths[0]}, seed=1)
    network, spec = build({"model.head_width": widths[1]}, seed=2)

    taken = load_start(network, spec, path)

    assert {name.partition(".")[0] for name in taken} == {"encoder"}


def test_head_of_as_many_hidden_units_goes_on(build: Build, save: Save) -> None:
    path, weights = save({"model.head_width": 8}, seed=1)
    network, spec = build({"model.head_width": 8}, seed=2)

    load_start(network, spec, path)

    assert same_names(network.state_dict(), weights) == set(weights)


def test_dan_starts_the_emotion_branch_of_two(build: Build, save: Save) -> None:
    path, stored = save({"model.encoder": "dan"}, seed=1)
    two = {"model.encoder": "two_branch", "loss.landmark_weight": 1.0}
    fresh, _ = build(two)

    network, spec = build({**two, "model.start": str(path)})

    found = network.state_dict()
    for name in weights(found, "encoder.emotion."):
        assert torch.equal(found[name], stored[name.replace("emotion.", "")]), name
    for prefix in ("encoder.appearance.", "encoder.trunk."):
        assert weights(found, prefix) <= same_names(found, fresh.state_dict())
    assert weights(found, "encoder.emotion.") <= set(load_start(network, spec, path))


@pytest.mark.parametrize("source", ["plain", "dan"])
def test_both_twins_begin_as_the_start_models_backbone(build: Build, save: Save, source: str) -> None:
    path, stored = save(seed=1) if source == "plain" else save({"model.encoder": "dan"}, seed=1)

    network, _ = build({"model.encoder": "deviation", "model.start": str(path)})

    assert isinstance(network.encoder, DeviationEncoder)
    expected = {name.removeprefix("encoder.backbone."): stored[name] for name in weights(stored, "encoder.backbone.")}
    for twin in (network.encoder.backbone, network.encoder.frozen):
        assert same_names(twin.state_dict(), expected) == set(expected)
    assert not any(parameter.requires_grad for parameter in network.encoder.frozen.parameters())


def test_heads_begin_anew_on_embeddings_of_another_kind(build: Build, save: Save) -> None:
    path, stored = save(seed=1)
    fresh, _ = build({"model.encoder": "deviation"})

    network, _ = build({"model.encoder": "deviation", "model.start": str(path)})

    linear = network.state_dict()["heads.linear.weight"]
    assert linear.shape == stored["heads.linear.weight"].shape
    assert torch.equal(linear, fresh.state_dict()["heads.linear.weight"])


def test_twins_are_equal_without_a_start_too(build: Build) -> None:
    network, _ = build({"model.encoder": "deviation"})

    assert isinstance(network.encoder, DeviationEncoder)
    twin = network.encoder.frozen.state_dict()
    assert same_names(network.encoder.backbone.state_dict(), twin) == set(twin)


def test_deviation_that_goes_on_keeps_its_frozen_twin(build: Build, tmp_path: Path) -> None:
    network, spec = build({"model.encoder": "deviation"}, seed=1)
    with torch.no_grad():
        next(network.encoder.backbone.parameters()).add_(1.0)
    save_network(tmp_path / "start.safetensors", network.state_dict(), spec)

    found, _ = build({"model.encoder": "deviation", "model.start": str(tmp_path / "start.safetensors")})

    assert same_names(found.state_dict(), network.state_dict()) == set(network.state_dict())


def test_network_that_goes_on_sees_faces_as_it_did_before(build: Build, save: Save) -> None:
    path, _ = save({"data.normalise": "backbone"}, seed=1)
    _, plain = build()

    specs = {
        normalise: build({"model.start": str(path), "data.normalise": normalise})[1] for normalise in ("auto", "table")
    }

    assert specs["auto"].mean == (0.485, 0.456, 0.406) != plain.mean
    assert (specs["table"].mean, specs["table"].std) == (plain.mean, plain.std)


def test_start_on_another_backbone_is_refused(build: Build, save: Save) -> None:
    path, _ = save({"model.backbone": "test_resnet"})
    sentence = f"model.start must be on the backbone 'test_efficientnet', got 'test_resnet': {path}"

    with pytest.raises(ModelError, match=f"^{re.escape(sentence)}$"):
        build({"model.start": str(path)})
    with pytest.raises(ModelError, match=f"^{re.escape(sentence)}$"):
        check_start(path, backbone="test_efficientnet")


def test_start_that_is_no_model_of_ours_is_refused(build: Build, tmp_path: Path) -> None:
    missing, bare = tmp_path / "none.safetensors", tmp_path / "bare.safetensors"
    save_file({"weight": torch.zeros(2)}, bare)

    with pytest.raises(ModelError, match=rf"^saved model could not be read, .*: {re.escape(str(missing))}$"):
        build({"model.start": str(missing)})
    with pytest.raises(ModelError, match=r"saved model must be one that affectune wrote, got bare weights: .*bare"):
        build({"model.start": str(bare)})

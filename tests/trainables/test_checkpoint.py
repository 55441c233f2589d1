"""Saved networks come back whole with what feeds them, and what is none gets a sentence."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from spaces.errors import ModelError
from trainables.checkpoint import NetworkSpec, load_network, load_spec, save_network, state_on_cpu
from trainables.models.architectures.answers import HandRuleByName
from trainables.models.architectures.design import Design
from trainables.models.backbones import build_network

LATER = ("mirror", "shift_px", "design", "hand_rule")
SPEC = NetworkSpec("test_efficientnet", ("anger", "joy"), 32, 40, 1, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, torch.nn.Module]:
    network = build_network("test_efficientnet", n_classes=2).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    path = tmp_path_factory.mktemp("saved") / "weights.safetensors"
    save_network(path, network.state_dict(), SPEC)
    return path, network


def test_network_comes_back_in_eval_mode_with_its_spec(saved: tuple[Path, torch.nn.Module]) -> None:
    path, network = saved

    loaded, spec = load_network(path)

    assert spec == load_spec(path) == SPEC
    assert not loaded.training
    faces = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(loaded(faces), network.eval()(faces))


def test_network_comes_back_with_all_its_parts_and_its_rule(tmp_path: Path) -> None:
    design = Design(encoder="dan", attention_heads=2, attention_width=32, hand_backbone="test_resnet")
    rule = HandRuleByName("joy", 0.25, ("anger",))
    spec = replace(SPEC, design=design, hand_rule=rule)
    network = build_network("test_efficientnet", n_classes=2, design=design)

    save_network(tmp_path / "w.safetensors", network.state_dict(), spec)
    loaded, found = load_network(tmp_path / "w.safetensors")

    faces = torch.rand(2, 3, 32, 32)
    assert found == spec
    torch.testing.assert_close(loaded.outputs(faces), network.eval().outputs(faces))


def test_network_that_was_saved_without_later_fields_comes_back_with_their_defaults(tmp_path: Path) -> None:
    old = {name: value for name, value in asdict(SPEC).items() if name not in LATER}
    save_file({"a": torch.zeros(1)}, tmp_path / "w.safetensors", metadata={"affectune": json.dumps(old)})

    assert load_spec(tmp_path / "w.safetensors") == replace(SPEC, mirror=False)


@pytest.mark.parametrize("backbone", ["test_efficientnet", "resnet18", "mobilenetv3_small_050"])
def test_network_that_was_saved_before_there_were_encoders_answers_as_it_did(backbone: str, tmp_path: Path) -> None:
    old = timm.create_model(backbone, num_classes=2).eval()
    spec = replace(SPEC, backbone=backbone)
    fields = {name: value for name, value in asdict(spec).items() if name not in LATER}
    state = {name: tensor.clone() for name, tensor in old.state_dict().items()}
    save_file(state, tmp_path / "w.safetensors", metadata={"affectune": json.dumps(fields)})

    loaded, _ = load_network(tmp_path / "w.safetensors")

    faces = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(loaded(faces), old(faces))


def test_network_is_refused_when_the_file_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"saved model could not be read, .*none\.safetensors"):
        load_network(tmp_path / "none.safetensors")


@pytest.mark.parametrize("content", [b"", b"text", b"\x08" + b"\0" * 40], ids=["empty", "text", "header"])
def test_network_is_refused_when_the_file_is_broken(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)

    with pytest.raises(ModelError, match=r"saved model could not be read, .*w\.safetensors"):
        load_network(path)


def test_network_is_refused_when_the_path_is_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="saved model could not be read"):
        load_network(tmp_path)


def test_network_is_refused_when_its_weights_are_bare(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "w.safetensors")

    with pytest.raises(ModelError, match=r"one that affectune wrote, got bare weights: .*w\.safetensors"):
        load_network(tmp_path / "w.safetensors")


@pytest.mark.parametrize("spec", ["[]", "{}", "no json", '{"colour": 1}'])
def test_network_is_refused_when_its_spec_is_none(tmp_path: Path, spec: str) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "w.safetensors", metadata={"affectune": spec})

    with pytest.raises(ModelError, match="saved model could not be read"):
        load_network(tmp_path / "w.safetensors")


def test_network_is_refused_when_its_weights_are_of_another_backbone(tmp_path: Path) -> None:
    save_network(tmp_path / "w.safetensors", build_network("lcnet_050", n_classes=2).state_dict(), SPEC)

    with pytest.raises(ModelError, match="must have the weights of its backbone 'test_efficientnet', got others"):
        load_network(tmp_path / "w.safetensors")


def test_network_is_refused_when_its_backbone_is_unknown(tmp_path: Path) -> None:
    save_network(tmp_path / "w.safetensors", {"a": torch.zeros(1)}, replace(SPEC, backbone="lcnet_05"))

    with pytest.raises(ModelError, match="backbone must be a timm model, got 'lcnet_05'; did you mean 'lcnet_0"):
        load_network(tmp_path / "w.safetensors")


def test_state_on_cpu_is_a_copy() -> None:
    network = build_network("test_efficientnet", n_classes=2)

    state = state_on_cpu(network)
    with torch.no_grad():
        next(network.parameters()).add_(1.0)

    name = next(iter(dict(network.named_parameters())))
    assert not torch.equal(state[name], network.state_dict()[name])

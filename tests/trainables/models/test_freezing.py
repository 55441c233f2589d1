"""What stands still while the rest is trained: how many blocks or stages, and in which mode their batch norm is."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from spaces.training_sections import TrainConfig
from trainables.models.architectures.backbone import Backbone
from trainables.models.architectures.design import Design
from trainables.models.architectures.deviation import DeviationEncoder
from trainables.models.architectures.network import ExpressionNetwork
from trainables.models.architectures.two_branch import TwoBranchEncoder
from trainables.models.backbones import build_network
from trainables.models.freezing import freeze, frozen_names, set_training_mode


def build_backbone(name: str) -> Backbone:
    with torch.device("meta"):
        return Backbone(name)


def frozen_parts(name: str, **how: Any) -> set[str]:
    """The first two parts of the names of what stands still, the stem's without their second."""
    names = frozen_names(build_backbone(name), **how)
    return {".".join(name.split(".")[:2]) if name.startswith(("layer", "blocks")) else name for name in names}


def layers(*counts: int) -> set[str]:
    """layer1.0, layer1.1, ... of a ResNet."""
    return {f"layer{i}.{j}" for i, n in enumerate(counts, start=1) for j in range(n)}


STEM = {"conv1.weight", "bn1.weight", "bn1.bias"}


@pytest.mark.parametrize(
    ("share", "blocks"),
    [
        (0.0, set()),
        (0.06, set()),
        (0.0625, STEM | layers(1)),
        (0.5, STEM | layers(3, 4, 1)),
        (0.8, STEM | layers(3, 4, 5)),
        (0.9999, STEM | layers(3, 4, 6, 2)),
        (1.0, STEM | layers(3, 4, 6, 3)),
    ],
)
def test_share_is_of_the_16_bottlenecks_of_a_resnet50(share: float, blocks: set[str]) -> None:
    assert frozen_parts("resnet50", share=share) == blocks


def test_four_fifths_of_a_resnet50_leave_16_1_million_of_its_25_6_million_parameters() -> None:
    with torch.device("meta"):
        network = build_network("resnet50", n_classes=6)
    freeze(network, TrainConfig(frozen_share=0.8))

    moving = sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
    whole = sum(parameter.numel() for parameter in network.encoder.parameters()) + (2048 + 1) * 1000
    assert round(moving / 1e6, 1) == 16.1
    assert round(whole / 1e6, 1) == 25.6  # as published, with a layer for 1000 classes


@pytest.mark.parametrize(
    ("n_stages", "blocks"),
    [(1, STEM), (3, STEM | layers(3, 4)), (5, STEM | layers(3, 4, 6, 3)), (16, STEM | layers(3, 4, 6, 3))],
)
def test_stages_are_the_stem_and_then_whole_groups_of_blocks(n_stages: int, blocks: set[str]) -> None:
    assert frozen_parts("resnet50", n_stages=n_stages) == blocks


def test_googlenet_has_nine_blocks() -> None:
    for n_frozen in range(1, 10):
        names = frozen_names(build_backbone("torchvision/googlenet"), share=n_frozen / 9)
        tops = {name.split(".")[0] for name in names}
        assert len(tops) == 3 + n_frozen
        assert {"conv1", "conv2", "conv3", "inception3a"} <= tops


def test_blocks_of_a_transformer_stand_still_after_its_tokens() -> None:
    backbone = build_backbone("vit_base_patch16_224")

    parts = {name.split(".")[1] for name in frozen_names(backbone, share=0.25) if name.startswith("blocks.")}
    stem = {name.split(".")[0] for name in frozen_names(backbone, share=0.25)} - {"blocks"}

    assert parts == {"0", "1", "2"}
    assert stem == {"cls_token", "pos_embed", "patch_embed"}


@pytest.mark.parametrize(
    "name", ["resnet18", "torchvision/googlenet", "test_vit", "test_efficientnet", "test_convnext", "mobilevitv2_050"]
)
def test_whole_share_is_the_whole_backbone(name: str) -> None:
    backbone = build_backbone(name)

    assert frozen_names(backbone, share=1.0) == {name for name, _ in backbone.net.named_parameters()}


@pytest.mark.parametrize("encoder", ["pooled", "dan", "deviation", "two_branch"])
def test_share_is_of_the_encoders_own_backbone_and_the_heads_always_move(encoder: str) -> None:
    network = build_tiny(encoder=encoder)
    freeze(network, TrainConfig(frozen_share=1.0))

    assert not any(parameter.requires_grad for parameter in network.encoder.backbone.parameters())
    assert all(parameter.requires_grad for parameter in network.heads.parameters())
    if isinstance(network.encoder, TwoBranchEncoder):
        assert all(parameter.requires_grad for parameter in network.encoder.appearance.parameters())


def build_tiny(**design: Any) -> ExpressionNetwork:
    torch.manual_seed(0)
    small = {"attention_heads": 2, "attention_width": 16, "appearance_backbone": "test_resnet"}
    return build_network("test_efficientnet", n_classes=3, design=Design(**{**small, **design}), drop_path_rate=0.1)


def draw_faces() -> torch.Tensor:
    return torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def statistics(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in module.named_buffers()}


def drifted(module: nn.Module, before: dict[str, torch.Tensor]) -> set[str]:
    """Modules whose running statistics are not what they were."""
    now = dict(module.named_buffers())
    return {name.rpartition(".")[0] for name, tensor in before.items() if not torch.equal(tensor, now[name])}


def test_frozen_blocks_keep_their_statistics_while_the_others_move() -> None:
    network = build_tiny()
    config = TrainConfig(frozen_share=0.5)
    freeze(network, config)
    before = statistics(network)

    set_training_mode(network, config)
    network.outputs(draw_faces())

    found = drifted(network, before)
    norms = {name for name, module in network.named_modules() if isinstance(module, _BatchNorm)}
    standing = {name for name in norms if not network.get_submodule(name).weight.requires_grad}
    assert found == norms - standing
    assert {name for name in norms if not network.get_submodule(name).training} == standing
    assert standing and found


def test_frozen_blocks_drop_no_paths() -> None:
    network = build_tiny()
    config = TrainConfig(frozen_share=0.5)
    freeze(network, config)

    set_training_mode(network, config)

    blocks = network.encoder.backbone.net.blocks
    assert isinstance(blocks, nn.Sequential)
    modes = [{module.training for module in block.modules()} for block in blocks]
    assert modes == [{False}, {False}, {True}, {True}, {True}]


def test_batch_norm_in_eval_keeps_all_statistics_of_backbones_and_none_of_the_attention() -> None:
    network = build_tiny(encoder="two_branch")
    before = statistics(network)

    set_training_mode(network, TrainConfig(batch_norm="eval"))
    network.outputs(draw_faces())

    found = drifted(network, before)
    assert not any(".backbone." in name or ".appearance." in name for name in found)
    assert any(name.startswith("encoder.emotion.heads.0.") for name in found)
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert network.dropout.training


def test_training_mode_comes_back_after_an_evaluation() -> None:
    network = build_tiny(encoder="deviation")
    assert isinstance(network.encoder, DeviationEncoder)

    set_training_mode(network.eval(), TrainConfig())

    assert all(module.training for module in network.encoder.backbone.modules())
    assert not any(module.training for module in network.encoder.frozen.modules())

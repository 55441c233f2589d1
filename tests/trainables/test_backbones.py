"""timm backbones: any of them is built, fed and filled, and what does not fit gets a sentence."""

import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from spaces.config import TrialConfig
from spaces.errors import ModelError
from trainables.data.table import FaceTable
from trainables.models import weights as weights_module
from trainables.models.architectures.design import Design
from trainables.models.backbones import build_network, stride_to_keep
from trainables.models.build import build_trial_network
from trainables.models.weights import check_weights, load_backbone_weights

SMALL = [
    "tf_efficientnet_lite0",
    "mobilenetv4_conv_small_050",
    "mobilenetv3_small_050",
    "lcnet_050",
    "mobilevitv2_050",
    "resnet18",
]
"""The backbones of the preset `core`."""


@pytest.mark.parametrize("name", SMALL)
def test_backbone_of_the_core_space_takes_small_faces_and_splits_at_its_head(name: str) -> None:
    network = build_network(name, n_classes=2, drop_path_rate=0.1).eval()
    faces = torch.rand(2, 3, 48, 48)

    with torch.no_grad():
        outputs = network.outputs(faces)
        from_head = network.heads(outputs["embeddings"])["logits"]

    assert outputs["logits"].shape == (2, 2)
    torch.testing.assert_close(from_head, outputs["logits"])


@pytest.mark.parametrize("name", ["deit_tiny_distilled_patch16_224", "resnetv2_18", "ghostnet_050", "test_vit"])
def test_backbone_is_built_when_its_head_or_options_are_unusual(name: str) -> None:
    network = build_network(name, n_classes=5, drop_path_rate=0.1)

    assert network.heads.linear.weight.shape == (5, network.encoder.width)
    assert network.heads.linear.weight.std() < 0.02


@pytest.mark.parametrize(
    ("name", "image_px", "min_map", "stride"),
    [
        ("resnet18", 48, 0, 0),
        ("resnet18", 48, 2, 0),
        ("resnet18", 48, 3, 16),
        ("resnet18", 64, 3, 16),
        ("resnet18", 65, 3, 0),
        ("resnet18", 224, 7, 0),
        ("resnet18", 224, 8, 16),
        ("resnet18", 32, 9, 16),
        ("tf_efficientnet_lite0", 48, 3, 16),
        ("vit_tiny_patch16_224", 224, 20, 0),
        ("hrnet_w18_small", 64, 3, 0),
        ("torchvision/googlenet", 48, 3, 0),
    ],
)
def test_stages_with_small_maps_are_left_out_down_to_a_stride_of_sixteen(
    name: str, image_px: int, min_map: int, stride: int
) -> None:
    assert stride_to_keep(name, image_px=image_px, min_map=min_map) == stride


@pytest.mark.parametrize("name", [*SMALL, "convnext_atto", "swin_tiny_patch4_window7_224"])
def test_cut_backbone_embeds_what_its_last_stage_says_in_the_whole_network(name: str) -> None:
    px = 224 if name.startswith("swin") else 64
    cut = build_network(name, n_classes=2, design=Design(stride=16)).eval()
    whole = timm.create_model(name, pretrained=False).eval()
    whole.load_state_dict(cut.encoder.backbone.net.state_dict(), strict=False)
    said = []
    last = next(stage["module"] for stage in whole.feature_info if stage["reduction"] == 16)  # type: ignore[union-attr]
    whole.get_submodule(last).register_forward_hook(lambda module, inputs, output: said.append(output))
    faces = torch.rand(2, 3, px, px)

    with torch.no_grad():
        whole(faces)
        maps, embeddings = cut.encoder.backbone.maps(faces), cut.encoder(faces)["embeddings"]

    expected = said[0].permute(0, 3, 1, 2) if name.startswith("swin") else said[0]
    torch.testing.assert_close(maps, expected)
    torch.testing.assert_close(embeddings, expected.mean(dim=(2, 3)))
    assert embeddings.shape == (2, cut.encoder.width)
    assert sum(map(torch.numel, cut.parameters())) < 0.8 * sum(map(torch.numel, whole.parameters()))


def test_backbone_is_refused_with_the_near_miss_when_unknown() -> None:
    with pytest.raises(ModelError, match="backbone must be a timm model, got 'resnet19'; did you mean 'resnet1"):
        build_network("resnet19", n_classes=2)


def test_backbone_of_one_image_size_is_refused_at_another(
    toy_table: FaceTable, make_config: Callable[..., TrialConfig]
) -> None:
    with pytest.raises(ModelError, match=r"model\.image_px must be 160 for backbone 'test_vit', got 32"):
        build_trial_network(make_config({"model.backbone": "test_vit"}), toy_table.info)


def test_transformer_is_built_when_the_image_size_is_its_own(
    toy_table: FaceTable, make_config: Callable[..., TrialConfig]
) -> None:
    settings = {"model.backbone": "test_vit", "model.image_px": 160}

    network, spec = build_trial_network(make_config(settings), toy_table.info)

    assert (spec.image_px, spec.table_px) == (160, 32)
    assert network(torch.rand(2, 3, 160, 160)).shape == (2, 3)


def test_normalisation_is_the_tables_own_without_weights_and_the_backbones_with(
    toy_table: FaceTable, make_config: Callable[..., TrialConfig], weights_file: Path
) -> None:
    table, backbone, forced = (
        build_trial_network(make_config(settings), toy_table.info)[1]
        for settings in ({}, {"model.weights": str(weights_file)}, {"data.normalise": "backbone"})
    )

    assert table.mean == pytest.approx(toy_table.info.mean * 3)
    assert backbone.mean == forced.mean == timm.get_pretrained_cfg("test_efficientnet").mean


def test_network_looks_at_mirror_images_unless_it_is_told_not_to(
    toy_table: FaceTable, make_config: Callable[..., TrialConfig]
) -> None:
    both, one = (
        build_trial_network(make_config(settings), toy_table.info)[1] for settings in ({}, {"model.mirror": False})
    )

    assert (both.mirror, one.mirror) == (True, False)


@pytest.fixture(scope="module")
def weights_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of `test_efficientnet` with timm's keys and a classifier of 1000 classes."""
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    save_file(timm.create_model("test_efficientnet").state_dict(), path)
    return path


def test_weights_fill_the_backbone_and_leave_the_head(weights_file: Path) -> None:
    network = build_network("test_efficientnet", n_classes=3)
    head, first = network.heads.linear.weight.clone(), next(network.parameters()).clone()

    check_weights(backbone="test_efficientnet", weights=str(weights_file))
    load_backbone_weights(network.encoder.backbone, name="test_efficientnet", weights=str(weights_file))

    assert torch.equal(network.heads.linear.weight, head)
    assert not torch.equal(next(network.parameters()), first)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda s: s | {"extra.a": torch.zeros(1)}, r"must all belong to backbone .*, got extra\.a: "),
        (lambda s: {k: v for k, v in s.items() if "conv_stem" not in k}, r"must be complete for .* without conv_stem"),
        (lambda s: {k: v[..., :1].contiguous() if "conv_stem" in k else v for k, v in s.items()}, "must have the sh"),
    ],
    ids=["unknown", "missing", "misshapen"],
)
def test_weights_are_refused_with_their_keys_when_they_do_not_fit(
    tmp_path: Path,
    change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]],
    sentence: str,
) -> None:
    path = tmp_path / "w.safetensors"
    save_file(change(timm.create_model("test_efficientnet").state_dict()), path)

    with pytest.raises(ModelError, match=f"keys in the weights {sentence}"):
        check_weights(backbone="test_efficientnet", weights=str(path))


def test_trial_on_small_faces_is_of_a_cut_network(
    toy_table: FaceTable, make_config: Callable[..., TrialConfig]
) -> None:
    whole, all_stages = build_trial_network(make_config(), toy_table.info)
    cut, stages = build_trial_network(make_config({"model.min_map": 3}), toy_table.info)

    assert (all_stages.design.stride, stages.design.stride) == (0, 16)  # 32 px at a stride of 32 are one cell
    assert cut.encoder.width == 48 < whole.encoder.width


def test_weights_of_the_whole_backbone_fill_a_cut_one(weights_file: Path) -> None:
    network = build_network("test_efficientnet", n_classes=2, design=Design(stride=16))

    load_backbone_weights(network.encoder.backbone, name="test_efficientnet", weights=str(weights_file))

    stored = load_file(weights_file)
    own = network.encoder.backbone.net.state_dict()
    assert set(own) < set(stored)
    assert all(torch.equal(tensor, stored[name]) for name, tensor in own.items())


def test_weights_of_another_backbone_are_refused_with_the_first_keys(weights_file: Path) -> None:
    with pytest.raises(ModelError, match=r"backbone 'lcnet_050', got .* and \d+ more: .*w\.safetensors"):
        check_weights(backbone="lcnet_050", weights=str(weights_file))


def test_weights_are_refused_when_the_file_is_missing_or_none(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no weights")

    with pytest.raises(ModelError, match=r"weights must be none, hub or a safetensors file that exists, got '.*gone'"):
        check_weights(backbone="lcnet_050", weights=str(tmp_path / "gone"))
    with pytest.raises(ModelError, match=r"weights must be a safetensors file, got '.*text'"):
        check_weights(backbone="lcnet_050", weights=str(tmp_path / "text"))


def test_hub_is_given_up_at_once_when_it_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(address: object, timeout: float) -> None:
        raise OSError("no network")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(weights_module, "_is_cached", lambda backbone: False)
    started_s = time.perf_counter()

    with pytest.raises(ModelError, match=r"hub weights of backbone 'resnet18' could not be fetched.*model\.weights="):
        check_weights(backbone="resnet18", weights="hub")

    assert time.perf_counter() - started_s < 1.0


def test_hub_is_refused_when_it_has_no_weights_of_the_backbone() -> None:
    without = next(name for name in timm.list_models() if not timm.is_model_pretrained(name))

    with pytest.raises(ModelError, match=f"backbone '{without}' has no weights on the hub"):
        check_weights(backbone=without, weights="hub")

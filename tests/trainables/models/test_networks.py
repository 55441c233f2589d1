"""The networks of the papers: their shapes, their numbers of parameters, and what they do with a face."""

import pytest
import torch
from torch import nn

from trainables.models.architectures.backbone import Backbone
from trainables.models.architectures.dan import CrossAttentionHead, DanEncoder
from trainables.models.architectures.design import Design
from trainables.models.architectures.deviation import DeviationEncoder
from trainables.models.architectures.two_branch import TwoBranchEncoder
from trainables.models.backbones import build_network


def n_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def faces(n: int = 2, px: int = 64, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, 3, px, px, generator=torch.Generator().manual_seed(seed))


def build_dan(backbone: str = "test_resnet", *, n_heads: int = 4, width: int = 32, fusion: str = "sum") -> DanEncoder:
    return DanEncoder(Backbone(backbone), n_heads=n_heads, width=width, fusion=fusion)  # type: ignore[arg-type]


def test_attention_head_has_the_published_number_of_parameters() -> None:
    assert round(n_parameters(CrossAttentionHead(512)) / 1e6, 2) == 2.14
    assert round(4 * n_parameters(CrossAttentionHead(512)) / 1e6, 1) == 8.5


def test_dan_on_resnet18_needs_no_projection_and_gives_512_numbers() -> None:
    network = build_network("resnet18", n_classes=8, design=Design(encoder="dan")).eval()

    outputs = network.outputs(faces(px=224))

    assert isinstance(network.encoder, DanEncoder)
    assert isinstance(network.encoder.project, nn.Identity)
    assert network.encoder.backbone.maps(faces(px=224)).shape == (2, 512, 7, 7)
    shapes = {name: tuple(numbers.shape) for name, numbers in outputs.items()}
    assert shapes == {"embeddings": (2, 512), "features": (2, 512), "attention": (2, 4, 512), "logits": (2, 8)}


def test_dan_on_a_wide_backbone_projects_its_maps_by_one_convolution() -> None:
    with torch.device("meta"):
        encoder = build_dan("resnet50", width=512)

    assert encoder.project.weight.shape == (512, 2048, 1, 1)  # type: ignore[union-attr]
    assert round(n_parameters(encoder.heads) / 1e6, 1) == 8.5


def test_attention_head_follows_its_formula() -> None:
    torch.manual_seed(0)
    head = CrossAttentionHead(32).eval()
    maps = torch.randn(2, 32, 3, 3)

    with torch.no_grad():
        found = head(maps)
        squeezed = head.squeeze(maps)
        attention = (head.square(squeezed) + head.row(squeezed) + head.column(squeezed)).clamp(min=0).sum(1)
        pooled = torch.stack([(maps[:, c] * attention).mean((1, 2)) for c in range(32)], dim=1)
        expected = pooled * head.gate(pooled)

    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("n_heads", [1, 2, 8])
def test_dan_has_as_many_heads_as_asked_for(n_heads: int) -> None:
    assert build_dan(n_heads=n_heads).eval()(faces())["attention"].shape == (2, n_heads, 32)


def test_fusion_by_logsoftmax_throws_away_what_all_heads_agree_on() -> None:
    encoder = build_dan(fusion="logsoftmax_sum").eval()
    for head in encoder.heads:
        head.load_state_dict(encoder.heads[0].state_dict())

    embeddings = encoder(faces())["embeddings"]

    expected = torch.full_like(embeddings, -4 * torch.log(torch.tensor(4.0)))
    torch.testing.assert_close(embeddings, expected, rtol=1e-4, atol=1e-4)


def test_single_head_is_the_embedding_itself_whatever_the_fusion() -> None:
    encoder = build_dan(n_heads=1, fusion="logsoftmax_sum").eval()

    outputs = encoder(faces())

    torch.testing.assert_close(outputs["embeddings"], outputs["attention"][:, 0])


@pytest.mark.parametrize(("fusion", "width"), [("sum", 32), ("logsoftmax_sum", 32), ("concat", 128)])
def test_fusion_decides_the_width(fusion: str, width: int) -> None:
    encoder = build_dan(fusion=fusion).eval()

    assert encoder.width == width
    assert encoder(faces())["embeddings"].shape == (2, width)


def test_dan_normalises_its_logits_unless_asked_not_to() -> None:
    small = {"attention_heads": 2, "attention_width": 32}
    networks = [
        build_network("test_resnet", n_classes=3, design=Design(encoder="dan", logit_norm=norm, **small))  # type: ignore[arg-type]
        for norm in (True, False)
    ]

    assert [type(network.heads.norm) for network in networks] == [nn.BatchNorm1d, nn.Identity]


def build_deviation(eps_when: str = "training") -> DeviationEncoder:
    torch.manual_seed(0)
    return DeviationEncoder(Backbone("test_efficientnet"), eps=1e-6, eps_when=eps_when)  # type: ignore[arg-type]


def test_deviation_of_equal_twins_is_eps_in_training_and_nothing_after() -> None:
    encoder = build_deviation()

    encoder.train()
    encoder.backbone.eval()
    in_training = encoder(faces())["embeddings"]
    after = encoder.eval()(faces())["embeddings"]

    torch.testing.assert_close(in_training, torch.full_like(in_training, 1e-6))
    assert float(after.detach().abs().max()) == 0.0


def test_deviation_keeps_eps_where_it_is_asked_for_always() -> None:
    embeddings = build_deviation("always").eval()(faces())["embeddings"]

    torch.testing.assert_close(embeddings, torch.full_like(embeddings, 1e-6))


def test_frozen_twin_neither_moves_nor_trains_nor_drifts() -> None:
    encoder = build_deviation().train()
    before = {name: tensor.clone() for name, tensor in encoder.frozen.state_dict().items()}

    optimiser = torch.optim.SGD([p for p in encoder.parameters() if p.requires_grad], lr=1.0)
    encoder(faces(8))["embeddings"].square().sum().backward()
    optimiser.step()

    assert not any(module.training for module in encoder.frozen.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.frozen.state_dict().items())
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in encoder.backbone.parameters())


def test_deviation_takes_the_frozen_twins_word_where_it_is_known() -> None:
    encoder = build_deviation().eval()

    told = encoder(faces(), torch.zeros(2, encoder.width))["embeddings"]

    torch.testing.assert_close(told, encoder.backbone(faces()))


def test_two_branches_share_a_trunk_with_two_heads_on_it() -> None:
    design = Design(encoder="two_branch", appearance_backbone="test_efficientnet", landmarks=True)
    network = build_network("resnet18", n_classes=6, design=design).eval()

    outputs = network.outputs(faces())

    assert isinstance(network.encoder, TwoBranchEncoder)
    assert [layer.out_features for layer in network.encoder.trunk if isinstance(layer, nn.Linear)] == [512, 256]
    assert outputs["logits"].shape == (2, 6)
    assert outputs["landmarks"].shape == (2, 136)
    assert outputs["attention"].shape == (2, 4, 512)


@pytest.mark.parametrize(
    ("emotion", "logit_norm", "kind"),
    [("dan", True, nn.BatchNorm1d), ("dan", False, nn.Identity), ("pooled", True, nn.Identity)],
)
def test_batch_norm_stands_on_a_dans_embedding_before_the_trunk(
    emotion: str, logit_norm: bool, kind: type[nn.Module]
) -> None:
    design = Design(
        encoder="two_branch",
        emotion=emotion,  # type: ignore[arg-type]
        logit_norm=logit_norm,
        attention_width=32,
        appearance_backbone="test_efficientnet",
    )
    network = build_network("test_resnet", n_classes=3, design=design)

    assert isinstance(network.encoder, TwoBranchEncoder)
    assert type(network.encoder.norm) is kind
    assert type(network.heads.norm) is nn.Identity


def test_each_branch_sees_its_own_copy_of_the_faces() -> None:
    design = Design(encoder="two_branch", emotion="pooled", appearance_backbone="test_efficientnet", landmarks=True)
    network = build_network("test_resnet", n_classes=3, design=design).eval()

    both = network.outputs(faces(seed=0), appearance=faces(seed=1))
    other = network.outputs(faces(seed=0), appearance=faces(seed=2))

    torch.testing.assert_close(both["features"], other["features"])
    assert not torch.equal(both["landmarks"], other["landmarks"])
    torch.testing.assert_close(network(faces()), network.outputs(faces(), appearance=faces())["logits"])


def test_joint_head_is_one_linear_layer_for_eight_classes_valence_and_arousal() -> None:
    with torch.device("meta"):
        network = build_network("tf_efficientnet_b0", n_classes=8, design=Design(affect="joint"))

    assert (network.heads.linear.in_features, network.heads.linear.out_features) == (1280, 10)


def test_head_is_linear_unless_it_is_given_hidden_units() -> None:
    plain, deep = (build_network("test_resnet", n_classes=6, design=Design(head_width=width)) for width in (0, 16))
    width = plain.encoder.width

    assert n_parameters(plain.heads) == 6 * (width + 1)
    assert n_parameters(deep.heads) == 16 * (width + 1) + 6 * (16 + 1)
    assert deep.eval()(faces()).shape == (2, 6)


def test_hidden_units_are_rectified() -> None:
    heads = build_network("test_resnet", n_classes=6, design=Design(head_width=4)).heads
    with torch.no_grad():
        heads.hidden[0].bias.fill_(-1e6)  # type: ignore[index]

    logits = heads(torch.randn(3, heads.hidden[0].in_features))["logits"]  # type: ignore[index, union-attr]

    assert torch.equal(logits, torch.zeros(3, 6))


def test_separate_heads_have_the_published_sizes() -> None:
    with torch.device("meta"):
        network = build_network("tf_efficientnet_b0", n_classes=8, design=Design(affect="separate"))
    heads = network.heads.separate
    assert heads is not None

    assert heads.expression.in_features == 1290
    assert n_parameters(heads.affect) == 22
    assert [layer.weight.shape for layer in heads.units if isinstance(layer, nn.Linear)] == [(128, 1290), (12, 128)]


@pytest.mark.parametrize(("inputs", "width"), [("embeddings", 256), ("logits", 5), ("both", 261)])
def test_separate_heads_read_embeddings_logits_or_both(inputs: str, width: int) -> None:
    design = Design(affect="separate", expression_inputs=inputs, va_inputs=inputs, unit_inputs=inputs)  # type: ignore[arg-type]
    network = build_network("test_efficientnet", n_classes=3, design=design).eval()
    heads = network.heads.separate
    assert heads is not None

    outputs = network.outputs(faces())

    assert heads.expression.in_features == width
    assert {name: outputs[name].shape[1] for name in ("logits", "valence_arousal", "action_units")} == {
        "logits": 3, "valence_arousal": 2, "action_units": 12
    }  # fmt: skip
    assert outputs["valence_arousal"].abs().max() <= 1


def test_separate_heads_never_move_what_they_stand_on() -> None:
    network = build_network("test_efficientnet", n_classes=3, design=Design(affect="separate"))

    outputs = network.outputs(faces(4))
    sum(outputs[name].sum() for name in ("logits", "valence_arousal", "action_units")).backward()  # type: ignore[union-attr]

    assert all(parameter.grad is None for parameter in network.encoder.parameters())
    assert network.heads.linear.weight.grad is None


def test_heads_compute_in_float32_under_autocast_too() -> None:
    design = Design(encoder="dan", attention_heads=2, attention_width=16)
    network = build_network("test_resnet", n_classes=3, design=design).eval()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        found = network.outputs(faces(4))

    expected = network.heads(found["embeddings"].float())["logits"]
    assert found["logits"].dtype == torch.float32
    torch.testing.assert_close(found["logits"], expected, rtol=0, atol=1e-7)


def test_googlenet_is_torchvisions_as_it_comes_with_weights_under_timms_methods() -> None:
    import torchvision

    ours = Backbone("torchvision/googlenet").eval()
    theirs = torchvision.models.googlenet(aux_logits=False, init_weights=False, transform_input=True).eval()
    theirs.fc = nn.Identity()
    theirs.load_state_dict(ours.net.state_dict())

    assert ours.width == 1024
    assert round((n_parameters(ours) + 1024 * 1000 + 1000) / 1e6, 2) == 6.62
    torch.testing.assert_close(ours(faces()), theirs(faces()))


@pytest.mark.parametrize("encoder", ["pooled", "dan", "deviation", "two_branch"])
@pytest.mark.parametrize("backbone", ["test_efficientnet", "test_convnext", "mobilenetv3_small_050", "lcnet_050"])
def test_any_backbone_goes_under_each_encoder(backbone: str, encoder: str) -> None:
    design = Design(
        encoder=encoder,  # type: ignore[arg-type]
        attention_heads=2,
        attention_width=32,
        appearance_backbone=backbone,
    )
    network = build_network(backbone, n_classes=3, design=design)

    logits = network(faces())
    logits.sum().backward()

    assert logits.shape == (2, 3)
    assert bool(torch.isfinite(logits).all())


def test_a_transformers_tokens_become_maps() -> None:
    backbone = Backbone("test_vit").eval()
    px = backbone.net.pretrained_cfg["input_size"][-1]  # type: ignore[index,union-attr]

    maps = backbone.maps(faces(px=px))
    tokens = backbone.features(faces(px=px))[:, backbone.net.num_prefix_tokens :]  # type: ignore[misc]

    assert maps.shape[2] * maps.shape[3] == tokens.shape[1]
    torch.testing.assert_close(maps[:, :, 0, 1], tokens[:, 1])

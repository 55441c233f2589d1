"""Which networks share embeddings, and which must not."""

from dataclasses import replace

import pytest
import torch

from spaces.training_sections import AugmentConfig
from trainables.embeddings.identity import alterations_digest, encoder_design, encoder_digest
from trainables.models.architectures.design import Design
from trainables.models.architectures.network import ExpressionNetwork
from trainables.models.backbones import build_network
from trainables.models.depthwise import use_quick_depthwise


def drawn(seed: int, *, n_classes: int = 3, design: Design | None = None, drop_rate: float = 0.0) -> ExpressionNetwork:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build_network("test_efficientnet", n_classes=n_classes, design=design, drop_rate=drop_rate)


def test_random_encoders_of_one_seed_are_the_same_whatever_stands_on_them() -> None:
    plain = encoder_digest(drawn(1).encoder)

    others = [
        drawn(1, n_classes=8, drop_rate=0.5), drawn(1, design=Design(affect="separate", unit_width=64)),
        drawn(1).to(memory_format=torch.channels_last), use_quick_depthwise(drawn(1)), drawn(1).eval(),
    ]  # fmt: skip

    assert {encoder_digest(other.encoder) for other in others} == {plain}


def test_another_number_anywhere_makes_another_encoder() -> None:
    network = drawn(1)
    plain = encoder_digest(network.encoder)

    assert encoder_digest(drawn(2).encoder) != plain
    for name, tensor in network.encoder.state_dict().items():
        before = tensor.clone()
        tensor.view(-1)[-1:] += 1
        assert encoder_digest(network.encoder) != plain, name
        tensor.copy_(before)
    assert encoder_digest(network.encoder) == plain


def test_heads_are_no_part_of_an_encoders_design() -> None:
    plain = Design(encoder="dan")

    of_heads = Design(
        encoder="dan", landmarks=True, affect="separate", expression_inputs="logits", va_inputs="both",
        unit_inputs="embeddings", unit_width=7, hand_backbone="resnet18",
    )  # fmt: skip

    assert encoder_design(of_heads) == encoder_design(plain)
    assert encoder_design(replace(plain, attention_fusion="sum")) != encoder_design(plain)
    assert encoder_design(replace(plain, logit_norm=False)) != encoder_design(plain)


@pytest.mark.parametrize(
    ("settings", "same"),
    [
        ({}, True),
        ({"mix": "mixup"}, True),
        ({"mix_alpha": 2.0}, True),
        ({"flip_p": 0.4}, False),
        ({"rand_p": 0.4}, False),
    ],
    ids=["the same", "mixing", "its strength", "mirrored more often", "RandAugment"],
)
def test_alterations_are_told_apart_by_what_happens_to_a_face(settings: dict[str, object], same: bool) -> None:
    found = alterations_digest(AugmentConfig(**settings))

    assert (found == alterations_digest(AugmentConfig())) == same

"""Edges, the hand module, and the rule that a hand makes a face a fearful one."""

import numpy as np
import pytest
import torch

from trainables.models.architectures.answers import HandRuleByName, answer, decide
from trainables.models.architectures.design import Design
from trainables.models.architectures.hands import apply_hand_rule, sobel_edges
from trainables.models.backbones import build_network

CLASSES = ("anger", "fear", "happiness", "sadness")
HAND, NO_HAND = [0.0, 1.0], [1.0, 0.0]


def test_edges_are_the_gradients_magnitude() -> None:
    generator = np.random.default_rng(0)
    grey = generator.normal(size=(6, 6)).astype(np.float32)

    edges = sobel_edges(torch.from_numpy(grey).expand(1, 3, 6, 6))

    padded = np.pad(grey, 1, mode="edge").astype(np.float64)
    expected = np.zeros((6, 6))
    for y in range(6):
        for x in range(6):
            patch = padded[y : y + 3, x : x + 3]
            across = (patch[:, 2] - patch[:, 0]) @ [1, 2, 1]
            down = (patch[2] - patch[0]) @ [1, 2, 1]
            expected[y, x] = np.hypot(across, down)
    np.testing.assert_allclose(edges[0, 0].numpy(), expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(edges[:, 0], edges[:, 2])


def test_flat_picture_has_no_edges() -> None:
    assert float(sobel_edges(torch.full((1, 3, 5, 5), 0.7)).max()) < 1e-5


@pytest.mark.parametrize(
    ("leading", "hand", "decided"),
    [
        ("anger", HAND, "fear"),
        ("anger", NO_HAND, "anger"),
        ("happiness", HAND, "happiness"),
        ("fear", HAND, "fear"),
        ("sadness", HAND, "fear"),
    ],
)
def test_face_with_a_hand_is_called_fearful_unless_it_is_happy(leading: str, hand: list[float], decided: str) -> None:
    logits = torch.full((1, 4), -1.0)
    logits[0, CLASSES.index(leading)] = 2.0

    found = apply_hand_rule(logits, torch.tensor([hand]), target=1, threshold=0.5, exceptions=[2])

    assert CLASSES[int(found.argmax())] == decided
    assert sorted(found[0].tolist()) == sorted(logits[0].tolist())


@pytest.mark.parametrize(("threshold", "decided"), [(0.73, "fear"), (0.74, "anger")])
def test_hand_counts_from_the_threshold_on(threshold: float, decided: str) -> None:
    logits = torch.tensor([[2.0, 0.0, 0.0, 0.0]])

    found = apply_hand_rule(logits, torch.tensor([HAND]), target=1, threshold=threshold, exceptions=[])  # p = 0.7311

    assert CLASSES[int(found.argmax())] == decided


def test_rule_goes_by_names_and_leaves_out_exceptions_that_are_no_class() -> None:
    outputs = {"logits": torch.tensor([[2.0, 0.0, 0.0, 0.0]]), "hand": torch.tensor([HAND])}

    found = decide(outputs, HandRuleByName("fear", 0.5, ("happiness", "contempt")), CLASSES)

    assert CLASSES[int(found.argmax())] == "fear"
    assert torch.equal(decide(outputs, None, CLASSES), outputs["logits"])


def test_rule_is_applied_to_the_mean_of_a_face_and_its_mirror_image() -> None:
    torch.manual_seed(0)
    network = build_network("test_resnet", n_classes=4, design=Design(hand_backbone="test_efficientnet")).eval()
    faces = torch.randn(3, 3, 40, 40)

    with torch.no_grad():
        found = answer(network, faces, mirror=True)
        one, other = network.outputs(faces), network.outputs(faces.flip(-1))

    assert set(found) == {"logits", "hand"}
    torch.testing.assert_close(found["hand"], (one["hand"] + other["hand"]) / 2)


def test_hand_module_is_a_network_of_its_own() -> None:
    network = build_network("test_resnet", n_classes=4, design=Design(hand_backbone="test_efficientnet"))

    network.outputs(torch.randn(2, 3, 40, 40))["hand"].sum().backward()

    assert all(parameter.grad is None for parameter in network.encoder.parameters())
    assert network.hand is not None
    assert any(parameter.grad is not None for parameter in network.hand.parameters())

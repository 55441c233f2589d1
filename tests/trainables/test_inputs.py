"""From decoded faces to a network's input, and to logits."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from trainables.checkpoint import NetworkSpec
from trainables.models.architectures.network import ExpressionNetwork
from trainables.models.backbones import build_network
from trainables.models.inputs import predict_logits, to_inputs

SPEC = NetworkSpec("test_efficientnet", ("anger", "joy"), 8, 8, 1, (0.5, 0.4, 0.3), (0.1, 0.2, 0.25))


def draw_faces(n: int, channels: int, px: int = 8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, px, px, channels), dtype=np.uint8)


@pytest.mark.parametrize("channels", [1, 3], ids=["grey", "colour"])
def test_inputs_are_normalised_per_channel(channels: int) -> None:
    faces = draw_faces(2, channels)

    inputs = to_inputs(torch.from_numpy(faces), replace(SPEC, channels=channels))

    expected = (faces.repeat(3 // channels, axis=3) / 255.0 - SPEC.mean) / SPEC.std
    np.testing.assert_allclose(inputs.numpy(), expected.transpose(0, 3, 1, 2), rtol=1e-5, atol=1e-5)
    assert inputs.is_contiguous(memory_format=torch.channels_last)


def test_inputs_are_resized_when_the_network_sees_another_size() -> None:
    flat = torch.full((2, 8, 8, 1), 51, dtype=torch.uint8)

    inputs = to_inputs(flat, replace(SPEC, image_px=20, mean=(0.0,) * 3, std=(1.0,) * 3))

    torch.testing.assert_close(inputs, torch.full((2, 3, 20, 20), 0.2))


def test_inputs_become_grey_when_a_network_of_grey_faces_sees_colour() -> None:
    red = torch.zeros(1, 8, 8, 3, dtype=torch.uint8)
    red[..., 0] = 255

    inputs = to_inputs(red, replace(SPEC, channels=1, mean=(0.0,) * 3, std=(1.0,) * 3))

    torch.testing.assert_close(inputs, torch.full((1, 3, 8, 8), 0.299))


@pytest.fixture
def network() -> ExpressionNetwork:
    """Untrained, its answers differ from face to face."""
    torch.manual_seed(0)
    network = build_network("test_efficientnet", n_classes=2, drop_rate=0.5)
    torch.nn.init.normal_(network.heads.linear.weight, std=5.0)
    return network


def test_inputs_can_be_trained_on_after_they_were_used_to_predict(network: ExpressionNetwork) -> None:
    spec = replace(SPEC, image_px=32, mean=(0.51, 0.5, 0.5))

    predict_logits(network, draw_faces(2, 1), spec)
    network(to_inputs(torch.from_numpy(draw_faces(2, 1)), spec)).sum().backward()

    assert network.heads.linear.weight.grad is not None


def test_logits_do_not_depend_on_the_batches_and_the_mode_is_put_back(network: ExpressionNetwork) -> None:
    faces = draw_faces(7, 1)
    faces.flags.writeable = False
    network.train()

    whole, cut = (predict_logits(network, faces, replace(SPEC, image_px=32), batch_size=size) for size in (128, 3))

    np.testing.assert_allclose(whole, cut, rtol=1e-4, atol=1e-5)
    assert (whole.shape, whole.dtype, network.training) == ((7, 2), np.float32, True)


def test_logits_are_the_same_when_memory_suffices_for_fewer_faces_at_once(network: ExpressionNetwork) -> None:
    faces, spec = draw_faces(7, 1), replace(SPEC, image_px=32)
    expected = predict_logits(network, faces, spec, batch_size=2)
    sizes: list[int] = []

    def run_short(module: torch.nn.Module, inputs: tuple[torch.Tensor]) -> None:
        sizes.append(len(inputs[0]))
        if len(inputs[0]) > 2:
            raise torch.OutOfMemoryError("out of memory")

    network.heads.register_forward_pre_hook(run_short)
    logits = predict_logits(network.train(), faces, spec, batch_size=8)

    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)
    assert sizes == [7, 3, 1, 1, 1, 1, 1, 1, 1]
    assert network.training


def test_logits_are_the_mean_of_a_face_and_its_mirror_image_where_the_network_wants_it(
    network: ExpressionNetwork,
) -> None:
    faces = draw_faces(5, 1)
    spec = replace(SPEC, image_px=32)

    both = predict_logits(network, faces, replace(spec, mirror=True))

    one, other = (predict_logits(network, images, spec) for images in (faces, faces[:, :, ::-1]))
    np.testing.assert_allclose(both, (one + other) / 2, rtol=1e-4, atol=1e-5)


def test_logits_are_the_mean_over_moved_faces_too_where_the_network_wants_it(network: ExpressionNetwork) -> None:
    faces = draw_faces(5, 1, px=32)
    spec = replace(SPEC, image_px=32, table_px=32)

    moved = predict_logits(network, faces, replace(spec, mirror=True, shift_px=2))

    padded = np.pad(faces, ((0, 0), (2, 2), (2, 2), (0, 0)), mode="edge")
    places = [padded[:, top : top + 32, left : left + 32] for top, left in [(2, 2), (4, 2), (0, 2), (2, 4), (2, 0)]]
    looks = [predict_logits(network, look, spec) for place in places for look in (place, place[:, :, ::-1])]
    np.testing.assert_allclose(moved, np.mean(looks, axis=0), rtol=1e-4, atol=1e-4)

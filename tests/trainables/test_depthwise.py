"""Depthwise convolutions that are quick backwards compute what torch's compute."""

import timm
import torch
from torch import nn

from trainables.models.depthwise import DepthwiseConv2d, depthwise_weight_gradient, use_quick_depthwise


def test_weight_gradient_equals_torchs_for_all_small_maps() -> None:
    torch.manual_seed(0)

    for side in (1, 2, 3, 4, 7):
        for kernel_px, stride, padding in ((3, 1, 1), (5, 1, 2), (5, 2, 2), (3, 2, 0), (5, 2, 3), (7, 1, 3)):
            if side + 2 * padding < kernel_px:
                continue
            inputs = torch.randn(3, 4, side, side, dtype=torch.float64)
            weight = torch.randn(4, 1, kernel_px, kernel_px, dtype=torch.float64, requires_grad=True)
            output = nn.functional.conv2d(inputs, weight, None, stride, padding, 1, 4)
            gradient = torch.randn_like(output)

            (expected,) = torch.autograd.grad(output, weight, gradient)
            found = depthwise_weight_gradient(inputs, gradient, kernel_px=kernel_px, stride=stride, padding=padding)

            torch.testing.assert_close(found, expected)


def test_quick_convolution_passes_gradcheck() -> None:
    torch.manual_seed(0)
    quick = use_quick_depthwise(nn.Sequential(nn.Conv2d(4, 4, 5, padding=2, groups=4))).double()
    inputs = torch.randn(2, 4, 3, 3, dtype=torch.float64, requires_grad=True)

    assert isinstance(quick[0], DepthwiseConv2d)  # type: ignore[index]
    assert torch.autograd.gradcheck(quick, (inputs,))


def test_network_keeps_its_weights_names_outputs_and_gradients() -> None:
    torch.manual_seed(0)
    plain = timm.create_model("tf_efficientnet_lite0", num_classes=3).eval()
    quick = timm.create_model("tf_efficientnet_lite0", num_classes=3).eval()
    quick.load_state_dict(plain.state_dict())
    names = list(plain.state_dict())
    faces = torch.randn(2, 3, 48, 48)

    use_quick_depthwise(quick)
    losses = [network(faces).square().sum() for network in (plain, quick)]
    for loss in losses:
        loss.backward()

    assert sum(isinstance(module, DepthwiseConv2d) for module in quick.modules()) == 16
    assert list(quick.state_dict()) == names
    torch.testing.assert_close(losses[1], losses[0])
    for one, other in zip(quick.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-3, atol=1e-4)

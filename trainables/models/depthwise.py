"""Depthwise convolutions whose weight gradient is quick on a processor, also where the maps are small.

Faces are small: at 48 pixels the last blocks of a mobile network see maps of 2 x 2 under kernels of 5 x 5. There
oneDNN's weight gradient takes up to 90 times what the sum over shifts below takes, and with it more than half of a
training step of tf_efficientnet_lite0 (see benchmarks/bench_depthwise.py). Forward pass and input gradient are torch's.
"""

from typing import Any

import torch
import torch.nn.functional as F
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.padding import pad_same
from torch import nn

LARGEST_SHIFTED_PX = 8
"""Output side up to which shifts win over oneDNN (measured for 32 to 1152 channels, batch 64)."""


class DepthwiseConv2d(nn.Conv2d):
    """A depthwise convolution, the same in all but its backward pass; parameters keep their names."""

    pads_same = False

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """[batch, channels, height, width] to the same with the stride's sides."""
        if self.pads_same:
            input = pad_same(input, list(self.kernel_size), list(self.stride), list(self.dilation))
        if input.device.type != "cpu" or not torch.is_grad_enabled():
            return F.conv2d(input, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)
        output: torch.Tensor = _DepthwiseConv.apply(input, self.weight, self.stride, self.padding)
        return output if self.bias is None else output + self.bias.view(1, -1, 1, 1)


def use_quick_depthwise(network: nn.Module) -> nn.Module:
    """Replace a network's plain depthwise convolutions in place; weights and their names stay as they are."""
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.Conv2d) and _is_plain_depthwise(child):
                setattr(parent, name, _quick(child))
    return network


def depthwise_weight_gradient(
    inputs: torch.Tensor, gradient: torch.Tensor, *, kernel_px: int, stride: int, padding: int
) -> torch.Tensor:
    """The gradient of a depthwise convolution's weights, as a sum over the kernel's shifts.

    Shifts that see padding alone are skipped; on small maps that is most of them.

    Args:
        inputs: [batch, channels, height, width].
        gradient: of the output, [batch, channels, out height, out width].
        kernel_px: side of the kernel.
        stride: same both ways.
        padding: same on all sides.

    Returns:
        [channels, 1, kernel, kernel].
    """
    maps, grads = inputs.permute(0, 2, 3, 1), gradient.permute(0, 2, 3, 1)  # [batch, height, width, channels]
    out = inputs.new_zeros(kernel_px, kernel_px, inputs.shape[1])
    rows = [_overlap(i, maps.shape[1], grads.shape[1], stride=stride, padding=padding) for i in range(kernel_px)]
    columns = [_overlap(j, maps.shape[2], grads.shape[2], stride=stride, padding=padding) for j in range(kernel_px)]
    for i, (row_in, row_out) in enumerate(rows):
        for j, (column_in, column_out) in enumerate(columns):
            seen = maps[:, row_in, column_in]
            if seen.numel():
                out[i, j] = (seen * grads[:, row_out, column_out]).sum((0, 1, 2))
    return out.permute(2, 0, 1).unsqueeze(1)


class _DepthwiseConv(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, inputs: torch.Tensor, weight: torch.Tensor, stride: tuple[int, int], padding: tuple[int, int]
    ) -> torch.Tensor:
        ctx.save_for_backward(inputs, weight)
        ctx.stride, ctx.padding = stride, padding
        return F.conv2d(inputs, weight, None, stride, padding, 1, weight.shape[0])

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None, None, None]:
        inputs, weight = ctx.saved_tensors
        wants_input, wants_weight = ctx.needs_input_grad[:2]
        shifts = wants_weight and _shifts_win(gradient, weight.shape[-1])
        to_input, to_weight, _ = torch.ops.aten.convolution_backward(
            gradient, inputs, weight, None, ctx.stride, ctx.padding, (1, 1), False, (0, 0), weight.shape[0],
            (wants_input, wants_weight and not shifts, False),
        )  # fmt: skip
        if shifts:
            to_weight = depthwise_weight_gradient(
                inputs, gradient, kernel_px=weight.shape[-1], stride=ctx.stride[0], padding=ctx.padding[0]
            )
        return to_input, to_weight, None, None


def _shifts_win(gradient: torch.Tensor, kernel_px: int) -> bool:
    """oneDNN is quick for 3 x 3 kernels on maps that are no smaller than they are."""
    side = max(gradient.shape[-2:])
    return side <= LARGEST_SHIFTED_PX and (kernel_px > 3 or side < kernel_px)


def _overlap(shift: int, n_in: int, n_out: int, *, stride: int, padding: int) -> tuple[slice, slice]:
    """Where, along one side, the kernel's element at `shift` meets the input and not the padding."""
    first = max(0, -(-(padding - shift) // stride))
    last = min(n_out, (n_in - 1 + padding - shift) // stride + 1)
    if last <= first:
        return slice(0, 0), slice(0, 0)
    start = first * stride + shift - padding
    return slice(start, start + (last - first - 1) * stride + 1, stride), slice(first, last)


def _is_plain_depthwise(module: nn.Conv2d) -> bool:
    return (
        type(module) in (nn.Conv2d, Conv2dSame)
        and module.groups == module.in_channels == module.out_channels > 1
        and module.kernel_size[0] == module.kernel_size[1]
        and module.stride[0] == module.stride[1]
        and module.dilation == (1, 1)
        and module.padding_mode == "zeros"
        and not isinstance(module.padding, str)
        and module.padding[0] == module.padding[1]
    )


def _quick(conv: nn.Conv2d) -> DepthwiseConv2d:
    quick = DepthwiseConv2d(
        conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding,  # type: ignore[arg-type]
        groups=conv.groups, bias=conv.bias is not None, device="meta",
    )  # fmt: skip
    quick.weight, quick.bias = conv.weight, conv.bias
    quick.pads_same = isinstance(conv, Conv2dSame)
    return quick.train(conv.training)

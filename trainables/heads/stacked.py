"""The expression heads of many trials in common tensors, so that each step is a few products of large matrices."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F

Tensors = dict[str, torch.Tensor]
"""A head's tensors by their names in `Heads`: `linear.weight` [classes, width], `linear.bias` [classes]; with a hidden
layer also `hidden.0.weight` [hidden, width] and `hidden.0.bias` [hidden]."""

CHUNK_ROWS = 256
"""Rows of a matrix of stacked heads: with more, products get no quicker, but weights and the optimiser's numbers leave
the processor's cache."""

LANES = 16
"""Rows of matrices begin at multiples of so many numbers, where processors read them quickest."""


def padded_width(width: int) -> int:
    """Numbers in a row of inputs: an embedding, the 1 that a bias is multiplied by, and zeros."""
    return -(-(width + 1) // LANES) * LANES


def chunks_of(heads: Sequence[Tensors], kinds: Sequence[str]) -> list[list[int]]:
    """Places of heads that can be stacked: those of one shape and one kind, `CHUNK_ROWS` rows of them at most."""
    alike: dict[tuple[int, str], list[int]] = {}
    for place, (head, kind) in enumerate(zip(heads, kinds, strict=True)):
        alike.setdefault((len(head.get("hidden.0.bias", ())), kind), []).append(place)
    found = []
    for (n_hidden, _), places in alike.items():
        size = max(1, CHUNK_ROWS // (n_hidden or len(heads[0]["linear.bias"])))
        found += [places[first : first + size] for first in range(0, len(places), size)]
    return found


def padded_inputs(embeddings: torch.Tensor) -> torch.Tensor:
    """[batch, width] to what stacked heads are applied to, [batch, padded width]."""
    batch, width = embeddings.shape
    inputs = embeddings.new_zeros(batch, padded_width(width))
    inputs[:, :width] = embeddings
    inputs[:, width] = 1.0
    return inputs


class StackedHeads:
    """Heads of one shape: linear, or with one hidden layer of rectified units.

    A bias is one more column of its matrix. The trial is the first dimension of every tensor: a trial's own part is in
    one piece, and none of its numbers meets another trial's.

    Attributes:
        parameters: [trials, classes, padded width]; or [trials, hidden, padded width] and [trials, classes,
            hidden + 1].
        gradients: of the same shapes; `backward` fills them.
    """

    def __init__(self, starts: Sequence[Tensors], device: torch.device) -> None:
        is_deep = "hidden.0.weight" in starts[0]
        self._layers = ("hidden.0", "linear") if is_deep else ("linear",)
        self._width = starts[0][f"{self._layers[0]}.weight"].shape[1]
        self.parameters = [_stacked(starts, layer, device) for layer in self._layers]
        self.parameters[0] = _padded(self.parameters[0], padded_width(self._width))
        self.gradients = [torch.zeros_like(parameter) for parameter in self.parameters]
        self._rows = self.parameters[0].flatten(0, 1)  # views of all trials' rows
        self._row_gradients = self.gradients[0].flatten(0, 1)
        self._hidden = torch.empty(0)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """[batch, padded width] to logits [trials, classes, batch]."""
        n_trials, n_units, _ = self.parameters[0].shape
        sums = (self._rows @ inputs.T).view(n_trials, n_units, len(inputs))
        if len(self.parameters) == 1:
            return sums
        self._hidden = sums.new_ones(n_trials, n_units + 1, len(inputs))
        torch.clamp_min(sums, 0.0, out=self._hidden[:, :-1])
        return torch.bmm(self.parameters[1], self._hidden)

    def backward(self, inputs: torch.Tensor, slopes: torch.Tensor) -> None:
        """Fill the gradients, after `forward` of the same inputs.

        Args:
            inputs: [batch, padded width].
            slopes: [trials, classes, batch], of the loss by the logits.
        """
        if len(self.parameters) == 2:
            torch.bmm(slopes, self._hidden.transpose(1, 2), out=self.gradients[1])
            slopes = torch.bmm(self.parameters[1][:, :, :-1].transpose(1, 2), slopes)  # [trials, hidden, batch]
            slopes.mul_(self._hidden[:, :-1].sign())  # of a rectified unit: 1 where it is above 0
        torch.mm(slopes.flatten(0, 1), inputs, out=self._row_gradients)

    def of(self, i: int) -> Tensors:
        """One trial's tensors, on the CPU."""
        found: Tensors = {}
        for layer, parameter, n_inputs in zip(self._layers, self.parameters, self._n_inputs(), strict=True):
            own = parameter[i].cpu()
            found[f"{layer}.weight"] = own[:, :n_inputs].clone(memory_format=torch.contiguous_format)
            found[f"{layer}.bias"] = own[:, n_inputs].clone()
        return found

    def _n_inputs(self) -> list[int]:
        return [self._width, *(parameter.shape[2] - 1 for parameter in self.parameters[1:])]


def _stacked(starts: Sequence[Tensors], layer: str, device: torch.device) -> torch.Tensor:
    """[trials, outputs, inputs + 1]: weights and biases of a layer."""
    parts = [torch.cat([start[f"{layer}.weight"], start[f"{layer}.bias"][:, None]], dim=1) for start in starts]
    return torch.stack(parts).to(device, torch.float32)


def _padded(matrices: torch.Tensor, n_columns: int) -> torch.Tensor:
    return F.pad(matrices, (0, n_columns - matrices.shape[2]))

"""One optimiser for the heads of many trials, each with its own learning rate and clipping."""

from collections.abc import Sequence

import torch

from spaces.training_sections import OptimiserConfig

CLIP_EPS = 1e-6
"""That torch's `clip_grad_norm_` adds to a norm."""


class BatchedUpdate:
    """What `build_head_optimiser` and `Update` do to one head, to many.

    What an optimiser adds to a weight is its learning rate times something that does not depend on the rate. So it
    moves zeros at rate 1 first, and each trial adds its own rate's share of that.
    """

    def __init__(
        self, parameters: Sequence[torch.Tensor], trial_dims: Sequence[int], configs: Sequence[OptimiserConfig]
    ) -> None:
        """
        Args:
            parameters: of all trials.
            trial_dims: which dimension of each is the trial's.
            configs: [trials]; all of one optimiser's name.
        """
        self._parameters = parameters
        self._dims = trial_dims
        self._moves = [torch.zeros_like(parameter) for parameter in parameters]
        self._update = _UPDATES[configs[0].name](self._moves)
        self._clip = torch.tensor([config.grad_clip or float("inf") for config in configs], device=parameters[0].device)
        self._has_clip = any(config.grad_clip for config in configs)

    def step(self, gradients: Sequence[torch.Tensor], rates: torch.Tensor) -> None:
        """Move all heads.

        Args:
            gradients: one a parameter, of its shape.
            rates: [trials], learning rates of this step.
        """
        if self._has_clip:
            self._clip_each(gradients)
        for move in self._moves:
            move.zero_()
        self._update(gradients)
        for parameter, move, dim in zip(self._parameters, self._moves, self._dims, strict=True):
            parameter.addcmul_(move, _spread(rates, parameter, dim))

    def _clip_each(self, gradients: Sequence[torch.Tensor]) -> None:
        """Shorten each trial's gradient to its largest norm, over all of its parameters."""
        squares = [_square_sums(gradient, dim) for gradient, dim in zip(gradients, self._dims, strict=True)]
        norms = torch.stack(squares).sum(dim=0).sqrt()  # [trials]
        factors = (self._clip / (norms + CLIP_EPS)).clamp(max=1.0)
        if bool((factors < 1.0).any()):
            for gradient, dim in zip(gradients, self._dims, strict=True):
                gradient.mul_(_spread(factors, gradient, dim))


class _Adam:
    """torch's fused kernel of Adam without decay, which its optimiser calls after checks that take longer than it."""

    def __init__(self, moves: list[torch.Tensor]) -> None:
        self._moves = moves
        self._first, self._second = ([torch.zeros_like(move) for move in moves] for _ in range(2))
        self._steps = [torch.zeros((), device=move.device) for move in moves]

    def __call__(self, gradients: Sequence[torch.Tensor]) -> None:
        torch._foreach_add_(self._steps, 1)
        torch._fused_adamw_(
            self._moves, list(gradients), self._first, self._second, [], self._steps,
            lr=1.0, beta1=0.9, beta2=0.999, weight_decay=0.0, eps=1e-8, amsgrad=False, maximize=False,
        )  # fmt: skip


class _Momentum:
    """torch's SGD with momentum 0.9."""

    def __init__(self, moves: list[torch.Tensor]) -> None:
        self._moves = moves
        self._buffers = [torch.zeros_like(move) for move in moves]

    def __call__(self, gradients: Sequence[torch.Tensor]) -> None:
        for move, buffer, gradient in zip(self._moves, self._buffers, gradients, strict=True):
            move.sub_(buffer.mul_(0.9).add_(gradient))


_UPDATES: dict[str, type[_Adam] | type[_Momentum]] = {"adam": _Adam, "adamw": _Adam, "sgd": _Momentum}
"""As in `OPTIMISERS`; Adam's two kinds differ in how weights decay, and here none does."""


def _square_sums(gradient: torch.Tensor, dim: int) -> torch.Tensor:
    """[trials]: sums of squares."""
    norms: torch.Tensor = torch.linalg.vector_norm(gradient, dim=-1)  # quick along memory
    others = [d for d in range(norms.ndim) if d != dim]
    if dim == norms.ndim:  # the last one was the trial's
        return gradient.square().sum(dim=list(range(dim)))
    return norms.square().sum(dim=others) if others else norms.square()


def _spread(values: torch.Tensor, like: torch.Tensor, dim: int) -> torch.Tensor:
    """[trials] in a shape that multiplies a tensor trial by trial."""
    shape = [1] * like.ndim
    shape[dim] = len(values)
    return values.view(shape)

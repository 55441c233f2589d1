"""One update of many trials' heads, each with its own learning rate and clipping."""

from collections.abc import Sequence

import torch

from spaces.training_sections import OptimiserConfig

CLIP_EPS = 1e-6
"""What torch's clipping adds to a norm."""


class BatchedUpdate:
    """What `build_head_optimiser` and `Update` do to one head, to many.

    torch's optimisers know one learning rate for all of a tensor, and their wrapping takes longer than the update of a
    head. So the kernels below them are called, once a trial.
    """

    def __init__(
        self,
        parameters: Sequence[torch.Tensor],
        gradients: Sequence[torch.Tensor],
        configs: Sequence[OptimiserConfig],
    ) -> None:
        """
        Args:
            parameters: each [trials, ...].
            gradients: of the same shapes; always the same tensors, filled anew before each step.
            configs: [trials]; all of one optimiser's name, where adam and adamw are one: nothing decays here.
        """
        n_trials = len(configs)
        self._flat_gradients = [gradient.view(n_trials, -1) for gradient in gradients]
        self._clips = [config.grad_clip or float("inf") for config in configs]
        self._has_clips = any(config.grad_clip for config in configs)
        self._longest = torch.tensor(self._clips, device=parameters[0].device)
        self._n_steps = torch.zeros((), device=parameters[0].device)
        own = [([p[i] for p in parameters], [g[i] for g in gradients]) for i in range(n_trials)]
        self._movers: list[_Momentum | _Adam]
        if configs[0].name == "sgd":
            self._movers = [_Momentum(*tensors) for tensors in own]
        else:
            self._movers = [_Adam(*tensors, n_steps=self._n_steps) for tensors in own]

    def step(self, rates: Sequence[float]) -> None:
        """Move all heads by their gradients.

        Args:
            rates: [trials], learning rates of this step.
        """
        self._n_steps.add_(1.0)
        for mover, rate, divisor in zip(self._movers, rates, self._divisors(), strict=True):
            mover.step(rate, divisor)

    def _divisors(self) -> Sequence[torch.Tensor | None]:
        """What brings each trial's gradient to its largest norm; None where it is short enough."""
        if not self._has_clips:
            return [None] * len(self._clips)
        norms = [torch.linalg.vector_norm(gradient, dim=1) for gradient in self._flat_gradients]
        total = norms[0] if len(norms) == 1 else torch.stack(norms).norm(dim=0)  # [trials]
        is_short = [norm <= clip for norm, clip in zip(total.tolist(), self._clips, strict=True)]
        if all(is_short):
            return [None] * len(is_short)
        divisors = ((total + CLIP_EPS) / self._longest).unbind()
        return [None if short else divisor for short, divisor in zip(is_short, divisors, strict=True)]


class _Adam:
    """Adam on one trial's head, with torch's own numbers; `n_steps` counts, the step that is on included."""

    def __init__(self, parameters: list[torch.Tensor], gradients: list[torch.Tensor], *, n_steps: torch.Tensor) -> None:
        self._parameters, self._gradients = parameters, gradients
        self._means = [torch.zeros_like(parameter) for parameter in parameters]
        self._squares = [torch.zeros_like(parameter) for parameter in parameters]
        self._n_steps = [n_steps] * len(parameters)

    def step(self, rate: float, divisor: torch.Tensor | None) -> None:
        torch._fused_adam_(
            self._parameters, self._gradients, self._means, self._squares, [], self._n_steps,
            lr=rate, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.0, amsgrad=False, maximize=False,
            grad_scale=divisor,
        )  # fmt: skip


class _Momentum:
    """Gradient descent with momentum on one trial's head."""

    def __init__(self, parameters: list[torch.Tensor], gradients: list[torch.Tensor]) -> None:
        self._parameters, self._gradients = parameters, gradients
        self._moves = [torch.zeros_like(parameter) for parameter in parameters]

    def step(self, rate: float, divisor: torch.Tensor | None) -> None:
        torch._fused_sgd_(
            self._parameters, self._gradients, self._moves,
            lr=rate, momentum=0.9, dampening=0.0, weight_decay=0.0, nesterov=False, maximize=False,
            is_first_step=False, grad_scale=divisor,
        )  # fmt: skip

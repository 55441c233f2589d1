"""One update of weights: gradient, SAM's second look, clipping, the optimiser's step."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import nn

from spaces.errors import DeviceError
from spaces.training_sections import OptimiserConfig
from trainables.memory import is_out_of_memory
from trainables.sam import perturbed, still_statistics

Terms = dict[str, torch.Tensor]

Part = tuple[float, Callable[[], Terms]]
"""A forward pass that gives terms of the loss, and the share of the batch's faces that it is over."""


class Update:
    """An optimiser with what is done around its step."""

    def __init__(
        self,
        optimiser: torch.optim.Optimizer,
        network: nn.Module,
        config: OptimiserConfig,
        *,
        scaler: torch.amp.GradScaler | None = None,
    ) -> None:
        """
        Args:
            optimiser: over what is trained.
            network: whose batch norm a second pass of SAM may leave alone.
            config: radius of SAM, and the largest norm of a gradient.
            scaler: for float16; None elsewhere.
        """
        self.optimiser = optimiser
        self._network = network
        self._config = config
        self._scaler = scaler

    @property
    def parameters(self) -> Sequence[nn.Parameter]:
        """All that the optimiser moves."""
        return [parameter for group in self.optimiser.param_groups for parameter in group["params"]]

    def step(self, parts: Sequence[Part]) -> Terms:
        """Move the weights once.

        Args:
            parts: passes over the batch or parts of it, whose gradients add up; SAM goes through all twice.

        Returns:
            The terms of the first pass and their sum as `loss`, detached.

        Raises:
            DeviceError: memory does not suffice for the optimiser's own numbers, when the gradient is there.
            Exception: whatever a pass raised; no weight has moved then.
        """
        terms = self._backward(parts)
        if self._config.sam_rho:
            with ExitStack() as stack:
                stack.enter_context(perturbed(self.parameters, rho=self._config.sam_rho))
                if self._config.sam_batch_norm == "first":
                    stack.enter_context(still_statistics(self._network))
                self._backward(parts)
        try:
            self._apply()
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise DeviceError(  # some weights may have moved: no smaller part of the batch would mend that
                "weights, gradients and the optimiser's numbers must fit into memory, got out of memory; choose a "
                "smaller backbone, or let fewer trials share the device"
            ) from error
        return terms

    def drop_gradients(self) -> None:
        """Free the gradients of a step that did not come to its end."""
        self.optimiser.zero_grad(set_to_none=True)

    def state_dict(self) -> dict[str, Any]:
        """For a run that goes on later."""
        scaler = self._scaler.state_dict() if self._scaler else {}
        return {"optimiser": self.optimiser.state_dict(), "scaler": scaler}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up a state."""
        self.optimiser.load_state_dict(state["optimiser"])
        if self._scaler and state["scaler"]:  # empty where the run began on a device that needs none
            self._scaler.load_state_dict(state["scaler"])

    def _backward(self, parts: Sequence[Part]) -> Terms:
        """Gradients of the whole batch, added up part by part; its terms and their sum."""
        self.drop_gradients()
        total: Terms = {}
        for share, compute_terms in parts:
            terms = compute_terms()
            loss = torch.stack([term.float() for term in terms.values()]).sum()
            weighted = loss if share == 1.0 else share * loss
            scaled = self._scaler.scale(weighted) if self._scaler else weighted
            scaled.backward()  # type: ignore[no-untyped-call]
            for name, term in {**terms, "loss": loss}.items():
                so_far = total.get(name)
                own = term.detach() if share == 1.0 else share * term.detach()
                total[name] = own if so_far is None else so_far + own
        return total

    def _apply(self) -> None:
        if self._config.grad_clip:
            if self._scaler:
                self._scaler.unscale_(self.optimiser)
            self._clip(self._config.grad_clip)
        if self._scaler:
            self._scaler.step(self.optimiser)
            self._scaler.update()
        else:
            self.optimiser.step()

    def _clip(self, longest: float) -> None:
        """Shorten the gradient to this length. Where it is short already, a processor is spared going through it."""
        parameters = [parameter for parameter in self.parameters if parameter.grad is not None]
        norm = nn.utils.get_total_norm([parameter.grad for parameter in parameters if parameter.grad is not None])
        if norm.device.type != "cpu" or not norm <= longest:  # a GPU would have to be waited for
            nn.utils.clip_grads_with_norm_(parameters, longest, norm)

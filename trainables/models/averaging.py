"""The average of a network's weights over its last steps."""

from typing import Any

from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from trainables.models.architectures.network import ExpressionNetwork


class WeightAverage:
    """An exponential moving average of weights and statistics; with decay 0 it is the network itself.

    Early on the decay is lower, (1 + step) / (10 + step), so that the start is forgotten.

    Source: Polyak and Juditsky 1992; the warm-up of the decay as in TensorFlow's moving averages.
    """

    def __init__(self, network: ExpressionNetwork, *, decay: float) -> None:
        self._decay = decay
        self._step = 0
        self._live = network
        self._averaged: AveragedModel | None = None
        if decay:
            self._averaged = AveragedModel(network, use_buffers=True)

    @property
    def network(self) -> ExpressionNetwork:
        """What is scored and saved."""
        if self._averaged is None:
            return self._live
        averaged: ExpressionNetwork = self._averaged.module  # type: ignore[assignment]
        return averaged

    def update(self, network: ExpressionNetwork) -> None:
        """Take in the weights after a step."""
        if self._averaged is None:
            return
        self._step += 1
        decay = min(self._decay, (1 + self._step) / (10 + self._step))
        self._averaged.multi_avg_fn = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        self._averaged.update_parameters(network)

    def restart(self, network: ExpressionNetwork) -> None:
        """Forget the average and begin with this network."""
        if self._averaged is not None:
            self._step = 0
            self._averaged.module.load_state_dict(network.state_dict())

    def state_dict(self) -> dict[str, Any]:
        """For a run that goes on later."""
        return {"step": self._step, "averaged": None if self._averaged is None else self._averaged.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up a state."""
        self._step = state["step"]
        if self._averaged is not None:
            self._averaged.load_state_dict(state["averaged"])

"""What the frozen twin of a deviation module says of each training face, computed once.

It only pays where a face looks the same in every epoch: where nothing random is done to it on the fly.
"""

import torch

from trainables.models.architectures.deviation import DeviationEncoder

MOST_BYTES = 4 * 1024**3
"""Beyond this the twin is asked every time. Float32, since trained minus frozen is a difference of near equals."""

GROUP = 16
"""The twin is asked about so many faces at once, never fewer."""


class FrozenMemory:
    """Embeddings of the frozen twin by a face's position among the trial's items.

    Arithmetic rounds by the size of a batch. Groups of one size make a face's embedding the same to the last bit in
    whichever batch it first stands, so that a run which goes on, its memory empty, goes on as it would have.
    """

    def __init__(self, encoder: DeviationEncoder, n_items: int) -> None:
        self._encoder = encoder
        self._embeddings = torch.zeros(n_items, encoder.width)
        self._is_known = torch.zeros(n_items, dtype=torch.bool)

    @classmethod
    def fits(cls, encoder: DeviationEncoder, n_items: int) -> bool:
        """Whether so many embeddings are worth keeping in memory."""
        return 4 * n_items * encoder.width <= MOST_BYTES

    def recall(self, positions: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
        """The twin's embeddings of a batch, remembered or computed.

        Args:
            positions: int64 [batch], on the CPU.
            inputs: [batch, 3, px, px], the faces there.

        Returns:
            [batch, width] on the inputs' device.
        """
        unknown = ~self._is_known[positions]
        if unknown.any():
            new = self._embed(inputs[unknown.to(inputs.device)])
            self._embeddings[positions[unknown]] = new.float().cpu()
            self._is_known[positions[unknown]] = True
        return self._embeddings[positions].to(inputs.device, non_blocking=True)

    def _embed(self, inputs: torch.Tensor) -> torch.Tensor:
        """[n, 3, px, px] to [n, width], in whole groups: the last one is filled up with faces from the front."""
        n_wanted = -(-len(inputs) // GROUP) * GROUP
        rows = torch.arange(n_wanted, device=inputs.device) % len(inputs)
        groups = [self._encoder.embed_frozen(inputs[group]) for group in rows.view(-1, GROUP)]
        return torch.cat(groups)[: len(inputs)]

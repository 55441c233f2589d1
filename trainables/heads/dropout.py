"""Dropout of the embeddings that heads are trained on, at a fraction of what independent draws cost.

A number for each element of every face in every epoch would take as long as the heads themselves. Here an epoch draws
a pool of a quarter of a million elements, each kept or not by a draw of its own, and a face is given a stretch of it
that begins at random. Within a face all is as with independent draws; between two faces of an epoch the stretches share
elements about once in a hundred times (at a width of 1,280), and then in other places of the embedding;
once in a quarter of a million times two faces have the same.
"""

import numpy as np
import numpy.typing as npt
import torch

POOL_SIZE = 2**18
"""Elements: a megabyte, which stays in a near cache."""

DRAWS = 2**16
"""Values of one draw, of 16 bits: a rate is met to within 1 in 130,000."""


class Dropout:
    """What embeddings are multiplied by in one epoch: 0 where dropout strikes, else 1 / (1 - rate)."""

    def __init__(self, *, rate: float, width: int, seed: int, epoch: int) -> None:
        """
        Args:
            rate: probability that an element is dropped, below 1.
            width: of an embedding.
            seed: of the trial.
            epoch: of its head-only epochs.
        """
        generator = np.random.SFC64([seed, epoch, 0xD809])
        bits = generator.random_raw(max(POOL_SIZE, 64 * width) // 4).view(np.uint16)
        pool = np.multiply(bits >= round(rate * DRAWS), 1.0 / (1.0 - rate), dtype=np.float32)
        self._stretches: npt.NDArray[np.float32] = np.lib.stride_tricks.sliding_window_view(pool, width)
        self._generator = np.random.Generator(generator)

    def draw(self, n_faces: int) -> torch.Tensor:
        """Float32 [faces, width]."""
        begins = self._generator.integers(len(self._stretches), size=n_faces)
        return torch.from_numpy(self._stretches[begins])

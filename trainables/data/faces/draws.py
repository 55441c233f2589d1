"""Randomness of many faces at once, each its own: a row of uniform numbers a face, read column by column."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Generators = list[np.random.Generator]


def build_generators(keys: Sequence[tuple[int, ...]]) -> Generators:
    """One generator a key. A key is a path of non-negative numbers, such as (seed, split, row)."""
    return [np.random.Generator(np.random.PCG64(np.random.SeedSequence(key))) for key in keys]


class Draws:
    """Draws that are independent between faces and depend on nothing but each face's own generator.

    Every call reads the next column (`normal` two), whatever the outcome of earlier ones: so a face keeps its looks
    when another face, or a range, changes.
    """

    def __init__(self, generators: Generators, *, columns: int) -> None:
        self._uniforms = np.stack([generator.random(columns) for generator in generators])  # [faces, columns]
        self._next = 0

    def unit(self) -> Floats:
        """[n] in 0..1."""
        column: Floats = self._uniforms[:, self._next]
        self._next += 1
        return column

    def uniform(self, low: ArrayLike, high: ArrayLike) -> Floats:
        """[n] in low..high; either may be [n]."""
        low, high = np.asarray(low, np.float64), np.asarray(high, np.float64)
        return np.asarray(low + (high - low) * self.unit())

    def normal(self, deviation: ArrayLike) -> Floats:
        """[n], mean 0 (Box and Muller, 1958), cut at three deviations."""
        radius = np.sqrt(-2 * np.log(1 - self.unit()))
        normal = np.clip(radius * np.cos(2 * np.pi * self.unit()), -3, 3)
        return np.asarray(np.asarray(deviation, np.float64) * normal)

    def chance(self, share: ArrayLike) -> NDArray[np.bool_]:
        """[n]: true for this share of faces."""
        return np.asarray(self.unit() < np.asarray(share))

    def pick(self, shares: Sequence[float]) -> NDArray[np.int64]:
        """[n]: an index of `shares`, which sum to 1."""
        edges = np.cumsum(np.asarray(shares))[:-1]
        return np.searchsorted(edges, self.unit(), side="right").astype(np.int64)

"""What can be known of a face: the label columns of a face table."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

ACTION_UNITS = (1, 2, 4, 6, 7, 10, 12, 15, 23, 24, 25, 26)
"""The facial action units of `action_units`, in the order of its columns."""

N_LANDMARKS = 68
"""Landmarks in iBUG order, stored as x0, y0, x1, y1, ... in `landmarks`."""

NOT_LABELLED = -1
"""`expression` of a face whose expression is not known."""


@dataclass(frozen=True)
class LabelColumn:
    """One optional label: how it is stored, and what stands where it is not known."""

    dtype: np.dtype[Any]
    width: int
    missing: float
    low: float
    high: float

    def empty(self, n: int) -> NDArray[Any]:
        """[n], or [n, width] where the label has several numbers; nothing known."""
        return np.full(n if self.width == 1 else (n, self.width), self.missing, self.dtype)

    def is_known(self, values: NDArray[Any]) -> NDArray[np.bool_]:
        """[n]: rows of `values` ([n] or [n, width]) that hold at least one number."""
        known: NDArray[np.bool_] = ~np.isnan(values) if self.dtype.kind == "f" else values != self.missing
        return known if self.width == 1 else np.any(known, axis=1)


LABEL_COLUMNS: Mapping[str, LabelColumn] = {
    "valence": LabelColumn(np.dtype(np.float32), 1, np.nan, -1, 1),
    "arousal": LabelColumn(np.dtype(np.float32), 1, np.nan, -1, 1),
    "action_units": LabelColumn(np.dtype(np.int8), len(ACTION_UNITS), -1, -1, 5),
    "landmarks": LabelColumn(np.dtype(np.float32), 2 * N_LANDMARKS, np.nan, 0, 1),
    "hand": LabelColumn(np.dtype(np.int8), 1, -1, -1, 1),
}
"""The optional label columns of a face table; `expression` is always there."""

"""The faces of a trial as what the heads stand on: embeddings instead of pixels."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

View = NDArray[np.float16] | NDArray[np.float32]
"""[faces, width]: one embedding a face."""


@dataclass(frozen=True, eq=False)
class EmbeddedFaces:
    """Embeddings of training faces, in one view or several.

    Attributes:
        views: each [faces, width], read-only where they are mapped; one may be float32 beside others in float16. The
            first is of the faces as they are, the others of altered ones.
        rows: [faces], ascending: which rows of their split they are.
    """

    views: tuple[View, ...]
    rows: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def width(self) -> int:
        """Numbers in an embedding."""
        return int(self.views[0].shape[1])

    def draw_views(self, *, seed: int, epoch: int) -> NDArray[np.int64]:
        """[faces]: which of its views each face shows in an epoch, whichever other faces of its split are here."""
        n_rows = int(self.rows[-1]) + 1 if len(self) else 0
        drawn = np.random.default_rng([seed, epoch, 0x71E5]).integers(len(self.views), size=n_rows)
        return drawn[self.rows]

    def take(self, places: NDArray[np.int64], shown: NDArray[np.int64]) -> View:
        """A copy of some faces' embeddings.

        Args:
            places: [n], among these faces.
            shown: [faces], of `draw_views`.

        Returns:
            [n, width].
        """
        if len(self.views) == 1:
            return self.views[0][places]
        taken: View = np.empty((len(places), self.width), np.result_type(*self.views))
        for number, view in enumerate(self.views):
            here = shown[places] == number
            taken[here] = view[places[here]]
        return taken

"""Which trials may be compared on their way: those that train the same network on about as many faces."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from search.prelaunch import iter_representatives
from spaces.domains import Choice
from spaces.space import SearchSpace
from trainables.data.sampling import subsample_size

RATIO = "data.subsample_ratio"


class Stratum(NamedTuple):
    """A network, and how often the training faces are halved before it sees them.

    A subsample of more than a half of the faces has 0 halvings, one of more than a quarter and up to a half has 1, and
    so on, so that ratios from a range fall into few strata.
    """

    network: str
    """Encoder and backbone, as in `pooled resnet18`."""
    n_halvings: int


def stratum_of(settings: Mapping[str, Any]) -> Stratum:
    """The stratum of a trial.

    Args:
        settings: its complete config, flat.
    """
    encoder = settings.get("model.encoder", "pooled")  # searches of the first version know no other
    return Stratum(f"{encoder} {settings['model.backbone']}", _halvings(float(settings[RATIO])))


def named_ratios(space: SearchSpace) -> frozenset[float]:
    """Subsample ratios that a space names, as its default or as options; none where it draws them from a range."""
    for parameter in space.parameters:
        if RATIO in parameter.setting_names and not isinstance(parameter.domain, Choice):
            return frozenset()
    return frozenset(config.data.subsample_ratio for config in iter_representatives(space))


def epoch_faces(stratum: Stratum, *, class_counts: Sequence[int], ratios: Collection[float]) -> int:
    """Faces of the largest subsample of a stratum; what a plain epoch of it sees.

    Args:
        stratum: its network has no say.
        class_counts: training faces by class.
        ratios: that the space names; a stratum with none of them has subsamples up to its edge.
    """
    own = [ratio for ratio in ratios if _halvings(ratio) == stratum.n_halvings]
    ratio = max(own, default=0.5**stratum.n_halvings)
    return max(1, sum(subsample_size(count, ratio) for count in class_counts if count))


def _halvings(ratio: float) -> int:
    return math.floor(-math.log2(ratio))

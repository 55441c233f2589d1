"""What is chosen by a name and stands in a file of its own: to add one, write the file and give it a line here.

Modules are named, not imported: this floor knows nothing of the one above. docs/extending.md has an example of each.
"""

from collections.abc import Mapping
from typing import NamedTuple


class Part(NamedTuple):
    """One of several that a setting chooses among.

    Attributes:
        module: where it stands.
        meaning: a few words.
    """

    module: str
    meaning: str


EXPRESSION_LOSSES: dict[str, Part] = {
    "cross_entropy": Part("trainables.losses.cross_entropy", "weighted, with smoothed labels"),
    "focal": Part("trainables.losses.focal", "weighted, by (1 - p)^gamma"),
}
"""Of `loss.name`; a module has `per_face`, see `trainables/losses/expression.py`."""

SAMPLERS: dict[str, Part] = {
    "shuffle": Part("trainables.data.samplers.shuffle", "each face once an epoch"),
    "weighted": Part("trainables.data.samplers.weighted", "drawn with replacement by (1 / N_c)^power"),
    "upsample": Part(
        "trainables.data.samplers.upsample",
        "every class brought to the largest one's number by copies that differ by RandAugment, the same every epoch",
    ),
}
"""Of `data.sampler`; a module has `SAMPLER`, see `trainables/data/sampling.py`."""


def describe(parts: Mapping[str, Part]) -> str:
    """All names with their meanings, for a setting's description."""
    return "; ".join(f"{name}: {part.meaning}" for name, part in parts.items())

"""The orders in which data sets and published heads number their classes; a network's columns are chosen by name."""

from collections.abc import Mapping, Sequence

from spaces.errors import ConfigError, near_miss
from trainables.data.classes import class_key, class_near_miss, usual_word

LABEL_ORDERS: Mapping[str, tuple[str, ...]] = {
    "lsd6": ("anger", "disgust", "fear", "happiness", "sadness", "surprise"),
    "abaw8": ("neutral", "anger", "disgust", "fear", "happiness", "sadness", "surprise", "other"),
    "affectnet8": ("neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger", "contempt"),
    "hse8": ("anger", "contempt", "disgust", "fear", "happiness", "neutral", "sadness", "surprise"),
    "hse7": ("anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise"),
    "rafdb7": ("surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral"),
    "fer2013": ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral"),
}
"""Name to classes in the order of their numbers, from 0.

`lsd6` is learning from synthetic data, `abaw8` the expressions of Aff-Wild2, `affectnet8` AffectNet's own numbers,
`hse8` and `hse7` the heads of Savchenko 2022 (the first eight of its ten outputs), `rafdb7` RAF-DB's numbers less 1.
"""


def order_of(name: str) -> tuple[str, ...]:
    """The classes of a named order.

    Raises:
        ConfigError: there is no order of this name; the near miss is offered.
    """
    classes = LABEL_ORDERS.get(class_key(name))
    if classes is None:
        raise ConfigError(f"label order must be a known one, got {name!r}{near_miss(name, LABEL_ORDERS)}")
    return classes


def columns_for(known: Sequence[str], wanted: Sequence[str]) -> list[int]:
    """Which of a network's outputs give the wanted classes, in their order: `scores[:, columns_for(known, wanted)]`.

    Names are compared without case, and another word for a usual class (`happy`) is that class.

    Args:
        known: the classes of the outputs, in order.

    Returns:
        An index into `known` for each of `wanted`.

    Raises:
        ConfigError: a wanted class is not among the known; the near miss is offered.
    """
    columns = {usual_word(name): column for column, name in enumerate(known)}
    for name in wanted:
        if usual_word(name) not in columns:
            raise ConfigError(f"class {name!r} must be among the outputs, got none{class_near_miss(name, known)}")
    return [columns[usual_word(name)] for name in wanted]

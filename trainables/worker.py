"""What the process of a worker does once, before its first trial."""

import gc
from functools import cache

from spaces.training_sections import AugmentConfig
from trainables.data.augment import Augmenter


@cache
def warm_up() -> None:
    """Load what the first trial would load on its way, and set all that is loaded aside from garbage collection.

    After every trial its memory is freed, for which Python looks at every object there is: 0.28 s with PyTorch and timm
    loaded, next to nothing once what will stay anyway is set aside.
    """
    Augmenter(AugmentConfig())
    gc.collect()
    gc.freeze()

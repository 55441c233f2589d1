"""What the process of a worker does once, before its first trial."""

import gc
from functools import cache


@cache
def warm_up() -> None:
    """Load what the first trial would load on its way, and set all that is loaded aside from garbage collection.

    Nothing of it is garbage, and looking for some costs a quarter of the time: it is not done meanwhile. After every
    trial its memory is freed, for which Python looks at every object there is: 0.28 s with PyTorch and timm loaded,
    next to nothing once what will stay anyway is set aside.
    """
    gc.disable()
    try:
        import trainables.heads.pack_run
        import trainables.run  # noqa: F401
        from spaces.training_sections import AugmentConfig
        from trainables.data.augment import Augmenter

        Augmenter(AugmentConfig())
    finally:
        gc.enable()
    gc.collect()
    gc.freeze()

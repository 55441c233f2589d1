"""What may happen to a training face, as one albumentations pipeline."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from spaces.training_sections import AugmentConfig

Image = npt.NDArray[np.uint8]


class Augmenter:
    """Alters faces; the same seed alters the same batch in the same way."""

    def __init__(self, config: AugmentConfig) -> None:
        import albumentations

        self._pipeline: Any = albumentations.Compose(_transforms(config))
        self._is_idle = not self._pipeline.transforms

    def alter(self, images: Image, *, seed: int) -> Image:
        """Altered copies of a batch.

        Args:
            images: [batch, height, width, channels].
            seed: of this batch.

        Returns:
            [batch, height, width, channels].
        """
        if self._is_idle:
            return images
        transforms = self._pipeline.transforms
        own_seeds = np.random.SeedSequence(seed).generate_state(len(transforms))  # the pipeline would give all the same
        for transform, own_seed in zip(transforms, own_seeds, strict=True):
            transform.set_random_seed(int(own_seed))
        return np.stack([self._pipeline(image=image)["image"] for image in images])


def _transforms(config: AugmentConfig) -> list[Any]:
    import albumentations as alb
    import cv2

    candidates: list[tuple[float, Callable[[float], Any]]] = [
        (config.flip_p, lambda p: alb.HorizontalFlip(p=p)),
        (
            config.affine_p,
            lambda p: alb.Affine(
                translate_percent=(-config.max_shift, config.max_shift),
                scale=(1 - config.max_scale, 1 + config.max_scale),
                rotate=(-config.max_rotate_deg, config.max_rotate_deg),
                border_mode=cv2.BORDER_REPLICATE,
                p=p,
            ),
        ),
        (
            config.light_p,
            lambda p: alb.RandomBrightnessContrast(
                brightness_limit=config.max_light, contrast_limit=config.max_light, p=p
            ),
        ),
        (
            config.erase_p,
            lambda p: alb.CoarseDropout(
                num_holes_range=(1, 1),
                hole_height_range=(0.1, 0.33),
                hole_width_range=(0.1, 0.33),
                fill="random_uniform",
                p=p,
            ),
        ),
    ]
    return [build(p) for p, build in candidates if p > 0]

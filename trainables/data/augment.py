"""What may happen to a training face, as albumentations pipelines and RandAugment."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from spaces.training_sections import AugmentConfig
from trainables.data.rand_augment import RandAugment

Image = npt.NDArray[np.uint8]
Build = Callable[[float], Any]


class Augmenter:
    """Alters faces; the same seed alters the same batch in the same way."""

    def __init__(self, config: AugmentConfig) -> None:
        import albumentations

        self._config = config
        self._rand_augment = RandAugment(config.rand_ops, config.rand_magnitude)
        self._pipelines: dict[tuple[int, int], list[Any]] = {}
        self._jitter: Any = albumentations.Compose([_color_jitter(config)(config.jitter_p)])

    @property
    def is_idle(self) -> bool:
        """Whether `alter` and `appearance` give every face back as it came."""
        config = self._config
        return config.policy == "each" and not any(_chances(config).values()) and not config.rand_p

    def alter(self, images: Image, *, seed: int) -> Image:
        """Altered copies of a batch: RandAugment first, erasing last.

        Args:
            images: [batch, height, width, channels].
            seed: of this batch.

        Returns:
            [batch, height, width, channels].
        """
        if self.is_idle:
            return images
        pipelines = self._pipelines_for(*images.shape[1:3])
        transforms = [transform for pipeline in pipelines for transform in pipeline.transforms]
        own_seeds = np.random.SeedSequence(seed).generate_state(len(transforms))  # the pipeline would give all the same
        for transform, own_seed in zip(transforms, own_seeds, strict=True):
            transform.set_random_seed(int(own_seed))
        drawn = np.random.default_rng([seed, 0xA17E]).integers(len(pipelines), size=len(images))
        images = self._rand_augmented(images, seed=seed)
        return np.stack([pipelines[i](image=image)["image"] for i, image in zip(drawn, images, strict=True)])

    def alter_copies(self, images: Image, rows: npt.NDArray[np.int64], copies: npt.NDArray[np.int64]) -> Image:
        """Altered copies of faces that stand in for more faces, the same every epoch and in every trial.

        Args:
            images: [batch, height, width, channels].
            rows: [batch], where the faces stand in their split.
            copies: [batch], which copy each is: 0 stays as it is, another is altered by RandAugment.

        Returns:
            [batch, height, width, channels].
        """
        if not copies.any():
            return images
        altered = images.copy()
        for i in np.flatnonzero(copies):
            generator = np.random.default_rng([rows[i], copies[i], 0xC097])
            altered[i] = self._rand_augment.alter(images[i], generator)
        return altered

    def appearance(self, images: Image, *, seed: int) -> Image:
        """The view of an appearance branch: colours jitter with their own probability, nothing moves.

        Args:
            images: [batch, height, width, channels].
            seed: of this batch; the jitter is another one than that of `alter`.

        Returns:
            [batch, height, width, channels].
        """
        if not self._config.jitter_p:
            return images
        own_seed = np.random.SeedSequence([seed, 0xA99E]).generate_state(1)[0]
        self._jitter.transforms[0].set_random_seed(int(own_seed))
        return np.stack([self._jitter(image=image)["image"] for image in images])

    def _rand_augmented(self, images: Image, *, seed: int) -> Image:
        if not self._config.rand_p:
            return images
        generator = np.random.default_rng([seed, 0x4A9D])
        altered = images.copy()
        for i in np.flatnonzero(generator.random(len(images)) < self._config.rand_p):
            altered[i] = self._rand_augment.alter(images[i], generator)
        return altered

    def _pipelines_for(self, height: int, width: int) -> list[Any]:
        """One pipeline that every face goes through, or several of which it goes through one."""
        import albumentations

        if (height, width) not in self._pipelines:
            ways = _ways(self._config, height, width)
            self._pipelines[height, width] = [albumentations.Compose(transforms) for transforms in ways]
        return self._pipelines[height, width]


def _ways(config: AugmentConfig, height: int, width: int) -> list[list[Any]]:
    """All changes, each by its own probability; or the five alternatives, each followed by erasing.

    Source of the alternatives: Jeong et al. 2022 (3rd ABAW), who do not say how likely each is.
    """
    changes = _changes(config, height, width)
    if config.policy == "each":
        return [[changes[name](p) for name, p in _chances(config).items() if p > 0]]
    alternatives = [["jitter"], ["crop"], ["flip"], ["jitter", "crop"], ["crop", "flip"]]
    last = [changes["erase"](config.erase_p)] if config.erase_p > 0 else []
    return [[*(changes[name](1.0) for name in names), *last] for names in alternatives]


def _chances(config: AugmentConfig) -> dict[str, float]:
    """Probability by change, in the order in which they happen."""
    return {
        "flip": config.flip_p,
        "affine": config.affine_p,
        "crop": config.crop_p,
        "jitter": config.jitter_p,
        "light": config.light_p,
        "erase": config.erase_p,
    }


def _changes(config: AugmentConfig, height: int, width: int) -> dict[str, Build]:
    """What builds each change, given its probability."""
    import albumentations as alb
    import cv2

    return {
        "flip": lambda p: alb.HorizontalFlip(p=p),
        "affine": lambda p: alb.Affine(
            translate_percent=(-config.max_shift, config.max_shift),
            scale=(1 - config.max_scale, 1 + config.max_scale),
            rotate=(-config.max_rotate_deg, config.max_rotate_deg),
            border_mode=cv2.BORDER_REPLICATE,
            p=p,
        ),
        "crop": lambda p: alb.RandomResizedCrop(
            size=(height, width), scale=(config.crop_min_scale, 1.0), ratio=(0.9, 1.1), p=p
        ),
        "jitter": _color_jitter(config),
        "light": lambda p: alb.RandomBrightnessContrast(
            brightness_limit=config.max_light, contrast_limit=config.max_light, p=p
        ),
        "erase": lambda p: alb.CoarseDropout(
            num_holes_range=(1, 1),
            hole_height_range=(0.1, 0.33),
            hole_width_range=(0.1, 0.33),
            fill="random_uniform",
            p=p,
        ),
    }


def _color_jitter(config: AugmentConfig) -> Build:
    """Brightness and contrast, and on colour faces saturation and hue, in a random order."""
    import albumentations as alb

    share = (1 - config.max_jitter, 1 + config.max_jitter)
    hue = (-config.max_hue, config.max_hue)
    return lambda p: alb.ColorJitter(brightness=share, contrast=share, saturation=share, hue=hue, p=p)

"""Which spaces are searched by packs of heads, and what has no say in one."""

from search.prelaunch import iter_extremes
from spaces.config import TrialConfig
from spaces.errors import SpaceError
from spaces.space import SearchSpace
from trainables.heads import why_not_packable

BACKBONE_SETTINGS = frozenset(
    {
        "model.drop_path_rate",
        "model.shift",
        "optimiser.decay_on",
        "optimiser.head_lr_ratio",
        "optimiser.lr",
        "optimiser.weight_decay",
        "train.batch_norm",
        "train.ema_decay",
        "train.frozen_share",
        "train.frozen_stages",
    }
)
"""Settings that act only while a backbone is trained."""


def is_head_only(space: SearchSpace) -> bool:
    """Whether no trial of a space trains its backbone."""
    return all(config.train.epochs == 0 for config in iter_extremes(space))


def is_packed(space: SearchSpace) -> bool:
    """Whether all trials of a space are heads that can be trained together; others run one by one."""
    return all(why_not_packable(config) == "" for config in iter_extremes(space))


def check_heads_space(space: SearchSpace) -> None:
    """Refuse a head-only space that names what moves no head; any other space is left alone.

    Raises:
        SpaceError: it varies or fixes a setting that acts only while a backbone is trained, or varies augmentation
            that no face goes through; the setting is named.
    """
    if not is_head_only(space):
        return
    where = f": {space.where or 'space ' + space.name}"
    varied = [name for each in space.parameters for name in each.setting_names]
    for name in (*varied, *space.fixed):
        if name in BACKBONE_SETTINGS:
            raise SpaceError(
                f"head-only space must not name what only trains a backbone, got {name!r}{where}; "
                "leave it out, or give train.epochs above 0"
            )
    if any(_augments(config) for config in iter_extremes(space)):
        return
    for name in varied:
        if name.startswith("augment."):
            raise SpaceError(
                f"head-only space must have train.head_views above 1 to vary augmentation, got {name!r}{where}"
            )


def _augments(config: TrialConfig) -> bool:
    """Whether head-only epochs see altered faces."""
    return config.train.head_views > 1 or config.train.head_batch_norm == "train"

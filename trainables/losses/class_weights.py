"""Weights of the classes, by how often each is seen."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from spaces.errors import ConfigError
from spaces.training_sections import LossConfig

FloatArray = npt.NDArray[np.float64]


def class_weights(counts: npt.NDArray[np.int64], config: LossConfig) -> FloatArray:
    """Weights of the classes, in the form and scale that the config names.

    Args:
        counts: [classes], training faces of each class in the trial's own subsample.
        config: an explicit list wins over the counts.

    Returns:
        float64 [classes]. With N_c faces in class c, and a class without faces counted as one with one:
        mean_one: (max N / N_c)^b, or the explicit list, scaled to mean 1;
        max_ratio: (max N / N_c)^b, or the explicit list, as it stands;
        mean_ratio: (mean N / N_c)^b;
        effective_number: (1 - beta) / (1 - beta^N_c), scaled to mean 1.

    Raises:
        ConfigError: the explicit list has another length than the classes.

    Source: Savchenko 2022, eq. (1) for max_ratio with b = 1, and its published code for mean_ratio with b = 1;
    Li et al. 2022 for the explicit list; Cui et al., CVPR 2019, for the effective number.
    """
    if config.class_weights is None:
        weights = _FORMS[config.class_weight_form](np.maximum(counts, 1).astype(np.float64), config)
    elif len(config.class_weights) == len(counts):
        weights = np.asarray(config.class_weights, dtype=np.float64)
    else:
        raise ConfigError(
            f"loss.class_weights must have one weight a class ({len(counts)}), got {len(config.class_weights)}; "
            "null leaves them to loss.class_weight_exponent"
        )
    if config.class_weight_form in ("mean_one", "effective_number"):
        weights = weights / weights.mean()
    return weights


def _max_ratio(counts: FloatArray, config: LossConfig) -> FloatArray:
    return np.asarray((counts.max() / counts) ** config.class_weight_exponent)


def _mean_ratio(counts: FloatArray, config: LossConfig) -> FloatArray:
    return np.asarray((counts.mean() / counts) ** config.class_weight_exponent)


def _effective_number(counts: FloatArray, config: LossConfig) -> FloatArray:
    beta = config.effective_beta
    return np.asarray((1 - beta) / (1 - beta**counts))


_FORMS: dict[str, Callable[[FloatArray, LossConfig], FloatArray]] = {
    "mean_one": _max_ratio,
    "max_ratio": _max_ratio,
    "mean_ratio": _mean_ratio,
    "effective_number": _effective_number,
}

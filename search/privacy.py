"""What keeps users' work private: libraries that would report usage, or look for updates, are told not to."""

import os
from types import MappingProxyType

PRIVATE_ENVIRONMENT = MappingProxyType(
    {
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "NO_ALBUMENTATIONS_UPDATE": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
)
"""Environment variable to value. A remote worker needs them too: pass them in its runtime environment."""


def keep_private() -> None:
    """Set the variables that are not set yet; to be called before the libraries are imported.

    A variable that the user has set is left alone: the choice is theirs.
    """
    for name, value in PRIVATE_ENVIRONMENT.items():
        os.environ.setdefault(name, value)

"""A trial's settings as a person wants them: what differs from the default, as short as it stays clear."""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any

BACKBONE = "model.backbone"
LONGEST_NAME = 100
"""Characters of a run's name."""


def shorten_settings(config: Mapping[str, Any], default: Mapping[str, Any], *, max_chars: int = 160) -> str:
    """What of `config` differs from `default`: `lr=0.0021 label_smoothing=0.31`.

    Args:
        config: complete, flat.
        default: likewise.
        max_chars: after which it is cut.
    """
    text = " ".join(_differences(config, default))
    return text if len(text) <= max_chars else text[: max_chars - 3] + "..."


def run_name(trial_id: str, config: Mapping[str, Any], default: Mapping[str, Any]) -> str:
    """A trial's name in a list of runs, whose first twenty letters are shown: number, backbone, and so on.

    What is as in the default is left out, and short words go before long ones, so that those letters say much.

    Args:
        trial_id: of the trial.
        config: its complete config, flat.
        default: the space's, likewise; empty where it is not known.
    """
    if not default or config == default:
        return f"{trial_id} default" if default else trial_id
    own = str(config.get(BACKBONE, ""))
    backbone = [] if own == default.get(BACKBONE) else [PurePath(own).name]
    others = {name: value for name, value in config.items() if name != BACKBONE}
    return " ".join([trial_id, *backbone, *sorted(_differences(others, default), key=len)])[:LONGEST_NAME]


def value_text(value: Any) -> str:
    """A value in three digits, or as the last part of a path."""
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(value_text(part) for part in value) + "]"
    return PurePath(value).name if isinstance(value, str) and "/" in value else str(value)


def _differences(config: Mapping[str, Any], default: Mapping[str, Any]) -> Iterator[str]:
    lasts = Counter(name.rpartition(".")[2] for name in config)
    for name, value in config.items():
        if name not in default or default[name] != value:
            last = name.rpartition(".")[2]
            yield f"{last if lasts[last] == 1 else name}={value_text(value)}"

"""A trial's settings as a person wants them: what differs from the default, as short as it stays clear."""

from collections import Counter
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

LONGEST_NAME = 100
"""Characters of a run's name."""


def shorten_settings(config: Mapping[str, Any], default: Mapping[str, Any], *, max_chars: int = 160) -> str:
    """What of `config` differs from `default`: `lr=0.0021 label_smoothing=0.31`.

    Args:
        config: complete, flat.
        default: likewise.
        max_chars: after which it is cut.
    """
    lasts = Counter(name.rpartition(".")[2] for name in config)
    parts = []
    for name, value in config.items():
        if name in default and default[name] == value:
            continue
        last = name.rpartition(".")[2]
        parts.append(f"{last if lasts[last] == 1 else name}={value_text(value)}")
    text = " ".join(parts)
    return text if len(text) <= max_chars else text[: max_chars - 3] + "..."


def run_name(trial_id: str, config: Mapping[str, Any], default: Mapping[str, Any]) -> str:
    """A trial's name in a list of runs; its first twenty letters tell it from others: number, backbone, then the rest.

    Args:
        trial_id: of the trial.
        config: its complete config, flat.
        default: the space's, likewise; empty where it is not known.
    """
    if not default or config == default:
        return f"{trial_id} default" if default else trial_id
    backbone = PurePath(str(config.get("model.backbone", ""))).name
    others = {name: value for name, value in config.items() if name != "model.backbone"}
    settings = shorten_settings(others, default, max_chars=LONGEST_NAME)
    return " ".join(part for part in (trial_id, backbone, settings) if part)[:LONGEST_NAME]


def value_text(value: Any) -> str:
    """A value in three digits, or as the last part of a path."""
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(value_text(part) for part in value) + "]"
    return PurePath(value).name if isinstance(value, str) and "/" in value else str(value)

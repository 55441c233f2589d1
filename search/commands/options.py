"""Options that several commands share, and how their values are read."""

import argparse
import re
from pathlib import Path
from typing import Any

SIZES = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
UNITS_S = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}

LOADING = "loading PyTorch and Ray"
"""What a person reads while nothing else can happen yet."""

OWN_WORDS = {"cpu": "--cpus-per-trial", "gpu": "--gpus-per-trial"}


def duration_s(text: str) -> float:
    """Seconds from `90`, `90s`, `20m`, `1.5h` or `1h30m`."""
    parts = re.findall(r"(\d+(?:\.\d+)?)([smhd]?)", text.strip().lower())
    if not parts or "".join(number + unit for number, unit in parts) != text.strip().lower():
        raise argparse.ArgumentTypeError(f"must be a duration such as 90s, 20m or 1h30m, got {text!r}")
    seconds = sum(float(number) * UNITS_S[unit or "s"] for number, unit in parts)
    if seconds <= 0:
        raise argparse.ArgumentTypeError(f"must be above 0, got {text!r}")
    return seconds


def at_least(low: int) -> Any:
    """A reader of whole numbers from `low` up."""

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"must be a whole number, got {text!r}") from None
        if value < low:
            raise argparse.ArgumentTypeError(f"must be at least {low}, got {value}")
        return value

    return read


def between(low: int, high: int) -> Any:
    """A reader of whole numbers from `low` to `high`."""
    read_low = at_least(low)

    def read(text: str) -> int:
        value: int = read_low(text)
        if value > high:
            raise argparse.ArgumentTypeError(f"must be at most {high}, got {value}")
        return value

    return read


def not_negative(text: str) -> float:
    """A number from 0 up."""
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a number, got {text!r}") from None
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be 0 or more, got {text}")
    return value


def positive(text: str) -> float:
    """A number above 0."""
    value = not_negative(text)
    if value == 0:
        raise argparse.ArgumentTypeError(f"must be above 0, got {text}")
    return value


def amount(text: str) -> tuple[str, float]:
    """A name and a number above 0 from `spot=1`; memory in bytes, also from `memory=8G`."""
    name, _, number = (part.strip() for part in text.partition("="))
    if not name or not number:
        raise argparse.ArgumentTypeError(f"must be NAME=X such as memory=8G or spot=1, got {text!r}")
    if name.lower() in OWN_WORDS:
        raise argparse.ArgumentTypeError(f"must be left to {OWN_WORDS[name.lower()]}, got {text}")
    size = re.fullmatch(r"(.+?)([KMGT])i?B?", number, re.IGNORECASE) if name == "memory" else None
    return name, positive(size[1]) * SIZES[size[2].upper()] if size else positive(number)


def share(text: str) -> float:
    """A number from 0 to 1."""
    value = not_negative(text)
    if value > 1:
        raise argparse.ArgumentTypeError(f"must be at most 1, got {text}")
    return value


def _gpus(text: str) -> float | str:
    """A number from 0 up, or auto."""
    return text if text == "auto" else not_negative(text)


def class_names(text: str) -> list[str]:
    """Names between commas, each once; or those of a named order such as lsd6."""
    names = [name.strip() for name in text.split(",")]
    if len(names) == 1 and names[0]:
        return _names_of_order(names[0])
    if "" in names:
        raise argparse.ArgumentTypeError(f"must be names between commas, got {text!r}")
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise argparse.ArgumentTypeError(f"must name each class once, got {twice[0]!r} twice")
    return names


def _names_of_order(name: str) -> list[str]:
    from spaces.errors import near_miss
    from trainables.data.label_orders import LABEL_ORDERS, order_of

    if name.casefold() not in LABEL_ORDERS:
        rule = "must be names between commas, or an order of classes by its name"
        raise argparse.ArgumentTypeError(f"{rule}, got {name!r}{near_miss(name, LABEL_ORDERS)}")
    return list(order_of(name))


def add_storage(parser: argparse.ArgumentParser) -> None:
    """Where searches are kept."""
    parser.add_argument(
        "--storage", metavar="DIR", type=Path, help="where searches are kept (default: AFFECTUNE_STORAGE, else runs/)"
    )


def storage_of(args: argparse.Namespace) -> Path:
    """The storage that the words name, or the default."""
    from search.storage import default_storage

    return args.storage or default_storage()


def add_resources(parser: argparse.ArgumentParser) -> None:
    """What one trial takes, and where."""
    group = parser.add_argument_group("resources")
    group.add_argument("--max-concurrent", metavar="N", type=at_least(1), help="trials at once (default: all that fit)")
    group.add_argument(
        "--cpus-per-trial", metavar="X", type=not_negative, help="cores a trial (default: 1, or its share beside a GPU)"
    )
    group.add_argument(
        "--gpus-per-trial",
        metavar="X",
        type=_gpus,
        help="GPUs a trial; with a fraction, trials share one and its memory; auto measures what each network needs "
        "and shares GPUs by that (default: 1 if any)",
    )
    group.add_argument(
        "--resource",
        dest="resources",
        metavar="NAME=X",
        action="append",
        type=amount,
        help="what a trial takes beside, by the cluster's name for it, such as memory=8G or spot=1; may be repeated",
    )
    group.add_argument("--address", metavar="A", help="a running Ray cluster, such as auto (default: a local one)")
    group.add_argument(
        "--hang-after",
        dest="silent_s",
        metavar="T",
        type=duration_s,
        help="a worker without a sign of life for so long is ended, and its trial goes on in another (default: 10m)",
    )


def resources_of(args: argparse.Namespace) -> dict[str, Any]:
    """The words of `add_resources` that were given, as keyword arguments of a plan."""
    names = ("max_concurrent", "cpus_per_trial", "gpus_per_trial", "resources", "address", "silent_s")
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    return given | ({"resources": dict(given["resources"])} if "resources" in given else {})

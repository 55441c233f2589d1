"""The errors that users see. Each is one sentence; the command line prints it and leaves with its exit code."""

import difflib
from collections.abc import Iterable


class AffectuneError(Exception):
    """Anything that stops affectune with a sentence instead of a traceback."""

    exit_code = 1


class UsageError(AffectuneError, ValueError):
    """The words of a command do not fit together."""

    exit_code = 2


class ConfigError(AffectuneError, ValueError):
    """A setting of a trial has a wrong name or value."""

    exit_code = 2


class SpaceError(AffectuneError, ValueError):
    """A search space does not make sense."""

    exit_code = 2


class DataError(AffectuneError, ValueError):
    """A source, an image or a face table can't be used."""


class OutputError(AffectuneError, OSError):
    """An output can't be written, or something stands in its place."""


class ModelError(AffectuneError, ValueError):
    """A backbone, a weights file or a saved model can't be used."""


class BackboneError(ModelError, ValueError):
    """A backbone is named that does not exist."""

    exit_code = 2


class DeviceError(AffectuneError, RuntimeError):
    """A processor or GPU that was asked for is not there."""


class TrackingError(AffectuneError, ConnectionError):
    """The tracking server does not answer."""


class SearchError(AffectuneError, RuntimeError):
    """A search can't be started, found or finished."""


class EnsembleError(AffectuneError, ValueError):
    """Scores can't be combined into an ensemble."""


MOST_SHOWN = 200
"""Characters of a value that a sentence quotes."""


def shown(value: object) -> str:
    """A value as a sentence quotes it: whole where it is short, else its beginning and its length."""
    return cut(repr(value))


def cut(text: str) -> str:
    """A text whole where it is short, else its beginning and its length; what can't be printed is written out."""
    text = "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}... ({len(text):,} characters)"


def is_text(path: object) -> bool:
    """Whether a path is UTF-8; one may be any bytes, which Arrow does not open and JSON does not keep."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def near_miss(name: str, known: Iterable[str]) -> str:
    """The tail of a sentence that offers the closest known name, or lists what there is.

    Returns:
        `; did you mean 'x'` where one is close, else `; there are a, b, c` (sorted).
    """
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {close[0]!r}"
    return f"; there are {', '.join(names)}" if names else ""

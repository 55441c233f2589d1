"""What keeps users' work private: libraries that would report usage are told not to, and passwords stay with us."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from types import MappingProxyType
from urllib.parse import unquote, urlsplit, urlunsplit

PRIVATE_ENVIRONMENT = MappingProxyType(
    {
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "NO_ALBUMENTATIONS_UPDATE": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
)
"""Environment variable to value. A remote worker needs them too: pass them in its runtime environment."""

SECRETS = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")
"""Environment variables that are for the driver alone: no worker talks to MLflow."""

_LOGIN = re.compile(r"(?<=://)[^/\s]*@")


def keep_private() -> None:
    """Set the variables that are not set yet; to be called before the libraries are imported.

    A variable that the user has set is left alone: the choice is theirs.
    """
    for name, value in PRIVATE_ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def hide_logins(text: str) -> str:
    """A text in which addresses have `...` for the user and the password before the host."""
    return _LOGIN.sub("...@", text)


def take_login(uri: str) -> str:
    """An address without its log-in, which this process's MLflow client gets by its variables instead.

    So the password is in no file, table or log that an address gets into. A later command needs it again: from
    MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or from a --tracking-uri with it.

    Args:
        uri: of a tracking server; what is no http address, or has no log-in, comes back as it is.
    """
    parts = urlsplit(uri)
    if parts.scheme not in ("http", "https") or "@" not in parts.netloc:
        return uri
    login, _, host = parts.netloc.rpartition("@")
    user, _, password = login.partition(":")
    os.environ["MLFLOW_TRACKING_USERNAME"] = unquote(user)
    os.environ["MLFLOW_TRACKING_PASSWORD"] = unquote(password)
    return urlunsplit(parts._replace(netloc=host))


@contextmanager
def without_secrets() -> Iterator[None]:
    """Processes that are started meanwhile do not inherit what is for this one alone."""
    kept = {name: os.environ.pop(name) for name in SECRETS if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(kept)

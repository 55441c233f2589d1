"""Addresses of Ray clusters: is one there, and may this machine join it."""

import socket

from spaces.errors import SearchError

KNOCK_S = 10.0


def check_address(address: str) -> None:
    """Knock at the door: Ray itself tries a closed one for minutes.

    Args:
        address: `auto` or HOST:PORT.

    Raises:
        SearchError: it is none, it is one for Ray's client, or nobody answers.
    """
    if address == "auto":
        return
    if address.startswith("ray://"):
        raise SearchError(
            f"address of a Ray cluster must be auto or HOST:PORT of one that this machine belongs to, got {address!r}; "
            "from elsewhere, submit the command as a job: ray job submit --working-dir . -- affectune search ..."
        )
    host, colon, port = address.rpartition(":")
    if not (host and colon and port.isdigit() and int(port) < 2**16) or "/" in host:
        raise SearchError(f"address of a Ray cluster must be auto or HOST:PORT, got {address!r}")
    try:
        socket.create_connection((host, int(port)), timeout=KNOCK_S).close()
    except OSError as error:
        reason = "no answer" if isinstance(error, TimeoutError) else error.strerror or str(error)
        raise SearchError(
            f"a Ray cluster must answer, got {reason}: address {address}; leave --address out to start one here"
        ) from error

"""Addresses where no cluster is, and addresses of something else."""

import socket
import time

import pytest

from search.address import check_address
from spaces.errors import SearchError


def test_address_is_refused_at_once_when_nobody_answers() -> None:
    started_s = time.monotonic()

    with pytest.raises(SearchError, match=r"a Ray cluster must answer, got .*refused: address 127.0.0.1:9"):
        check_address("127.0.0.1:9")

    assert time.monotonic() - started_s < 1.0


@pytest.mark.parametrize("address", ["nowhere", "host:", "host:port", ":6379", "host:99999", "http://host:6379"])
def test_address_is_refused_when_it_is_none(address: str) -> None:
    with pytest.raises(SearchError, match=f"must be auto or HOST:PORT, got '{address}'"):
        check_address(address)


def test_address_of_rays_client_is_refused_with_the_way_from_elsewhere() -> None:
    with pytest.raises(SearchError, match=r"HOST:PORT of one that this machine belongs to, got 'ray://h:1'; .* job"):
        check_address("ray://h:1")


def test_address_is_taken_when_somebody_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        check_address(f"127.0.0.1:{server.getsockname()[1]}")

"""A key for arrays that no network computed, a private cache, and embeddings to put there."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

if TYPE_CHECKING:
    from trainables.embeddings.cache import EmbeddingCache
    from trainables.embeddings.key import EmbeddingKey

ROWS, WIDTH = 50, 24


@pytest.fixture(scope="session")
def make_key() -> "Callable[..., EmbeddingKey]":
    """A key of 50 embeddings of 24 numbers, with fields over it: `make_key(view="mirror")`."""
    from trainables.embeddings.key import EmbeddingKey

    key = EmbeddingKey(
        encoder="e0",
        backbone="test_efficientnet",
        design="{}",
        image_px=32,
        channels=1,
        mean=(0.5,) * 3,
        std=(0.25,) * 3,
        table="t0",
        split="train",
        view="plain",
        alterations="",
        rows=ROWS,
        width=WIDTH,
        dtype="float16",
        device="cpu",
        libraries="torch 2",
    )
    return lambda **fields: replace(key, **fields)


@pytest.fixture
def cache(tmp_path: Path) -> "EmbeddingCache":
    """An empty cache with room for a megabyte."""
    from trainables.embeddings.cache import EmbeddingCache

    return EmbeddingCache(tmp_path / "cache", max_bytes=10**6)


@pytest.fixture(scope="session")
def numbers() -> "np.ndarray[Any, np.dtype[np.float16]]":
    """Some embeddings, [50, 24]."""
    return np.random.default_rng(0).normal(size=(ROWS, WIDTH)).astype(np.float16)

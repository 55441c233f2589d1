"""What is done where memory runs out: it is told from other errors, freed, and work is cut into smaller pieces."""

import ctypes
import gc
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

import torch

T = TypeVar("T")

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Of glibc's malloc.h."""

_WORDS = (
    "can't allocate memory",  # PyTorch's allocator on a CPU
    "not enough memory",  # the same on Windows
    "CUDA error: out of memory",  # beside PyTorch's allocator: contexts, libraries
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory, of a GPU or of the processor, is used up."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error) for word in _WORDS)


def free_memory() -> None:
    """Give back what nobody uses any more. An error that is still held keeps the memory of all its frames."""
    gc.collect()
    if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.empty_cache()


def keep_pages() -> None:
    """Let this process keep freed memory for itself, where it runs on glibc; a trial's worker calls it once.

    PyTorch asks a processor's memory anew for every tensor. Left to itself, glibc gives large pieces back to the system
    each time and gets them again zeroed, a page at a time: 5 to 17 % of a training step (ResNet-18, LCNet-050 and
    EfficientNet-Lite0 on 48 px).
    """
    with suppress(OSError, AttributeError):  # another C library has no such switch
        c_library = ctypes.CDLL(None)
        c_library.mallopt(_M_MMAP_THRESHOLD, 2**30)
        c_library.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def in_pieces(compute: Callable[[slice], T], n: int, *, size: int) -> list[T]:
    """Work through n faces in pieces; where one does not fit into memory, it and all after it are halved.

    Args:
        compute: from some of the faces to what is wanted of them; may be called again for the same ones.
        n: faces in all, at least 1.
        size: of a piece to begin with, at least 1.

    Returns:
        What `compute` gave, in order.

    Raises:
        RuntimeError: one face alone does not fit; of whichever type PyTorch raised it.
    """
    done: list[T] = []
    first = 0
    while first < n:
        piece = slice(first, min(first + size, n))
        try:
            done.append(compute(piece))
        except RuntimeError as error:
            if not is_out_of_memory(error) or size == 1:
                raise
            size = max(1, min(size, n) // 2)
        else:
            first = piece.stop
            continue
        free_memory()  # the error is gone by now, and with it what its frames held
    return done

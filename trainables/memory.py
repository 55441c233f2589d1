"""What is done where memory runs out: it is told from other errors, freed, and work is cut into smaller pieces."""

import ctypes
import gc
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

import torch

from trainables.pulse import beat

T = TypeVar("T")

CONTEXT_BYTES = 600 * 2**20
"""What a process takes of a GPU beside its tensors, for CUDA's context and loaded kernels: a generous guess."""

LEFTOVER_BYTES = 64 * 2**20
"""Small enough that the next trial does not miss it, large enough for what PyTorch itself keeps."""

SMALLEST_FRACTION = 0.01

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
    if _has_gpu_open():
        torch._C._cuda_clearCublasWorkspaces()  # else each stream that was ever used keeps one
        torch.cuda.empty_cache()


def is_gpu_free(allocated_bytes: Callable[[], int] | None = None) -> bool:
    """Whether this process holds next to nothing on a GPU, once what nobody uses is given back.

    Args:
        allocated_bytes: reads how much is held; PyTorch's own count when omitted, 0 where there is no GPU.
    """
    free_memory()
    return (allocated_bytes or _allocated_bytes)() <= LEFTOVER_BYTES


def cap_gpu_memory(share: float, device: torch.device) -> None:
    """Hold this process to its share of a GPU's memory: beyond it, PyTorch says that memory is used up."""
    card_bytes = torch.cuda.get_device_properties(device).total_memory
    torch.cuda.set_per_process_memory_fraction(capped_fraction(share, card_bytes=card_bytes), device)


def capped_fraction(share: float, *, card_bytes: int) -> float:
    """The part of a card's memory that tensors may take where a process has this share of the card.

    The process's context, which PyTorch does not count, has to fit into the share too.
    """
    if share >= 1.0:
        return 1.0
    return max(share - CONTEXT_BYTES / card_bytes, SMALLEST_FRACTION)


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
        beat()
        try:
            done.append(compute(piece))
        except RuntimeError as error:
            n_tried = piece.stop - piece.start
            if not is_out_of_memory(error) or n_tried == 1:
                raise
            size = n_tried // 2
        else:
            first = piece.stop
            continue
        free_memory()  # the error is gone by now, and with it what its frames held
    return done


def _allocated_bytes() -> int:
    return torch.cuda.memory_allocated() if _has_gpu_open() else 0


def _has_gpu_open() -> bool:
    return torch.cuda.is_available() and torch.cuda.is_initialized()  # type: ignore[no-untyped-call]

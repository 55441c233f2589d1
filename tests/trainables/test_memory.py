"""Where memory runs out: it is told from other errors, and faces are worked through in smaller pieces."""

import gc
import weakref

import pytest
import torch

from trainables.memory import free_memory, in_pieces, is_out_of_memory


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory."), True),
        (torch.cuda.OutOfMemoryError("CUDA out of memory."), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        (ValueError("can't allocate memory"), False),
    ],
    ids=["torch", "torch.cuda", "cublas", "illegal access", "another type"],
)
def test_out_of_memory_is_told_from_other_errors(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


def test_out_of_memory_of_the_processor_is_recognised() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**50, dtype=torch.uint8)

    assert is_out_of_memory(caught.value)


def test_pieces_are_halved_until_they_fit_and_each_face_is_worked_on_once() -> None:
    tried: list[tuple[int, int]] = []

    def compute(faces: slice) -> list[int]:
        tried.append((faces.start, faces.stop))
        if faces.stop - faces.start > 3:
            raise torch.OutOfMemoryError("out of memory")
        return list(range(faces.start, faces.stop))

    done = in_pieces(compute, 11, size=14)

    assert [face for piece in done for face in piece] == list(range(11))
    assert tried == [(0, 11), (0, 5), (0, 2), (2, 4), (4, 6), (6, 8), (8, 10), (10, 11)]


def test_pieces_let_go_of_what_a_failed_one_held() -> None:
    held: list[weakref.ref[torch.Tensor]] = []

    def compute(faces: slice) -> int:
        assert not any(reference() is not None for reference in held)
        big = torch.zeros(8)
        held.append(weakref.ref(big))
        if faces.stop - faces.start > 2:
            raise torch.OutOfMemoryError("out of memory")
        return int(big.sum())

    gc.disable()
    try:
        assert in_pieces(compute, 4, size=4) == [0, 0]
    finally:
        gc.enable()


def test_error_is_passed_on_when_one_face_does_not_fit_or_memory_is_not_the_matter() -> None:
    def fail(error: Exception) -> None:
        raise error

    with pytest.raises(torch.OutOfMemoryError, match="not one"):
        in_pieces(lambda _: fail(torch.OutOfMemoryError("not one")), 5, size=4)
    with pytest.raises(RuntimeError, match="shapes"):
        in_pieces(lambda _: fail(RuntimeError("shapes")), 5, size=4)


def test_memory_can_be_freed_where_there_is_no_gpu() -> None:
    free_memory()

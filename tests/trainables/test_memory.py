"""Where memory runs out: it is told from other errors, and faces are worked through in smaller pieces."""

import gc
import weakref

import pytest
import torch

from trainables.memory import (
    LEFTOVER_BYTES,
    capped_fraction,
    free_memory,
    in_pieces,
    is_gpu_free,
    is_out_of_memory,
    keep_pages,
)


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


def test_gpu_is_free_when_next_to_nothing_is_held_there() -> None:
    assert is_gpu_free()
    assert is_gpu_free(lambda: LEFTOVER_BYTES)
    assert not is_gpu_free(lambda: LEFTOVER_BYTES + 1)


def test_gpu_is_looked_at_once_what_nobody_uses_is_freed() -> None:
    class Node:
        other: "Node | None" = None

    one, two = Node(), Node()
    one.other, two.other = two, one
    is_alive = weakref.ref(one)
    del one, two

    assert is_gpu_free(lambda: 0 if is_alive() is None else 2**40)


@pytest.mark.parametrize(
    ("share", "card_gib", "fraction"),
    [(1.0, 80, 1.0), (0.25, 80, 0.25 - 600 / 80 / 1024), (0.0625, 2, 0.01)],
    ids=["whole card", "a quarter", "less than a context"],
)
def test_tensors_may_take_a_share_of_the_card_but_for_the_context(share: float, card_gib: int, fraction: float) -> None:
    assert capped_fraction(share, card_bytes=card_gib * 2**30) == pytest.approx(fraction)


def test_shares_of_a_card_and_their_contexts_are_no_more_than_the_card() -> None:
    taken = 4 * (capped_fraction(0.25, card_bytes=24 * 2**30) * 24 * 2**30 + 600 * 2**20)

    assert taken <= 24 * 2**30


def test_pages_can_be_kept_more_than_once() -> None:
    keep_pages()
    keep_pages()


@pytest.mark.gpu
def test_gpu_is_not_free_while_a_tensor_is_held_there() -> None:
    held = torch.zeros(LEFTOVER_BYTES + 1, dtype=torch.uint8, device="cuda")

    assert not is_gpu_free()
    del held
    assert is_gpu_free()

"""Errors that users see."""

import pytest

from spaces import errors
from spaces.errors import AffectuneError, cut, near_miss, shown

CHILDREN = [e for e in vars(errors).values() if isinstance(e, type) and issubclass(e, AffectuneError)]


@pytest.mark.parametrize("error", CHILDREN, ids=lambda error: error.__name__)
def test_error_has_an_exit_code_and_is_also_a_built_in(error: type[AffectuneError]) -> None:
    assert error.exit_code in (1, 2)
    assert error is AffectuneError or any(base.__module__ == "builtins" for base in error.__bases__)


def test_near_miss_offers_the_closest_name() -> None:
    assert near_miss("loss.label_smoothin", ["loss.label_smoothing", "train.seed"]) == (
        "; did you mean 'loss.label_smoothing'"
    )


def test_near_miss_lists_what_there_is_when_nothing_is_close() -> None:
    assert near_miss("xyz", ["b", "a"]) == "; there are a, b"


def test_near_miss_is_silent_when_nothing_is_known() -> None:
    assert near_miss("xyz", []) == ""


def test_long_value_is_cut_in_a_sentence() -> None:
    assert shown("x" * 1000) == "'" + "x" * 199 + "... (1,002 characters)"
    assert shown([1, "a"]) == "[1, 'a']"


def test_text_that_can_not_be_printed_is_written_out_in_a_sentence() -> None:
    assert cut("a\x1b[31m\udcff") == "a\\x1b[31m\\udcff"

"""Class names: which there are, how they may be spelt, and which index a label has."""

from collections.abc import Sequence

import pytest

from spaces.errors import DataError, UsageError
from trainables.data.classes import LEFT_OUT, choose_classes, index_labels, is_coded, likely_same, name_codes


def choose(labels: list[str | None], wanted: list[str] | None = None) -> tuple[str, ...]:
    return choose_classes(labels, wanted=wanted, where="faces.csv")


def test_classes_are_sorted_names_compared_without_case() -> None:
    assert choose(["Joy", "joy ", "joy", "fear", None, "JOY"]) == ("fear", "joy")


def test_classes_that_are_numbers_are_sorted_as_numbers() -> None:
    assert choose(["10", "9", "1"]) == ("1", "9", "10")


def test_classes_asked_for_keep_their_order() -> None:
    assert choose(["anger", "fear", "joy"], ["joy", "anger"]) == ("joy", "anger")


def test_class_without_training_faces_offers_the_near_miss() -> None:
    message = "class 'hapiness' must have training faces, got 0: faces.csv; did you mean 'happiness'"

    with pytest.raises(DataError, match=message):
        choose(["happiness", "fear"], ["hapiness", "fear"])


def test_class_is_found_by_another_word_for_it() -> None:
    assert choose(["angry", "fear"], ["anger", "fear"]) == ("anger", "fear")


def test_other_word_for_a_class_is_offered() -> None:
    with pytest.raises(DataError, match=r"class 'sad' must have training faces, got 0: .*did you mean 'sadness'"):
        choose(["sadness", "fear"], ["sad", "fear"])


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (["joy"], "--classes must name between 2 and 127 classes, got 'joy'"),
        (["joy", ""], "--classes must name between 2 and 127 classes, got 'joy,'"),
        (["joy", "fear", "Joy"], "--classes must name each class once, got 'joy' twice"),
    ],
    ids=["one", "empty", "twice"],
)
def test_classes_asked_for_must_make_sense(wanted: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        choose(["joy", "fear"], wanted)


@pytest.mark.parametrize(
    ("labels", "got"), [([None], "0 .none."), (["joy"], "1 .joy."), ([f"id{i}" for i in range(128)], "128")]
)
def test_labels_must_name_some_classes_but_not_too_many(labels: list[str | None], got: str) -> None:
    with pytest.raises(DataError, match=rf"labels must name between 2 and 127 classes, got {got}.*--label-column"):
        choose(labels)


def index(labels: list[str | None], classes: list[str], *, restricted: bool, train: Sequence[str] = ()) -> list[int]:
    known = {*classes, *train}
    indices = index_labels(labels, classes=classes, train_labels=known, restricted=restricted, where="valid.csv")
    return [int(i) for i in indices]


def test_index_of_an_empty_label_says_not_labelled() -> None:
    assert index(["fear", None, " JOY"], ["fear", "joy"], restricted=False) == [0, -1, 1]


def test_alias_means_the_class_that_was_asked_for() -> None:
    assert index(["happy", "happiness", "sad"], ["happiness", "sadness"], restricted=True) == [0, 0, 1]


def test_other_known_label_is_left_out_where_classes_were_asked_for() -> None:
    assert index(["neutral", "fear"], ["fear", "joy"], restricted=True, train=["neutral"]) == [LEFT_OUT, 0]


def test_label_that_train_lacks_is_an_error_where_all_classes_are_kept() -> None:
    message = "class 'contempt' must have training faces, got 0: valid.csv; there are fear, joy"

    with pytest.raises(DataError, match=message):
        index(["contempt"], ["fear", "joy"], restricted=False)


def test_misspelt_label_is_an_error_even_where_others_are_left_out() -> None:
    message = r"class .fera. must have training faces, got 0: valid.csv; did you mean .fear."

    with pytest.raises(DataError, match=message):
        index(["fera"], ["fear", "joy"], restricted=True)


def test_codes_are_indices_into_the_classes_asked_for() -> None:
    assert name_codes(["1", "0.0", None, "-1"], wanted=["fear", "joy"], where="x") == ["joy", "fear", None, None]


def test_codes_are_their_own_names_where_none_were_asked_for() -> None:
    assert name_codes(["1", "0"], wanted=None, where="x") == ["1", "0"]
    assert name_codes(["1", "0"], wanted=["0", "1"], where="x") == ["1", "0"]


def test_code_without_a_name_is_an_error() -> None:
    with pytest.raises(DataError, match="must be below 2, the number of --classes, got 6: row 2 of x"):
        name_codes(["1", "6"], wanted=["fear", "joy"], where="x")


def test_classes_that_are_probably_one_are_found() -> None:
    assert likely_same(["sad", "fear", "Sadness"]) == [("sad", "sadness")]


@pytest.mark.parametrize("name", ["fe\nar", "\x1b[31m", "x" * 101], ids=["line break", "escape", "long"])
def test_label_that_can_not_name_a_class_is_refused(name: str) -> None:
    with pytest.raises(DataError, match=r"label must be printable and at most 100 characters to name a class, got"):
        choose_classes(["joy", name], wanted=None, where="faces.csv")


def test_label_of_many_digits_is_a_name_and_no_number() -> None:
    assert not is_coded(["9" * 400])

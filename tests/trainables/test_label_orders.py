"""Orders of classes by name, and which outputs of a network give the classes that are wanted."""

import pytest

from spaces.errors import ConfigError
from trainables.data.classes import ALIASES, note_misspelt, usual_word
from trainables.data.label_orders import LABEL_ORDERS, columns_for, order_of


def test_each_order_has_as_many_classes_as_its_name_says_and_each_once() -> None:
    sizes = {name: len(set(classes)) for name, classes in LABEL_ORDERS.items()}

    assert sizes == {"lsd6": 6, "abaw8": 8, "affectnet8": 8, "hse8": 8, "hse7": 7, "rafdb7": 7, "fer2013": 7}
    assert all(len(classes) == sizes[name] for name, classes in LABEL_ORDERS.items())


def test_orders_spell_classes_as_the_program_does() -> None:
    words = {name for classes in LABEL_ORDERS.values() for name in classes}

    assert words == {*ALIASES.values(), "contempt", "neutral", "other"}


@pytest.mark.parametrize(
    ("order", "number", "name"),
    [("lsd6", 5, "surprise"), ("abaw8", 7, "other"), ("affectnet8", 4, "fear"), ("rafdb7", 0, "surprise")],
)
def test_number_of_a_data_set_means_its_class(order: str, number: int, name: str) -> None:
    assert order_of(order)[number] == name


def test_order_is_found_without_regard_to_case() -> None:
    assert order_of(" LSD6") == LABEL_ORDERS["lsd6"]


def test_unknown_order_offers_the_near_miss() -> None:
    with pytest.raises(ConfigError, match="label order must be a known one, got 'lsd8'; did you mean 'lsd6'"):
        order_of("lsd8")


def test_six_classes_are_chosen_from_the_head_of_eight() -> None:
    assert columns_for(order_of("hse8"), order_of("lsd6")) == [0, 2, 3, 4, 6, 7]


def test_columns_follow_the_order_of_the_wanted_classes() -> None:
    assert columns_for(["Happy", "sad", "fear"], ["fear", "happiness"]) == [2, 0]


def test_class_that_no_output_gives_is_an_error() -> None:
    with pytest.raises(ConfigError, match="class 'other' must be among the outputs, got none; there are anger, "):
        columns_for(order_of("hse8"), order_of("abaw8"))
    with pytest.raises(ConfigError, match=r"class 'hapiness' must be among .*; did you mean 'happiness'"):
        columns_for(order_of("hse8"), ["hapiness"])


@pytest.mark.parametrize("folder", ["ANGRER", "angere"])
def test_misspelt_folder_of_the_synthetic_faces_is_anger_and_said(folder: str) -> None:
    notes: list[str] = []

    note_misspelt([folder, folder, "fear", None], classes=["anger", "fear"], notes=notes)

    assert usual_word(folder) == "anger"
    assert notes == [f"warning: label {folder!r} is misspelt and counts as 'anger'"]


def test_misspelt_class_that_was_kept_as_it_is_needs_no_word() -> None:
    notes: list[str] = []

    note_misspelt(["ANGRER"], classes=["ANGRER", "fear"], notes=notes)

    assert notes == []

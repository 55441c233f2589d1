from collections.abc import Callable

import pytest

from spaces.config import Value
from spaces.domains import Bundle, Choice, Domain, Integer, LogUniform, Uniform, choice_of_bundles, label_of
from spaces.errors import SpaceError


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lambda: Uniform(1, 0), "low must be below high, got 1 and 0"),
        (lambda: Uniform(0.5, 0.5), "low must be below high, got 0.5 and 0.5"),
        (lambda: Uniform(0, float("inf")), "ends of a domain must be finite numbers, got inf"),
        (lambda: Uniform(0, "x"), "ends of a domain must be finite numbers, got 'x'"),  # type: ignore[arg-type]
        (lambda: LogUniform(0, 1), "low must be above 0 in a log domain, got 0"),
        (lambda: Integer(0, 4, log=True), "low must be above 0 in a log domain, got 0"),
        (lambda: Integer(0, 1.5), "ends of an integer domain must be whole numbers, got 1.5"),  # type: ignore[arg-type]
        (lambda: Choice(()), "choice must have options, got none"),
        (lambda: Choice(("a", "b", "a")), "options of a choice must differ, got a twice"),
        (lambda: Choice(("a", Bundle("b", ()))), "options of a choice must be all plain values or all bundles"),
    ],
    ids=["order", "empty", "infinite", "text", "log", "log integer", "fraction", "nothing", "repeat", "mixture"],
)
def test_domain_that_makes_no_sense_is_refused(build: Callable[[], Domain], sentence: str) -> None:
    with pytest.raises(SpaceError) as caught:
        build()

    assert str(caught.value).startswith(sentence)


def test_domain_contains_its_ends_and_no_truth_values() -> None:
    assert Uniform(0, 1).contains(0.0)
    assert Uniform(0, 1).contains(1)
    assert not Uniform(0, 1).contains(True)
    assert not Integer(0, 3).contains(1.0)
    assert not Uniform(0, 1).contains(float("nan"))


def test_choice_of_bundles_has_the_names_as_values() -> None:
    choice = choice_of_bundles({"none": {"blend.partner": "none"}, "head": {"blend.partner": "head"}})

    assert choice.values == ("none", "head")
    assert choice.bundle("head").to_dict() == {"blend.partner": "head"}


@pytest.mark.parametrize(
    ("option", "label"), [(None, "null"), (True, "true"), (0.5, "0.5"), ("none", "none"), ((1.0, 2.0), "[1.0, 2.0]")]
)
def test_label_of_an_option_is_one_word(option: Value, label: str) -> None:
    assert label_of(option) == label

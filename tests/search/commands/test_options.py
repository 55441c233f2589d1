"""How the values of shared options are read."""

import argparse
from pathlib import Path

import pytest

from search.commands.options import (
    add_resources,
    add_storage,
    amount,
    at_least,
    class_names,
    duration_s,
    not_negative,
    resources_of,
    share,
    storage_of,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("20m", 1200), ("1.5h", 5400), ("1h30m", 5400), ("2d", 172800), (" 20M ", 1200)],
)
def test_duration_is_read_in_seconds(text: str, seconds: float) -> None:
    assert duration_s(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "20x", "20 m", "m", "1h-5m", "nan", "inf"])
def test_duration_is_refused_when_it_is_none(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=f"must be a duration such as 90s, .* got {text!r}"):
        duration_s(text)


@pytest.mark.parametrize("text", ["0", "0m"])
def test_duration_is_refused_when_it_is_nothing(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=f"must be above 0, got {text!r}"):
        duration_s(text)


def test_whole_number_is_read_from_its_lowest_up() -> None:
    assert [at_least(1)("1"), at_least(0)("12")] == [1, 12]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [("0", "must be at least 1, got 0"), ("-3", "got -3"), ("1.5", "must be a whole number, got '1.5'")],
    ids=["too_low", "negative", "fraction"],
)
def test_whole_number_is_refused_when_it_is_too_low_or_none(text: str, sentence: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=sentence):
        at_least(1)(text)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [("-0.5", "must be 0 or more, got -0.5"), ("nan", "got nan"), ("inf", "got inf"), ("half", "must be a number")],
)
def test_share_of_a_device_is_refused_when_it_is_none(text: str, sentence: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=sentence):
        not_negative(text)


def test_share_is_read_from_0_to_1() -> None:
    assert [share("0"), share("0.05"), share("1")] == [0.0, 0.05, 1.0]


@pytest.mark.parametrize(
    ("text", "sentence"), [("1.01", "must be at most 1, got 1.01"), ("-1", "must be 0 or more, got -1"), ("5%", "5%")]
)
def test_share_is_refused_when_it_is_none(text: str, sentence: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=sentence):
        share(text)


def test_resources_are_the_keywords_of_a_plan() -> None:
    parser = argparse.ArgumentParser()
    add_resources(parser)

    resources = resources_of(parser.parse_args(["--gpus-per-trial", "0.5", "--max-concurrent", "3"]))

    assert resources == {"max_concurrent": 3, "gpus_per_trial": 0.5}  # a plan has its own word for the others


def test_time_after_which_a_worker_counts_as_hung_is_a_duration() -> None:
    parser = argparse.ArgumentParser()
    add_resources(parser)

    assert resources_of(parser.parse_args(["--hang-after", "5m"])) == {"silent_s": 300.0}


def test_other_resources_are_named_and_memory_has_units() -> None:
    parser = argparse.ArgumentParser()
    add_resources(parser)

    found = resources_of(parser.parse_args(["--resource", "spot=1", "--resource", "memory=1.5G"]))

    assert found == {"resources": {"spot": 1.0, "memory": 1.5 * 2**30}}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("spot", "must be NAME=X such as memory=8G or spot=1, got 'spot'"),
        ("=1", "must be NAME=X"),
        ("gpu=2", "must be left to --gpus-per-trial, got gpu=2"),
        ("memory=lots", "must be a number, got 'lots'"),
        ("spot=0", "must be above 0, got 0"),
    ],
)
def test_other_resource_is_refused_when_it_says_nothing(text: str, sentence: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=sentence):
        amount(text)


@pytest.mark.parametrize(("text", "wish"), [("auto", "auto"), ("0", 0.0), ("2", 2.0)])
def test_gpus_are_a_number_or_left_to_measurements(text: str, wish: float | str) -> None:
    parser = argparse.ArgumentParser()
    add_resources(parser)

    assert resources_of(parser.parse_args(["--gpus-per-trial", text]))["gpus_per_trial"] == wish


def test_storage_is_the_environments_unless_one_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    parser = argparse.ArgumentParser()
    add_storage(parser)
    monkeypatch.setenv("AFFECTUNE_STORAGE", "/mnt/runs")

    assert storage_of(parser.parse_args([])) == Path("/mnt/runs")
    assert storage_of(parser.parse_args(["--storage", "here"])) == Path("here")


def test_class_names_are_read_between_commas() -> None:
    assert class_names("anger, fear,joy") == ["anger", "fear", "joy"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [("", "must be names between commas, got ''"), ("a,,b", "got 'a,,b'"), ("a,a", "must name each class once")],
    ids=["empty", "gap", "twice"],
)
def test_class_names_are_refused_when_they_are_none_or_twice(text: str, sentence: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=sentence):
        class_names(text)

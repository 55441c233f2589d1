"""A person sees what a final job found."""

import io
from typing import Any

from rich.console import Console

from search.result_tables import print_methods, print_options, print_others, print_scores, print_summary

SCORES: dict[str, dict[str, Any]] = {
    "default": {"valid": 0.61234, "estimate": None, "test": 0.6},
    "best_trial": {"valid": 0.65, "test": 0.62},
    "uniform": {"valid": 0.64, "test": 0.63},
    "ensemble": {
        "valid": 0.68, "optimism": 0.02, "estimate": 0.66, "estimate_interval": (0.63, 0.69), "test": 0.655,
    },
}  # fmt: skip


def shown(show: Any, found: Any) -> list[str]:
    out = io.StringIO()
    show(found, console=Console(file=out, width=140))
    return out.getvalue().splitlines()


def words(line: str) -> list[str]:
    return line.split()


def test_scores_show_what_is_known_and_a_dash_for_the_rest() -> None:
    lines = [words(line) for line in shown(print_scores, SCORES)]

    assert ["default", "config", "0.6123", "-", "-", "0.6000"] in lines
    assert ["best", "trial", "0.6500", "-", "-", "0.6200"] in lines
    assert ["uniform", "average", "0.6400", "-", "-", "0.6300"] in lines
    assert ["ensemble", "0.6800", "+0.0200", "0.6600", "(0.630", "to", "0.690)", "0.6550"] in lines


def test_scores_of_rows_that_are_missing_are_not_shown() -> None:
    text = "\n".join(shown(print_scores, {"uniform": {"valid": 0.4}}))

    assert "uniform average" in text
    assert "best trial" not in text


def test_scores_say_what_valid_is_worth() -> None:
    assert shown(print_scores, SCORES)[-1] == (
        "valid chose the trials and the ensemble, so it flatters them; the sealed test had no part in choosing"
    )


def summary(**changes: Any) -> dict[str, Any]:
    return {
        "scores": SCORES,
        "method": "bagged",
        "differences": {"default": {"difference": 0.0512, "low": 0.0204, "high": 0.0801}},
        "others": None,
        "members": [{"member": "t0003", "weight": 0.75}, {"member": "b001", "weight": 0.25}],
        "notes": ["t0004 left out: [bold] it says the same as t0003"],
        "n_test_reads": 1,
        **changes,
    }


def test_summary_tells_gains_members_and_what_to_know() -> None:
    lines = shown(print_summary, summary())

    assert "ensemble against the default config: +0.0512 (+0.020 to +0.080)" in lines
    assert "members (greedy, bagged over candidates): t0003 0.75, b001 0.25" in lines
    assert "note: t0004 left out: [bold] it says the same as t0003" in lines
    assert "sealed test has now been read" not in "\n".join(lines)


def test_summary_says_how_often_the_test_was_read() -> None:
    lines = shown(print_summary, summary(n_test_reads=3))

    assert lines[-1] == "the sealed test has now been read 3 times for this search"


def test_summary_tells_of_faces_of_another_kind() -> None:
    others = {
        "faces": "data/[wild]/faces.parquet",
        "n": 1234,
        "is_joined": False,
        "scores": {"ensemble": {"score": 0.5, "interval": [0.45, 0.55]}},
        "differences": {"default": {"difference": 0.1, "low": -0.02, "high": 0.2}},
    }

    lines = shown(print_summary, summary(others=others))

    assert "macro-F1 on 1,234 faces of data/[wild]/faces.parquet" in lines
    assert ["ensemble", "0.5000", "(0.450", "to", "0.550)"] in [words(line) for line in lines]
    assert "there, ensemble against the default config: +0.1000 (-0.020 to +0.200)" in lines


def test_others_say_whether_they_had_a_part_in_choosing() -> None:
    others: dict[str, Any] = {"faces": "wild", "n": 5, "scores": {}, "differences": {}}

    heads = [shown(print_others, {**others, "is_joined": joined})[1].strip() for joined in (False, True)]

    assert heads == ["score (90 %)", "estimate (90 %)"]


def test_methods_show_which_was_taken() -> None:
    found = {"valid": 0.7, "optimism": 0.01, "estimate": 0.69, "estimate_interval": [0.66, 0.72], "chosen": False}
    methods = [
        {**found, "method": "uniform"},
        {**found, "method": "bagged", "chosen": True},
        {**found, "method": "evolved", "estimate": None, "estimate_interval": None, "optimism": None},
    ]

    lines = [words(line) for line in shown(print_methods, methods)]

    assert ["plain", "average", "0.7000", "+0.0100", "0.6900", "(0.660", "to", "0.720)"] in lines
    assert [line[:2] for line in lines if line[0] == "*"] == [["*", "greedy,"]]
    assert ["CMA-ES", "on", "the", "simplex", "0.7000", "-", "-"] in lines


def test_options_show_those_that_no_other_beats() -> None:
    option = {"looks": "all", "estimate": 0.66, "low": 0.63, "high": 0.69, "ms": 4.096, "megabytes": 12.06}
    unknown = {"estimate": None, "low": None, "high": None}
    options = [
        {**option, "members": {"t0000": 1.0}, "is_on_front": True},
        {**option, "members": {"t0000": 0.5, "t0001": 0.5}, "is_on_front": False},
        {**option, **unknown, "members": {"t0000": 1.0}, "looks": "one", "is_on_front": True},
    ]

    lines = [words(line) for line in shown(print_options, options)][2:]

    assert lines == [
        ["1", "all", "0.6600", "(0.630", "to", "0.690)", "4.10", "12.1"],
        ["1", "one", "-", "4.10", "12.1"],
    ]

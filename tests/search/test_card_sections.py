"""The sections of a model card say what a score is worth, and leave out what is not known."""

from dataclasses import replace
from typing import Any

import pytest

from search.card_sections import choice_section, search_card
from search.options import Option

CHOSEN = Option(
    {"b001": 0.25, "t0003": 0.75}, "all", 1.3, 0.66, 0.61, 0.57, 0.65, ms=4.0, megabytes=12.0, is_chosen=True
)
SCORES: dict[str, dict[str, Any]] = {
    "default": {"valid": 0.5, "test": 0.49, "estimate": 0.5, "estimate_interval": [0.45, 0.55], "optimism": 0.0},
    "ensemble": {"valid": 0.66, "test": None, "estimate": 0.61, "estimate_interval": [0.57, 0.65], "optimism": 0.05},
}


def ensemble(**changes: Any) -> dict[str, Any]:
    """The content of an ensemble.json of which everything is known, or of which some is otherwise."""
    return {
        "classes": ["anger", "joy"],
        "method": "bagged",
        "scores": SCORES,
        "methods": [
            {"method": "uniform", "estimate": 0.58, "estimate_interval": [0.54, 0.62], "valid": 0.6, "chosen": False},
            {"method": "bagged", "estimate": 0.61, "estimate_interval": [0.57, 0.65], "valid": 0.66, "chosen": True},
        ],
        "differences": {"default": {"difference": 0.11, "low": 0.02, "high": 0.2}},
        "confusion": [[30.0, 10.0], [20.0, 40.0]],
        "people": {
            "n": 31, "fewest_faces": 5, "low": 0.4, "median": 0.6, "high": 0.8,
            "groups": {"lab": [1200, 0.7], "wild": [40, 0.5]},
        },
        "calibration": {"temperature": 1.3, "log_loss": [0.9, 0.8], "error": [0.12, 0.03], "bins": [[], []]},
        "others": {
            "faces": "wild.parquet", "n": 1500, "left_out": 3, "is_joined": False,
            "scores": {"ensemble": {"score": 0.44, "interval": [0.4, 0.48]}},
            "differences": {"best_trial": {"difference": 0.03, "low": -0.01, "high": 0.07}},
        },
        "notes": ["no trial is better than the default on the valid faces"],
        **changes,
    }  # fmt: skip


NOTHING_KNOWN = ensemble(
    scores={"ensemble": {"valid": 0.66, "estimate": None, "estimate_interval": None, "optimism": None, "test": None}},
    methods=[],
    differences={},
    confusion=None,
    people=None,
    calibration=None,
    others=None,
    notes=[],
)


def card(found: dict[str, Any], option: Option = CHOSEN) -> str:
    data = {"faces": "96 valid", "licence of the faces": "not told"}
    return search_card("faces", found, option, ends={"completed": 5, "stopped": 7, "failed": 0}, data=data)


def headings(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("#")]


def test_choice_section_puts_the_honest_estimate_before_the_score_that_chose() -> None:
    text = choice_section(search="faces", ends={"completed": 5, "stopped": 7, "failed": 0}, scores=SCORES)

    assert "Chosen from the 12 trials of the search `faces` (5 completed, 7 stopped)." in text
    assert "| default config | 0.500 (0.450 to 0.550) | 0.490 | 0.500 | 0.000 |" in text
    assert "| ensemble | 0.610 (0.570 to 0.650) | - | 0.660 | 0.050 |" in text
    assert text.index("estimate (90 % interval)") < text.index("on the faces it was chosen by")


def test_choice_section_leaves_unknown_scores_open() -> None:
    text = choice_section(search="faces", ends={"completed": 1}, scores={"uniform": {"valid": 0.4}})

    assert "| uniform average | - | - | 0.400 | - |" in text
    assert "best trial" not in text


def test_card_with_everything_has_every_section() -> None:
    text = card(ensemble())

    assert headings(text) == [
        "## Members", "## Ways to choose", "## By class", "## By person", "## Calibration", "## Faces of another kind",
        "## Where it comes from", "## To know",
    ]  # fmt: skip
    for line in (
        "- +0.110 (+0.020 to +0.200) against the default config",
        "By greedy, bagged over candidates.",
        "| anger | 0.667 | 0.600 | 0.750 | 40 |",
        "| joy | 0.727 | 0.800 | 0.667 | 60 |",
        "| lab | 1,200 | 0.700 |",
        "1,500 faces of `wild.parquet`. They had no part in choosing.",
        "| ensemble | 0.440 (0.400 to 0.480) |",
        "- +0.030 (-0.010 to +0.070) against the best trial",
        "- licence of the faces: not told",
        "- no trial is better than the default on the valid faces",
        "![confusion](pictures/confusion.png)",
        "![calibration](pictures/calibration.png)",
    ):
        assert line in text.splitlines()


def test_card_of_what_nothing_is_known_of_says_only_what_is() -> None:
    text = card(NOTHING_KNOWN, replace(CHOSEN, estimate=None, low=None, high=None))

    assert headings(text) == ["## Members", "## Where it comes from"]
    assert "| ensemble | - | - | 0.660 | - |" in text
    assert "None" not in text and "nan" not in text
    assert "pictures/" not in text


def test_members_stand_by_weight() -> None:
    lines = card(ensemble()).splitlines()

    assert lines.index("| t0003 | 0.750 |") == lines.index("| b001 | 0.250 |") - 1


def test_people_without_groups_need_no_table() -> None:
    people = {**ensemble()["people"], "groups": {}}

    text = card(ensemble(people=people))

    assert "Accuracy over 31 people with 5 valid faces or more" in text
    assert "0.400 for the worst tenth, 0.600 for the median person, 0.800 for the best tenth." in text
    assert "| group |" not in text


@pytest.mark.parametrize(
    ("calibration", "words"),
    [
        ({"temperature": 1.3, "log_loss": [0.9, 0.8], "error": [0.12, 0.03]}, "logarithms are divided by 1.300, which"),
        (
            {"temperature": 1.0, "log_loss": [0.9, 0.9], "error": [0.12, 0.12]},
            "No temperature lowered the log-loss on people left out, so none is applied. "
            "Expected calibration error 0.120 before, 0.120 as shipped.",
        ),
    ],
    ids=["calibrated", "left as it was"],
)
def test_card_says_what_calibrating_did(calibration: dict[str, Any], words: str) -> None:
    assert words in card(ensemble(calibration={**calibration, "bins": [[], []]}))


def test_other_faces_that_chose_too_are_said_to_have() -> None:
    others = {**ensemble()["others"], "is_joined": True}

    assert "They had a part in choosing, and are cross-fitted." in card(ensemble(others=others))


def test_smaller_artifact_says_that_it_is_one_and_what_to_expect_of_it() -> None:
    smaller = replace(CHOSEN, members={"t0003": 1.0}, looks="one", estimate=0.59, ms=0.4, is_chosen=False)

    text = card(ensemble(), smaller)

    assert "**This artifact is a smaller one** of 1 members and one look at each face: estimate 0.590" in text
    assert "0.40 ms an image where it was measured, 12.0 MB." in text
    assert "| t0003 | 1.000 |" in text
    assert "b001" not in text


def test_chosen_artifact_is_not_called_smaller() -> None:
    assert "smaller one" not in card(ensemble())


def test_class_that_nobody_shows_or_says_has_no_score_but_0() -> None:
    text = card(ensemble(confusion=[[40.0, 0.0], [0.0, 0.0]]))

    assert "| joy | 0.000 | 0.000 | 0.000 | 0 |" in text

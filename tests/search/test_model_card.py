"""The model card says what a score is worth."""

from typing import Any

import pytest

from search.model_card import choice_section, full_card


def test_choice_section_puts_the_honest_estimate_before_the_score_that_chose() -> None:
    scores = {
        "default": {"valid": 0.5, "test": 0.49, "estimate": {"score": 0.5, "low": 0.45, "high": 0.55}},
        "ensemble": {"valid": 0.66, "test": None, "estimate": {"score": 0.61, "low": 0.57, "high": 0.65}},
    }

    card = choice_section(search="faces", ends={"completed": 5, "stopped": 7, "failed": 0}, scores=scores)

    assert "Chosen from the 12 trials of the search `faces` (5 completed, 7 stopped)." in card
    assert "| default config | 0.500 (0.450 to 0.550) | 0.490 | 0.500 |" in card
    assert "| this ensemble | 0.610 (0.570 to 0.650) | - | 0.660 |" in card


def test_choice_section_leaves_unknown_scores_open() -> None:
    card = choice_section(search="faces", ends={"completed": 1}, scores={"uniform": {"valid": 0.4}})

    assert "| uniform average | - | - | 0.400 |" in card
    assert "best trial" not in card


def test_card_says_how_a_network_is_fed() -> None:
    network = {"file": "00.safetensors", "backbone": "resnet18", "weight": 0.5, "table_px": 48, "channels": 1}
    looks: list[dict[str, Any]] = [
        {"image_px": 48, "mirror": True, "shift_px": 3},
        {"image_px": 64, "mirror": False, "shift_px": 0},
    ]
    networks = [{**network, **look} for look in looks]

    card = full_card("Chosen.", classes=("anger", "joy"), networks=networks)

    assert "| 00.safetensors | resnet18 | 0.500 | 48 px, grey, seen at 48 px, with their mirror images, " in card
    assert "mirror images, moved by 3 px each way too |" in card
    assert "| 48 px, grey, seen at 64 px |" in card


@pytest.mark.parametrize(
    ("design", "rule", "words"),
    [
        ({"encoder": "pooled"}, None, "resnet50"),
        ({"encoder": "dan"}, None, "resnet50 with cross attention"),
        ({"encoder": "deviation"}, None, "resnet50 against its frozen twin"),
        ({"encoder": "two_branch", "appearance_backbone": "resnet18"}, None, "resnet50 beside resnet18"),
        (
            {"encoder": "pooled", "hand_backbone": "resnet18"},
            {"target": "fear", "threshold": 0.25, "exceptions": ["joy", "awe"]},
            "resnet50; a hand, seen by resnet18 with 0.25 or more, makes it fear, unless it is joy or awe",
        ),
        (
            {"encoder": "pooled", "hand_backbone": "resnet18"},
            {"target": "fear", "threshold": 0.5, "exceptions": []},
            "resnet50; a hand, seen by resnet18 with 0.5 or more, makes it fear",
        ),
    ],
    ids=["pooled", "dan", "deviation", "two_branch", "hand_rule", "hand_rule_without_exception"],
)
def test_card_says_what_stands_around_a_backbone(
    design: dict[str, Any], rule: dict[str, Any] | None, words: str
) -> None:
    network = {"file": "00.safetensors", "backbone": "resnet50", "weight": 1.0, "table_px": 48, "channels": 1}
    entry = {**network, "image_px": 48, "mirror": False, "shift_px": 0, "design": design, "hand_rule": rule}

    card = full_card("Chosen.", classes=("anger", "fear"), networks=[entry])

    assert f"| 00.safetensors | {words} | 1.000 |" in card

"""The model card says what the ensemble is, and how to use it."""

from typing import Any

import pytest

from search.model_card import full_card


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


def test_card_warns_where_a_hand_rule_was_tuned_on_the_faces_that_chose() -> None:
    network = {"file": "00.safetensors", "backbone": "resnet50", "weight": 1.0, "table_px": 48, "channels": 1}
    entry = {**network, "image_px": 48, "mirror": False, "shift_px": 0, "design": {"hand_backbone": "resnet18"}}
    rule = {"target": "fear", "threshold": 0.5, "exceptions": []}

    with_rule, without = (
        full_card("Chosen.", classes=("anger", "fear"), networks=[{**entry, "hand_rule": tuned}])
        for tuned in (rule, None)
    )

    assert "take it as somewhat too good" in with_rule
    assert "hand rule" not in without


def test_card_says_where_a_backbone_is_cut() -> None:
    network = {"file": "00.safetensors", "backbone": "resnet50", "weight": 1.0, "table_px": 48, "channels": 1}
    entry = {**network, "image_px": 48, "mirror": False, "shift_px": 0, "design": {"stride": 16}}

    card = full_card("Chosen.", classes=("anger", "fear"), networks=[entry])

    assert "| 00.safetensors | resnet50 up to stride 16 | 1.000 |" in card


def test_card_holds_what_was_said_of_the_making() -> None:
    card = full_card("\nChosen among 12.\n", classes=("anger", "fear"), networks=[])

    assert card.startswith("# Facial-expression ensemble\n\nChosen among 12.\n\n## What it does\n")
    assert "one of 2 expressions with the probability of each: anger, fear." in card

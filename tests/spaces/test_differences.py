"""What of a space is another one now, and which point of it a config is."""

from typing import Any

import pytest

from spaces.config import TrialConfig
from spaces.differences import differences, point_of_config
from spaces.errors import SpaceError
from spaces.loading import parse_space
from spaces.space import SearchSpace

TEXT = """
name: small
description: something of everything
fixed: {train.epochs: 2, model.image_px: 32}
parameters:
  optimiser.lr: {log_uniform: [1.0e-4, 1.0e-2], default: 1.0e-3}
  train.batch_size: {integer: [16, 64], default: 32}
  loss.label_smoothing: {uniform: [0.0, 0.6], default: 0.1}
  network:
    choice:
      small: {model.backbone: test_efficientnet, model.weights: none}
      large: {model.backbone: resnet18, model.weights: none, model.drop_rate: 0.3}
    default: small
  optimiser.weight_decay: {log_uniform: [1.0e-5, 1.0e-1], default: 1.0e-2, when: {network: large}}
points:
- {optimiser.lr: 0.003}
"""


def space_with(*changes: tuple[str, str]) -> SearchSpace:
    text = TEXT
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return parse_space(text)


SPACE = space_with()
LARGE = "model.backbone resnet18, model.weights none"


def config_of(space: SearchSpace, **values: Any) -> dict[str, Any]:
    return space.to_config({name.replace("__", "."): value for name, value in values.items()}).to_flat()


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (
            "1.0e-2], default: 1.0e-3",
            "0.02], default: 1.0e-3",
            "optimiser.lr was between 0.0001 and 0.01, log, is between 0.0001 and 0.02, log",
        ),
        (
            "[1.0e-4, 1.0e-2]",
            "[1.0e-4, 1.00000001e-2]",
            "optimiser.lr was between 0.0001 and 0.01, log, is between 0.0001 and 0.0100000001, log",
        ),
        (
            "integer: [16, 64]",
            "log_integer: [16, 64]",
            "train.batch_size was whole, between 16 and 64, is whole, between 16 and 64, log",
        ),
        ("default: 0.1}", "default: 0.2}", "default of loss.label_smoothing was 0.1, is 0.2"),
        ("train.epochs: 2", "train.epochs: 3", "train.epochs was fixed at 2, is fixed at 3"),
        (
            "drop_rate: 0.3",
            "drop_rate: 0.4",
            f"option large of network was {LARGE}, model.drop_rate 0.3, is {LARGE}, model.drop_rate 0.4",
        ),
        (", when: {network: large}", "", "condition of optimiser.weight_decay was network is large, is not in it"),
        ("lr: 0.003", "lr: 0.004", "point 1 was optimiser.lr 0.003, is optimiser.lr 0.004"),
    ],
    ids=["range", "last digit", "log", "default", "fixed", "bundle", "condition", "point"],
)
def test_difference_says_what_was_and_what_is(old: str, new: str, told: str) -> None:
    assert differences(SPACE, space_with((old, new))) == [told]


def test_difference_tells_of_what_came_and_what_went() -> None:
    after = space_with(
        ("  train.batch_size: {integer: [16, 64], default: 32}\n", ""),
        ("train.epochs: 2", "train.epochs: 2, train.batch_size: 32"),
        ("  network:\n", "  model.drop_path_rate: {uniform: [0.0, 0.2], default: 0.1}\n  network:\n"),
    )

    assert differences(SPACE, after) == [
        "train.batch_size was whole, between 16 and 64, is fixed at 32",
        "default of train.batch_size was 32, is not in it",
        "model.drop_path_rate was not in it, is between 0.0 and 0.2",
        "default of model.drop_path_rate was not in it, is 0.1",
    ]


def test_spaces_that_mean_the_same_have_no_difference() -> None:
    reordered = ("{train.epochs: 2, model.image_px: 32}", "{model.image_px: 32, train.epochs: 2}")
    same = space_with(("name: small", "name: other"), reordered)

    assert differences(SPACE, same) == []


def test_order_of_the_parameters_is_a_difference() -> None:
    line = "  train.batch_size: {integer: [16, 64], default: 32}\n"
    after = space_with((line, ""), ("points:", f"{line}points:"))

    (told,) = differences(SPACE, after)

    assert told.startswith("order was optimiser.lr, train.batch_size, loss.label_smoothing, network")


def test_points_need_not_count() -> None:
    assert differences(SPACE, space_with(("lr: 0.003", "lr: 0.004")), with_points=False) == []


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"optimiser__lr": 0.002, "train__batch_size": 64},
        {"network": "large", "optimiser__weight_decay": 0.05},
    ],
    ids=["default", "numbers", "bundle and condition"],
)
def test_config_is_the_point_it_was_made_from(values: dict[str, Any]) -> None:
    config = config_of(SPACE, **values)

    point = point_of_config(SPACE, config)

    assert point == SPACE.complete({name.replace("__", "."): value for name, value in values.items()})


def test_point_in_another_space_has_what_the_config_has_for_new_parameters() -> None:
    after = space_with(
        ("  network:\n", "  model.mirror: {choice: [true, false], default: false}\n  network:\n"),
        ("1.0e-2], default: 1.0e-3", "1.0e-1], default: 1.0e-2"),
    )
    config = config_of(SPACE, optimiser__lr=0.002)

    point = point_of_config(after, config)

    assert (point["model.mirror"], point["optimiser.lr"]) == (TrialConfig().model.mirror, 0.002)
    assert after.to_config(point).to_flat() == config


def test_config_that_comes_again_with_another_seed_is_the_same_point() -> None:
    config = config_of(SPACE, optimiser__lr=0.002)

    assert point_of_config(SPACE, {**config, "train.seed": 7}) == point_of_config(SPACE, config)


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("[0.0, 0.6]", "[0.0, 0.4]", "loss.label_smoothing 0.5"),
        ("train.epochs: 2", "train.epochs: 3", "train.epochs 2 where it must be 3"),
        (
            "model.drop_rate: 0.3",
            "model.drop_rate: 0.4",
            "model.backbone resnet18 and model.weights none and model.drop_rate 0.",
        ),
        (", when: {network: large}", ", when: {network: small}", "optimiser.weight_decay 0.06 where it must be "),
    ],
    ids=["out of range", "fixed otherwise", "no such bundle", "condition"],
)
def test_config_outside_of_a_space_is_told_by_the_setting_at_fault(old: str, new: str, why: str) -> None:
    config = config_of(SPACE, loss__label_smoothing=0.5, network="large", optimiser__weight_decay=0.06)

    with pytest.raises(SpaceError) as caught:
        point_of_config(space_with((old, new)), config)

    assert str(caught.value).startswith(why)

"""`--first heads:N`: which part of a space heads search, and what they hand over."""

from pathlib import Path
from typing import Any

import pytest

from search.first import (
    First,
    HandedOver,
    choose_points,
    heads_space,
    parse_first,
    read_handed,
    with_points,
    write_handed,
)
from search.folder import SearchFolder, TrialRecord
from spaces.errors import SearchError, SpaceError, UsageError
from spaces.loading import load_space, parse_space
from spaces.space import SearchSpace


def scored(number: int, heads: SearchSpace, score: float, **values: Any) -> TrialRecord:
    complete = heads.complete({name.replace("__", "."): value for name, value in values.items()})
    record = TrialRecord(f"t{number:04d}", number, complete, heads.to_config(complete).to_flat())
    record.add_epoch({"epoch": 1, "best/macro_f1": score, "best/epoch": 1})
    record.end = "completed"
    return record


def test_first_says_how_many_heads_and_how_many_are_handed_over() -> None:
    assert parse_first("heads:200") == First(200)
    assert parse_first("heads:200:3") == First(200, n_handed=3)


@pytest.mark.parametrize("text", ["heads", "heads:", "heads:0", "heads:-3", "heads:3:0", "heads:1:2:3", "bags:3", "3"])
def test_other_words_are_refused_with_their_value(text: str) -> None:
    with pytest.raises(UsageError, match=f"--first must be heads:N or heads:N:M .*, got '{text}'"):
        parse_first(text)


def test_heads_search_what_a_head_can_tell_about() -> None:
    heads = heads_space(load_space("core"))

    assert {each.name for each in heads.parameters} == {
        "model.backbone",
        "loss.label_smoothing",
        "loss.class_weight_exponent",
        "data.subsample_ratio",
    }
    config = heads.to_config(heads.default())
    assert (config.train.epochs, config.blend.partner) == (0, "none")
    assert config.train.head_epochs > 0


def test_heads_of_a_space_of_backbone_settings_alone_are_refused() -> None:
    space = parse_space("name: rates\nparameters: {optimiser.lr: {log_uniform: [1.0e-4, 1.0e-2], default: 1.0e-3}}\n")

    with pytest.raises(SpaceError, match="space must vary something that a head can tell about, got none: space rates"):
        heads_space(space)


def test_best_of_each_backbone_goes_over_in_turn_the_default_one_first() -> None:
    space = load_space("core")
    heads = heads_space(space)
    records = [
        scored(0, heads, 0.2),
        scored(1, heads, 0.9, model__backbone="resnet18", loss__label_smoothing=0.3),
        scored(2, heads, 0.8, model__backbone="resnet18", loss__label_smoothing=0.4),
        scored(3, heads, 0.3, loss__label_smoothing=0.5),
    ]

    handed = choose_points(space, heads, records, n=2)

    assert [point["trial"] for point in handed.points] == ["t0003", "t0001"]


def test_default_is_not_handed_over_since_it_is_trial_0_anyway() -> None:
    space = load_space("core")
    heads = heads_space(space)

    handed = choose_points(space, heads, [scored(0, heads, 0.9), scored(1, heads, 0.5, loss__label_smoothing=0.3)], n=5)

    assert [point["trial"] for point in handed.points] == ["t0001"]


def test_points_come_before_the_space_own_and_only_once() -> None:
    space = load_space("core")
    heads = heads_space(space)
    handed = choose_points(space, heads, [scored(1, heads, 0.5, loss__label_smoothing=0.3)], n=5)

    once = with_points(space, handed)
    twice = with_points(once, handed)

    assert once.initial_points()[1]["loss.label_smoothing"] == 0.3
    assert len(once.points) == len(space.points) + 1
    assert twice == once
    assert parse_space(once.to_yaml()).initial_points() == once.initial_points()


def test_what_was_handed_over_is_read_back(tmp_path: Path) -> None:
    folder = SearchFolder(tmp_path)
    handed = HandedOver(search="x-heads", points=({"trial": "t0001", "macro_f1": 0.5, "values": {"a": 1}},))

    assert read_handed(folder) is None
    write_handed(folder, handed)

    assert read_handed(folder) == handed


def test_broken_first_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "first.json").write_text("{")

    with pytest.raises(SearchError, match=r"first.json could not be read"):
        read_handed(SearchFolder(tmp_path))

from dataclasses import replace

import pytest

from spaces.config import TrialConfig, Value
from spaces.domains import Choice, Integer, LogUniform, Uniform, choice_of_bundles
from spaces.errors import ConfigError, SpaceError
from spaces.loading import parse_space
from spaces.parameters import Condition, Parameter
from spaces.space import SearchSpace

PARTNER = Parameter(
    "partner",
    choice_of_bundles({"none": {"blend.partner": "none"}, "head": {"blend.partner": "head", "train.head_epochs": 1}}),
    default="none",
)
WEIGHT = Parameter("blend.weight", Uniform(0, 1), default=0.3, when=(Condition("partner", ("head",)),))
SMOOTHING = Parameter("loss.label_smoothing", Uniform(0, 0.6), default=0.1)
SPACE = SearchSpace(
    name="small",
    description="for tests",
    parameters=(SMOOTHING, PARTNER, WEIGHT),
    fixed={"train.epochs": 3},
    points=({"partner": "head", "blend.weight": 0.5}, {"loss.label_smoothing": 0}),
)


def test_space_default_leaves_out_what_is_inactive() -> None:
    assert SPACE.default() == {"loss.label_smoothing": 0.1, "partner": "none"}


def test_space_initial_points_are_complete_and_differ() -> None:
    space = replace(SPACE, points=(*SPACE.points, {"loss.label_smoothing": 0.1}))

    assert space.initial_points() == [
        {"loss.label_smoothing": 0.1, "partner": "none"},
        {"loss.label_smoothing": 0.1, "partner": "head", "blend.weight": 0.5},
        {"loss.label_smoothing": 0.0, "partner": "none"},
    ]


def test_space_settings_expand_bundles_over_what_is_fixed() -> None:
    settings = SPACE.to_settings({"partner": "head"})

    assert settings == {
        "train.epochs": 3,
        "loss.label_smoothing": 0.1,
        "blend.partner": "head",
        "train.head_epochs": 1,
        "blend.weight": 0.3,
    }


def test_space_config_drops_the_value_of_an_inactive_parameter() -> None:
    config = SPACE.to_config({"partner": "none", "blend.weight": 0.9})

    assert config.blend.weight == TrialConfig().blend.weight
    assert not SPACE.is_active("blend.weight", {"partner": "none"})
    assert SPACE.is_active(WEIGHT, {"partner": "head"})


def test_space_fixed_setting_stands_in_for_an_inactive_parameter() -> None:
    space = replace(SPACE, fixed={"blend.weight": 0.7})

    assert space.to_config({}).blend.weight == 0.7
    assert space.to_config({"partner": "head"}).blend.weight == 0.3


def test_space_reads_back_equal_from_its_yaml() -> None:
    again = parse_space(SPACE.to_yaml())

    assert again == SPACE
    assert hash(again) == hash(SPACE)
    assert again.content_hash() == SPACE.content_hash()


def test_space_of_every_kind_reads_back_equal_from_its_yaml() -> None:
    space = SearchSpace(
        name="wide",
        parameters=(
            Parameter("loss.class_weights", Choice((None, (1.0, 2.0, 0.5))), default=None),
            Parameter("optimiser.lr", LogUniform(1e-5, 1e-2), default=3e-4),
            Parameter("train.batch_size", Integer(16, 256, log=True), default=64),
            Parameter("train.head_epochs", Integer(0, 4), default=0),
            Parameter("optimiser.head_only_lr", LogUniform(0.1, 1), 0.2, (Condition("train.head_epochs", (0,), True),)),
            Parameter("data.subsample_ratio", Choice((0.5, 1)), 1, (Condition("loss.class_weights", ((1, 2, 0.5),)),)),
        ),
        points=({"loss.class_weights": (1, 2, 0.5), "train.head_epochs": 2, "optimiser.head_only_lr": 0.5},),
    )

    assert parse_space(space.to_yaml()) == space
    assert space.to_config(space.initial_points()[1]).loss.class_weights == (1.0, 2.0, 0.5)


def test_space_content_hash_ignores_the_name_but_not_a_bound() -> None:
    other = replace(SPACE, parameters=(replace(SMOOTHING, domain=Uniform(0, 0.5)), PARTNER, WEIGHT))

    assert replace(SPACE, name="other").content_hash() == SPACE.content_hash()
    assert other.content_hash() != SPACE.content_hash()


def test_space_takes_values_as_json_gives_them_back() -> None:
    space = SearchSpace("s", parameters=(Parameter("loss.class_weights", Choice((None, (1.0, 2.0))), None),))

    assert space.complete({"loss.class_weights": [1, 2]}) == {"loss.class_weights": (1.0, 2.0)}


def test_space_without_parameters_has_one_point() -> None:
    space = SearchSpace("one", fixed={"train.epochs": 2})

    assert space.initial_points() == [{}]
    assert space.to_config({}).train.epochs == 2


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"partner": "hed"}, "partner must be one of its options, got 'hed'; did you mean 'head'"),
        ({"loss.label_smoothing": 0.7}, "loss.label_smoothing must be between 0 and 0.6, got 0.7"),
        ({"partnr": "head"}, "parameter 'partnr' is unknown; did you mean 'partner'"),
    ],
    ids=["option", "bound", "name"],
)
def test_space_refuses_a_point_outside(values: dict[str, Value], sentence: str) -> None:
    with pytest.raises(SpaceError) as caught:
        SPACE.complete(values)

    assert str(caught.value) == sentence


def test_space_refuses_a_point_that_gives_an_inactive_parameter_a_value() -> None:
    with pytest.raises(SpaceError, match=r"^blend.weight must be active to have a value, got 0.5: points\[0\]; needs"):
        replace(SPACE, points=({"blend.weight": 0.5},))


def test_space_refuses_a_bound_outside_the_range_of_the_setting() -> None:
    wide = replace(SMOOTHING, domain=Uniform(0, 1.2))

    with pytest.raises(ConfigError, match=r"^loss.label_smoothing: input should be less than 1, got 1.2: parameter"):
        SearchSpace("s", parameters=(wide,))


def test_space_refuses_two_values_that_make_no_config_together() -> None:
    partner = Parameter("blend.partner", Choice(("none", "head")), default="none")
    epochs = Parameter("train.head_epochs", Integer(0, 2), default=1)

    with pytest.raises(SpaceError) as caught:
        SearchSpace("s", parameters=(partner, epochs), where="s.yaml")

    assert str(caught.value) == (
        "blend.partner head with train.head_epochs 0 makes no config, "
        "train.head_epochs must be above 0 where blend.partner is 'head', got 0: s.yaml"
    )


def test_space_accepts_them_where_a_condition_keeps_them_apart() -> None:
    bundles = {"none": {"blend.partner": "none"}, "head": {"blend.partner": "head"}}
    partner = Parameter("partner", choice_of_bundles(bundles), "none")
    epochs = Parameter("train.head_epochs", Integer(1, 2), default=1, when=(Condition("partner", ("head",)),))

    space = SearchSpace("s", parameters=(partner, epochs))

    assert space.to_config({"partner": "head"}).train.head_epochs == 1


def test_space_with_too_many_options_to_try_is_refused() -> None:
    many = tuple(Parameter(f"p{i}", choice_of_bundles({"a": {}, "b": {}}), default="a") for i in range(201))

    with pytest.raises(SpaceError, match=r"options and ends of ranges must be at most 400 in all, got 402: s\.yaml"):
        SearchSpace(name="many", parameters=many, where="s.yaml")


def test_space_with_conditions_beyond_trying_is_refused_and_not_tried_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("spaces.checks.MAX_TRIED", 100)
    options = choice_of_bundles({"a": {}, "b": {}, "c": {}})
    chain = [Parameter("p0", options, default="a")]
    for i in range(1, 30):
        chain.append(Parameter(f"p{i}", options, default="a", when=(Condition(f"p{i - 1}", ("a", "b", "c")),)))
    first = Parameter("x", options, default="a", when=(Condition("p0", ("a",)), Condition("p29", ("c",))))
    never = Parameter("y", options, default="a", when=(Condition("x", ("a",)), Condition("p0", ("b",))))

    with pytest.raises(SpaceError, match="y must be active in one of 100 combinations of what it depends on, got none"):
        SearchSpace(name="chain", parameters=(*chain, first, never))

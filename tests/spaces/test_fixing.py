from pathlib import Path

import pytest

from spaces.errors import ConfigError, SpaceError, UsageError
from spaces.fixing import parse_fixes, resolve_file
from spaces.loading import load_space, parse_space
from spaces.space import SearchSpace

NETS = parse_space(
    """
name: nets
parameters:
  net:
    choice:
      small: {model.backbone: lcnet_050, model.image_px: 48, model.weights: none}
      large: {model.backbone: resnet18, model.image_px: 64, model.weights: hub}
    default: small
  optimiser.lr: {log_uniform: [1e-4, 1e-2], default: 1e-3, when: {net: large}}
points:
  - {net: large, optimiser.lr: 2e-3}
"""
)


def names(space: SearchSpace) -> list[str]:
    return [each.name for each in space.parameters]


def test_fix_takes_away_the_parameter_of_the_setting() -> None:
    space = load_space("core").fix({"loss.label_smoothing": 0.2})

    assert "loss.label_smoothing" not in names(space)
    assert space.to_config({}).loss.label_smoothing == 0.2
    assert all("loss.label_smoothing" not in point for point in space.points)


def test_fix_may_leave_the_domain() -> None:
    space = load_space("core").fix({"loss.label_smoothing": 0.9, "data.subsample_ratio": 0.3})

    assert space.to_config({}).data.subsample_ratio == 0.3


def test_fix_chooses_the_bundle_that_is_about_the_setting() -> None:
    space = NETS.fix({"model.backbone": "resnet18"})

    assert names(space) == ["optimiser.lr"]
    assert space.fixed == {"model.backbone": "resnet18", "model.image_px": 64, "model.weights": "hub"}
    assert space.parameters[0].when == ()
    assert space.points == ({"optimiser.lr": 0.002},)


def test_fix_drops_a_parameter_whose_condition_can_not_hold_any_more() -> None:
    space = NETS.fix({"model.backbone": "lcnet_050"})

    assert names(space) == []
    assert space.points == ()


def test_fix_drops_all_bundles_where_none_has_the_value() -> None:
    space = NETS.fix({"model.backbone": "test_efficientnet"})

    assert names(space) == []
    assert space.fixed == {"model.backbone": "test_efficientnet"}


def test_fix_overrides_a_setting_that_bundles_are_not_about() -> None:
    space = NETS.fix({"model.image_px": 32})

    assert names(space) == ["net", "optimiser.lr"]
    assert space.to_config({"net": "large"}).model.image_px == 32
    assert space.to_config({"net": "small"}).model.image_px == 32


def test_fix_merges_bundles_that_differ_in_nothing_else() -> None:
    space = parse_space(
        "parameters:\n"
        "  net: {choice: {a: {model.backbone: lcnet_050, model.image_px: 48}, "
        "b: {model.backbone: lcnet_050, model.image_px: 64}, c: {model.backbone: resnet18}}, default: b}\n"
        "  optimiser.lr: {uniform: [0.1, 0.2], default: 0.1, when: {net: [a, b]}}\n"
        "points: [{net: a}]\n"
    ).fix({"model.image_px": 32})

    assert space.parameter("net").domain.probes() == ("b", "c")
    assert space.parameter("optimiser.lr").when[0].values == ("b",)
    assert space.points == ({"net": "b"},)


def test_fix_chooses_an_option_by_the_free_name() -> None:
    space = load_space("core").fix({"partner": "head"})

    assert "partner" not in names(space)
    assert space.parameter("blend.weight").when == ()
    assert space.to_config({}).blend.partner == "head"
    assert space.to_config({}).train.head_epochs == 1


def test_fix_of_the_partner_to_none_takes_the_weight_away() -> None:
    assert "blend.weight" not in names(load_space("core").fix({"blend.partner": "none"}))


def test_fix_of_the_partner_to_a_saved_model_keeps_the_weight() -> None:
    space = load_space("core").fix({"blend.partner": "/models/wide"})

    assert "partner" not in names(space)
    assert space.parameter("blend.weight").when == ()


def test_fix_of_class_weights_takes_the_exponent_away() -> None:
    space = load_space("core").fix({"loss.class_weights": [1, 2, 0.5]})

    assert "loss.class_weight_exponent" not in names(space)
    assert space.to_config({}).loss.class_weights == (1.0, 2.0, 0.5)


def test_fix_of_a_weights_file_needs_one_backbone() -> None:
    with pytest.raises(SpaceError) as caught:
        load_space("core").fix({"model.weights": "/w.safetensors"})

    assert str(caught.value).startswith("model.weights must be none or hub where the backbone varies, got /w.safetens")
    assert str(caught.value).endswith("preset core with --fix; fix model.backbone too")


@pytest.mark.parametrize(
    ("preset", "setting", "backbone", "words"),
    [
        ("paper001", "model.weights", "model.backbone", "none or hub"),
        ("paper004", "model.start", "model.backbone", "none"),
        ("paper000", "branches.appearance_weights", "branches.appearance_backbone", "none or hub"),
    ],
)
def test_fix_of_any_file_needs_the_one_backbone_that_it_fits(
    preset: str, setting: str, backbone: str, words: str
) -> None:
    with pytest.raises(SpaceError) as caught:
        load_space(preset).fix({setting: "/w.safetensors"})

    sentence = f"{setting} must be {words} where the backbone varies, got /w.safetensors for "
    assert str(caught.value).startswith(sentence)
    assert str(caught.value).endswith(f"preset {preset} with --fix; fix {backbone} too")


def test_fix_of_a_hand_modules_weights_fits_the_one_backbone_of_its_options() -> None:
    space = load_space("paper003").fix({"hand.weights": "/w.safetensors"})

    assert space.to_config({}).hand.weights == "/w.safetensors"


@pytest.mark.parametrize("order", [1, -1], ids=["backbone first", "weights first"])
def test_fix_of_a_weights_file_with_its_backbone_leaves_the_rest(order: int) -> None:
    fixes = {"model.backbone": "tf_efficientnet_lite0", "model.weights": "/w.safetensors"}

    space = load_space("core").fix(dict(list(fixes.items())[::order]))

    assert "model.backbone" not in names(space)
    assert space.to_config({}).model.weights == "/w.safetensors"


def test_fix_of_a_weights_file_overrides_the_bundle_of_its_backbone() -> None:
    space = NETS.fix({"model.weights": "/w.safetensors", "model.backbone": "resnet18"})

    assert space.to_config({}).model.weights == "/w.safetensors"
    assert space.to_config({}).model.image_px == 64


def test_fix_that_makes_no_config_with_an_option_is_refused() -> None:
    with pytest.raises(SpaceError, match=r"^partner head makes no config, train.head_epochs must be above 0"):
        load_space("core").fix({"train.head_epochs": 0})


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("train.epoch", 3, "setting 'train.epoch' is unknown: --fix; did you mean 'train.epochs'"),
        ("lr", 0.1, "setting 'lr' is unknown: --fix; did you mean 'optimiser.lr'"),
        ("train.epochs", -1, "train.epochs: input should be greater than or equal to 0, got -1: --fix"),
        ("loss.label_smoothing", True, "loss.label_smoothing: input should be less than 1, got True: --fix"),
        ("blend.weight", True, "blend.weight must be no truth value, got True: --fix"),
    ],
    ids=["name", "short name", "range", "true", "truth"],
)
def test_fix_with_a_wrong_word_gets_a_sentence(name: str, value: object, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_space("core").fix({name: value})

    assert str(caught.value) == sentence


def test_parse_fixes_reads_values_as_yaml_and_text_as_it_stands(tmp_path: Path) -> None:
    (tmp_path / "w #1.safetensors").touch()

    fixes = parse_fixes(
        ["train.epochs=3", "optimiser.lr=1e-4", "loss.class_weights=[1, 2]", "model.image_px=null",
         "model.backbone=resnet18", "model.weights=w #1.safetensors", "blend.partner=none"],
        base_dir=tmp_path,
    )  # fmt: skip

    assert fixes == {
        "train.epochs": 3,
        "optimiser.lr": 1e-4,
        "loss.class_weights": [1, 2],
        "model.image_px": None,
        "model.backbone": "resnet18",
        "model.weights": str(tmp_path / "w #1.safetensors"),
        "blend.partner": "none",
    }


@pytest.mark.parametrize(
    ("texts", "error", "sentence"),
    [
        (["train.epochs"], UsageError, "--fix must be KEY=VALUE, got 'train.epochs'; for example --fix train.epochs=6"),
        (["train.epochs=1", "train.epochs=2"], UsageError, "--fix must name a setting once, got train.epochs twice"),
        (["train.epochs={a: 1}"], UsageError, "--fix train.epochs must be a plain value or a list, got '{a: 1}'"),
        (["loss.class_weights=[1,"], SpaceError, "YAML cannot be read, "),
        (["model.weights=/gone.st"], ConfigError, "model.weights must be none, hub or a file that exists, got /gone"),
    ],
    ids=["no value", "twice", "mapping", "yaml", "file"],
)
def test_parse_fixes_refuses_what_it_can_not_read(texts: list[str], error: type[Exception], sentence: str) -> None:
    with pytest.raises(error) as caught:
        parse_fixes(texts)

    assert str(caught.value).startswith(sentence)


@pytest.mark.parametrize("path", ["a\0b", "~nobody_of_this_name/w"], ids=["a zero byte", "nobody's home"])
def test_file_that_no_path_can_name_is_refused(path: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"model\.weights must name a file, got '.*' \("):
        resolve_file("model.weights", path, base_dir=tmp_path)

"""Which spaces are trained in packs of heads, and which are refused."""

import pytest

from search.packs.space import check_heads_space, is_head_only, is_packed
from spaces.errors import SpaceError
from spaces.loading import load_space, parse_space, preset_names
from spaces.space import SearchSpace

HEADS = """
name: mine
fixed: {{train.epochs: 0, train.head_epochs: 3{fixed}}}
parameters:
  loss.label_smoothing: {{uniform: [0.0, 0.6], default: 0.1}}
  {parameter}
"""


def heads(*, fixed: str = "", parameter: str = "") -> SearchSpace:
    return parse_space(HEADS.format(fixed=fixed, parameter=parameter), where="mine.yaml")


def test_preset_of_heads_alone_is_trained_in_packs_and_no_other_is() -> None:
    assert [name for name in preset_names() if is_packed(load_space(name))] == ["heads"]


@pytest.mark.parametrize("name", preset_names())
def test_presets_name_nothing_that_has_no_say(name: str) -> None:
    check_heads_space(load_space(name))


def test_varied_setting_of_backbone_training_is_refused_by_its_name() -> None:
    space = heads(parameter="optimiser.lr: {log_uniform: [1.0e-4, 1.0e-2], default: 1.0e-3}")

    with pytest.raises(SpaceError, match=r"must not name what only trains a backbone, got 'optimiser.lr': mine.yaml"):
        check_heads_space(space)


def test_fixed_setting_of_backbone_training_is_refused_by_its_name() -> None:
    with pytest.raises(SpaceError, match=r"got 'train.frozen_stages': mine.yaml; leave it out"):
        check_heads_space(heads(fixed=", train.frozen_stages: 2"))


def test_augmentation_is_refused_where_heads_see_no_altered_face() -> None:
    space = heads(parameter="augment.flip_p: {uniform: [0.0, 1.0], default: 0.5}")

    with pytest.raises(SpaceError, match=r"must have train.head_views above 1 .*, got 'augment.flip_p'"):
        check_heads_space(space)
    check_heads_space(space.fix({"train.head_views": 3}))


def test_space_that_trains_backbones_is_left_alone() -> None:
    space = load_space("core")

    check_heads_space(space)

    assert not is_head_only(space)


def test_heads_with_a_network_that_packs_cannot_train_run_one_by_one() -> None:
    space = heads(fixed=", model.encoder: dan, model.backbone: resnet18")

    assert is_head_only(space)
    assert not is_packed(space)


@pytest.mark.parametrize(
    "parameter",
    [
        "optimiser.sam_rho: {uniform: [0.0, 0.1], default: 0.0}",
        "train.epochs: {integer: [0, 10], default: 0}",
        "kind: {choice: {plain: {loss.gamma: 2.0}, far: {loss.gamma: 3.0}}, default: plain}\n"
        "  train.head_batch_norm: {choice: [eval, train], default: eval, when: {kind: far}}",
    ],
    ids=["end of a range", "epochs from a range", "option that the default hides"],
)
def test_heads_that_packs_could_not_always_train_run_one_by_one(parameter: str) -> None:
    fixed = "" if "epochs" in parameter else "train.epochs: 0, "
    space = parse_space(
        f"name: mine\nfixed: {{{fixed}train.head_epochs: 3}}\nparameters:\n"
        f"  loss.label_smoothing: {{uniform: [0.0, 0.6], default: 0.1}}\n  {parameter}\n"
    )

    assert not is_packed(space)


def test_space_that_may_train_a_backbone_is_not_head_only() -> None:
    space = parse_space(
        "name: mine\nfixed: {train.head_epochs: 3}\nparameters:\n"
        "  train.epochs: {integer: [0, 10], default: 0}\n"
        "  optimiser.lr: {log_uniform: [1.0e-4, 1.0e-2], default: 1.0e-3}\n"
    )

    check_heads_space(space)

    assert not is_head_only(space)

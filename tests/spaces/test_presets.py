"""Presets of the papers: trial 0 is what was published, and the space around it can be searched."""

from pathlib import Path
from typing import Any

import pytest

from spaces.config import TrialConfig
from spaces.domains import Choice
from spaces.errors import SpaceError
from spaces.fixing import parse_fixes
from spaces.loading import load_space, preset_names, space_text

PAPERS = {
    "paper000": "Jeong et al. 2022",
    "paper001": "Li et al. 2022",
    "paper002": "Savchenko 2022",
    "paper002-mtl": "Savchenko 2022",
    "paper003": "Miao et al. 2022",
    "paper004": "Jeong et al. 2022",
}
"""Preset to authors and year."""

B0 = "tf_efficientnet_b0.ns_jft_in1k"

PUBLISHED: dict[str, dict[str, Any]] = {
    "paper000": {
        "model.encoder": "two_branch",
        "model.backbone": "resnet50",
        "branches.emotion": "dan",
        "branches.appearance_backbone": "resnet50",
        "attention.heads": 4,
        "data.subsample_ratio": 0.2,
        "augment.mix": "mix_augment",
        "augment.affine_p": 0.0,
        "augment.light_p": 0.0,
    },
    "paper001": {
        "model.encoder": "pooled",
        "model.backbone": "vit_base_patch16_224",
        "model.image_px": 224,
        "deviation.eps": 1e-6,
        "deviation.eps_when": "training",
        "data.normalise": "table",
        "data.sampler": "upsample",
        "augment.rand_ops": 2,
        "augment.rand_magnitude": 9,
        "augment.flip_p": 0.0,
        "loss.label_smoothing": 0.2,
        "loss.class_weights": (1.0, 3.0, 5.0, 1.0, 1.0, 1.0),
        "loss.class_weight_form": "max_ratio",
        "loss.smoothing_by": "class",
        "loss.reduction": "weights",
        "optimiser.name": "adam",
        "optimiser.lr": 1e-5,
        "optimiser.weight_decay": 0.0,
        "train.batch_size": 64,
        "train.epochs": 20,
    },
    "paper002": {
        "model.backbone": B0,
        "model.image_px": 224,
        "loss.label_smoothing": 0.1,
        "loss.smoothing_by": "class",
        "loss.reduction": "faces",
        "loss.class_weight_form": "mean_ratio",
        "loss.class_weight_exponent": 1.0,
        "optimiser.name": "adam",
        "optimiser.lr": 1e-4,
        "optimiser.head_only_lr": 1e-3,
        "optimiser.sam_rho": 0.05,
        "optimiser.sam_batch_norm": "both",
        "train.head_epochs": 3,
        "train.epochs": 6,
        "train.head_batch_norm": "train",
        "train.batch_size": 64,
        "augment.jitter_p": 1.0,
        "augment.max_jitter": 0.3,
        "augment.max_hue": 0.1,
        "augment.flip_p": 0.5,
    },
    "paper002-mtl": {
        "model.backbone": B0,
        "affect.heads": "separate",
        "affect.expression_inputs": "both",
        "affect.va_inputs": "logits",
        "affect.unit_inputs": "both",
        "affect.unit_width": 128,
        "loss.class_weight_form": "max_ratio",
        "loss.class_weight_exponent": 1.0,
        "loss.va_weight": 1.0,
        "optimiser.lr": 1e-4,
        "optimiser.head_only_lr": 1e-3,
        "optimiser.sam_rho": 0.05,
        "train.head_epochs": 3,
        "train.epochs": 6,
        "train.batch_size": 48,
        "augment.flip_p": 0.5,
    },
    "paper003": {
        "model.backbone": "resnet50",
        "hand.backbone": "resnet50",
        "hand.rule": "fixed",
        "hand.threshold": 0.5,
        "hand.target": "fear",
        "hand.exceptions": "happiness",
        "data.sampler": "weighted",
        "loss.name": "cross_entropy",
        "loss.label_smoothing": 0.0,
        "loss.class_weight_exponent": 0.0,
        "optimiser.name": "adam",
        "optimiser.lr": 5e-5,
        "optimiser.weight_decay": 1e-4,
        "optimiser.decay_on": "all",
        "train.frozen_share": 0.8,
        "train.epochs": 20,
    },
    "paper004": {
        "model.encoder": "dan",
        "model.backbone": "resnet50",
        "model.image_px": 224,
        "attention.heads": 4,
        "attention.width": 512,
        "attention.fusion": "logsoftmax_sum",
        "data.sampler": "weighted",
        "data.subsample_ratio": 1.0,
        "loss.name": "focal",
        "loss.gamma": 2.0,
        "loss.affinity_weight": 1.0,
        "loss.partition_weight": 1.0,
        "loss.partition_form": "log_of_mean",
        "optimiser.name": "adam",
        "optimiser.lr": 1e-4,
        "optimiser.weight_decay": 1e-4,
        "optimiser.decay_on": "all",
        "optimiser.grad_clip": 1.0,
        "lr_schedule.name": "exponential",
        "lr_schedule.epoch_gamma": 0.6,
        "augment.policy": "alternatives",
        "train.batch_size": 1024,
        "train.epochs": 8,
    },
}
"""Preset to what its paper, or the authors' code, says of the published configuration."""


def published(name: str, *fixes: str) -> TrialConfig:
    """The config of trial 0, with settings fixed as on the command line."""
    space = load_space(name).fix(parse_fixes(fixes))
    return space.to_config(space.default())


def header_of(name: str) -> str:
    """The comment above a preset, without its marks and as one line."""
    text, _ = space_text(name)
    return " ".join(line.removeprefix("#").strip() for line in text.split("\nname:")[0].splitlines())


def test_every_paper_has_a_preset() -> None:
    assert {name for name in preset_names() if name.startswith("paper")} == set(PAPERS)


@pytest.mark.parametrize("name", PAPERS)
def test_trial_0_is_the_published_configuration(name: str) -> None:
    settings = published(name).to_flat()

    assert {setting: settings[setting] for setting in PUBLISHED[name]} == PUBLISHED[name]


@pytest.mark.parametrize("name", PAPERS)
def test_header_says_whose_work_it_is_and_what_is_not_given(name: str) -> None:
    header = header_of(name)

    assert header.startswith(PAPERS[name])
    assert "Reproduces:" in header
    assert "Not given" in header
    assert "Weights: none" in header


@pytest.mark.parametrize("name", preset_names())
def test_description_fits_a_line(name: str) -> None:
    assert 20 <= len(load_space(name).description) <= 100


@pytest.mark.parametrize("name", PAPERS)
def test_nothing_is_downloaded_unless_asked_for(name: str) -> None:
    space = load_space(name)

    configs = [space.to_config(point) for point in space.initial_points()]

    assert {each.model.weights for each in configs} == {"none"}
    assert {each.branches.appearance_weights for each in configs} == {"none"}
    assert {each.hand.weights for each in configs} == {"none"}


@pytest.mark.parametrize("name", PAPERS)
def test_inference_is_one_look_at_a_face_as_published(name: str) -> None:
    assert published(name).model.mirror is False


@pytest.mark.slow
@pytest.mark.parametrize("name", preset_names())
def test_backbones_of_every_branch_and_module_exist(name: str) -> None:
    from search.prelaunch import check_networks

    check_networks(load_space(name))


@pytest.mark.parametrize("name", PAPERS)
def test_points_after_the_default_are_a_few_and_all_differ(name: str) -> None:
    space = load_space(name)

    assert len(space.initial_points()) == len(space.points) + 1
    assert 3 <= len(space.points) <= 6


@pytest.mark.parametrize("name", PAPERS)
def test_small_faces_and_batches_can_be_asked_for(name: str) -> None:
    config = published(name, "model.backbone=resnet18", "model.image_px=48", "train.batch_size=8", "train.epochs=1")

    assert (config.model.backbone, config.model.image_px) == ("resnet18", 48)
    assert (config.train.batch_size, config.train.epochs) == (8, 1)


def test_li_brings_the_rate_of_deviation_with_its_points() -> None:
    space = load_space("paper001")

    configs = [space.to_config(point) for point in space.initial_points()]

    rates = {config.model.encoder: config.optimiser.lr for config in configs}
    assert rates == {"pooled": 1e-5, "deviation": 1e-6}
    assert {config.train.batch_norm for config in configs if config.model.encoder == "deviation"} == {"eval"}
    backbones = {config.model.backbone for config in configs if config.model.encoder == "deviation"}
    assert backbones == set(space.parameter("model.backbone").domain.probes())


def test_li_serves_a_table_of_seven_classes_without_the_list() -> None:
    config = published("paper001", "loss.class_weights=null", "model.encoder=deviation")

    assert config.loss.class_weights is None
    assert (config.train.batch_norm, config.train.epochs) == ("eval", 10)


def test_savchenko_blends_logits_of_a_saved_model(tmp_path: Path) -> None:
    saved = tmp_path / "pretrained"
    saved.mkdir()

    config = published("paper002", f"blend.partner={saved}")

    assert (config.blend.partner, config.blend.weight, config.blend.space) == (str(saved), 0.3, "logits")


@pytest.mark.parametrize(
    ("heads", "inputs"),
    [
        ("ours", ("both", "logits", "both")),
        ("logits", ("logits", "logits", "logits")),
        ("embeddings", ("embeddings", "embeddings", "embeddings")),
        ("both", ("both", "both", "both")),
    ],
)
def test_savchenko_has_the_rows_of_separate_heads(heads: str, inputs: tuple[str, str, str]) -> None:
    affect = published("paper002-mtl", f"heads={heads}").affect

    assert affect.heads == "separate"
    assert (affect.expression_inputs, affect.va_inputs, affect.unit_inputs) == inputs


def test_miao_does_without_hands_where_nobody_labelled_them() -> None:
    config = published("paper003", "decision=alone")

    assert (config.hand.backbone, config.hand.rule) == ("none", "none")


def test_miao_takes_other_names_of_classes() -> None:
    config = published("paper003", "hand.target=Fear", "hand.exceptions=Happy")

    assert (config.hand.rule, config.hand.target, config.hand.exception_names) == ("fixed", "Fear", ("Happy",))


def test_focal_loss_and_smoothing_stay_apart() -> None:
    with pytest.raises(SpaceError, match=r"loss\.label_smoothing must be 0 where .*, got 0\.1: preset"):
        load_space("paper004").fix({"loss.label_smoothing": 0.1})


def test_dan_never_varies_down_to_one_head() -> None:
    assert min(load_space("paper004").parameter("attention.heads").domain.probes()) == 2  # type: ignore[type-var]


def test_domains_go_as_far_as_the_papers_tuned() -> None:
    for name in ("paper001", "paper002", "paper002-mtl", "paper003"):
        assert load_space(name).parameter("loss.label_smoothing").domain.describe() == "between 0 and 0.6"
    options = load_space("paper000").parameter("data.subsample_ratio").domain
    assert isinstance(options, Choice)
    assert options.values == (0.1, 0.2, 0.5, 1.0)
    assert load_space("paper004").parameter("loss.gamma").domain.probes() == (0.0, 1.0, 2.0, 3.0)
    assert load_space("paper002").parameter("optimiser.sam_rho").domain.probes() == (0.0, 0.02, 0.05, 0.1)

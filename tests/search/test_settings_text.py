"""A trial's settings are told in few letters, and tell trials apart."""

from search.settings_text import LONGEST_NAME, run_name, shorten_settings

DEFAULT = {"model.backbone": "resnet18", "optimiser.lr": 0.001, "optimiser.name": "adamw", "lr_schedule.name": "cosine"}


def test_only_what_differs_is_named_and_names_are_kept_apart() -> None:
    config = {**DEFAULT, "optimiser.lr": 0.00214159, "lr_schedule.name": "linear", "model.weights": "/data/w/lite0.st"}

    assert shorten_settings(config, DEFAULT) == "lr=0.00214 lr_schedule.name=linear weights=lite0.st"


def test_what_would_fill_the_line_is_cut() -> None:
    config = {f"section.setting_{number}": number for number in range(40)}

    text = shorten_settings(config, {}, max_chars=60)

    assert len(text) == 60
    assert text.endswith("...")


def test_name_of_a_run_begins_with_number_backbone_and_short_words() -> None:
    other = {**DEFAULT, "model.backbone": "convnext_tiny", "optimiser.lr": 0.02}

    assert run_name("t0000", DEFAULT, DEFAULT) == "t0000 default"
    assert run_name("t0007", other, DEFAULT) == "t0007 convnext_tiny lr=0.02"
    assert run_name("t0007", {**DEFAULT, "optimiser.lr": 0.02}, DEFAULT) == "t0007 lr=0.02"
    assert run_name("t0007", {**DEFAULT, "optimiser.name": "sgd_with_momentum", "optimiser.lr": 0.02}, DEFAULT) == (
        "t0007 lr=0.02 optimiser.name=sgd_with_momentum"
    )
    assert run_name("t0007", other, {}) == "t0007"


def test_name_of_a_run_is_never_too_long() -> None:
    config = {f"section.setting_{number}": number for number in range(90)}

    assert len(run_name("t0001", config, DEFAULT)) <= LONGEST_NAME

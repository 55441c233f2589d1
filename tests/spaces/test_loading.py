from pathlib import Path

import pytest

from spaces.errors import AffectuneError, ConfigError, SpaceError
from spaces.loading import load_space, parse_space, preset_names

HEAD = "name: s\nparameters:\n"


def sentence_of(text: str) -> str:
    with pytest.raises(AffectuneError) as caught:
        parse_space(text, where="s.yaml")
    assert caught.value.exit_code == 2
    return str(caught.value)


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (
            "  loss.label_smothing: {uniform: [0, 0.6], default: 0.1}",
            "setting 'loss.label_smothing' is unknown: s.yaml; did you mean 'loss.label_smoothing'",
        ),
        (
            "  lr: {log_uniform: [1e-4, 1e-2], default: 1e-3}",
            "parameter must be a setting's name or choose among bundles of settings, got 'lr': s.yaml; "
            "did you mean 'optimiser.lr'",
        ),
        (
            "  optimiser.lr: {uniform: [0.1, 0.01], default: 0.05}",
            "low must be below high, got 0.1 and 0.01: parameter 'optimiser.lr' in s.yaml",
        ),
        (
            "  optimiser.lr: {log_uniform: [0, 0.01], default: 0.05}",
            "low must be above 0 in a log domain, got 0: parameter 'optimiser.lr' in s.yaml",
        ),
        (
            "  optimiser.lr: {uniform: [0.01, 0.1], default: 0.5}",
            "optimiser.lr must be between 0.01 and 0.1, got 0.5: default of parameter 'optimiser.lr' in s.yaml",
        ),
        (
            "  optimiser.lr: {uniform: 3, default: 0.5}",
            "uniform must be [low, high], got 3: parameter 'optimiser.lr' in s.yaml",
        ),
        (
            "  optimiser.lr: {unifrm: [0, 1], default: 0.5}",
            "part of a parameter 'unifrm' is unknown: parameter 'optimiser.lr' in s.yaml; did you mean 'uniform'",
        ),
        (
            "  optimiser.lr: {default: 0.5}",
            "parameter must have one domain (choice, integer, log_integer, log_uniform, uniform), got none: "
            "parameter 'optimiser.lr' in s.yaml",
        ),
        (
            "  optimiser.lr: {uniform: [0.1, 0.2]}",
            "parameter must have a default, got none: parameter 'optimiser.lr' in s.yaml",
        ),
        (
            "  train.epochs: {uniform: [2, 10], default: 5}",
            "train.epochs must vary over whole numbers, got a float domain: parameter 'train.epochs' in s.yaml; "
            "use integer",
        ),
        (
            "  data.subsample_ratio: {choice: [1, 1.0], default: 1}",
            "options of a choice must differ, got 1.0 twice: parameter 'data.subsample_ratio' in s.yaml",
        ),
        (
            "  optimiser.name: {choice: [adam, ada], default: adam}",
            "optimiser.name: input should be 'adam', 'adamw' or 'sgd', got 'ada': parameter 'optimiser.name' in s.yaml",
        ),
        (
            "  b: {choice: {x: {train.epochs: -1}}, default: x}",
            "train.epochs: input should be greater than or equal to 0, got -1: option 'x' of parameter 'b' in s.yaml",
        ),
        (
            "  model.stat: {choice: {x: {train.epochs: 1}}, default: x}",
            "setting 'model.stat' is unknown: s.yaml; did you mean 'model.start'",
        ),
        (
            "  train.epochs: {choice: {x: {train.epochs: 1}}, default: x}",
            "options of a setting must be plain values, got bundles for train.epochs: s.yaml; "
            "give the parameter a name without a dot",
        ),
        (
            "  a: {choice: {x: {train.epochs: 1}}, default: x}\n  train.epochs: {integer: [1, 3], default: 1}",
            "setting train.epochs must be set by one parameter, got 'a' and 'train.epochs': s.yaml",
        ),
        (
            "  train.epochs: {integer: [1, 3], default: 1}\nfixed: {train.epochs: 2}",
            "setting train.epochs must be fixed or vary, got both: s.yaml; leave one of the two out",
        ),
        (
            "  loss.label_smoothing: {uniform: [0, 1.5], default: 0.1}",
            "loss.label_smoothing: input should be less than 1, got 1.5: "
            "parameter 'loss.label_smoothing' in s.yaml",
        ),
        (
            "  train.epochs: {integer: [1, 3], default: 1}\npoints: [{train.epochs: 4}]",
            "train.epochs must be whole, between 1 and 3, got 4: points[0] in s.yaml",
        ),
        (
            "  train.epochs: {integer: [1, 3], default: 1}\npoints: [{train.epoch: 2}]",
            "point must name parameters, got 'train.epoch': points[0] in s.yaml; did you mean 'train.epochs'",
        ),
    ],
    ids=[
        "unknown setting", "short name", "order", "log", "default", "ends", "domain word", "no domain", "no default",
        "float for whole", "equal options", "option", "in a bundle", "dotted free name", "bundle under a setting",
        "two setters", "fixed and varying", "bound", "point value", "point name",
    ],
)  # fmt: skip
def test_space_that_makes_no_sense_gets_a_sentence(body: str, sentence: str) -> None:
    assert sentence_of(HEAD + body + "\n") == sentence


@pytest.mark.parametrize(
    ("when", "sentence"),
    [
        ("{partnr: head}", "condition must name an earlier parameter, got 'partnr': {}; did you mean 'partner'"),
        ("{train.epochs: 2}", "condition must name an earlier parameter, got 'train.epochs': {}; there are"),
        ("{partner: tail}", "partner must be one of its options, got 'tail': {}"),
        ("{partner: {not: [none, head]}}", "conditions must be able to hold together, got partner is not none or"),
        ("{loss.label_smoothing: 0.1}", "condition must name a choice or an integer, got loss.label_smoothing"),
        ("{partner: {nt: none}}", "part of a condition 'nt' is unknown: {}; did you mean 'not'"),
    ],
    ids=["unknown", "later", "unreachable value", "never", "continuous", "word"],
)
def test_condition_that_can_not_hold_gets_a_sentence(when: str, sentence: str) -> None:
    body = (
        "  loss.label_smoothing: {uniform: [0, 0.5], default: 0.1}\n"
        "  partner: {choice: {none: {blend.partner: none}, head: {blend.partner: head, train.head_epochs: 1}},"
        " default: none}\n"
        f"  blend.weight: {{uniform: [0, 1], default: 0.3, when: {when}}}\n"
        "  train.epochs: {integer: [1, 3], default: 1}\n"
    )

    assert sentence_of(HEAD + body).startswith(sentence.format("when of parameter 'blend.weight' in s.yaml"))


def test_condition_on_a_parameter_that_is_never_active_with_it_is_refused() -> None:
    body = (
        "  a: {choice: {x: {train.epochs: 1}, y: {train.epochs: 2}}, default: x}\n"
        "  b: {choice: {p: {train.batch_size: 8}, q: {train.batch_size: 16}}, default: p, when: {a: x}}\n"
        "  optimiser.lr: {uniform: [0.1, 0.2], default: 0.1, when: {a: y, b: q}}\n"
    )

    assert sentence_of(HEAD + body) == (
        "conditions must be able to hold together, got a is y and b is q: parameter 'optimiser.lr' in s.yaml"
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[1, 2]", "space must be a mapping of names to values, got [1, 2]: s.yaml"),
        ("name: s\nparamters: {}", "part of a space 'paramters' is unknown: s.yaml; did you mean 'parameters'"),
        ("name: s\nparameters: {3: x}", "name in parameters must be text, got 3: s.yaml; write it in quotes"),
        ("name: a/b", "name of a space must be letters, digits, -, _ and ., got 'a/b': s.yaml"),
        ("name: s\nname: t", "key 'name' stands twice: line 2 of s.yaml"),
        ("points: 3", "points must be a list, got 3: s.yaml"),
    ],
    ids=["list", "part", "number", "name", "twice", "points"],
)
def test_text_that_is_no_space_gets_a_sentence(text: str, sentence: str) -> None:
    assert sentence_of(text) == sentence


def test_space_takes_the_default_of_the_setting_where_it_gives_none() -> None:
    space = parse_space(HEAD + "  loss.label_smoothing: {uniform: [0, 0.6]}\n")

    assert space.default() == {"loss.label_smoothing": 0.1}


def test_condition_takes_a_value_several_values_and_several_parameters() -> None:
    space = parse_space(
        HEAD + "  train.head_epochs: {integer: [0, 4], default: 1}\n"
        "  optimiser.name: {choice: [adam, adamw], default: adamw}\n"
        "  optimiser.head_only_lr: {log_uniform: [1e-3, 1e-1], default: 1e-2, "
        "when: {train.head_epochs: [1, 2, 3, 4], optimiser.name: adamw}}\n"
    )

    assert space.is_active("optimiser.head_only_lr", {})
    assert not space.is_active("optimiser.head_only_lr", {"train.head_epochs": 0})
    assert not space.is_active("optimiser.head_only_lr", {"optimiser.name": "adam"})


def test_load_space_looks_for_weights_beside_its_file(tmp_path: Path) -> None:
    (tmp_path / "w.safetensors").touch()
    path = tmp_path / "mine.yaml"
    path.write_text(
        "parameters:\n  net: {choice: {a: {model.backbone: resnet18, model.weights: w.safetensors}, "
        "b: {model.backbone: lcnet_050, model.weights: none}}, default: a}\n"
    )

    space = load_space(path)

    assert space.name == "mine"
    assert space.to_config({}).model.weights == str(tmp_path / "w.safetensors")
    assert space.to_config({"net": "b"}).model.weights == "none"


def test_load_space_names_a_weights_file_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("fixed: {model.weights: gone.safetensors}\n")

    with pytest.raises(ConfigError) as caught:
        load_space(path)

    assert str(caught.value) == (
        f"model.weights must be none, hub or a file that exists, got {tmp_path / 'gone.safetensors'}: {path}"
    )


@pytest.mark.parametrize("name", ["cor", "nowhere/space.yaml", "."])
def test_load_space_offers_presets_where_there_is_no_such_space(name: str) -> None:
    with pytest.raises(SpaceError, match=rf"^space must be a preset or a YAML file, got '{name}'; (did|there)"):
        load_space(name)


def test_load_space_says_that_a_file_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "photo.yaml"
    path.write_bytes(b"\xff\xd8\xff\xe0")

    with pytest.raises(SpaceError, match=r"^space must be a readable YAML file, got .*: it is not UTF-8 text$"):
        load_space(path)


@pytest.mark.parametrize("name", preset_names())
def test_preset_loads_and_reads_back_equal(name: str) -> None:
    space = load_space(name)

    assert space.name == name
    assert space.description
    assert parse_space(space.to_yaml()) == space


def test_core_varies_what_the_papers_tuned() -> None:
    space = load_space("core")

    domains = {each.name: each.domain.describe() for each in space.parameters}

    assert domains["loss.label_smoothing"] == "between 0 and 0.6"
    assert domains["loss.class_weight_exponent"] == "between 0 and 1.5"
    assert domains["data.subsample_ratio"] == "one of 0.1, 0.2, 0.5, 1.0"
    assert domains["blend.weight"] == "between 0 and 1"
    assert domains["optimiser.lr"].endswith("log")
    assert len(space.parameter("model.backbone").domain.probes()) >= 4
    assert 2 <= len(space.points) <= 4


@pytest.mark.slow
def test_presets_name_backbones_that_there_are() -> None:
    from trainables.models.backbones import check_backbone

    settings = {"model.backbone", "branches.appearance_backbone", "hand.backbone"}
    for name in preset_names():
        space = load_space(name)
        probed = [item for parameter in space.parameters for item in parameter.probe_settings()]
        for setting, value in [*space.fixed.items(), *probed]:
            if setting in settings and value != "none":
                check_backbone(str(value))


def test_empty_text_is_no_space() -> None:
    with pytest.raises(SpaceError, match=r"space must say what varies or is fixed, got an empty text: empty\.yaml"):
        parse_space("# nothing yet\n", where="empty.yaml")

import argparse
import json
from pathlib import Path

import pytest

from search.commands.spaces import register
from spaces.config import FIELDS
from spaces.errors import AffectuneError, ConfigError
from spaces.loading import parse_space, preset_names


def run(*words: str) -> int:
    parser = argparse.ArgumentParser(prog="affectune")
    register(parser.add_subparsers())
    args = parser.parse_args(["spaces", *words])
    return int(args.run(args))


def test_spaces_lists_each_preset_on_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 0

    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == preset_names()


def test_spaces_json_is_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--json") == 0

    assert [row["name"] for row in json.loads(capsys.readouterr().out)] == preset_names()


def test_spaces_show_prints_yaml_to_start_from(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("show", "core") == 0

    out = capsys.readouterr().out
    assert parse_space(out).name == "core"
    assert out.startswith("#")


@pytest.mark.parametrize("words", [("--json", "show", "demo"), ("show", "demo", "--json")], ids=["before", "after"])
def test_spaces_show_json_is_one_document(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*words) == 0

    assert json.loads(capsys.readouterr().out)["name"] == "demo"


def test_spaces_check_prints_every_dimension_and_the_config_of_trial_0(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")

    assert run("check", "core", "--fix", "loss.label_smoothing=0.25", "train.epochs=3") == 0

    out = capsys.readouterr().out
    assert "optimiser.lr" in out
    assert "partner is not none" in out
    assert "0.25" in out
    assert "6 dimensions, 4 fixed" in out


def test_spaces_check_breaks_no_name_on_a_narrow_screen(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")

    assert run("check", "paper000") == 0

    words = capsys.readouterr().out.split()
    assert [name for name in FIELDS if name not in words] == []


def test_spaces_check_json_holds_the_complete_default(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("check", "core", "--fix", "loss.class_weights=[1, 2, 3]", "--json") == 0

    document = json.loads(capsys.readouterr().out)
    assert document["default"]["loss.class_weights"] == [1.0, 2.0, 3.0]
    assert "loss.class_weight_exponent" not in document["parameters"]
    assert document["initial_points"][0]["partner"] == "none"


def test_spaces_check_of_a_users_file_names_it_in_the_sentence(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("parameters:\n  optimiser.lrr: {uniform: [0.1, 0.2], default: 0.1}\n")

    with pytest.raises(ConfigError) as caught:
        run("check", str(path))

    assert str(caught.value) == f"setting 'optimiser.lrr' is unknown: {path}; did you mean 'optimiser.lr'"
    assert caught.value.exit_code == 2


def test_spaces_check_shows_square_brackets_of_a_space_as_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("description: for [bold] faces\n")

    assert run("check", str(path)) == 0

    assert "for [bold] faces" in capsys.readouterr().out


def test_spaces_check_knows_the_backbones(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("fixed: {model.backbone: resnet81}\n")

    with pytest.raises(AffectuneError, match="backbone must be a timm model, got 'resnet81'; did you mean 'resnet18'"):
        run("check", str(path))


@pytest.mark.parametrize("words", [("check", "cor"), ("show", "cor")], ids=["check", "show"])
def test_spaces_offers_the_near_miss(words: tuple[str, ...]) -> None:
    with pytest.raises(AffectuneError, match=r"got 'cor'; did you mean 'core'$"):
        run(*words)

"""An artifact that names what is not its own is not loaded."""

import json
from pathlib import Path
from typing import Any

import pytest

from search.artifact_files import MEMBERS_FILE, check_artifact_files
from spaces.errors import ModelError


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The files of an exported ensemble that are looked at."""
    networks = [
        {"file": "00-t0000-fine_tuned.safetensors", "encoder_from": None},
        {"file": "01-t0001-partner.heads.safetensors", "encoder_from": "00-t0000-fine_tuned.safetensors"},
    ]
    members = tmp_path / "model" / MEMBERS_FILE
    members.parent.mkdir(parents=True)
    members.write_text(json.dumps({"networks": networks}))
    return tmp_path / "model"


def rename(model: Path, key: str, name: Any) -> None:
    file = model / MEMBERS_FILE
    members = json.loads(file.read_text())
    members["networks"][0][key] = name
    file.write_text(json.dumps(members))


def test_artifact_as_it_was_exported_is_taken(model: Path) -> None:
    check_artifact_files(model)


@pytest.mark.parametrize("key", ["file", "encoder_from"])
@pytest.mark.parametrize("name", ["../../etc/x", "/etc/passwd", "sub/weights.safetensors", 7 * "../" + "x"])
def test_artifact_that_names_a_file_elsewhere_is_refused(model: Path, key: str, name: str) -> None:
    rename(model, key, name)

    with pytest.raises(ModelError, match=f"files of a model must lie beside its members.json, got '{name}': {model}"):
        check_artifact_files(model)


def test_artifact_with_a_link_to_elsewhere_is_refused(model: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("hush")
    (model / "artifacts" / "ensemble" / "more.safetensors").symlink_to(secret)

    with pytest.raises(ModelError, match=rf"must lie in its folder, got a link to {secret}: .*more.safetensors"):
        check_artifact_files(model)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"networks": 3}', '{"networks": [1]}'])
def test_broken_members_file_is_left_to_those_who_read_it(model: Path, text: str) -> None:
    (model / MEMBERS_FILE).write_text(text)

    check_artifact_files(model)

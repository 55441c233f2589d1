"""What setup.cfg, constraints.txt and the Makefile promise."""

import configparser
import importlib
import importlib.metadata
import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def metadata() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


@pytest.fixture(scope="module")
def requirements(metadata: configparser.ConfigParser) -> list[Requirement]:
    lines = [metadata["options"]["install_requires"], *metadata["options.extras_require"].values()]
    return [Requirement(line) for text in lines for line in text.split("\n") if line.strip()]


@pytest.fixture(scope="module")
def pins() -> dict[str, Version]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    names_and_versions = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): Version(version) for name, version in names_and_versions}


def make(*words: str, folder: Path = ROOT) -> "subprocess.CompletedProcess[str]":
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return subprocess.run(["make", *words], cwd=folder, env=environment, capture_output=True, text=True)


def test_package_must_not_be_uploaded(metadata: configparser.ConfigParser) -> None:
    assert "Private :: Do Not Upload" in metadata["metadata"]["classifiers"].split("\n")


def test_package_needs_python_3_11(metadata: configparser.ConfigParser) -> None:
    assert metadata["options"]["python_requires"] == ">=3.11"


def test_console_script_starts_the_command_line(metadata: configparser.ConfigParser) -> None:
    scripts = metadata["options.entry_points"]["console_scripts"].split()

    assert scripts == ["affectune", "=", "search.cli:main"]
    assert callable(importlib.import_module("search.cli").main)


def test_packages_are_ours_and_presets_go_with_them(metadata: configparser.ConfigParser) -> None:
    included = metadata["options.packages.find"]["include"].split()

    assert included == ["search", "search.*", "spaces", "spaces.*", "trainables", "trainables.*"]
    assert metadata["options.package_data"]["spaces"].split() == ["presets/*.yaml"]
    assert list((ROOT / "spaces" / "presets").glob("*.yaml"))
    assert metadata["options.package_data"]["search.reproduce"].split() == ["papers/*.yaml"]
    assert len(list((ROOT / "search" / "reproduce" / "papers").glob("*.yaml"))) == 5


def test_every_folder_with_code_is_a_package() -> None:
    folders = {path.parent for floor in ("search", "spaces", "trainables") for path in (ROOT / floor).rglob("*.py")}

    assert [str(folder) for folder in folders if not (folder / "__init__.py").is_file()] == []


def test_constraints_pin_every_requirement_within_its_bounds(
    requirements: list[Requirement], pins: dict[str, Version]
) -> None:
    for requirement in requirements:
        pinned = pins[canonicalize_name(requirement.name)]

        assert pinned in requirement.specifier, f"{requirement} but constraints.txt pins {pinned}"


def test_requirements_have_a_lower_bound_and_no_pin(requirements: list[Requirement]) -> None:
    for requirement in requirements:
        assert [specifier.operator for specifier in requirement.specifier] == [">="], str(requirement)


def test_constraints_pin_what_the_requirements_bring_along(pins: dict[str, Version]) -> None:
    missing = set()
    for name in pins:
        try:
            brought = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        for requirement in map(Requirement, brought):
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                missing |= {canonicalize_name(requirement.name)} - pins.keys()

    assert missing == set()


def test_constraints_name_no_local_version_and_no_folder(pins: dict[str, Version]) -> None:
    assert [f"{name}=={version}" for name, version in pins.items() if version.local] == []
    assert " @ " not in (ROOT / "constraints.txt").read_text(encoding="utf-8")


def test_torch_is_the_plain_one() -> None:
    texts = [(ROOT / name).read_text(encoding="utf-8") for name in ("constraints.txt", "setup.cfg", "Makefile")]

    assert not any("index-url" in text or "+cpu" in text for text in texts)


def test_tools_are_configured_as_the_style_says() -> None:
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]

    assert tools["ruff"]["line-length"] == 120
    assert tools["ruff"]["lint"]["select"] == ["E", "F", "I", "B", "UP", "SIM", "N", "RUF"]
    assert "mlflow" not in tools["ruff"]["lint"]["isort"]["known-first-party"]
    assert tools["mypy"]["strict"] is True
    assert "--import-mode=importlib" in tools["pytest"]["ini_options"]["addopts"]


def test_continuous_integration_runs_checks_and_tests() -> None:
    script = ROOT / ".ci" / "run"

    assert os.access(script, os.X_OK)
    assert re.findall(r"^make \w+", script.read_text(encoding="utf-8"), re.MULTILINE) == ["make check", "make test"]


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
@pytest.mark.parametrize("target", ["demo", "test", "check", "setup"])
def test_target_sets_itself_up_first(target: str, tmp_path: Path) -> None:
    planned = make("--dry-run", f"VENV={tmp_path}/venv", target)

    assert planned.returncode == 0, planned.stderr
    assert planned.stdout.splitlines()[0].split() == [".ci/setup", f"{tmp_path}/venv"]


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_second_call_installs_nothing(tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    venv.mkdir()
    (venv / ".ready").write_text(f"{ROOT}\n")

    planned = make("--dry-run", f"VENV={venv}", "test")

    assert ".ci/setup" not in planned.stdout


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_environment_of_a_copied_checkout_is_made_anew(tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    venv.mkdir()
    (venv / ".ready").write_text("/home/someone/else\n")

    planned = make("--dry-run", f"VENV={venv}", "test")

    assert ".ci/setup" in planned.stdout


def test_set_up_says_what_to_do_when_python_is_another(tmp_path: Path) -> None:
    other = tmp_path / "python9"
    other.write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 9.9.9\nexit 1\n')
    other.chmod(0o755)

    ended = subprocess.run(
        [ROOT / ".ci" / "setup", tmp_path / "venv", other], capture_output=True, text=True, timeout=60
    )

    assert ended.returncode == 1
    assert ended.stderr.startswith(f"affectune: Python must be 3.11, got Python 9.9.9 as {other}; install it")
    assert not (tmp_path / "venv").exists()


def test_set_up_says_what_to_do_when_venv_is_missing(tmp_path: Path) -> None:
    bare = tmp_path / "python3.11"
    bare.write_text('#!/bin/sh\ncase "$2" in *ensurepip*) exit 1;; esac\nexit 0\n')
    bare.chmod(0o755)

    ended = subprocess.run(
        [ROOT / ".ci" / "setup", tmp_path / "venv", bare], capture_output=True, text=True, timeout=60
    )

    assert ended.returncode == 1
    assert ended.stderr.startswith(f"affectune: Python's venv and pip must be there, got {bare} without them; install")

"""Commands, links and examples of the README and the pages under docs/ must be true."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest
from pages import blocks_of, commands_of

from search.cli import build_parser

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


def all_commands(program: str) -> list[str]:
    found = (command for page in PAGES for command in commands_of(page) if shlex.split(command)[:1] == [program])
    return sorted(set(found))


@pytest.mark.parametrize("command", all_commands("affectune"), ids=lambda command: "_".join(command.split()[1:3]))
def test_command_of_a_page_is_understood(command: str) -> None:
    settings = build_parser().parse_words(shlex.split(command, comments=True)[1:])

    assert callable(settings.run)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_command_in_the_text_of_a_page_exists(page: Path) -> None:
    text = " ".join(page.read_text(encoding="utf-8").split())
    named = set(re.findall(r"`affectune ([a-z]+)", text))

    assert named - build_parser().commands().keys() == set()


@pytest.mark.parametrize("command", all_commands("make"))
def test_target_of_a_page_exists(command: str, tmp_path: Path) -> None:
    words = [word for word in shlex.split(command) if word != "make"]

    planned = subprocess.run(["make", "--dry-run", *words], cwd=ROOT, capture_output=True, text=True)

    assert planned.returncode == 0, planned.stderr


def test_readme_shows_the_two_commands_and_the_whole_walk_through() -> None:
    commands = commands_of(ROOT / "README.md")

    assert commands[:2] == ["make demo", "make test"]
    steps = [shlex.split(command)[1] for command in commands if command.startswith("affectune ")]
    assert steps[:8] == ["data", "data", "search", "ensemble", "export", "evaluate", "evaluate", "predict"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_link_of_a_page_leads_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    local = [target for target in targets if "://" not in target]

    assert [target for target in local if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("example", blocks_of(ROOT / "README.md", "yaml"), ids=lambda _: "readme")
def test_space_of_the_readme_makes_sense(example: str) -> None:
    from spaces.loading import parse_space

    space = parse_space(example, where="README.md")

    assert space.to_config(space.default()).model.backbone == "lcnet_050"


def test_readme_lists_the_exit_codes_that_errors_have() -> None:
    from spaces import errors

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    codes = {kind.exit_code for kind in kinds if issubclass(kind, errors.AffectuneError)}

    assert codes <= {int(code) for code in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)}


def test_readme_names_every_variable_that_keeps_work_private() -> None:
    from search.privacy import PRIVATE_ENVIRONMENT

    text = (ROOT / "README.md").read_text(encoding="utf-8")

    assert [name for name, value in PRIVATE_ENVIRONMENT.items() if f"{name}={value}" not in text] == []


def test_changelog_has_a_place_for_what_is_not_released() -> None:
    assert "## [Unreleased]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")

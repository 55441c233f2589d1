"""The page that explains spaces says what is true."""

import re
from pathlib import Path

import pytest

from spaces.errors import ConfigError
from spaces.loading import DOMAINS, parse_space

PAGE = (Path(__file__).parents[2] / "docs" / "spaces.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)


def test_page_shows_a_space_that_holds() -> None:
    (text,) = blocks("yaml")

    space = parse_space(text, where="mine.yaml")

    assert len(space.initial_points()) == 3
    assert space.to_config({"net": "resnet"}).model.image_px == 48


def test_page_names_every_domain() -> None:
    for word in (*DOMAINS, "choice"):
        assert f"| `{word}: " in PAGE


def test_page_quotes_the_sentence_of_a_typing_error() -> None:
    (text,) = blocks("yaml")

    with pytest.raises(ConfigError) as caught:
        parse_space(text.replace("loss.label_smoothing", "loss.label_smothing"), where="mine.yaml")

    assert f"affectune: {caught.value}\n" in PAGE


def test_page_shows_python_that_runs() -> None:
    (text,) = blocks("python")

    exec(compile(text, "spaces.md", "exec"), {})

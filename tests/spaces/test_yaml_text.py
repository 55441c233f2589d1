import pytest

from spaces.errors import SpaceError
from spaces.yaml_text import read_yaml, write_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-4", 1e-4), ("1.0e-4", 1e-4), ("007", 7), ("no", "no"), ("on", "on"), ("none", "none"), ("~", None)],
    ids=["exponent", "point", "zeros", "no", "on", "none", "null"],
)
def test_yaml_reads_a_bare_word_as_people_mean_it(text: str, value: object) -> None:
    assert read_yaml(text) == value
    assert type(read_yaml(text)) is type(value)


@pytest.mark.parametrize("value", ["1e5", "null", "true", "no", "1_000", "", "a: b", 1e-5, 3, None, [1.5, "x"]])
def test_yaml_written_reads_back_the_same(value: object) -> None:
    assert read_yaml(write_yaml({"key": value})) == {"key": value}


def test_yaml_names_the_line_of_a_syntax_error() -> None:
    with pytest.raises(SpaceError, match=r"^YAML cannot be read, .*: line 3 of space\.yaml$"):
        read_yaml("a: 1\nb: 2\nc: {d: ]}\n", where="space.yaml")


def test_yaml_refuses_a_key_that_stands_twice() -> None:
    with pytest.raises(SpaceError, match=r"^key 'a' stands twice: line 3 of space\.yaml$"):
        read_yaml("a: 1\nb: 2\na: 3\n", where="space.yaml")


def test_yaml_builds_no_python_objects() -> None:
    with pytest.raises(SpaceError, match="could not determine a constructor"):
        read_yaml("!!python/object/apply:os.system ['true']")

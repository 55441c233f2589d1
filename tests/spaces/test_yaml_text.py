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


def test_yaml_refuses_aliases_that_stand_for_billions_of_values() -> None:
    bomb = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12))

    with pytest.raises(SpaceError, match=r"aliases written out make more than 50,000 values: line \d+ of s\.yaml$"):
        read_yaml(bomb, where="s.yaml")


def test_yaml_refuses_an_alias_within_what_it_names() -> None:
    with pytest.raises(SpaceError, match="an alias stands within what it names: line 1"):
        read_yaml("a: &a [*a]\n")


def test_yaml_takes_anchors_and_merges() -> None:
    assert read_yaml("a: &a {x: 1}\nb: {<<: *a, y: 2}\n") == {"a": {"x": 1}, "b": {"x": 1, "y": 2}}


def test_yaml_refuses_a_text_that_is_too_long() -> None:
    with pytest.raises(SpaceError, match=r"^YAML must have at most 200,000 characters, got more: s\.yaml$"):
        read_yaml("#" * 200_001, where="s.yaml")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("!!bool maybe", "'maybe' is no bool"),
        ("!!int two", "'two' is no int"),
        ("!!timestamp soon", "could not determine a constructor"),
        ('"\\ud800"', r"'\\ud800' is no str"),
    ],
    ids=["truth", "number", "date", "half a letter"],
)
def test_yaml_refuses_a_value_that_its_tag_does_not_fit(text: str, problem: str) -> None:
    with pytest.raises(SpaceError, match=problem):
        read_yaml(text)

"""YAML as people expect it: 1e-4 is a number, no and on are words, and a key stands once."""

import re
from collections.abc import Callable, Hashable
from typing import Any

import yaml

from spaces.errors import SpaceError, shown

MAX_CHARACTERS = 200_000
"""Of a text; thousands of lines, and read in a second or two."""

MAX_VALUES = 50_000
"""That a text may stand for, aliases written out: a few lines of aliases of aliases can stand for billions."""


class _RepeatedKey(yaml.MarkedYAMLError):
    """A mapping holds the same key twice."""


class _Reader(yaml.SafeLoader):
    """A safe loader with YAML 1.2's numbers and words that refuses repeated keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    raise _RepeatedKey(problem=f"key {shown(key.value)} stands twice", problem_mark=key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


class _Writer(yaml.SafeDumper):
    """A safe dumper that quotes exactly the words which the reader would not read as words."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


# What a bare word may be instead of text (YAML 1.2, core schema, section 10.3.2), by its first characters.
_RESOLVERS: dict[str, tuple[str, str]] = {
    "null": (r"^(?:~|null|Null|NULL|)$", "~nN\0"),
    "bool": (r"^(?:true|True|TRUE|false|False|FALSE)$", "tTfF"),
    "int": (r"^[-+]?[0-9]+$", "-+0123456789"),
    "float": (
        r"^(?:[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*)(?:[eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$",
        "-+0123456789.",
    ),
    "merge": (r"^<<$", "<"),
}


def _constructor(kind: str, convert: Callable[[str], Any]) -> Callable[[yaml.SafeLoader, yaml.ScalarNode], Any]:
    """Builds scalars of a kind. A tag (`!!int two`) can ask for one of a text that is none."""

    def construct(reader: yaml.SafeLoader, node: yaml.ScalarNode) -> Any:
        text = str(reader.construct_scalar(node))
        try:
            return convert(text)
        except (KeyError, ValueError):
            raise yaml.MarkedYAMLError(problem=f"{shown(text)} is no {kind}", problem_mark=node.start_mark) from None

    return construct


_FLOATS = {"inf": float("inf"), "nan": float("nan")}


def _to_float(text: str) -> float:
    sign = -1.0 if text.startswith("-") else 1.0
    word = text.lstrip("+-").lower().removeprefix(".")
    return sign * _FLOATS[word] if word in _FLOATS else float(text)


_CONSTRUCTORS: dict[str, Callable[[str], Any]] = {
    "bool": lambda text: {"true": True, "false": False}[text.lower()],
    "int": int,
    "float": _to_float,
    "str": lambda text: text.encode().decode(),  # half a letter (\\ud800) can be written nowhere
}
"""Tag to how a bare word becomes such a value."""

_OTHER_TAGS = tuple(f"tag:yaml.org,2002:{tag}" for tag in ("null", "seq", "map"))
"""What else YAML 1.2's core schema has. Dates, bytes, sets and the like are no values of a space."""


def _set_up(*classes: type[_Reader] | type[_Writer]) -> None:
    for each in classes:
        each.yaml_implicit_resolvers = {}
    for tag, (pattern, first) in _RESOLVERS.items():
        letters = ["" if letter == "\0" else letter for letter in first]
        for each in classes:
            each.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(pattern), letters)


_set_up(_Reader, _Writer)
_Reader.yaml_constructors = {
    **{tag: yaml.SafeLoader.yaml_constructors[tag] for tag in (*_OTHER_TAGS, None)},
    **{f"tag:yaml.org,2002:{tag}": _constructor(tag, convert) for tag, convert in _CONSTRUCTORS.items()},
}


def read_yaml(text: str, *, where: str = "") -> Any:
    """What the text says, as plain Python values.

    Args:
        text: one YAML document.
        where: file or command it comes from, for the error.

    Raises:
        SpaceError: it is no YAML, is too long, or a key stands twice; the sentence names the line.
    """
    if len(text) > MAX_CHARACTERS:
        rule = f"YAML must have at most {MAX_CHARACTERS:,} characters"
        raise SpaceError(f"{rule}, got more" + (f": {where}" if where else ""))
    try:
        return _read(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = error.problem or error.context or "cannot be read"
        line = f"line {mark.line + 1}" if mark else ""
        place = " of ".join(part for part in (line, where) if part)
        prefix = "" if isinstance(error, _RepeatedKey) else "YAML cannot be read, "
        raise SpaceError(prefix + problem + (f": {place}" if place else "")) from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        problem = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SpaceError(f"YAML cannot be read, {problem}" + (f": {where}" if where else "")) from None


def _read(text: str) -> Any:
    reader = _Reader(text)
    try:
        node = reader.get_single_node()
        if node is None:
            return None
        _count_values(node, {})
        return reader.construct_document(node)
    finally:
        reader.dispose()


def _count_values(node: yaml.Node, counts: dict[int, int]) -> int:
    """How many values a node stands for, with every alias written out.

    Args:
        counts: of the nodes that are counted, by their identity; 0 while one is.

    Raises:
        yaml.MarkedYAMLError: they are too many, or an alias stands within what it names.
    """
    if id(node) not in counts:
        counts[id(node)] = 0
        counts[id(node)] = 1 + sum(_count_values(child, counts) for child in _children(node))
    problem = ""
    if counts[id(node)] == 0:
        problem = "an alias stands within what it names"
    if counts[id(node)] > MAX_VALUES:
        problem = f"aliases written out make more than {MAX_VALUES:,} values"
    if problem:
        raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
    return counts[id(node)]


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def write_yaml(document: Any) -> str:
    """The text that `read_yaml` reads back; innermost lists and mappings stand on one line."""
    text: str = yaml.dump(
        document, Dumper=_Writer, sort_keys=False, default_flow_style=None, width=110, allow_unicode=True
    )
    return text

"""YAML as people expect it: 1e-4 is a number, no and on are words, and a key stands once."""

import re
from collections.abc import Hashable
from typing import Any

import yaml

from spaces.errors import SpaceError


class _RepeatedKey(yaml.MarkedYAMLError):
    """A mapping holds the same key twice."""


class _Reader(yaml.SafeLoader):
    """A safe loader with YAML 1.2's numbers and words that refuses repeated keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    raise _RepeatedKey(problem=f"key {key.value!r} stands twice", problem_mark=key.start_mark)
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


def _construct_int(reader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    return int(str(reader.construct_scalar(node)))


def _set_up(*classes: type[_Reader] | type[_Writer]) -> None:
    for each in classes:
        each.yaml_implicit_resolvers = {}
    for tag, (pattern, first) in _RESOLVERS.items():
        letters = ["" if letter == "\0" else letter for letter in first]
        for each in classes:
            each.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(pattern), letters)


_set_up(_Reader, _Writer)
_Reader.add_constructor("tag:yaml.org,2002:int", _construct_int)


def read_yaml(text: str, *, where: str = "") -> Any:
    """What the text says, as plain Python values.

    Args:
        text: one YAML document.
        where: file or command it comes from, for the error.

    Raises:
        SpaceError: it is no YAML, or a key stands twice; the sentence names the line.
    """
    try:
        return yaml.load(text, Loader=_Reader)
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


def write_yaml(document: Any) -> str:
    """The text that `read_yaml` reads back; innermost lists and mappings stand on one line."""
    text: str = yaml.dump(
        document, Dumper=_Writer, sort_keys=False, default_flow_style=None, width=110, allow_unicode=True
    )
    return text

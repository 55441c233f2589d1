"""JSON documents as the frozen objects that were written: each field is there, known, and of its type."""

import json
from collections.abc import Iterable
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from spaces.errors import AffectuneError, shown

T = TypeVar("T")

_RULE = "the fields that this version writes"


def read_document(path: Path, kind: type[T], *, error: type[AffectuneError]) -> T:
    """What a JSON file says.

    Args:
        path: of the file.
        kind: a dataclass or a typed dictionary; text stays text, and whole numbers may stand for others.
        error: what to raise.

    Raises:
        AffectuneError: of the given kind: the file is not there or can't be read, is no JSON, or a field is missing or
            of another type, which is named.
    """
    return parse_document(read_file(path, error=error), kind, where=str(path), error=error)


def parse_document(
    content: str | bytes, kind: type[T], *, where: str, error: type[AffectuneError], beside: Iterable[str] | None = ()
) -> T:
    """What a JSON text says; see `read_document`.

    Args:
        where: path of its file, for the error.
        beside: names that stand in it too, and are left out; any others if None.
    """
    name = Path(where).name
    adapter: TypeAdapter[T] = _adapter(kind)  # type: ignore[arg-type]  # mypy does not see that classes are hashable
    try:
        document = adapter.validate_json(content, strict=True)
    except ValidationError as problems:
        problem = problems.errors(include_url=False, include_context=False)[0]
        if problem["type"] == "json_invalid":
            raise error(f"{name} must be JSON, got something else: {where}") from None
        raise error(f"{name} must have {_RULE}, got {_got(problem)}: {where}") from None
    if is_dataclass(kind) and beside is not None:
        unknown = sorted(set(json.loads(content)) - {each.name for each in fields(kind)} - set(beside))
        if unknown:
            raise error(f"{name} must have {_RULE}, got {shown(unknown[0])} too: {where}; update affectune")
    return document


def read_file(path: Path, *, error: type[AffectuneError]) -> bytes:
    """The bytes of a file.

    Raises:
        AffectuneError: of the given kind: there is no file, or it can't be read.
    """
    if not path.is_file():
        what = "a folder" if path.is_dir() else "no file" if path.exists() else "nothing there"
        raise error(f"{path.name} must be a file, got {what}: {path}")
    try:
        return path.read_bytes()
    except OSError as problem:
        raise error(f"{path.name} must be readable, got {problem.strerror}: {path}") from None


def _got(problem: Any) -> str:
    field = ".".join(map(str, problem["loc"])) or "document"
    if problem["type"] == "missing":
        return f"none of the name {field!r}"
    rule = problem["msg"][0].lower() + problem["msg"][1:]
    return f"{field} {shown(problem['input'])} ({rule})"


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)

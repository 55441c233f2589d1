"""Spaces from text, from files and from the presets that come with affectune."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from spaces.config import TrialConfig, Value
from spaces.domains import Choice, Domain, Integer, LogUniform, Uniform, choice_of_bundles
from spaces.errors import SpaceError, near_miss, shown
from spaces.fixing import check_file, resolve_file
from spaces.parameters import Condition, Parameter
from spaces.space import SearchSpace
from spaces.yaml_text import MAX_CHARACTERS, read_yaml

PRESETS_DIR = Path(__file__).parent / "presets"

DOMAINS: dict[str, Callable[[Any, Any], Domain]] = {
    "uniform": Uniform,
    "log_uniform": LogUniform,
    "integer": Integer,
    "log_integer": lambda low, high: Integer(low, high, log=True),
}
"""Word in the YAML to domain, for domains with two ends; `choice` is the other one."""

_TOP = ("name", "description", "fixed", "parameters", "points")
_OF_PARAMETER = (*DOMAINS, "choice", "default", "when")


def preset_names() -> list[str]:
    """Names of the spaces that come with affectune, sorted."""
    return sorted(path.stem for path in PRESETS_DIR.glob("*.yaml"))


def space_text(name_or_path: str | Path) -> tuple[str, Path]:
    """A preset's or a file's text, and its path.

    Raises:
        SpaceError: there is neither a preset nor a readable text file of that name.
    """
    path = PRESETS_DIR / f"{name_or_path}.yaml" if str(name_or_path) in preset_names() else Path(name_or_path)
    if not path.is_file():
        hint = near_miss(str(name_or_path), preset_names())
        raise SpaceError(f"space must be a preset or a YAML file, got {str(name_or_path)!r}{hint}")
    try:
        with path.open(encoding="utf-8") as file:
            return file.read(MAX_CHARACTERS + 1), path
    except (OSError, UnicodeDecodeError) as error:
        reason = "it is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else str(error.strerror)
        raise SpaceError(f"space must be a readable YAML file, got {path}: {reason}") from None


def load_space(name_or_path: str | Path) -> SearchSpace:
    """A preset by its name, or a space from a YAML file; files it names are looked for beside it.

    Raises:
        SpaceError: there is no such preset or file, or the space makes no sense.
        ConfigError: a setting is unknown or out of range, or a file that it names is not there.
    """
    text, path = space_text(name_or_path)
    where = f"preset {path.stem}" if path.parent == PRESETS_DIR else str(path)
    space = parse_space(text, where=where, base_dir=path.parent)
    for name, value in _all_settings(space):
        check_file(name, value, where=where)
    return space


def parse_space(text: str, *, where: str = "", base_dir: Path | None = None) -> SearchSpace:
    """The space that a YAML text describes.

    Args:
        text: the YAML.
        where: file it comes from, for errors.
        base_dir: folder from which relative paths start; they stay as they are if omitted.
    """
    document = _mapping(read_yaml(text, where=where), what="space", where=where)
    if not document:
        place = f": {where}" if where else ""
        raise SpaceError(f"space must say what varies or is fixed, got an empty text{place}")
    _check_keys(document, _TOP, what="part of a space", where=where)
    resolve = _resolver(base_dir)
    parameters = _mapping(document.get("parameters"), what="parameters", where=where)
    points = document.get("points") or []
    if not isinstance(points, list):
        raise SpaceError(f"points must be a list, got {shown(points)}" + (f": {where}" if where else ""))
    return SearchSpace(
        name=_text(document.get("name", _name_from(where)), what="name", where=where),
        description=_text(document.get("description") or "", what="description", where=where),
        parameters=tuple(_parse_parameter(name, body, resolve, where=where) for name, body in parameters.items()),
        fixed=_settings(document.get("fixed"), resolve, what="fixed", where=where),
        points=tuple(_settings(each, resolve, what=f"points[{i}]", where=where) for i, each in enumerate(points)),
        where=where,
    )


Resolve = Callable[[str, Any], Any]


def _resolver(base_dir: Path | None) -> Resolve:
    if base_dir is None:
        return lambda name, value: value
    return lambda name, value: resolve_file(name, value, base_dir=base_dir)


def _parse_parameter(name: str, body: Any, resolve: Resolve, *, where: str) -> Parameter:
    place = f"parameter {shown(name)}" + (f" in {where}" if where else "")
    body = _mapping(body, what="parameter", where=place)
    _check_keys(body, _OF_PARAMETER, what="part of a parameter", where=place)
    kinds = [key for key in body if key in DOMAINS or key == "choice"]
    if len(kinds) != 1:
        words = ", ".join(sorted([*DOMAINS, "choice"]))
        raise SpaceError(f"parameter must have one domain ({words}), got {', '.join(kinds) or 'none'}: {place}")
    try:
        domain = _parse_domain(name, kinds[0], body[kinds[0]], resolve, place=place)
    except SpaceError as error:
        raise SpaceError(str(error) if place in str(error) else f"{error}: {place}") from None
    conditions = _mapping(body.get("when"), what="when", where=place)
    return Parameter(
        name=name,
        domain=domain,
        default=_parse_default(name, body, domain, resolve, place=place),
        when=tuple(_parse_condition(parent, told, resolve, place=place) for parent, told in conditions.items()),
    )


def _parse_domain(name: str, kind: str, told: Any, resolve: Resolve, *, place: str) -> Domain:
    if kind in DOMAINS:
        if not isinstance(told, list) or len(told) != 2:
            raise SpaceError(f"{kind} must be [low, high], got {shown(told)}")
        return DOMAINS[kind](*told)
    if isinstance(told, dict):
        bundles = _mapping(told, what="choice", where=place)
        settings = {
            option: _settings(body, resolve, what=f"option {shown(option)}", where=place)
            for option, body in bundles.items()
        }
        return choice_of_bundles(settings)
    if not isinstance(told, list):
        raise SpaceError(f"choice must be a list of values or a mapping of bundles, got {shown(told)}")
    for option in told:
        if isinstance(option, dict):
            raise SpaceError(f"option of a list must be a plain value, got {shown(option)}; write bundles as a mapping")
    return Choice(tuple(_value(resolve(name, option)) for option in told))


def _parse_default(name: str, body: Mapping[str, Any], domain: Domain, resolve: Resolve, *, place: str) -> Value:
    """The default as told; where it is not, the setting's own default if the domain holds it."""
    if "default" in body:
        return _value(resolve(name, body["default"]))
    own = TrialConfig().to_flat()
    if name in own and domain.contains(own[name]):
        return own[name]
    raise SpaceError(f"parameter must have a default, got none: {place}")


def _parse_condition(name: str, told: Any, resolve: Resolve, *, place: str) -> Condition:
    negated = isinstance(told, dict)
    if isinstance(told, dict):
        _check_keys(told, ("not",), what="part of a condition", where=f"when of {place}")
        told = told.get("not")
    values = told if isinstance(told, list) else [told]
    return Condition(name, tuple(_value(resolve(name, value)) for value in values), negated)


def _mapping(told: Any, *, what: str, where: str) -> dict[str, Any]:
    """A mapping with text as keys; nothing counts as an empty one."""
    place = f": {where}" if where else ""
    if told is None:
        return {}
    if not isinstance(told, dict):
        raise SpaceError(f"{what} must be a mapping of names to values, got {shown(told)}{place}")
    for key in told:
        if not isinstance(key, str):
            raise SpaceError(f"name in {what} must be text, got {shown(key)}{place}; write it in quotes")
    return dict(told)


def _settings(told: Any, resolve: Resolve, *, what: str, where: str) -> dict[str, Value]:
    """Names to plain values."""
    return {name: _value(resolve(name, value)) for name, value in _mapping(told, what=what, where=where).items()}


def _value(told: Any) -> Value:
    value: Value = tuple(told) if isinstance(told, list) else told
    return value


def _text(told: Any, *, what: str, where: str) -> str:
    if not isinstance(told, str):
        raise SpaceError(f"{what} must be text, got {shown(told)}" + (f": {where}" if where else ""))
    return told.strip()


def _name_from(where: str) -> str:
    """A name for a space that has none: its file's."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", Path(where).stem).lstrip("-_.") or "space"


def _check_keys(told: Iterable[str], known: Iterable[str], *, what: str, where: str) -> None:
    for key in told:
        if key not in known:
            raise SpaceError(
                f"{what} {shown(key)} is unknown" + (f": {where}" if where else "") + near_miss(str(key), known)
            )


def _all_settings(space: SearchSpace) -> Iterator[tuple[str, Value]]:
    """Every setting and every value it can have in some trial."""
    yield from space.fixed.items()
    for parameter in space.parameters:
        yield from parameter.probe_settings()

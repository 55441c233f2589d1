"""Fixing settings over a space: `--fix model.backbone=resnet18`, and what that leaves of the parameters."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from spaces.checks import FILE_SETTINGS, is_file
from spaces.config import FIELDS, TrialConfig, Value
from spaces.domains import Bundle, Choice
from spaces.errors import ConfigError, UsageError, shown
from spaces.parameters import Parameter, check_setting, unknown_name
from spaces.yaml_text import read_yaml

NOT_USED_WITH: dict[str, str] = {"loss.class_weights": "loss.class_weight_exponent"}
"""Where the first setting is given, the second has no effect, so that it need not vary."""


def parse_fixes(texts: Iterable[str], *, base_dir: Path | None = None) -> dict[str, Any]:
    """What `--fix KEY=VALUE ...` says: each value read as YAML, a file's path made absolute.

    Args:
        texts: one `KEY=VALUE` each; KEY is a dotted setting or a parameter's free name.
        base_dir: folder that relative paths start from; where the command was typed if omitted.

    Raises:
        UsageError: one is no `KEY=VALUE`, or a key stands twice.
        SpaceError: a value is no YAML.
        ConfigError: a file is not there.
    """
    fixes: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        key = key.strip()
        if not equals or not key:
            raise UsageError(f"--fix must be KEY=VALUE, got {text!r}; for example --fix train.epochs=6")
        if key in fixes:
            raise UsageError(f"--fix must name a setting once, got {key} twice")
        fixes[key] = _parse_value(key, value.strip(), base_dir=base_dir or Path.cwd())
    return fixes


def resolve_file(name: str, value: Any, *, base_dir: Path) -> Any:
    """The value, made absolute where the setting names a file by a relative path. Raises ConfigError where none can."""
    if not is_file(name, value):
        return value
    try:
        path = str((base_dir / Path(value).expanduser()).resolve())
        path.encode()  # search.json and the like are UTF-8
        return path
    except (OSError, RuntimeError, ValueError) as error:  # a zero byte, nobody's home, links in a circle, other bytes
        raise ConfigError(f"{name} must name a file, got {shown(value)} ({error})") from None


def check_file(name: str, value: Any, *, where: str) -> None:
    """Raise ConfigError where the setting names a file that is not there."""
    if is_file(name, value) and not os.path.exists(value):
        words = ", ".join(sorted(FILE_SETTINGS[name], reverse=True))
        raise ConfigError(f"{name} must be {words} or a file that exists, got {value}: {where}")


def _parse_value(key: str, text: str, *, base_dir: Path) -> Any:
    if _is_text(key):
        value = resolve_file(key, text, base_dir=base_dir)
        check_file(key, value, where="--fix")
        return value
    value = read_yaml(text, where=f"--fix {key}")
    if isinstance(value, dict):
        raise UsageError(f"--fix {key} must be a plain value or a list, got {text!r}")
    return value


def _is_text(key: str) -> bool:
    """Whether the setting is free text, which is taken as it stands."""
    if key not in FIELDS:
        return False
    section, field = key.split(".")
    return bool(TrialConfig.model_fields[section].annotation.model_fields[field].annotation is str)  # type: ignore[union-attr]


@dataclass
class Draft:
    """The parts of a space while settings are being fixed in it."""

    parameters: list[Parameter]
    fixed: dict[str, Value]
    points: list[dict[str, Value]]

    def fix(self, name: str, value: Any, *, where: str) -> None:
        """Fix one dotted setting, or choose an option of a parameter with a free name."""
        setter = self._setter(name)
        if name not in FIELDS:
            if setter is None or setter.name != name:
                known = [*FIELDS, *(each.name for each in self.parameters)]
                raise ConfigError(f"setting {name!r} is unknown: {where}{unknown_name(name, known)}")
            self._settle(setter, setter.canonical(value, where=where))
            return
        checked = check_setting(name, value, where=where)
        if setter is None or setter.name == name:
            self._remove(setter, checked)
        else:
            self._fix_inside(setter, name, checked)
        self.fixed[name] = checked
        unused = self._setter(NOT_USED_WITH.get(name, ""))
        if unused is not None and checked is not None and unused.name == NOT_USED_WITH[name]:
            self._remove(unused, unused.default)

    def _setter(self, name: str) -> Parameter | None:
        named = (each for each in self.parameters if name == each.name or name in each.setting_names)
        return next(named, None)

    def _fix_inside(self, setter: Parameter, name: str, value: Value) -> None:
        """Fix a setting that bundles set: choose the bundle by it where it is what they are about, else override it."""
        assert isinstance(setter.domain, Choice)
        bundles = setter.domain.bundles
        if not _is_about(bundles, name):
            self._override(setter, name)
            return
        named = [bundle.name for bundle in bundles if bundle.to_dict()[name] == value]
        if named:
            self._settle(setter, named[0])
        else:
            self._remove(setter, None)

    def _settle(self, parameter: Parameter, value: Value) -> None:
        """Choose a parameter's value for good."""
        self.fixed.update(parameter.settings_at(value))
        self._remove(parameter, value)

    def _override(self, parameter: Parameter, name: str) -> None:
        """Take a setting out of a parameter's bundles, and merge bundles that do not differ any more."""
        assert isinstance(parameter.domain, Choice)
        kept: dict[frozenset[tuple[str, Value]], Bundle] = {}
        renamed: dict[Value, Value] = {}
        # The default first, so that it is the one that stands for those equal to it.
        for bundle in sorted(_without(parameter.domain, name), key=lambda each: each.name != parameter.default):
            renamed[bundle.name] = kept.setdefault(frozenset(bundle.settings), bundle).name
        if len(kept) == 1:
            self._settle(replace(parameter, domain=Choice(tuple(kept.values()))), parameter.default)
            return
        names = {bundle.name for bundle in kept.values()}
        slim = Choice(tuple(each for each in _without(parameter.domain, name) if each.name in names))
        self.parameters = [
            replace(each, domain=slim) if each.name == parameter.name else _renamed(each, parameter.name, renamed)
            for each in self.parameters
        ]
        self.points = [
            {key: renamed[value] if key == parameter.name else value for key, value in point.items()}
            for point in self.points
        ]

    def _remove(self, parameter: Parameter | None, value: Value, *, inactive: bool = False) -> None:
        """Take a parameter away for good; its value (None: none of its options) decides what depended on it."""
        if parameter is None:
            return
        self.parameters = [each for each in self.parameters if each.name != parameter.name]
        self.points = [{key: kept for key, kept in point.items() if key != parameter.name} for point in self.points]
        for child in list(self.parameters):
            conditions = [each for each in child.when if each.name == parameter.name]
            if not conditions or child not in self.parameters:
                continue
            if inactive or not all(condition.admits(value) for condition in conditions):
                self._remove(child, None, inactive=True)
            else:
                rest = tuple(each for each in child.when if each.name != parameter.name)
                self.parameters[self.parameters.index(child)] = replace(child, when=rest)


def _is_about(bundles: tuple[Bundle, ...], name: str) -> bool:
    """Whether a setting is text, stands first in every bundle and differs in all of them, as a backbone does."""
    first = [bundle.settings[0] if bundle.settings else ("", None) for bundle in bundles]
    values = [value for setting, value in first if setting == name and isinstance(value, str)]
    return len(set(values)) == len(bundles)


def _without(choice: Choice, name: str) -> list[Bundle]:
    return [
        replace(bundle, settings=tuple(item for item in bundle.settings if item[0] != name))
        for bundle in choice.bundles
    ]


def _renamed(parameter: Parameter, name: str, renamed: Mapping[Value, Value]) -> Parameter:
    """The parameter with the values of its conditions on `name` exchanged."""
    when = tuple(
        replace(each, values=tuple(dict.fromkeys(renamed[value] for value in each.values)))
        if each.name == name
        else each
        for each in parameter.when
    )
    return replace(parameter, when=when)

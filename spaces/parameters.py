"""Parameters: what varies, over which domain, and under which condition."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from spaces.config import FIELDS, TrialConfig, Value
from spaces.domains import Choice, Domain, Integer, label_of
from spaces.errors import ConfigError, SpaceError, near_miss, shown


@dataclass(frozen=True)
class Condition:
    """Holds where another parameter has one of some values (or, negated, has a value and none of these)."""

    name: str
    values: tuple[Value, ...]
    negated: bool = False

    def holds(self, active: Mapping[str, Value]) -> bool:
        return self.name in active and self.admits(active[self.name])

    def admits(self, value: Value) -> bool:
        return (value in self.values) != self.negated

    def describe(self) -> str:
        values = " or ".join(label_of(value) for value in self.values)
        return f"{self.name} is {'not ' if self.negated else ''}{values}"


@dataclass(frozen=True)
class Parameter:
    """One dimension of a space."""

    name: str
    """A setting's dotted name, or a free name where the options bundle settings."""
    domain: Domain
    default: Value
    """Value in trial 0: a plain value, or a bundle's name."""
    when: tuple[Condition, ...] = ()
    """All of them must hold, else the parameter has no value in that trial."""

    @property
    def setting_names(self) -> tuple[str, ...]:
        """Dotted settings that it sets, in any of its options."""
        if isinstance(self.domain, Choice) and self.domain.bundles:
            return tuple(dict.fromkeys(name for bundle in self.domain.bundles for name, _ in bundle.settings))
        return (self.name,)

    def settings_at(self, value: Value) -> dict[str, Value]:
        """Dotted settings that a value stands for."""
        if isinstance(self.domain, Choice) and self.domain.bundles:
            return self.domain.bundle(value).to_dict()
        return {self.name: value}

    def probe_settings(self) -> list[tuple[str, Value]]:
        """Every setting and value that has to be allowed for the whole domain to be."""
        return [item for value in self.domain.probes() for item in self.settings_at(value).items()]

    def canonical(self, value: Any, *, where: str = "") -> Value:
        """The value in the domain's own type: tuples for lists, floats for whole numbers in a float domain.

        Raises:
            SpaceError: the domain does not hold the value.
        """
        plain: Value = tuple(value) if isinstance(value, list) else value
        if not _is_plain(plain) or not self.domain.contains(plain):
            known = self.domain.labels if isinstance(self.domain, Choice) else ()
            hint = near_miss(str(value), known) if known and len(known) > 1 else ""
            rule = "one of its options" if known else self.domain.describe()
            place = f": {where}" if where else ""
            raise SpaceError(f"{self.name} must be {rule}, got {shown(value)}{place}{hint}")
        match self.domain:
            case Choice(values=values):
                return values[values.index(plain)]
            case Integer():
                return plain
            case _:
                return float(plain)  # type: ignore[arg-type]


def active_values(parameters: Sequence[Parameter], values: Mapping[str, Value]) -> dict[str, Value]:
    """Values of the parameters whose conditions hold, in their order; defaults where none is given."""
    active: dict[str, Value] = {}
    for parameter in parameters:
        if all(condition.holds(active) for condition in parameter.when):
            active[parameter.name] = values.get(parameter.name, parameter.default)
    return active


def check_setting(name: str, value: Any, *, where: str = "") -> Value:
    """The value in the setting's own type.

    Raises:
        ConfigError: the name is unknown, or the value is out of the setting's range.
    """
    checked = TrialConfig.from_flat({name: value}, where=where, alone=True).to_flat()[name]
    if isinstance(value, bool) and not isinstance(checked, bool):
        raise ConfigError(f"{name} must be no truth value, got {value!r}" + (f": {where}" if where else ""))
    return checked


def unknown_name(name: str, known: Iterable[str]) -> str:
    """Tail of a sentence about an unknown name: the closest known one, or the setting with that last part."""
    tails = {field.split(".")[1]: field for field in FIELDS}
    return f"; did you mean {tails[name]!r}" if name in tails else near_miss(name, known)


def _is_plain(value: object) -> bool:
    return value is None or isinstance(value, bool | int | float | str | tuple)

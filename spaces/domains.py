"""Domains: the allowed values of one parameter."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias, TypeGuard

from spaces.config import Value
from spaces.errors import MOST_SHOWN, SpaceError, shown


@dataclass(frozen=True)
class Bundle:
    """A named set of several settings, chosen together."""

    name: str
    settings: tuple[tuple[str, Value], ...]
    """Dotted setting and its value."""

    def to_dict(self) -> dict[str, Value]:
        return dict(self.settings)


Option: TypeAlias = Value | Bundle


@dataclass(frozen=True)
class Uniform:
    """A number between two ends, each part as likely as any other."""

    low: float
    high: float

    def __post_init__(self) -> None:
        _check_ends(self.low, self.high)
        object.__setattr__(self, "low", float(self.low))
        object.__setattr__(self, "high", float(self.high))

    def contains(self, value: Value) -> bool:
        return _is_number(value) and self.low <= value <= self.high

    def probes(self) -> tuple[Value, ...]:
        """Values that stand for all others when the domain is checked."""
        return (self.low, self.high)

    def describe(self) -> str:
        return f"between {self.low:g} and {self.high:g}"


@dataclass(frozen=True)
class LogUniform(Uniform):
    """A number between two positive ends, each order of magnitude as likely as any other."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_positive(self.low)

    def describe(self) -> str:
        return f"{super().describe()}, log"


@dataclass(frozen=True)
class Integer:
    """A whole number between two ends, both included."""

    low: int
    high: int
    log: bool = False
    """Each order of magnitude is as likely as any other; `low` must then be positive."""

    def __post_init__(self) -> None:
        for end in (self.low, self.high):
            if not isinstance(end, int) or isinstance(end, bool):
                raise SpaceError(f"ends of an integer domain must be whole numbers, got {shown(end)}")
        _check_ends(self.low, self.high)
        if self.log:
            _check_positive(self.low)

    def contains(self, value: Value) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and self.low <= value <= self.high

    def probes(self) -> tuple[Value, ...]:
        return (self.low, self.high)

    def describe(self) -> str:
        return f"whole, between {self.low} and {self.high}" + (", log" if self.log else "")


@dataclass(frozen=True)
class Choice:
    """One of several options: plain values, or bundles of settings."""

    options: tuple[Option, ...]

    def __post_init__(self) -> None:
        if not self.options:
            raise SpaceError("choice must have options, got none")
        if len({isinstance(option, Bundle) for option in self.options}) > 1:
            raise SpaceError("options of a choice must be all plain values or all bundles, got both")
        seen: set[str] = set()
        for option in self.options:
            if label_of(option) in seen:
                raise SpaceError(f"options of a choice must differ, got {label_of(option)[:MOST_SHOWN]} twice")
            seen.add(label_of(option))

    @property
    def bundles(self) -> tuple[Bundle, ...]:
        """The options where they are bundles, else nothing."""
        return tuple(option for option in self.options if isinstance(option, Bundle))

    @property
    def values(self) -> tuple[Value, ...]:
        """What a parameter's value can be: the plain options themselves, or the bundles' names."""
        return tuple(option.name if isinstance(option, Bundle) else option for option in self.options)

    @property
    def labels(self) -> tuple[str, ...]:
        """One distinct word an option, in their order."""
        return tuple(label_of(option) for option in self.options)

    def bundle(self, name: Value) -> Bundle:
        return next(bundle for bundle in self.bundles if bundle.name == name)

    def contains(self, value: Value) -> bool:
        return value in self.values

    def probes(self) -> tuple[Value, ...]:
        return self.values

    def describe(self) -> str:
        return f"one of {', '.join(self.labels)}"


Domain: TypeAlias = Uniform | LogUniform | Integer | Choice


def choice_of_bundles(bundles: Mapping[str, Mapping[str, Value]]) -> Choice:
    """A choice of named sets of settings: name to (dotted setting to value)."""
    return Choice(tuple(Bundle(name, tuple(settings.items())) for name, settings in bundles.items()))


def label_of(option: Option) -> str:
    """A word for an option: `null`, `true`, `0.5`, `[1.0, 2.0]`, or the text or bundle's name itself."""
    match option:
        case Bundle(name=name):
            return name
        case None:
            return "null"
        case bool():
            return str(option).lower()
        case tuple():
            return f"[{', '.join(repr(item) for item in option)}]"
        case _:
            return str(option)


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _check_ends(low: float, high: float) -> None:
    for end in (low, high):
        if not _is_number(end) or not abs(end) <= sys.float_info.max:
            raise SpaceError(f"ends of a domain must be finite numbers, got {shown(end)}")
    if not low < high:
        raise SpaceError(f"low must be below high, got {low:g} and {high:g}")


def _check_positive(low: float) -> None:
    if low <= 0:
        raise SpaceError(f"low must be above 0 in a log domain, got {low:g}")

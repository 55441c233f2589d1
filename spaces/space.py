"""SearchSpace: what a search may vary, from where it starts, and what each point of it means."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from spaces.checks import (
    check_combinations,
    check_extent,
    check_setters,
    check_space_name,
    check_weights_fit,
    checked_parameters,
    checked_settings,
    settings_of,
)
from spaces.config import TrialConfig, Value
from spaces.domains import Choice, Domain, Integer, LogUniform
from spaces.errors import SpaceError, near_miss, shown
from spaces.fixing import Draft
from spaces.parameters import Condition, Parameter, active_values
from spaces.yaml_text import write_yaml


@dataclass(frozen=True)
class SearchSpace:
    """Named parameters with their domains, what is fixed beside them, and points to try first.

    Values of a point are keyed by parameter: a plain value, or a bundle's name. Building a space checks it.

    Raises:
        SpaceError: something in it makes no sense.
        ConfigError: a setting's name is unknown, or a value is out of the setting's range.
    """

    name: str
    description: str = ""
    parameters: tuple[Parameter, ...] = ()
    fixed: Mapping[str, Value] = field(default_factory=dict)
    """Dotted setting to value; a parameter that is active in a trial goes over it."""
    points: tuple[Mapping[str, Value], ...] = ()
    """Known good points, tried after the default; what one leaves out is the default."""
    where: str = field(default="", compare=False)
    """File it was read from, for errors."""

    def __post_init__(self) -> None:
        check_space_name(self.name, where=self.where)
        check_extent(self.parameters, where=self.where)
        parameters = checked_parameters(self.parameters, where=self.where)
        fixed = checked_settings(self.fixed, where="fixed" + (f" in {self.where}" if self.where else ""))
        check_setters(parameters, fixed, where=self.where)
        check_weights_fit(parameters, fixed, where=self.where)
        check_combinations(parameters, fixed, where=self.where)
        object.__setattr__(self, "parameters", parameters)
        object.__setattr__(self, "fixed", fixed)
        object.__setattr__(self, "points", tuple(self._checked_point(i, each) for i, each in enumerate(self.points)))

    def __hash__(self) -> int:
        return hash((self.name, self.content_hash()))

    def parameter(self, name: str) -> Parameter:
        """The parameter with this name. Raises SpaceError."""
        for parameter in self.parameters:
            if parameter.name == name:
                return parameter
        known = near_miss(name, [each.name for each in self.parameters])
        raise SpaceError(f"parameter {name!r} is unknown" + (f": {self.where}" if self.where else "") + known)

    def complete(self, values: Mapping[str, Any]) -> dict[str, Value]:
        """The active parameters' values, in their order: the given ones, defaults for the rest.

        Raises:
            SpaceError: a name is unknown, or a domain does not hold a value.
        """
        given = {name: self.parameter(name).canonical(value, where=self.where) for name, value in values.items()}
        return active_values(self.parameters, given)

    def default(self) -> dict[str, Value]:
        """The active parameters' values in trial 0."""
        return active_values(self.parameters, {})

    def initial_points(self) -> list[dict[str, Value]]:
        """The default, then the points that differ from all before them; each complete."""
        first: list[dict[str, Value]] = []
        for point in ({}, *self.points):
            values = active_values(self.parameters, point)
            if values not in first:
                first.append(values)
        return first

    def is_active(self, parameter: Parameter | str, values: Mapping[str, Any]) -> bool:
        """Whether a parameter has a value where the others have these (defaults where they are left out)."""
        name = parameter if isinstance(parameter, str) else parameter.name
        return self.parameter(name).name in self.complete(values)

    def to_settings(self, values: Mapping[str, Any]) -> dict[str, Value]:
        """Dotted settings of a point: the fixed ones, and over them what its active parameters say."""
        return settings_of(self.parameters, self.fixed, self.complete(values))

    def to_config(self, values: Mapping[str, Any]) -> TrialConfig:
        """The complete config of a point. Raises SpaceError and ConfigError."""
        return TrialConfig.from_flat(self.to_settings(values), where=self.where)

    def fix(self, settings: Mapping[str, Any], *, where: str = "--fix") -> "SearchSpace":
        """A space in which some settings do not vary any more.

        A parameter that sets such a setting is gone. Of a parameter that bundles settings, the option with that
        value is chosen where the options are about this setting (it is text, first in each and differs in all);
        else the setting is overridden in every option. Conditions on what is gone are settled.

        Args:
            settings: dotted setting, or a parameter's free name, to value.
            where: what asks for it, for errors.
        """
        draft = Draft(list(self.parameters), dict(self.fixed), [dict(point) for point in self.points])
        for name, value in settings.items():
            draft.fix(name, value, where=where)
        return replace(
            self,
            parameters=tuple(draft.parameters),
            fixed=draft.fixed,
            points=tuple(point for point in draft.points if point),
            where=self.where if where in self.where else f"{self.where} with {where}".strip(),
        )

    def to_document(self) -> dict[str, Any]:
        """The space as plain values, in the form of its YAML."""
        return {
            "name": self.name,
            "description": self.description,
            "fixed": {name: _plain(value) for name, value in self.fixed.items()},
            "parameters": {each.name: _parameter_document(each) for each in self.parameters},
            "points": [{name: _plain(value) for name, value in point.items()} for point in self.points],
        }

    def to_yaml(self) -> str:
        """The text from which `parse_space` builds an equal space."""
        return write_yaml({key: part for key, part in self.to_document().items() if part})

    def content_hash(self) -> str:
        """Sixteen hex digits of what may vary, what is fixed and what is tried first, whatever its name."""
        document = self.to_document()
        told = {key: document[key] for key in ("fixed", "parameters", "points")}
        # Order counts where it decides what is sampled: among parameters and points, not among fixed settings.
        told["fixed"] = sorted(told["fixed"].items())
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]

    def _checked_point(self, index: int, point: Mapping[str, Any]) -> dict[str, Value]:
        where = f"points[{index}]" + (f" in {self.where}" if self.where else "")
        values: dict[str, Value] = {}
        for name, value in point.items():
            if name not in [each.name for each in self.parameters]:
                hint = near_miss(name, [each.name for each in self.parameters])
                raise SpaceError(f"point must name parameters, got {shown(name)}: {where}{hint}")
            values[name] = self.parameter(name).canonical(value, where=where)
        active = active_values(self.parameters, values)
        for name in values:
            if name not in active:
                needs = " and ".join(condition.describe() for condition in self.parameter(name).when)
                raise SpaceError(f"{name} must be active to have a value, got {values[name]!r}: {where}; needs {needs}")
        TrialConfig.from_flat(settings_of(self.parameters, self.fixed, values), where=where)
        return values


def _parameter_document(parameter: Parameter) -> dict[str, Any]:
    document = {**_domain_document(parameter.domain), "default": _plain(parameter.default)}
    if parameter.when:
        document["when"] = {each.name: _condition_document(each) for each in parameter.when}
    return document


def _domain_document(domain: Domain) -> dict[str, Any]:
    match domain:
        case Choice(bundles=bundles) if bundles:
            options = {each.name: {name: _plain(value) for name, value in each.settings} for each in bundles}
            return {"choice": options}
        case Choice(values=values):
            return {"choice": [_plain(value) for value in values]}
        case Integer(low=low, high=high, log=log):
            return {"log_integer" if log else "integer": [low, high]}
        case LogUniform(low=low, high=high):
            return {"log_uniform": [low, high]}
        case _:
            return {"uniform": [domain.low, domain.high]}


def _condition_document(condition: Condition) -> Any:
    values = [_plain(value) for value in condition.values]
    # A list stands for alternatives, so that a single value that is itself a list keeps its brackets.
    told = values[0] if len(values) == 1 and not isinstance(values[0], list) else values
    return {"not": told} if condition.negated else told


def _plain(value: Value) -> Any:
    return list(value) if isinstance(value, tuple) else value

"""Two spaces side by side: what of one is another in the other, and which point of a space a config is."""

from collections.abc import Mapping
from functools import cache

from spaces.config import TrialConfig, Value
from spaces.domains import Choice, Domain, Integer, LogUniform, label_of
from spaces.errors import SpaceError
from spaces.parameters import Parameter
from spaces.space import SearchSpace

SEED = "train.seed"
"""The one setting that a space does not decide alone: a config that comes again is trained with another seed."""


def differences(before: SearchSpace, after: SearchSpace, *, with_points: bool = True) -> list[str]:
    """What a space was and is, a phrase each; none where the two mean the same.

    Args:
        before: the one space.
        after: the other.
        with_points: whether what is tried first counts.
    """
    was, now = _aspects(before), _aspects(after)
    if with_points:
        was |= _points(before)
        now |= _points(after)
    if set(was["order"].split(", ")) != set(now["order"].split(", ")):  # which the parameters that differ say already
        was["order"] = now["order"] = ""
    return [
        f"{name} was {was.get(name, 'not in it')}, is {now.get(name, 'not in it')}"
        for name in dict.fromkeys([*was, *now])
        if was.get(name) != now.get(name)
    ]


def point_of_config(space: SearchSpace, config: Mapping[str, Value]) -> dict[str, Value]:
    """Values of the active parameters that make a config. Its seed may be another, unless a parameter sets it.

    Args:
        space: whose point is asked for.
        config: complete, flat.

    Raises:
        SpaceError: the config is no point of the space; the message is a phrase with the setting at fault.
    """
    base = {**_defaults(), **space.fixed}
    values: dict[str, Value] = {}
    for parameter in space.parameters:
        if all(condition.holds(values) for condition in parameter.when):
            values[parameter.name] = _value_of(parameter, config, base)
    made = {**base, **space.to_settings(values)}
    for name, value in made.items():
        if value != config[name] and name != SEED:
            raise SpaceError(f"{name} {label_of(config[name])} where it must be {label_of(value)}")
    return values


def _value_of(parameter: Parameter, config: Mapping[str, Value], base: Mapping[str, Value]) -> Value:
    """A parameter's value in a config; of bundles, the one whose settings are there."""
    names = parameter.setting_names
    there = {name: config[name] for name in names}
    if isinstance(parameter.domain, Choice) and parameter.domain.bundles:
        usual = {name: base[name] for name in names}
        for bundle in parameter.domain.bundles:
            if {**usual, **bundle.to_dict()} == there:
                return bundle.name
    elif parameter.domain.contains(config[parameter.name]):
        return parameter.canonical(config[parameter.name])
    raise SpaceError(" and ".join(f"{name} {label_of(value)}" for name, value in there.items()))


@cache
def _defaults() -> dict[str, Value]:
    return TrialConfig().to_flat()


def _aspects(space: SearchSpace) -> dict[str, str]:
    """All that a space says of its trials, in words, by what it is about."""
    said = {name: f"fixed at {label_of(value)}" for name, value in space.fixed.items()}
    for parameter in space.parameters:
        name = parameter.name
        said[name] = _extent(parameter.domain)
        said[f"default of {name}"] = label_of(parameter.default)
        if parameter.when:
            said[f"condition of {name}"] = " and ".join(condition.describe() for condition in parameter.when)
        if isinstance(parameter.domain, Choice):
            for bundle in parameter.domain.bundles:
                settings = (f"{setting} {label_of(value)}" for setting, value in bundle.settings)
                said[f"option {bundle.name} of {name}"] = ", ".join(settings) or "empty"
    said["order"] = ", ".join(parameter.name for parameter in space.parameters)
    return said


def _extent(domain: Domain) -> str:
    """A domain in words, with every digit."""
    if isinstance(domain, Choice):
        return f"one of {', '.join(domain.labels)}"
    kind = "whole, " if isinstance(domain, Integer) else ""
    is_log = domain.log if isinstance(domain, Integer) else isinstance(domain, LogUniform)
    return f"{kind}between {domain.low} and {domain.high}" + (", log" if is_log else "")


def _points(space: SearchSpace) -> dict[str, str]:
    points = [", ".join(f"{name} {label_of(value)}" for name, value in point.items()) for point in space.points]
    return {f"point {number}": point for number, point in enumerate(points, start=1)}

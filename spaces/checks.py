"""Checks of a space, made once, before the first worker starts."""

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from spaces.config import FIELDS, TrialConfig, Value, check_field_name
from spaces.domains import Bundle, Choice, Domain, Integer, Option, label_of
from spaces.errors import ConfigError, SpaceError, near_miss, shown
from spaces.parameters import Condition, Parameter, active_values, check_setting, unknown_name

Parameters = Sequence[Parameter]

FILE_SETTINGS: dict[str, frozenset[str]] = {
    "model.weights": frozenset({"none", "hub"}),
    "model.start": frozenset({"none"}),
    "branches.appearance_weights": frozenset({"none", "hub"}),
    "hand.weights": frozenset({"none", "hub"}),
    "blend.partner": frozenset({"none", "head"}),
}
"""Settings that may name a file, and the words that are no file."""

BACKBONE_OF_FILE: dict[str, str] = {
    "model.weights": "model.backbone",
    "model.start": "model.backbone",
    "branches.appearance_weights": "branches.appearance_backbone",
    "hand.weights": "hand.backbone",
}
"""Settings that may name a file, to the setting that names the one backbone which it fits."""

MAX_VALUES = 400
"""Options and ends of ranges in a space; each pair of them is tried, which takes some seconds of so many."""

MAX_TRIED = 10_000
"""Combinations of values that are tried to find one under which a parameter is active."""

_SPACE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_FREE_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")


def is_file(name: str, value: object) -> bool:
    """Whether this setting's value names a file."""
    return name in FILE_SETTINGS and isinstance(value, str) and value not in ("", *FILE_SETTINGS[name])


def check_space_name(name: str, *, where: str = "") -> None:
    """Raise SpaceError where a name can't name a folder too."""
    if not _SPACE_NAME.fullmatch(name):
        raise SpaceError(f"name of a space must be letters, digits, -, _ and ., got {shown(name)}" + _at(where))


def check_extent(parameters: Parameters, *, where: str = "") -> None:
    """Raise SpaceError where a space has more options and ends of ranges than can be tried against each other."""
    n_values = sum(len(parameter.domain.probes()) for parameter in parameters)
    if n_values > MAX_VALUES:
        raise SpaceError(f"options and ends of ranges must be at most {MAX_VALUES} in all, got {n_values}" + _at(where))


def checked_parameters(parameters: Parameters, *, where: str = "") -> tuple[Parameter, ...]:
    """The parameters with their values in the settings' own types.

    Raises:
        SpaceError: a name, a default or a condition makes no sense.
        ConfigError: a value that the domain holds is none that the setting may have.
    """
    done: dict[str, Parameter] = {}
    for parameter in parameters:
        place = f"parameter {parameter.name!r}" + (f" in {where}" if where else "")
        if parameter.name in done:
            raise SpaceError(f"name of a parameter must stand once, got {parameter.name!r} twice" + _at(where))
        _check_name(parameter, where=where)
        checked = replace(parameter, domain=_checked_domain(parameter, where=place))
        checked = replace(
            checked,
            default=checked.canonical(parameter.default, where=f"default of {place}"),
            when=tuple(_checked_condition(condition, done, where=place) for condition in parameter.when),
        )
        done[checked.name] = checked
        if not activating_values(list(done.values()), checked):
            conditions = " and ".join(condition.describe() for condition in checked.when)
            raise SpaceError(f"conditions must be able to hold together, got {conditions}: {place}")
    return tuple(done.values())


def checked_settings(settings: Mapping[str, Value], *, where: str = "") -> dict[str, Value]:
    """Fixed settings in their own types. Raises ConfigError."""
    return {name: check_setting(name, value, where=where) for name, value in settings.items()}


def check_setters(parameters: Parameters, fixed: Mapping[str, Value], *, where: str = "") -> None:
    """Raise SpaceError where two parts of a space set the same setting in the same trial."""
    setters: dict[str, str] = {}
    for parameter in parameters:
        for name in parameter.setting_names:
            if name in setters:
                raise SpaceError(
                    f"setting {name} must be set by one parameter, "
                    f"got {setters[name]!r} and {parameter.name!r}" + _at(where)
                )
            setters[name] = parameter.name
            if name in fixed and not parameter.when and _always_sets(parameter, name):
                raise SpaceError(
                    f"setting {name} must be fixed or vary, got both" + _at(where) + "; leave one of the two out"
                )


def check_weights_fit(parameters: Parameters, fixed: Mapping[str, Value], *, where: str = "") -> None:
    """Raise SpaceError where one file is to serve several backbones."""
    base = {**TrialConfig().to_flat(), **fixed}
    for name, of_backbone in BACKBONE_OF_FILE.items():
        file = fixed.get(name, "none")
        setter = next((each for each in parameters if of_backbone in each.setting_names), None)
        if setter is None or not is_file(name, file) or name in setter.setting_names:
            continue
        settings = [{**base, **setter.settings_at(value)} for value in setter.domain.probes()]
        backbones = {each[of_backbone] for each in settings} - {"none"}
        if len(backbones) > 1:
            words = " or ".join(sorted(FILE_SETTINGS[name], reverse=True))
            raise SpaceError(
                f"{name} must be {words} where the backbone varies, got {file} for {len(backbones)} backbones"
                + _at(where)
                + f"; fix {of_backbone} too"
            )


def check_combinations(parameters: Parameters, fixed: Mapping[str, Value], *, where: str = "") -> None:
    """Raise SpaceError where the default, or two values that can meet in one trial, make no config."""
    _check_config(parameters, fixed, {}, what="the default", where=where)
    activating = {parameter.name: activating_values(parameters, parameter) for parameter in parameters}
    for parameter in parameters:
        for value in parameter.domain.probes():
            values = {**activating[parameter.name], parameter.name: value}
            _check_config(parameters, fixed, values, what=f"{parameter.name} {label_of(value)}", where=where)
    for first, second in itertools.combinations(parameters, 2):
        # Parents' values first, so that both parameters are active where that is possible.
        given = {**activating[first.name], **activating[second.name]}
        for one, other in itertools.product(first.domain.probes(), second.domain.probes()):
            values = {**given, first.name: one, second.name: other}
            active = active_values(parameters, values)
            if first.name in active and second.name in active:
                what = f"{first.name} {label_of(one)} with {second.name} {label_of(other)}"
                _check_config(parameters, fixed, values, what=what, where=where)


def settings_of(parameters: Parameters, fixed: Mapping[str, Value], values: Mapping[str, Value]) -> dict[str, Value]:
    """Dotted settings: what is fixed, and over it what the active parameters say."""
    settings = dict(fixed)
    active = active_values(parameters, values)
    for parameter in parameters:
        if parameter.name in active:
            settings.update(parameter.settings_at(active[parameter.name]))
    return settings


def activating_values(parameters: Parameters, parameter: Parameter) -> dict[str, Value]:
    """Values of its ancestors under which the parameter is active, itself with its default; empty if there are none."""
    by_name = {each.name: each for each in parameters}
    ancestors = list(_ancestors(parameter, by_name))
    wanted = [_telling_values(by_name[name], [*ancestors, parameter.name], by_name) for name in ancestors]
    for n_tried, combination in enumerate(itertools.product(*wanted), start=1):
        values = dict(zip(ancestors, combination, strict=True))
        if parameter.name in active_values(parameters, values):
            return {**values, parameter.name: parameter.default}
        if n_tried == MAX_TRIED:
            rule = f"{parameter.name} must be active in one of {MAX_TRIED:,} combinations of what it depends on"
            raise SpaceError(f"{rule}, got none; give it fewer conditions")
    return {}


def _ancestors(parameter: Parameter, by_name: Mapping[str, Parameter]) -> dict[str, None]:
    found: dict[str, None] = {}
    for condition in parameter.when:
        found |= _ancestors(by_name[condition.name], by_name) | {condition.name: None}
    return found


def _telling_values(parameter: Parameter, readers: Sequence[str], by_name: Mapping[str, Parameter]) -> list[Value]:
    """Values of a parameter between which the readers' conditions can tell, its default first."""
    conditions = [each for name in readers for each in by_name[name].when if each.name == parameter.name]
    named = [value for condition in conditions if not condition.negated for value in condition.values]
    if any(condition.negated for condition in conditions) and isinstance(parameter.domain, Choice):
        named.extend(parameter.domain.values)
    elif any(condition.negated for condition in conditions):
        named.extend(parameter.domain.probes())
    return list(dict.fromkeys([parameter.default, *named]))


def _check_name(parameter: Parameter, *, where: str) -> None:
    name, domain = parameter.name, parameter.domain
    bundles = isinstance(domain, Choice) and bool(domain.bundles)
    if "." in name:
        check_field_name(name, where=where)
    if name in FIELDS and bundles:
        raise SpaceError(
            f"options of a setting must be plain values, got bundles for {name}"
            + _at(where)
            + "; give the parameter a name without a dot"
        )
    if name not in FIELDS and not bundles:
        raise SpaceError(
            f"parameter must be a setting's name or choose among bundles of settings, got {shown(name)}"
            + _at(where)
            + unknown_name(name, FIELDS)
        )
    if name not in FIELDS and not _FREE_NAME.fullmatch(name):
        raise SpaceError(f"name of a parameter must be letters, digits, - and _, got {shown(name)}" + _at(where))


def _checked_domain(parameter: Parameter, *, where: str) -> Domain:
    domain = parameter.domain
    if isinstance(domain, Choice):
        options = tuple(_checked_option(parameter.name, option, where=where) for option in domain.options)
        try:
            return Choice(options)
        except SpaceError as error:  # two options became equal in the setting's own type
            raise SpaceError(f"{error}: {where}") from None
    for end in domain.probes():
        checked = check_setting(parameter.name, end, where=where)
        if isinstance(checked, int) and not isinstance(domain, Integer):
            raise SpaceError(f"{parameter.name} must vary over whole numbers, got a float domain: {where}; use integer")
    return domain


def _checked_option(name: str, option: Option, *, where: str) -> Option:
    if not isinstance(option, Bundle):
        return check_setting(name, option, where=where)
    place = f"option {option.name!r} of {where}"
    return replace(option, settings=tuple(checked_settings(option.to_dict(), where=place).items()))


def _checked_condition(condition: Condition, earlier: Mapping[str, Parameter], *, where: str) -> Condition:
    place = f"when of {where}"
    if condition.name not in earlier:
        tail = near_miss(condition.name, earlier) or "; none stands before this one"
        raise SpaceError(f"condition must name an earlier parameter, got {condition.name!r}: {place}{tail}")
    parent = earlier[condition.name]
    if not isinstance(parent.domain, Choice | Integer):
        raise SpaceError(
            f"condition must name a choice or an integer, got {condition.name} ({parent.domain.describe()}): {place}"
        )
    if not condition.values:
        raise SpaceError(f"condition must name at least one value, got none for {condition.name}: {place}")
    return replace(condition, values=tuple(parent.canonical(value, where=place) for value in condition.values))


def _always_sets(parameter: Parameter, name: str) -> bool:
    return all(name in parameter.settings_at(value) for value in parameter.domain.probes())


def _check_config(
    parameters: Parameters, fixed: Mapping[str, Value], values: Mapping[str, Value], *, what: str, where: str
) -> None:
    try:
        TrialConfig.from_flat(settings_of(parameters, fixed, values))
    except ConfigError as error:
        raise SpaceError(f"{what} makes no config, {error}" + _at(where)) from None


def _at(where: str) -> str:
    return f": {where}" if where else ""

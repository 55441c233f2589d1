"""Ensembles to pick from by what they cost: fewer members, or fewer looks at each face; score against time and size."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from search.candidates import Candidate, FloatArray, Looks
from search.comparison import Choice
from search.costs import Cost, measure_costs, total_cost
from search.ensemble.calibration import calibrate
from search.ensemble.crossfit import cross_fit, fixed_answers
from search.ensemble.estimate import Difference, judge
from search.ensemble.model_library import Library, make_kind, plain_traits
from search.ensemble.selection import METHODS, Choose, limited
from search.progress import Told
from spaces.errors import EnsembleError
from trainables.data.table import FaceTable

MOST_FACES = 4096
"""On which one look at each face is compared with all looks."""


@dataclass(frozen=True)
class Limits:
    """What an ensemble may cost at most; None where it does not matter.

    Attributes:
        ms: milliseconds an image.
        megabytes: of weights.
        members: how many.
    """

    ms: float | None = None
    megabytes: float | None = None
    members: int | None = None

    @property
    def are_none(self) -> bool:
        """Whether nothing is limited."""
        return self == Limits()

    def in_words(self) -> str:
        """Such as `at most 5 ms an image and 2 members`."""
        parts = [(self.ms, "{:g} ms an image"), (self.megabytes, "{:g} MB"), (self.members, "{} members")]
        return "at most " + " and ".join(words.format(value) for value, words in parts if value is not None)


@dataclass(frozen=True)
class Option:
    """One ensemble to pick.

    Attributes:
        members: weight by candidate.
        looks: all that its networks were trained to take at a face, or one.
        temperature: of its mixture.
        valid: macro-F1 on the faces it was chosen by.
        estimate: what to expect; None where nothing could be estimated. For one look: that for all looks, changed by as
            much as the score on valid changes, the interval widened by the luck of that.
        low: of the estimate's interval.
        high: of the estimate's interval.
        ms: milliseconds an image, as measured on the machine of the final job.
        megabytes: of weights.
        is_chosen: the ensemble that the final job chose.
        is_on_front: no other option is at least as good in estimate, time and size, and better in one of them.
    """

    members: dict[str, float]
    looks: Looks
    temperature: float
    valid: float
    estimate: float | None
    low: float | None
    high: float | None
    ms: float
    megabytes: float
    is_chosen: bool = False
    is_on_front: bool = False

    @property
    def worth(self) -> float:
        """By what it is compared with others."""
        return self.valid if self.estimate is None else self.estimate

    def in_words(self) -> str:
        """Such as `3, all looks at a face, 4.10 ms an image, 12.1 MB, estimate 0.6778 (0.651 to 0.704)`."""
        looks = "all looks" if self.looks == "all" else "one look"
        text = f"{len(self.members)}, {looks} at a face, {self.ms:.2f} ms an image, {self.megabytes:.1f} MB"
        if self.estimate is None:
            return text
        return f"{text}, estimate {self.estimate:.4f} ({self.low:.3f} to {self.high:.3f})"

    def fits(self, limits: Limits) -> bool:
        """Whether it costs no more than it may."""
        costs = ((self.ms, limits.ms), (self.megabytes, limits.megabytes), (len(self.members), limits.members))
        return all(limit is None or cost <= limit for cost, limit in costs)

    def to_document(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def list_options(
    candidates: Sequence[Candidate],
    library: Library,
    choice: Choice,
    table: FaceTable,
    *,
    seed: int,
    told: Told,
) -> list[Option]:
    """Ensembles of one member, of two, and so on to that which was chosen; each with all looks and with one.

    Args:
        candidates: of the library.
        library: what they say of the valid faces.
        choice: that was made among them.
        table: of the search.
        seed: of whatever is drawn.
        told: for a step in words, what to tell the share done.
    """
    sizes = range(1, int(np.count_nonzero(choice.rows["ensemble"])))
    ways = {str(size): limited(METHODS[choice.method].choose, size) for size in sizes}
    weights = {name: way(library, seed) for name, way in ways.items()}
    used = np.flatnonzero(np.any([choice.rows["ensemble"] > 0, *(own > 0 for own in weights.values())], axis=0))
    voters = [candidates[index] for index in used.tolist()]
    costs = measure_costs(voters, progress=told("timing the members"))
    change = _change_by_one_look(voters, table, told=told)
    found = [_chosen(choice)]
    if ways and choice.judgement is not None:
        lost, progress = choice.judgement.lost, told("estimating smaller ensembles")
        found += _estimated(library, ways, weights, lost=lost, seed=seed, progress=progress)
    options: list[Option] = []
    for sized in found:
        members = {candidates[i].key: float(sized.weights[i]) for i in np.flatnonzero(sized.weights).tolist()}
        if any(members == other.members for other in options):
            continue
        networks = [costs[path] for path in _paths(candidates, members)]
        options.append(_option(members, sized, total_cost(networks, "all"), is_chosen=sized is found[0]))
        if change is not None and any(_looks_more_than_once(one) for one in candidates if one.key in members):
            options.append(_looking_once(options[-1], change(sized.weights[used]), total_cost(networks, "one")))
    return _with_front(options)


def pick_option(options: Sequence[Option], limits: Limits, *, where: str) -> Option:
    """The option with the best estimate among those that cost no more than they may.

    Args:
        options: of a final job, the chosen ensemble at least.
        limits: to keep within.
        where: what the options are of, for the error.

    Raises:
        EnsembleError: none keeps within them; it names the cheapest.
    """
    fitting = [option for option in options if option.fits(limits)]
    if fitting:
        return max(fitting, key=lambda option: (option.worth, -option.ms))
    quickest, smallest = min(o.ms for o in options), min(o.megabytes for o in options)
    raise EnsembleError(
        f"some ensemble must keep within {limits.in_words()}, got none: {where}; "
        f"the quickest takes {quickest:.2f} ms an image, the smallest {smallest:.1f} MB"
    )


def _paths(candidates: Sequence[Candidate], members: Mapping[str, float]) -> list[Path]:
    """The members' networks, each once."""
    return sorted({voter.path for candidate in candidates if candidate.key in members for voter in candidate.voters})


@dataclass(frozen=True, eq=False)
class _Sized:
    """An ensemble of some size: its weights [candidates], the temperature, and what to expect of it."""

    weights: FloatArray
    temperature: float
    valid: float
    estimate: float | None
    interval: Sequence[float] | None


def _chosen(choice: Choice) -> _Sized:
    score, calibration = choice.scores["ensemble"], choice.calibration
    return _Sized(
        choice.rows["ensemble"],
        1.0 if calibration is None else calibration.temperature,
        score["valid"],
        score["estimate"],
        score["estimate_interval"],
    )


def _estimated(
    library: Library,
    ways: Mapping[str, Choose],
    weights: Mapping[str, FloatArray],
    *,
    lost: float,
    seed: int,
    progress: Callable[[float], None],
) -> list[_Sized]:
    """Smaller ensembles by the way that was chosen; what choosing it lost is taken off their estimates too."""
    cross = cross_fit(library, ways, seed=seed, progress=progress)
    judgement = judge(cross, library, among=list(ways)[-1:], seed=seed)
    kind = library.kinds[0]
    found = []
    for name, own in weights.items():
        estimate = judgement.estimate(name, library, own)
        calibration = calibrate(cross.probs[0][cross.place(name)], kind.faces.labels, kind.units, seed=seed)
        score = min(estimate.score - lost, estimate.chosen_on)
        moved = score - estimate.score
        interval = [max(bound + moved, 0.0) for bound in (estimate.interval.low, estimate.interval.high)]
        found.append(_Sized(own, calibration.temperature, estimate.chosen_on, score, interval))
    return found


def _option(members: dict[str, float], sized: _Sized, cost: Cost, *, is_chosen: bool) -> Option:
    low, high = sized.interval or (None, None)
    return Option(
        members=members,
        looks="all",
        temperature=sized.temperature,
        valid=sized.valid,
        estimate=sized.estimate,
        low=low,
        high=high,
        ms=cost.ms,
        megabytes=cost.megabytes,
        is_chosen=is_chosen,
    )


def _change_by_one_look(
    voters: Sequence[Candidate], table: FaceTable, *, told: Told
) -> Callable[[FloatArray], Difference] | None:
    """By how much macro-F1 on valid changes where each face is looked at once; None where it is anyway."""
    if not any(_looks_more_than_once(voter) for voter in voters):
        return None
    progress = told("looking once at each face")
    split = table.split("valid")
    rows = np.flatnonzero(split.expression >= 0)
    rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), MOST_FACES)).astype(int)]
    labels, images = split.expression[rows], split.images[rows]
    often = np.stack([voter.scores.probs[rows] for voter in voters])
    once = np.empty_like(often)
    for place, voter in enumerate(voters):
        once[place] = voter.probs_on(images, looks="one")
        progress((place + 1) / len(voters))

    subjects = voters[0].scores.subjects
    people = [subjects[row] for row in rows.tolist()]

    def change(weights: FloatArray) -> Difference:
        kind = make_kind(np.stack([np.tensordot(weights, probs, axes=1) for probs in (once, often)]), labels, people)
        votes = {"once": np.array([1.0, 0.0]), "often": np.array([0.0, 1.0])}
        judgement = judge(fixed_answers(kind, votes), Library((kind,), plain_traits(2)), among=["often"])
        return judgement.difference("once", "often")

    return change


def _looks_more_than_once(candidate: Candidate) -> bool:
    return bool(candidate.config.get("model.mirror", True)) or float(candidate.config.get("model.shift", 0.0)) > 0


def _looking_once(whole: Option, change: Difference, cost: Cost) -> Option:
    """The same members, looking once; the change, measured on the faces here, is not exactly that on others."""
    luck = math.sqrt(2.0) * (change.high - change.low) / 2.0

    def changed(bound: float | None, sign: float) -> float | None:
        if bound is None or whole.estimate is None:
            return None
        return whole.estimate + change.score + sign * math.hypot(bound - whole.estimate, luck)

    return replace(
        whole,
        looks="one",
        valid=whole.valid + change.score,
        estimate=None if whole.estimate is None else whole.estimate + change.score,
        low=changed(whole.low, -1.0),
        high=changed(whole.high, 1.0),
        ms=cost.ms,
        megabytes=cost.megabytes,
        is_chosen=False,
    )


def _with_front(options: Sequence[Option]) -> list[Option]:
    """The options, cheapest first, those marked that no other beats in every respect."""
    ordered = sorted(options, key=lambda option: (option.ms, -option.worth))
    return [replace(option, is_on_front=not any(_beats(other, option) for other in ordered)) for option in ordered]


def _beats(other: Option, option: Option) -> bool:
    theirs, ours = ((-o.worth, o.ms, o.megabytes) for o in (other, option))
    return all(a <= b for a, b in zip(theirs, ours, strict=True)) and theirs != ours

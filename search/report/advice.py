"""What to try next: what the trials say about the space, the time and the faces, each with the command to type."""

import math
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from search.folder import TrialRecord
from search.report.facts import SearchFacts
from search.report.importance import Importance
from search.report.stops import Stop
from search.report.troubles import group_troubles
from search.storage import storage_option
from spaces.domains import Choice, Integer, LogUniform, Uniform

N_BEST = 5
"""Trials that speak for what is good."""
FEWEST_TRIALS = 8
NEAR_EDGE = 0.1
"""Of a range's length."""
LATE = 0.25
"""The last part of the trials: is the best among them, more will be better."""


@dataclass(frozen=True)
class Advice:
    """One thing to try.

    Attributes:
        text: what, and why.
        command: to type; empty where it is no command.
    """

    text: str
    command: str = ""


def advise(facts: SearchFacts, importances: list[Importance], stops: list[Stop]) -> list[Advice]:
    """What to try next, the surest first; never empty."""
    found = [
        *_on_the_state(facts),
        *_on_troubles(facts),
        *_on_no_gain(facts),
        *_on_edges(facts, importances),
        *_on_epochs(facts),
        *_on_more_trials(facts),
        *_on_stops(stops),
        *_on_faces(facts),
        *_on_the_ensemble(facts),
    ]
    return found or [Advice("Nothing stands out: more trials, or other faces, would tell more.", _resume(facts, "+10"))]


def _on_the_state(facts: SearchFacts) -> Iterator[Advice]:
    state = facts.status.state
    if state in ("interrupted", "silent"):
        yield Advice("The search was interrupted; it goes on exactly where it stood.", facts.status.next)
    elif state == "running":
        yield Advice("The search is running: this page shows it as it was when the page was made.", facts.status.next)


def _on_troubles(facts: SearchFacts) -> Iterator[Advice]:
    n_trials = max(len(facts.records), 1)
    for trouble in group_troubles(facts.records):
        if trouble.end == "preempted" or 10 * len(trouble.trials) < n_trials:
            continue
        shared = ", ".join(f"{name} = {value}" for name, value in trouble.shared)
        where = f" All of them have {shared}." if shared else ""
        what = "Lower the upper end of the learning rate." if trouble.end == "diverged" else f"Cause: {trouble.cause}."
        yield Advice(f"{len(trouble.trials)} of {n_trials} trials {trouble.end}.{where} {what}")


def _on_no_gain(facts: SearchFacts) -> Iterator[Advice]:
    """The default is still the best."""
    best = facts.best
    if best is None or best.number != 0 or facts.status.state == "running":
        return
    n_trials, n_parameters = len(facts.records), len(facts.space.parameters)
    yield Advice(
        f"No trial is better than the default yet: {n_trials} are few for {n_parameters} parameters, and proposals "
        "learn from the trials before them. Give the search more time.",
        _resume(facts, f"+{max(10, n_trials)}"),
    )


def _on_edges(facts: SearchFacts, importances: list[Importance]) -> Iterator[Advice]:
    """Parameters whose best values lie at an end of what was allowed."""
    best = facts.scored[:N_BEST]
    if len(facts.scored) < FEWEST_TRIALS:
        return
    matters = {each.name for each in importances if each.stands_out}
    for parameter in facts.space.parameters:
        domain = parameter.domain
        if isinstance(domain, Choice) or parameter.name not in matters:
            continue
        places = [_place(domain, float(r.values[parameter.name])) for r in best if parameter.name in r.values]
        if len(places) < N_BEST - 1:
            continue
        low, high = sum(p < NEAR_EDGE for p in places), sum(p > 1 - NEAR_EDGE for p in places)
        if max(low, high) >= N_BEST - 2:
            end, n = ("lower", low) if low > high else ("upper", high)
            edge = domain.low if low > high else domain.high
            yield Advice(
                f"{n} of the best {len(places)} trials have {parameter.name} near the {end} end of its range "
                f"({edge:g}): widen it there, and go on with the trials that there are.",
                f"affectune resume {_where(facts)} --space NEW.yaml --trials +10",
            )


def _place(domain: Uniform | Integer, value: float) -> float:
    """Where a value lies between the ends of its domain, 0..1."""
    low, high = float(domain.low), float(domain.high)
    if isinstance(domain, LogUniform) or (isinstance(domain, Integer) and domain.log):
        low, high, value = math.log(low), math.log(high), math.log(value)
    return (value - low) / max(high - low, 1e-12)


def _on_epochs(facts: SearchFacts) -> Iterator[Advice]:
    """Trials that were still rising when they ended."""
    best = [record for record in facts.scored if record.end == "completed" and record.epochs >= 3][:N_BEST]
    if len(best) >= 3 and all(_was_rising(record) for record in best):
        yield Advice(
            f"The best {len(best)} completed trials had their best score in their last epoch: they were still rising. "
            "Give them more epochs.",
            f"affectune search SPACE --data {shlex.quote(facts.manifest.data)} --fix train.epochs="
            f"{2 * max(record.epochs for record in best)}",
        )


def _was_rising(record: TrialRecord) -> bool:
    return record.best_epoch >= record.epochs


def _on_more_trials(facts: SearchFacts) -> Iterator[Advice]:
    best, n_trials = facts.best, len(facts.records)
    if best is None or n_trials < FEWEST_TRIALS or facts.status.state == "running":
        return
    if best.number >= (1 - LATE) * n_trials:
        yield Advice(
            f"The best trial, {best.trial_id}, is one of the last of {n_trials}: the search had not come to its end.",
            _resume(facts, f"+{max(10, n_trials // 2)}"),
        )


def _on_stops(stops: list[Stop]) -> Iterator[Advice]:
    risky = [stop for stop in stops if stop.n_enough]
    if risky:
        ids = ", ".join(stop.trial_id for stop in risky[:N_BEST])
        yield Advice(
            f"{len(risky)} of {len(stops)} stopped trials could have become the best, had they risen as one of the "
            f"completed did ({ids}): let more of them finish, with --let-finish."
        )


def _on_faces(facts: SearchFacts) -> Iterator[Advice]:
    """Where the interval is wider than what was gained, more faces would say more than more trials."""
    ensemble = facts.ensemble
    if ensemble is None or facts.best is None or facts.default is None:
        return
    row = ensemble["scores"].get("ensemble", {})
    interval = row.get("estimate_interval")
    gained = (facts.best.best_macro_f1 or 0.0) - (facts.default.best_macro_f1 or 0.0)
    if interval and interval[1] - interval[0] > 2 * max(gained, 0.0):
        yield Advice(
            f"The estimate's interval is {interval[1] - interval[0]:.3f} wide, more than twice what searching gained "
            f"on the valid faces ({gained:+.3f}): more valid faces, of more people, would tell the trials better apart."
        )


def _on_the_ensemble(facts: SearchFacts) -> Iterator[Advice]:
    if facts.status.state == "ended" and facts.scored:
        built = facts.ensemble is not None
        text = "The ensemble is built: export it." if built else "Bags of the best trials, blended, are worth a try."
        yield Advice(text, facts.status.next)


def _resume(facts: SearchFacts, trials: str) -> str:
    return f"affectune resume {_where(facts)} --trials {trials}"


def _where(facts: SearchFacts) -> str:
    return f"{facts.folder.name} {storage_option(facts.folder.path.parent)}"

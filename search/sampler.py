"""StudySampler: proposes configs with Optuna's TPE and learns from how their trials ended. Knows nothing of Ray."""

import math
import sys
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import optuna
from optuna.trial import TrialState

from search.ends import TRIAL_ENDS, TrialEnd
from spaces.config import TrialConfig, Value
from spaces.domains import Choice, Integer, LogUniform, Uniform, label_of
from spaces.errors import ConfigError, SearchError
from spaces.parameters import Parameter
from spaces.space import SearchSpace

MAX_DRAWS = 12
"""How often a config that was proposed before is drawn again, before it is repeated with another seed."""

MOST_SEEN = 300
"""TPE sees up to so many finished trials; beyond, it begins anew with five in six of them, the best and the latest: a
draw takes as long in the ten thousandth trial as in the three hundredth."""
KEPT_BEST = 25
"""TPE takes at most as many for good ones, however many trials there are: they are always among those it sees."""

Event = dict[str, Any]

_SCORED = (TrialState.COMPLETE, TrialState.PRUNED)


@dataclass
class _Proposal:
    """What the sampler knows of one trial."""

    study_trial: optuna.Trial | None
    """Of the study that TPE sees, while it runs."""
    values: dict[str, Value]
    key: frozenset[tuple[str, Value]]
    """All its settings, to know a repeat by."""
    seed_offset: int = 0
    """How many trials before had the same values; it trains with `train.seed` that much higher."""
    reported: dict[int, float] = field(default_factory=dict)
    end: TrialEnd | None = None
    state: TrialState = TrialState.RUNNING
    score: float | None = None
    """Of a COMPLETE one."""

    @property
    def rank(self) -> tuple[bool, int, float]:
        """Best first, as TPE splits trials: by score; then the stopped ones, by how far they came and their last."""
        if self.score is not None:
            return (False, 0, -self.score)
        last = max(self.reported, default=0)
        return (True, -last, -self.reported.get(last, -math.inf))


class StudySampler:
    """An Optuna study in memory, asked for configs and told of every trial's end.

    The first proposals are the space's default and its points; then TPE (Watanabe, arXiv 2304.11127: multivariate,
    with a group of parameters for each set that is active together). Every proposal depends only on the space, the
    seed and the events before it, so that `replay` of the journal goes on as if nothing had happened. In a long search
    TPE sees the best and the latest trials alone: what it would make of older bad ones, it weighs down anyway.

    Args:
        space: what may vary.
        seed: of the proposals.
        n_startup: finished trials before TPE takes over from uniform draws; by the number of parameters if omitted.
        most_seen: finished trials that TPE sees before it begins anew with the best and the latest.
    """

    def __init__(
        self, space: SearchSpace, *, seed: int = 0, n_startup: int | None = None, most_seen: int = MOST_SEEN
    ) -> None:
        self.space = space
        self.seed = seed
        self.n_startup = n_startup if n_startup is not None else min(10, max(4, len(space.parameters)))
        self._most_seen = most_seen
        self._study = new_study()
        self._n_seen = 0
        self._first = space.initial_points()
        self._proposals: dict[str, _Proposal] = {}
        self._running: dict[str, _Proposal] = {}
        self._n_with: Counter[frozenset[tuple[str, Value]]] = Counter()
        self._events: list[Event] = []

    @property
    def events(self) -> Sequence[Event]:
        """The journal, to read: everything asked, reported and told so far, in order; each event is plain JSON."""
        return self._events

    @property
    def study(self) -> optuna.Study:
        """Optuna's record of all trials, made anew for whoever asks."""
        study = new_study()
        for trial_id, proposal in self._proposals.items():
            self._enter(study, trial_id, proposal)
        return study

    @classmethod
    def replay(
        cls,
        space: SearchSpace,
        seed: int,
        events: Iterable[Mapping[str, Any]],
        *,
        n_startup: int | None = None,
        most_seen: int = MOST_SEEN,
    ) -> "StudySampler":
        """The sampler that these events leave behind.

        Raises:
            SearchError: an event is of no known kind, or was made with another space.
        """
        sampler = cls(space, seed=seed, n_startup=n_startup, most_seen=most_seen)
        for event in events:
            sampler._apply(event)
        return sampler

    def __reduce__(self) -> tuple[Any, ...]:
        return _replayed, (self.space, self.seed, self._events, self.n_startup, self._most_seen)

    def ask(self, trial_id: str) -> dict[str, Value]:
        """Values of the space's active parameters for a new trial; the same again for a known one."""
        if trial_id not in self._proposals:
            self._propose(trial_id)
        return dict(self._proposals[trial_id].values)

    def settings(self, trial_id: str) -> dict[str, Value]:
        """Dotted settings of a trial that was asked for; with its own `train.seed` where its values are a repeat.

        Raises:
            SearchError: it was never asked for.
        """
        proposal = self._proposal(trial_id)
        settings = self.space.to_settings(proposal.values)
        if proposal.seed_offset:
            seed = TrialConfig.from_flat(settings).train.seed
            settings["train.seed"] = (seed + proposal.seed_offset) % 2**31
        return settings

    def seed_offset(self, trial_id: str) -> int:
        """How many trials before had the same values: 0 for a fresh config. Raises SearchError."""
        return self._proposal(trial_id).seed_offset

    def running(self) -> list[str]:
        """Trials that were asked for and have not been told of, in order."""
        return list(self._running)

    def report(self, trial_id: str, epoch: int, value: float) -> None:
        """Note a running trial's score after an epoch; a second word on the same epoch and a NaN are left out."""
        proposal = self._proposals.get(trial_id)
        if proposal is None or proposal.end is not None or epoch in proposal.reported or not math.isfinite(value):
            return
        assert proposal.study_trial is not None
        proposal.reported[epoch] = float(value)
        proposal.study_trial.report(float(value), epoch)
        self._events.append({"event": "report", "trial_id": trial_id, "epoch": epoch, "value": float(value)})

    def tell(self, trial_id: str, end: TrialEnd, *, value: float | None = None, epoch: int | None = None) -> None:
        """Note how a trial ended. An unknown trial, a second word on one, and a preemption change nothing.

        Args:
            trial_id: a trial that was asked for.
            end: completed becomes COMPLETE with its best score, stopped PRUNED with the scores of its epochs, diverged
                and failed FAIL; a preempted trial is still running for the study.
            value: its best score if completed, its last one if stopped.
            epoch: of that score; a stopped trial's last epoch counts even if it was not reported before.
        """
        proposal = self._proposals.get(trial_id)
        if proposal is None or proposal.end is not None or end == "preempted":
            return
        score = float(value) if value is not None and math.isfinite(value) else None
        if end == "stopped" and score is not None:
            last = max(proposal.reported, default=0)
            known = last if proposal.reported.get(last) == score else last + 1
            self.report(trial_id, epoch if epoch is not None else known, score)
        if end == "completed" and score is None:
            score = max(proposal.reported.values(), default=None)
        proposal.end, proposal.state = end, _state_of(end, score)
        proposal.score = score if proposal.state == TrialState.COMPLETE else None
        assert proposal.study_trial is not None
        self._study.tell(proposal.study_trial, proposal.score, state=proposal.state)
        proposal.study_trial = None
        del self._running[trial_id]
        self._events.append({"event": "tell", "trial_id": trial_id, "end": end, "value": proposal.score})
        self._n_seen += proposal.state != TrialState.FAIL
        if self._n_seen > self._most_seen:
            self._begin_anew()

    def _propose(self, trial_id: str) -> None:
        n_asked = len(self._proposals)
        self._accept(trial_id, self._first[n_asked] if n_asked < len(self._first) else self._draw_fresh(n_asked))

    def _draw_fresh(self, n_asked: int) -> dict[str, Value]:
        """Values that were not proposed before; where no draw finds any, those that were drawn first."""
        repeats: list[dict[str, Value]] = []
        for draw in range(MAX_DRAWS):
            values = self._draw(n_asked, draw)
            if self._is_usable(values):
                if not self._n_with[self._key(values)]:
                    return values
                repeats.append(values)
        if not repeats:
            raise SearchError(f"a draw must make a config, got none in {MAX_DRAWS}: space {self.space.name}")
        return repeats[0]

    def _draw(self, n_asked: int, draw: int) -> dict[str, Value]:
        """TPE's values; uniform ones in the second half of the draws, where TPE insists on what is known."""
        n_startup = self.n_startup if draw < MAX_DRAWS // 2 else sys.maxsize
        self._study.sampler = _new_tpe([self.seed, n_asked, draw], n_startup=n_startup)
        study_trial = self._study.ask()
        study_trial.set_user_attr("draft", True)
        values = self._suggested(study_trial)
        self._study.tell(study_trial, state=TrialState.FAIL)
        return values

    def _accept(self, trial_id: str, values: Mapping[str, Value]) -> None:
        """Enter a trial with these values into the study."""
        study_trial, exact = self._new_trial(self._study, trial_id, values)
        key = self._key(exact)
        offset = self._n_with[key]
        self._n_with[key] += 1
        self._proposals[trial_id] = self._running[trial_id] = _Proposal(study_trial, exact, key, seed_offset=offset)
        told = {name: list(value) if isinstance(value, tuple) else value for name, value in exact.items()}
        self._events.append({"event": "ask", "trial_id": trial_id, "values": told, "seed_offset": offset})

    def _new_trial(
        self, study: optuna.Study, trial_id: str, values: Mapping[str, Value]
    ) -> tuple[optuna.Trial, dict[str, Value]]:
        """A running trial of a study, and its values as the study has them."""
        # Not TPE: what it would have drawn here, it would later take for the values of this trial.
        study.sampler = optuna.samplers.RandomSampler(seed=self.seed)
        study.enqueue_trial(_study_params(self.space, values))
        study_trial = study.ask()
        study_trial.set_user_attr("trial_id", trial_id)
        return study_trial, self._suggested(study_trial)

    def _enter(self, study: optuna.Study, trial_id: str, proposal: _Proposal) -> optuna.Trial:
        """A trial as it stands, entered into another study."""
        study_trial, _ = self._new_trial(study, trial_id, proposal.values)
        for epoch, value in proposal.reported.items():
            study_trial.report(value, epoch)
        if proposal.end is not None:
            study.tell(study_trial, proposal.score, state=proposal.state)
        return study_trial

    def _begin_anew(self) -> None:
        """A study of the best and the latest trials, in their order, and those that run."""
        scored = [(trial_id, p) for trial_id, p in self._proposals.items() if p.state in _SCORED]
        best = sorted(scored, key=lambda one: one[1].rank)[:KEPT_BEST]
        kept = {trial_id for trial_id, _ in best} | set(self._running)
        latest = [trial_id for trial_id, _ in reversed(scored) if trial_id not in kept]
        kept |= set(latest[: max(0, 5 * self._most_seen // 6 - len(best))])
        before, self._study = self._study.get_trials(deepcopy=False, states=_SCORED), new_study()
        self._study.add_trials(trial for trial in before if trial.user_attrs.get("trial_id") in kept)
        for trial_id, proposal in self._running.items():
            proposal.study_trial = self._enter(self._study, trial_id, proposal)
        self._n_seen = len(kept) - len(self._running)

    def _suggested(self, study_trial: optuna.Trial) -> dict[str, Value]:
        values: dict[str, Value] = {}
        for parameter in self.space.parameters:
            if all(condition.holds(values) for condition in parameter.when):
                values[parameter.name] = _suggest(study_trial, parameter)
        return values

    def _key(self, values: Mapping[str, Value]) -> frozenset[tuple[str, Value]]:
        return frozenset(self.space.to_settings(values).items())

    def _is_usable(self, values: Mapping[str, Value]) -> bool:
        try:
            self.space.to_config(values)
        except ConfigError:
            return False
        return True

    def _proposal(self, trial_id: str) -> _Proposal:
        if trial_id not in self._proposals:
            raise SearchError(f"trial must have been asked for, got {trial_id!r}")
        return self._proposals[trial_id]

    def _apply(self, event: Mapping[str, Any]) -> None:
        match event:
            case {"event": "ask", "trial_id": str(trial_id), "values": dict(values)}:
                self._accept(trial_id, self.space.complete(values))
            case {"event": "report", "trial_id": str(trial_id), "epoch": int(epoch), "value": float(value)}:
                self.report(trial_id, epoch, value)
            case {"event": "tell", "trial_id": str(trial_id), "end": end} if end in TRIAL_ENDS:
                self.tell(trial_id, end, value=event.get("value"))
            case _:
                raise SearchError(f"event of a search's journal must be ask, report or tell, got {dict(event)!r}")


def _replayed(space: SearchSpace, seed: int, events: Sequence[Event], n_startup: int, most_seen: int) -> StudySampler:
    return StudySampler.replay(space, seed, events, n_startup=n_startup, most_seen=most_seen)


def new_study(**where: Any) -> optuna.Study:
    """A study without Optuna's line about it, in memory unless Optuna's words for storage and name say where."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        return optuna.create_study(direction="maximize", **where)
    finally:
        optuna.logging.set_verbosity(verbosity)


def _new_tpe(entropy: Sequence[int], *, n_startup: int) -> optuna.samplers.TPESampler:
    """A sampler whose randomness is these numbers; running trials count as bad ones (Optuna's constant liar)."""
    seed = int(np.random.SeedSequence(entropy).generate_state(1)[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.TPESampler(
            multivariate=True, group=True, constant_liar=True, n_startup_trials=n_startup, seed=seed
        )


def _state_of(end: TrialEnd, score: float | None) -> TrialState:
    match end:
        case "completed":
            return TrialState.COMPLETE if score is not None else TrialState.FAIL
        case "stopped":
            return TrialState.PRUNED
        case _:
            return TrialState.FAIL


def _suggest(study_trial: optuna.Trial, parameter: Parameter) -> Value:
    match parameter.domain:
        case Choice(labels=labels, values=values):
            return values[labels.index(study_trial.suggest_categorical(parameter.name, labels))]
        case Integer(low=low, high=high, log=log):
            return study_trial.suggest_int(parameter.name, low, high, log=log)
        case Uniform(low=low, high=high) as domain:
            return study_trial.suggest_float(parameter.name, low, high, log=isinstance(domain, LogUniform))


def _study_params(space: SearchSpace, values: Mapping[str, Value]) -> dict[str, Any]:
    """Values as Optuna holds them: an option by its label."""
    return {
        name: label_of(value) if isinstance(space.parameter(name).domain, Choice) else value
        for name, value in values.items()
    }

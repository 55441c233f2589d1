"""What a table's rows answer: the trials as they are, and the rows that are computed from stored answers.

Whatever is chosen is chosen on the valid faces, and used as it is on the other set.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from search.ensemble.blending import best_blend_weight, soft_vote
from search.ensemble.estimate import Selector, honest_estimate
from search.ensemble.macro_f1 import FloatArray, IntArray, Scores, macro_f1_of_probs
from search.reproduce.measures import Answer, Expected, Faces, expected_of_units, threshold_units
from search.reproduce.tables import Blend, Hand, Mean, NotRun, Partner, Row, Table, Train, Units
from spaces.errors import AffectuneError, EnsembleError, near_miss
from trainables.data.classes import usual_word
from trainables.hand_tuning import HandRule, best_hand_rule, cross_fitted_hand_rule
from trainables.scores import softmax

GRID = np.linspace(0.0, 1.0, 11)
"""Blending weights that Savchenko, CVPR-W 2022, tries."""


@dataclass(frozen=True)
class Answers:
    """What one row says.

    Attributes:
        valid: of the valid faces.
        also: of the other set, where there is one.
        notes: what to know of them.
        chosen: what was chosen on the valid faces, in words; empty for nothing.
        expected: the score to expect where something was chosen.
    """

    valid: Answer
    also: Answer | None = None
    notes: tuple[str, ...] = ()
    chosen: str = ""
    expected: Expected | None = None


Told = Answers | str
"""What a row says, or why it says nothing."""


def answer_rows(table: Table, known: Mapping[str, Told], faces: Faces) -> dict[str, Told]:
    """Answers of all rows, in their order.

    Args:
        table: of a paper.
        known: of the trained rows and of those that are the model of --partner, where there is one.
        faces: the valid ones.
    """
    told: dict[str, Told] = {}
    for row in table.rows:
        try:
            told[row.key] = _answer(row, table, {**known, **told}, faces)
        except AffectuneError as error:
            told[row.key] = f"not run: {error}"
    return told


def _answer(row: Row, table: Table, known: Mapping[str, Told], faces: Faces) -> Told:
    match row.source:
        case Train():
            return known[row.key]
        case Partner():
            return known.get(row.key, "not run: needs a pre-trained model, --partner FILE")
        case NotRun(reason=reason):
            return f"not run: {reason}"
        case Mean(of=keys):
            return _mean(_parts(keys, table), known)
        case Blend() as blend:
            return _blend(blend, table, known, faces)
        case Hand() as hand:
            return _hand(hand, table, known, faces)
        case Units(of=key):
            return _units(known[key], faces)


def _parts(keys: Sequence[str], table: Table) -> list[str]:
    """The rows of which a mean is made, means taken apart."""
    parts: list[str] = []
    for key in keys:
        mean = table.row(key).mean
        parts += _parts(mean.of, table) if mean else [key]
    return parts


def _mean(keys: Sequence[str], known: Mapping[str, Told]) -> Told:
    there = {key: told for key in keys if isinstance(told := known[key], Answers)}
    missing = [key for key in keys if key not in there]
    if len(there) < 2:
        reasons = {str(known[key]).removeprefix("not run: ") for key in missing}
        return f"not run: needs two of its {len(keys)} members, got {len(there)}: {'; '.join(sorted(reasons))}"
    members = list(there.values())
    others = [member.also for member in members if member.also is not None]
    return Answers(
        valid=_vote([member.valid for member in members]),
        also=_vote(others) if len(others) == len(members) else None,
        notes=(f"without {', '.join(missing)}",) if missing else (),
    )


def _vote(answers: Sequence[Answer]) -> Answer:
    return Answer(_log(soft_vote(np.stack([softmax(answer.logits) for answer in answers]))))


def _first(keys: Sequence[str], known: Mapping[str, Told]) -> tuple[str, Told]:
    """The first of some rows that has answers; else the first, with its reason."""
    there = (key for key in keys if isinstance(known.get(key), Answers))
    key = next(there, keys[0])
    return key, known[key]


def _instead(key: str, keys: Sequence[str], table: Table, *, what: str) -> tuple[str, ...]:
    """A note where it is not the first of some rows that was taken."""
    if key == keys[0]:
        return ()
    return (f"{what}: {table.row(key).title!r} for want of {table.row(keys[0]).title!r}",)


def _blend(blend: Blend, table: Table, known: Mapping[str, Told], faces: Faces) -> Told:
    key, partner = _first(blend.partner, known)
    fine_tuned = known[blend.fine_tuned]
    for told in (partner, fine_tuned):
        if isinstance(told, str):
            return told
    assert isinstance(partner, Answers) and isinstance(fine_tuned, Answers)
    pair = np.stack([_mixable(partner.valid, blend), _mixable(fine_tuned.valid, blend)])
    notes = _instead(key, blend.partner, table, what="partner")
    chosen, expected, weight = "", None, blend.weight
    if isinstance(weight, str):
        select = SELECTORS[weight]
        labelled = faces.labels >= 0
        truth = faces.labels[labelled]
        weight = float(select(pair[:, labelled], truth, np.ones(len(truth), dtype=np.int64))[0])
        chosen = f"w = {weight:.2f}"
        found = honest_estimate(pair, faces.labels, faces.subjects, select=select)
        expected = Expected(found.score, found.interval.low, found.interval.high)
    also = None
    if partner.also is not None and fine_tuned.also is not None:
        also = _mixed(np.stack([_mixable(partner.also, blend), _mixable(fine_tuned.also, blend)]), weight, blend)
    return Answers(_mixed(pair, weight, blend), also, notes=notes, chosen=chosen, expected=expected)


def _mixable(answer: Answer, blend: Blend) -> FloatArray:
    return np.asarray(answer.logits if blend.space == "logits" else softmax(answer.logits), dtype=np.float64)


def _mixed(pair: FloatArray, weight: float, blend: Blend) -> Answer:
    mixed = soft_vote(pair, [weight, 1.0 - weight])
    return Answer(mixed if blend.space == "logits" else _log(mixed))


def _on_grid(pair: Scores, labels: IntArray, counts: IntArray) -> FloatArray:
    """The best of eleven weights; the lowest of equally good ones."""
    mixed = np.stack([soft_vote(pair, [w, 1.0 - w]) for w in GRID])
    weight = GRID[macro_f1_of_probs(mixed, labels, counts=counts).argmax()]
    return np.array([weight, 1.0 - weight])


def _exactly(pair: Scores, labels: IntArray, counts: IntArray) -> FloatArray:
    """The middle of the best plateau of the smoothed curve."""
    weight = best_blend_weight(pair[0], pair[1], labels, counts=counts)
    return np.array([weight, 1.0 - weight])


SELECTORS: dict[str, Selector] = {"grid": _on_grid, "exact": _exactly}
"""Word in a table to how the weights of partner and fine-tuned are chosen."""


def _hand(hand: Hand, table: Table, known: Mapping[str, Told], faces: Faces) -> Told:
    key, told = _first(hand.of, known)
    if isinstance(told, str):
        return told
    if "hand" not in told.valid.extras:
        return "not run: needs the label hand, which the face table does not have"
    target = _class(hand.target, faces.classes)
    notes = _instead(key, hand.of, table, what="network")
    if hand.threshold == "tuned":
        return replace(_tuned_hand(told, faces, target=target), notes=notes)
    exceptions = tuple(_class(name, faces.classes) for name in hand.exceptions)
    return replace(_ruled(told, HandRule(target, hand.threshold, exceptions)), notes=notes)


def _tuned_hand(told: Answers, faces: Faces, *, target: int) -> Answers:
    preds, hands = _plain(told.valid).argmax(axis=1), told.valid.extras["hand"]
    n_classes = len(faces.classes)
    rule, _ = best_hand_rule(faces.labels, preds, hands, n_classes=n_classes, target=target)
    score = cross_fitted_hand_rule(
        faces.labels, preds, hands, faces.subjects, n_classes=n_classes, target=target, exceptions=None
    )
    left = ", ".join(faces.classes[index] for index in rule.exceptions) or "none"
    words = "never" if rule.threshold > 1 else f"from {rule.threshold:.2f} on, exceptions: {left}"
    return replace(_ruled(told, rule), chosen=f"hand {words}", expected=Expected(score))


def _ruled(told: Answers, rule: HandRule) -> Answers:
    return Answers(_apply(told.valid, rule), _apply(told.also, rule) if told.also is not None else None)


def _apply(answer: Answer, rule: HandRule) -> Answer:
    """Leading class and target exchange their logits where the rule calls a face the target."""
    logits = _plain(answer)
    rows, leading = np.arange(len(logits)), logits.argmax(axis=1)
    called = rule.preds(leading, answer.extras["hand"])
    changed = logits.copy()
    changed[rows, leading], changed[rows, called] = logits[rows, called], logits[rows, leading]
    return replace(answer, logits=changed)


def _plain(answer: Answer) -> npt.NDArray[np.floating]:
    return answer.extras.get("plain_logits", answer.logits)


def _class(name: str, classes: Sequence[str]) -> int:
    words = [usual_word(each) for each in classes]
    if name not in words:
        raise EnsembleError(f"hand rule needs class {name!r}, got none{near_miss(name, classes)}")
    return words.index(name)


def _units(told: Told, faces: Faces) -> Told:
    if isinstance(told, str):
        return told
    if "action_units" not in told.valid.extras or faces.action_units is None:
        return "not run: needs action units, which the face table or the network does not have"
    thresholds = threshold_units(told.valid, faces)
    words = " ".join(f"{value:.1f}" for value in thresholds)
    return replace(
        told,
        valid=replace(told.valid, thresholds=thresholds),
        also=None if told.also is None else replace(told.also, thresholds=thresholds),
        chosen=f"thresholds {words}",
        expected=expected_of_units(told.valid, faces),
    )


def _log(probs: FloatArray) -> FloatArray:
    return np.log(np.maximum(probs, 1e-12))

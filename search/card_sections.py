"""The sections of a model card that tell of an ensemble's making and its scores, as Markdown."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from search.comparison import ROWS
from search.ensemble.selection import METHODS
from search.options import Option

HOW_ESTIMATED = (
    "The scores on the faces it was chosen by are too good to be expected elsewhere. The estimate repeats the whole "
    "choice (epochs, configs, members, weights) without some of the people (or faces, where people are not known) and "
    "scores it on those; the interval is where the score on as many other people of the same kind should lie."
)


def choice_section(*, search: str, ends: Mapping[str, int], scores: Mapping[str, Mapping[str, Any]]) -> str:
    """Markdown about the search behind an ensemble and the scores, the honest one first among them.

    Args:
        search: name.
        ends: trials per end, such as `completed` and `stopped`.
        scores: for `default`, `best_trial`, `uniform` and `ensemble`, where known: `estimate` with `estimate_interval`
            (low, high), `test` (sealed), `valid` (chosen by) and `optimism`.
    """
    n_trials = sum(ends.values())
    ended = ", ".join(f"{count} {end}" for end, count in ends.items() if count)
    lines = [
        f"Chosen from the {n_trials} trials of the search `{search}` ({ended}).",
        "",
        "| macro-F1 | estimate (90 % interval) | sealed test | on the faces it was chosen by | too good by |",
        "|---|---|---|---|---|",
    ]
    for key, name in ROWS.items():
        if key in scores:
            row = scores[key]
            interval = row.get("estimate_interval")
            estimate = _f(row.get("estimate")) + (f" ({_f(interval[0])} to {_f(interval[1])})" if interval else "")
            lines.append(
                f"| {name} | {estimate} | {_f(row.get('test'))} | {_f(row.get('valid'))} | {_f(row.get('optimism'))} |"
            )
    return "\n".join([*lines, "", HOW_ESTIMATED])


def search_card(
    search: str,
    ensemble: Mapping[str, Any],
    option: Option,
    *,
    ends: Mapping[str, int],
    data: Mapping[str, str],
) -> str:
    """The part of a card about an ensemble's making and its scores, as Markdown.

    Args:
        search: name.
        ensemble: the content of ensemble.json.
        option: which of its options the artifact is.
        ends: trials per end.
        data: what to say of the face table, word to text.
    """
    parts = [choice_section(search=search, ends=ends, scores=ensemble["scores"])]
    if not option.is_chosen:
        parts.append(_option_section(option))
    parts += [_gains(ensemble), _members(ensemble, option), _ways(ensemble), _classes(ensemble), _people(ensemble)]
    parts += [_calibrated(ensemble), _others(ensemble), _data(data), _notes(ensemble)]
    return "\n\n".join(part for part in parts if part)


def _option_section(option: Option) -> str:
    looks = "all looks at each face" if option.looks == "all" else "one look at each face"
    estimate = f"{_f(option.estimate)} ({_f(option.low)} to {_f(option.high)})" if option.estimate is not None else "-"
    return (
        f"**This artifact is a smaller one** of {len(option.members)} members and {looks}: estimate {estimate}, "
        f"{option.ms:.2f} ms an image where it was measured, {option.megabytes:.1f} MB. The sealed test and the "
        "sections below speak of the ensemble that was chosen, of which this is an economy."
    )


def _gains(ensemble: Mapping[str, Any]) -> str:
    lines = [
        f"- {found['difference']:+.3f} ({found['low']:+.3f} to {found['high']:+.3f}) against the {ROWS[row]}"
        for row, found in ensemble["differences"].items()
    ]
    if not lines:
        return ""
    return "\n".join(["What the ensemble gains on faces left out of choosing, on the same people:", "", *lines])


def _members(ensemble: Mapping[str, Any], option: Option) -> str:
    rows = [f"| {key} | {weight:.3f} |" for key, weight in sorted(option.members.items(), key=lambda item: -item[1])]
    unseen = ensemble.get("out_of_bag")
    words = f"By {METHODS[ensemble['method']].words}."
    if unseen:
        words += f" Bags (b...) have macro-F1 {_f(unseen['macro_f1'])} on {unseen['n']:,} training faces out of bag."
    return "\n".join([f"## Members\n\n{words}\n", "| member | weight |", "|---|---|", *rows])


def _ways(ensemble: Mapping[str, Any]) -> str:
    """What each way to choose would have given."""
    rows = [
        f"| {METHODS[way['method']].words}{' (taken)' if way['chosen'] else ''} | {_f(way['estimate'])} "
        f"({_f(way['estimate_interval'][0])} to {_f(way['estimate_interval'][1])}) | {_f(way['valid'])} |"
        for way in ensemble["methods"]
    ]
    if not rows:
        return ""
    head = [
        "## Ways to choose",
        "",
        "Simplest first; the first within one standard error of the best was taken.",
        "",
    ]
    return "\n".join([*head, "| way | estimate (90 % interval) | on the faces it chose by |", "|---|---|---|", *rows])


def _classes(ensemble: Mapping[str, Any]) -> str:
    """F1 of each class on faces left out, from the cross-fitted confusion."""
    if ensemble["confusion"] is None:
        return ""
    confusion = np.array(ensemble["confusion"])
    hits, n_true, n_pred = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    rows = [
        f"| {name} | {_f(2 * hits[i] / max(n_true[i] + n_pred[i], 1e-12))} | {_f(hits[i] / max(n_pred[i], 1e-12))} "
        f"| {_f(hits[i] / max(n_true[i], 1e-12))} | {n_true[i]:.0f} |"
        for i, name in enumerate(ensemble["classes"])
    ]
    head = ["## By class", "", "On valid faces that were left out of choosing.", ""]
    table = ["| class | F1 | precision | recall | faces |", "|---|---|---|---|---|", *rows]
    return "\n".join([*head, *table, "", "![confusion](pictures/confusion.png)"])


def _people(ensemble: Mapping[str, Any]) -> str:
    people = ensemble.get("people")
    if not people:
        return ""
    text = (
        f"## By person\n\nAccuracy over {people['n']} people with {people['fewest_faces']} valid faces or more, "
        f"left out of choosing: {_f(people['low'])} for the worst tenth, {_f(people['median'])} for the median person, "
        f"{_f(people['high'])} for the best tenth."
    )
    rows = [f"| {name} | {n:,} | {_f(score)} |" for name, (n, score) in people["groups"].items()]
    return "\n".join([text, "", "| group | faces | macro-F1 |", "|---|---|---|", *rows]) if rows else text


def _calibrated(ensemble: Mapping[str, Any]) -> str:
    calibration = ensemble["calibration"]
    if calibration is None:
        return ""
    before, after = calibration["error"]
    did = (
        f"The mixture's logarithms are divided by {calibration['temperature']:.3f}, which lowered the log-loss on "
        f"people left out from {calibration['log_loss'][0]:.3f} to {calibration['log_loss'][1]:.3f}"
        if calibration["temperature"] != 1.0
        else "No temperature lowered the log-loss on people left out, so none is applied"
    )
    return (
        f"## Calibration\n\n{did}. Expected calibration error {before:.3f} before, {after:.3f} as shipped.\n\n"
        "![calibration](pictures/calibration.png)"
    )


def _others(ensemble: Mapping[str, Any]) -> str:
    others = ensemble["others"]
    if not others:
        return ""
    rows = [
        f"| {ROWS[row]} | {_f(found['score'])} ({_f(found['interval'][0])} to {_f(found['interval'][1])}) |"
        for row, found in others["scores"].items()
    ]
    part = "had a part in choosing, and are cross-fitted" if others["is_joined"] else "had no part in choosing"
    head = f"## Faces of another kind\n\n{others['n']:,} faces of `{others['faces']}`. They {part}.\n"
    gains = [
        f"- {found['difference']:+.3f} ({found['low']:+.3f} to {found['high']:+.3f}) against the {ROWS[row]}"
        for row, found in others["differences"].items()
    ]
    return "\n".join([head, "| | macro-F1 (90 % interval) |", "|---|---|", *rows, "", *gains])


def _data(data: Mapping[str, str]) -> str:
    return "\n".join(["## Where it comes from", "", *(f"- {word}: {text}" for word, text in data.items())])


def _notes(ensemble: Mapping[str, Any]) -> str:
    notes = [f"- {note}" for note in ensemble["notes"]]
    return "\n".join(["## To know", "", *notes]) if notes else ""


def _f(value: Any) -> str:
    return "-" if value is None else f"{value:.3f}"

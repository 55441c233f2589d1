"""How a search stands and which of its trials are the best, as Markdown: what MLflow's page of a launch says."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from search.folder import TrialRecord
from search.ranking import count_ends, usable
from search.settings_text import shorten_settings

NOTE_TAG = "mlflow.note.content"
"""What MLflow's pages show as a run's description."""

N_LEADERS = 10

State = Literal["running", "ended", "interrupted"]


def describe_search(
    records: Sequence[TrialRecord],
    *,
    state: State,
    n_trials: int | None,
    default: Mapping[str, Any],
    link: Callable[[str], str] = lambda _: "",
    ensemble: str = "",
) -> str:
    """State, trials by end, the best and what it gained; what to expect of the ensemble; and the ten best trials.

    Args:
        records: of all trials so far.
        state: of the search.
        n_trials: asked for; None where time alone bounds it.
        default: the space's default config, flat.
        link: from a trial's id to its page; empty where it has none.
        ensemble: what to expect of it, where there is one.
    """
    summary = _summary(records, state=state, n_trials=n_trials)
    leaders = _leaderboard(records, default=default, link=link)
    return "\n\n".join(part for part in (summary, ensemble, leaders) if part)


def _summary(records: Sequence[TrialRecord], *, state: State, n_trials: int | None) -> str:
    """How a search stands and what searching gained, as Markdown."""
    of = "" if n_trials is None else f" of {n_trials}"
    n_open = sum(record.end is None for record in records)
    counts = {end: n for end, n in count_ends([r for r in records if r.end is not None]).items() if n}
    ends = ", ".join(f"{n} {end}" for end, n in counts.items()) or "none ended yet"
    text = f"**{state}**: {len(records) - n_open}{of} trials ({ends})" + (f", {n_open} in training" if n_open else "")
    best = usable(records)[:1]
    if not best or best[0].best_macro_f1 is None:
        return f"{text}."
    text += f". Best macro-F1 on the valid faces: **{best[0].best_macro_f1:.4f}** ({best[0].trial_id})"
    default = next((r.best_macro_f1 for r in records if r.number == 0 and r.best_macro_f1 is not None), None)
    if best[0].number == 0:
        text += ", which is the default"
    elif default is not None:
        text += f", {against_default(best[0].best_macro_f1, default)}"
    return f"{text}. It is the best of many on the faces it was chosen by: less is to be expected elsewhere."


def against_default(score: float, default: float) -> str:
    """What a macro-F1 gained over the default's, in words."""
    return f"{score - default:+.4f} against the default ({default:.4f})"


def _leaderboard(records: Sequence[TrialRecord], *, default: Mapping[str, Any], link: Callable[[str], str]) -> str:
    """The best trials as a Markdown table."""
    rows = [
        f"| {_linked(record.trial_id, link)} | {record.best_macro_f1:.4f} | {record.end or 'in training'} | "
        f"{record.epochs} | {shorten_settings(record.config, default).replace('|', '/') or 'the default'} |"
        for record in usable(records)[:N_LEADERS]
    ]
    if not rows:
        return "No trial was scored yet."
    head = ["| trial | macro-F1 | end | epochs | differs from the default in |", "|---|---|---|---|---|"]
    return "\n".join([*head, *rows])


def _linked(trial_id: str, link: Callable[[str], str]) -> str:
    page = link(trial_id)
    return f"[{trial_id}]({page})" if page else trial_id

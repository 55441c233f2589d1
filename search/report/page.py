"""The report as one HTML file that needs no network: what the sections say, and the template that holds them."""

import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from search.comparison import ROWS
from search.console import clock_text
from search.ends import END_MEANINGS
from search.ensemble.selection import METHODS
from search.folder import TrialRecord
from search.report.advice import advise
from search.report.canvas import ROLES, Drawing
from search.report.facts import SearchFacts, backbone_of
from search.report.figures import draw_figures
from search.report.importance import measure_importance
from search.report.parameter_charts import backbone_colours
from search.report.speed import Timed
from search.report.stops import Stop, measure_stops
from search.report.troubles import group_troubles, time_by_end
from search.settings_text import shorten_settings, value_text
from search.stopping import in_words, measure_stopping
from spaces.parameters import Parameter

TEMPLATE, STYLE, SCRIPT = "page.html", "page.css", "page.js"
N_LEADERS = 10
N_STOPS = 30

Row = dict[str, Any]


def render_report(facts: SearchFacts, *, timed: Sequence[Timed] = (), now: datetime.datetime | None = None) -> str:
    """The page.

    Args:
        facts: of the search.
        timed: trials whose milliseconds an image are known.
        now: when the page is made.

    Returns:
        HTML; everything it needs is in it.
    """
    importances = measure_importance(facts.space, facts.scored)
    stops = measure_stops(facts.records)
    here = Path(__file__).parent
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(here),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(TEMPLATE).render(
        style=(here / STYLE).read_text(encoding="utf-8"),
        script=(here / SCRIPT).read_text(encoding="utf-8"),
        search=facts.folder.name,
        made=(now or datetime.datetime.now()).strftime("%Y-%m-%d %H:%M"),
        headline=_headline(facts),
        told=_told(facts),
        parameters=[_parameter_row(facts, parameter) for parameter in facts.space.parameters],
        fixed=[(name, value_text(value)) for name, value in sorted(facts.space.fixed.items())],
        leaders=[_trial_row(facts, record) for record in [*facts.scored, *facts.unscored]],
        n_leaders=N_LEADERS,
        scores=_score_rows(facts),
        ensemble=facts.ensemble,
        choice=METHODS[facts.ensemble["method"]].words if facts.ensemble else "",
        notes=list(facts.ensemble["notes"]) if facts.ensemble else [],
        stops=[_stop_row(stop) for stop in sorted(stops, key=_by_risk)[:N_STOPS]],
        stopping=_stopping_text(facts, stops),
        times=[_time_row(facts, time) for time in time_by_end(facts.records)],
        troubles=group_troubles(facts.records),
        meanings=END_MEANINGS,
        advice=advise(facts, importances, stops),
        figures={
            section: [_figure(drawing) for drawing in drawings]
            for section, drawings in draw_figures(facts, importances=importances, timed=timed).items()
        },
        colours=[(name, ROLES[colour]) for name, colour in backbone_colours(facts).items()],
        clock=clock_text,
    )


def _figure(drawing: Drawing) -> Row:
    return {
        "name": drawing.name,
        "title": drawing.title,
        "says": drawing.says,
        "width": drawing.width_px,
        "svg": drawing.to_svg(),
    }


def _headline(facts: SearchFacts) -> list[str]:
    """What came out, in sentences; the honest number first where there is one."""
    found = []
    row = facts.ensemble["scores"].get("ensemble", {}) if facts.ensemble else {}
    if row.get("estimate") is not None:
        low, high = row["estimate_interval"]
        test = f"; it has {row['test']:.4f} on the sealed test" if row.get("test") is not None else ""
        found.append(f"Expect a macro-F1 of {row['estimate']:.3f} ({low:.3f} to {high:.3f}) of the ensemble{test}.")
    best, default = facts.best, facts.default
    if best is None:
        return [*found, "No trial was scored yet."]
    gained = ""
    if default is not None and default is not best:
        gained = f", {(best.best_macro_f1 or 0.0) - (default.best_macro_f1 or 0.0):+.4f} against the default"
    found.append(
        f"The best of {len(facts.records)} trials, {best.trial_id}, has {best.best_macro_f1:.4f} on the valid faces"
        f"{gained}: the best of many on the faces it was chosen by, so less is to be expected elsewhere."
    )
    return found


def _told(facts: SearchFacts) -> list[tuple[str, str]]:
    """What was asked, as words and their values."""
    manifest, status = facts.manifest, facts.status
    ends = ", ".join(f"{n} {end}" for end, n in status.ends.items()) or "none yet"
    asked = "as time allowed" if manifest.n_trials is None else f"of {manifest.n_trials}"
    parts = [
        ("state", status.state),
        ("trials", f"{sum(status.ends.values())} {asked}: {ends}"),
        ("time", clock_text(facts.folder.spent_s()) + _of_budget(manifest.time_budget_s)),
        ("faces", f"{manifest.data} (content {manifest.content_hash})"),
        ("classes", ", ".join(manifest.classes)),
        ("space", f"{facts.space.name}: {facts.space.description}".rstrip(": ")),
        ("a trial takes", _resources(facts)),
        ("seed", str(manifest.seed)),
        ("kept in", status.folder),
        ("MLflow", status.tracking_uri),
        ("next", status.next),
    ]
    if facts.heads:
        parts.insert(2, ("before it", f"{len(facts.heads)} heads on frozen backbones ({facts.folder.heads.name})"))
    return [(label, text) for label, text in parts if text]


def _of_budget(budget_s: float | None) -> str:
    return "" if budget_s is None else f" of {clock_text(budget_s)}"


def _resources(facts: SearchFacts) -> str:
    if facts.cpus is None:
        return ""
    return f"{facts.cpus:g} CPU" + (f", {facts.gpus:g} GPU" if facts.gpus else "")


def _parameter_row(facts: SearchFacts, parameter: Parameter) -> Row:
    best = facts.best.values if facts.best else {}
    return {
        "name": parameter.name,
        "domain": parameter.domain.describe(),
        "when": " and ".join(condition.describe() for condition in parameter.when),
        "default": value_text(parameter.default),
        "best": value_text(best[parameter.name]) if parameter.name in best else "",
    }


def _trial_row(facts: SearchFacts, record: TrialRecord) -> Row:
    score, default = record.best_macro_f1, facts.default
    gain = None if score is None or default is None else score - (default.best_macro_f1 or 0.0)
    return {
        "id": record.trial_id,
        "score": "" if score is None else f"{score:.4f}",
        "gain": "" if gain is None else f"{gain:+.4f}",
        "end": record.end or "running",
        "epochs": f"{record.best_epoch} of {record.epochs}" if record.epochs else "",
        "best_epoch": record.best_epoch,
        "seconds": round(record.wall_s, 1),
        "backbone": backbone_of(record),
        "settings": shorten_settings(record.config, facts.default_config) or "the default",
    }


def _score_rows(facts: SearchFacts) -> list[Row]:
    """Default, best trial, plain average, ensemble: to expect, sealed, chosen by."""
    if facts.ensemble is None:
        return []
    scores: Mapping[str, Mapping[str, Any]] = facts.ensemble["scores"]
    rows = []
    for key, name in ROWS.items():
        if key not in scores:
            continue
        row = scores[key]
        interval = row.get("estimate_interval")
        gained = facts.ensemble["differences"].get(key)
        rows.append(
            {
                "name": name,
                "estimate": _number(row.get("estimate")),
                "interval": f"{interval[0]:.3f} to {interval[1]:.3f}" if interval else "",
                "test": _number(row.get("test")),
                "valid": _number(row.get("valid")),
                "optimism": "" if row.get("optimism") is None else f"{row['optimism']:+.4f}",
                "gained": ""
                if gained is None
                else f"{gained['difference']:+.4f} ({gained['low']:+.3f} to {gained['high']:+.3f})",
            }
        )
    return rows


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _by_risk(stop: Stop) -> tuple[float, float]:
    """Those that came nearest to being the best go first."""
    share = stop.n_enough / len(stop.gains) if stop.gains else 0.0
    return -share, stop.needed - (stop.median_gain or 0.0)


def _stop_row(stop: Stop) -> Row:
    gains = stop.gains
    spread = f"{gains[0]:+.3f} to {gains[-1]:+.3f}" if gains else ""
    return {
        "id": stop.trial_id,
        "epochs": f"{stop.epochs} of {stop.n_epochs}",
        "score": f"{stop.score:.4f}",
        "saved_s": round(stop.saved_s, 1),
        "needed": f"{stop.needed:+.4f}",
        "gains": spread + ("" if stop.of_its_kind or not gains else " (of all kinds)"),
        "enough": f"{stop.n_enough} of {len(gains)}" if gains else "not known",
    }


def _stopping_text(facts: SearchFacts, stops: Sequence[Stop]) -> list[str]:
    if not stops:
        return []
    saved_s = sum(stop.saved_s for stop in stops)
    risky = sum(stop.n_enough > 0 for stop in stops) or "None"
    gpu = f", {saved_s / 3600 * facts.gpus:.2f} GPU-hours" if facts.gpus else ""
    said = in_words(measure_stopping(facts.records, facts.manifest.plan), facts.manifest.plan)
    texts = [
        f"{len(stops)} trials were stopped early, which saved about {clock_text(saved_s)} of trials{gpu}.",
        f"{risky} of them lacked no more for the best score than completed trials gained from there on.",
    ]
    return [*texts, f"{said[0].upper()}{said[1:]}."] if said else texts


def _time_row(facts: SearchFacts, time: Any) -> Row:
    return {
        "end": time.end,
        "n_trials": time.n_trials,
        "time": clock_text(time.seconds),
        "gpu_hours": "" if facts.gpus is None else f"{time.seconds / 3600 * facts.gpus:.3f}",
        "cpu_hours": "" if facts.cpus is None else f"{time.seconds / 3600 * facts.cpus:.3f}",
    }

"""All figures of a report, by the section that they stand in."""

from collections.abc import Sequence

from search.report.canvas import Drawing
from search.report.charts import draw_course, draw_hours, draw_learning_curves, draw_pareto
from search.report.ensemble_part import draw_ensemble
from search.report.facts import SearchFacts, backbone_of
from search.report.importance import Importance, measure_importance
from search.report.parameter_charts import draw_importance, draw_parallel, draw_slices
from search.report.speed import Timed
from search.report.troubles import time_by_end


def draw_figures(
    facts: SearchFacts, *, importances: Sequence[Importance] | None = None, timed: Sequence[Timed] = ()
) -> dict[str, list[Drawing]]:
    """What can be drawn of a search so far.

    Args:
        facts: of the search.
        importances: of its parameters; measured if None.
        timed: trials whose milliseconds an image are known.

    Returns:
        Section to its drawings; none where there is nothing to be seen yet.
    """
    if importances is None:
        importances = measure_importance(facts.space, facts.scored)
    by_backbone = [
        draw_importance(measure_importance(facts.space, own), of=backbone)
        for backbone in (facts.backbones if len(facts.backbones) > 1 else ())
        if (own := [record for record in facts.scored if backbone_of(record) == backbone])
    ]
    sections: dict[str, Sequence[Drawing | None]] = {
        "course": [draw_course(facts)],
        "ensemble": draw_ensemble(facts.ensemble) if facts.ensemble else [],
        "importance": [draw_importance(importances), *by_backbone],
        "slices": draw_slices(facts, importances),
        "parallel": [draw_parallel(facts, importances)],
        "curves": [draw_learning_curves(facts)],
        "pareto": [draw_pareto(timed)],
        "hours": [draw_hours(time_by_end(facts.records))],
    }
    return {section: [each for each in drawn if each is not None] for section, drawn in sections.items()}

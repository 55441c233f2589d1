"""What MLflow's lists show where our links open them."""

import json

from search.run_views import N_SETTINGS, VIEW_TAG, charts_link, runs_link, search_views
from search.tracking_records import MAX_TAG
from spaces.loading import load_space, parse_space, preset_names


def test_view_of_trials_is_of_this_search_alone_and_best_first() -> None:
    view = json.loads(search_views("abc", load_space("core"))[f"{VIEW_TAG}affectune-abc-trial"])

    assert view["searchFilter"] == "tags.\"affectune.search_id\" = 'abc' and tags.\"affectune.kind\" = 'trial'"
    assert (view["orderByKey"], view["orderByAsc"]) == ("metrics.`best/macro_f1`", False)


def test_view_of_trials_shows_score_end_and_what_varies() -> None:
    space = parse_space("""
name: two
parameters:
  net:
    choice:
      small: {model.backbone: lcnet_050, model.image_px: 48, train.epochs: 3}
      large: {model.backbone: resnet18, model.image_px: 64, train.epochs: 3}
    default: small
  optimiser.lr: {log_uniform: [1.0e-4, 1.0e-2], default: 1.0e-3}
  blend.weight: {uniform: [0.0, 1.0], default: 0.3, when: {net: large}}
""")

    view = json.loads(search_views("abc", space)[f"{VIEW_TAG}affectune-abc-trial"])

    assert view["selectedColumns"] == [
        "metrics.`best/macro_f1`", "tags.`affectune.end`", "attributes.`Duration`",
        "params.`optimiser.lr`", "params.`model.backbone`",
    ]  # fmt: skip


def test_views_of_every_preset_are_short_enough_for_a_tag() -> None:
    for name in preset_names():
        for view in search_views("0f5397ef680d", load_space(name)).values():
            shown = json.loads(view)["selectedColumns"]
            assert len(view) <= MAX_TAG and sum(column.startswith("params.") for column in shown) <= N_SETTINGS


def test_links_name_the_view_and_the_side_of_mlflow_that_has_it() -> None:
    link = runs_link("http://127.0.0.1:5000/", "7", search_id="abc", kind="ensemble")

    assert link == (
        "http://127.0.0.1:5000/#/experiments/7/runs"
        "?viewStateShareKey=affectune-abc-ensemble&workflowType=machine_learning"
    )
    assert charts_link("", "7", search_id="abc") == (
        "/#/experiments/7/runs?viewStateShareKey=affectune-abc-trial&workflowType=machine_learning&compareRunsMode=CHART"
    )

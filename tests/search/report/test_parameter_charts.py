"""Axes of parameters are labelled so that they can be read."""

import pytest
from matplotlib.figure import Figure

from search.report.parameter_charts import _scale
from spaces.loading import parse_space

SPACE = parse_space("""
name: scales
parameters:
  optimiser.lr: {log_uniform: [2.0e-4, 1.0e-2], default: 1.0e-3}
  train.batch_size: {log_integer: [16, 1024], default: 64}
""")


@pytest.mark.parametrize(
    ("name", "labels"),
    [("optimiser.lr", ["0.0002", "0.00074", "0.0027", "0.01"]), ("train.batch_size", ["16", "64", "256", "1024"])],
    ids=["numbers", "whole numbers"],
)
def test_logarithmic_axis_has_few_ticks_from_end_to_end(name: str, labels: list[str]) -> None:
    axes = Figure().add_subplot()

    _scale(axes, SPACE.parameter(name))

    assert [label.get_text() for label in axes.get_xticklabels()] == labels

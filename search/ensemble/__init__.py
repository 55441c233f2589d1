"""Ensembles from stored scores: NumPy on arrays, no Ray, no torch."""

from search.ensemble.blending import BlendCurve, best_blend_weight, blend, blend_curve, soft_vote
from search.ensemble.estimate import Estimate, Interval, bootstrap_interval, honest_estimate, select_bagged
from search.ensemble.macro_f1 import macro_f1_of_probs
from search.ensemble.selection import Selection, bagged_selection, best_single, greedy_selection, selection_or_average

__all__ = [
    "BlendCurve",
    "Estimate",
    "Interval",
    "Selection",
    "bagged_selection",
    "best_blend_weight",
    "best_single",
    "blend",
    "blend_curve",
    "bootstrap_interval",
    "greedy_selection",
    "honest_estimate",
    "macro_f1_of_probs",
    "select_bagged",
    "selection_or_average",
    "soft_vote",
]

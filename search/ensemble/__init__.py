"""Ensembles from stored scores: NumPy on arrays, no Ray, no torch."""

from search.ensemble.biases import best_class_biases, class_bias_curve, threshold_curve
from search.ensemble.blending import best_blend_weight, blend, blend_curve, soft_vote
from search.ensemble.bootstrap import Interval, bootstrap_interval
from search.ensemble.calibration import Calibration, calibrate, tempered
from search.ensemble.crossfit import CrossFit, cross_fit
from search.ensemble.estimate import Difference, Estimate, Judgement, honest_estimate, judge
from search.ensemble.greedy import Selection, best_single, greedy_selection
from search.ensemble.macro_f1 import macro_f1_of_probs
from search.ensemble.model_library import Kind, Library, Traits, make_kind, plain_traits
from search.ensemble.selection import METHODS, Method, choose_members
from search.ensemble.sweep import StepCurve

__all__ = [
    "METHODS",
    "Calibration",
    "CrossFit",
    "Difference",
    "Estimate",
    "Interval",
    "Judgement",
    "Kind",
    "Library",
    "Method",
    "Selection",
    "StepCurve",
    "Traits",
    "best_blend_weight",
    "best_class_biases",
    "best_single",
    "blend",
    "blend_curve",
    "bootstrap_interval",
    "calibrate",
    "choose_members",
    "class_bias_curve",
    "cross_fit",
    "greedy_selection",
    "honest_estimate",
    "judge",
    "macro_f1_of_probs",
    "make_kind",
    "plain_traits",
    "soft_vote",
    "tempered",
    "threshold_curve",
]

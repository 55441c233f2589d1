"""Optuna's figures of a study on one page: PYTHON benchmarks/peers/optuna_page.py STUDY.log OUT.html

Part of bench_report.py; needs optuna, plotly and scikit-learn alone.
"""

import sys
from pathlib import Path

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.visualization import (
    plot_intermediate_values,
    plot_optimization_history,
    plot_parallel_coordinate,
    plot_param_importances,
    plot_slice,
    plot_timeline,
)


def main() -> int:
    """Draw and write; plotly itself stands in the page, as it has to without a network."""
    study = optuna.load_study(study_name=None, storage=JournalStorage(JournalFileBackend(sys.argv[1])))
    figures = [
        plot_optimization_history(study),
        plot_param_importances(study),
        plot_parallel_coordinate(study),
        plot_slice(study),
        plot_intermediate_values(study),
        plot_timeline(study),
    ]
    parts = [figure.to_html(full_html=False, include_plotlyjs=i == 0) for i, figure in enumerate(figures)]
    Path(sys.argv[2]).write_text(f"<!doctype html><title>study</title>{''.join(parts)}", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

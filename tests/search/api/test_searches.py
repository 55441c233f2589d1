"""Searches in Python: found, looked at, and what is wrong said as the command says it."""

from collections.abc import Callable
from pathlib import Path

import pytest

import search
from search.folder import SearchFolder
from spaces.errors import SearchError, SpaceError


def test_package_offers_what_it_lists() -> None:
    assert search.__all__ == sorted(search.__all__)
    assert all(getattr(search, name).__doc__ for name in search.__all__)


def test_search_is_found_by_its_name(made_search: Callable[..., SearchFolder]) -> None:
    folder = made_search(n_trials=12)

    found = search.open_search("made", storage=folder.path.parent)

    assert (found.name, found.folder) == ("made", folder.path)
    assert found.status().state == "ended"


def test_wrong_name_is_refused_with_a_near_one(made_search: Callable[..., SearchFolder]) -> None:
    storage = made_search(n_trials=2).path.parent

    with pytest.raises(SearchError, match=r"got 'maed'.*did you mean 'made'"):
        search.open_search("maed", storage=storage)


def test_trials_are_a_table_best_first_with_a_column_for_each_parameter(
    made_search: Callable[..., SearchFolder],
) -> None:
    folder = made_search(n_trials=40)
    records = {record.trial_id: record for record in folder.read_records()}

    table = search.open_search("made", storage=folder.path.parent).trials()

    assert set(table.index) == set(records)
    assert table["macro_f1"].dropna().is_monotonic_decreasing
    assert {"optimiser.lr", "optimiser.sam_rho"} <= set(table.columns) and "train.seed" not in table.columns
    best = records[str(table.index[0])]
    assert table["optimiser.lr"].iloc[0] == best.values["optimiser.lr"]
    assert table.loc["t0000", "gain"] == 0.0
    assert table.loc["t0005", "end"] == "failed" and "out of luck" in str(table.loc["t0005", "error"])


def test_whole_configs_are_given_where_asked_for(made_search: Callable[..., SearchFolder]) -> None:
    folder = made_search(n_trials=3)

    table = search.open_search("made", storage=folder.path.parent).trials(whole_config=True)

    assert set(table.columns) >= set(folder.read_records()[0].config)


def test_epochs_are_a_row_each(made_search: Callable[..., SearchFolder]) -> None:
    folder = made_search(n_trials=10)

    epochs = search.open_search("made", storage=folder.path.parent).epochs()

    assert len(epochs) == sum(record.epochs for record in folder.read_records())
    assert {"trial", "epoch", "valid/macro_f1"} <= set(epochs.columns)


def test_figures_are_the_reports_and_a_notebook_shows_them(made_search: Callable[..., SearchFolder]) -> None:
    folder = made_search(n_trials=40)

    figures = search.open_search("made", storage=folder.path.parent).figures()

    assert {"course", "curves", "parallel", "importance", "hours"} <= set(figures)
    assert figures["course"]._repr_png_().startswith(b"\x89PNG")
    assert figures["course"].figure.axes[0].get_xlabel() == "trial"


def test_waiting_for_what_has_ended_comes_back_at_once_and_tells_nothing_old(
    made_search: Callable[..., SearchFolder],
) -> None:
    folder, told = made_search(n_trials=5), list[str]()

    status = search.open_search("made", storage=folder.path.parent).wait(tell=told.append)

    assert (status.state, told) == ("ended", [])


def test_search_of_elsewhere_can_be_looked_at_and_not_stopped(made_search: Callable[..., SearchFolder]) -> None:
    folder = made_search(n_trials=5, status="running")

    with pytest.raises(SearchError, match="must have been launched from here to be stopped, got another: made"):
        search.open_search("made", storage=folder.path.parent).stop()


def test_search_without_an_ensemble_says_so(made_search: Callable[..., SearchFolder]) -> None:
    folder = made_search(n_trials=5)

    with pytest.raises(SearchError, match="affectune ensemble made"):
        search.open_search("made", storage=folder.path.parent).ensemble()


def test_unknown_preset_is_refused_before_a_process_is_started(tmp_path: Path) -> None:
    with pytest.raises(SpaceError, match=r"got 'cor'.*did you mean 'core'"):
        search.launch_search("cor", data="nowhere", storage=tmp_path)


@pytest.mark.slow
def test_search_that_cannot_begin_raises_what_its_command_says(tmp_path: Path) -> None:
    with pytest.raises(SearchError, match=r"dataset.json"):
        search.launch_search("core", data=tmp_path / "nowhere", storage=tmp_path / "runs", name="none", trials=1)

    assert not (tmp_path / "runs" / "none").exists()

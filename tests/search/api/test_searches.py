"""Searches in Python: found, looked at, and what is wrong said as the command says it."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

import search
from search.cli import build_parser
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


class Typed:
    """A process that only keeps its words, as the command line reads them."""

    def __init__(self, words: Sequence[str], log: Path) -> None:
        self.settings = build_parser().parse_words(list(words))

    def wait_for(self, has_begun: Callable[[], bool]) -> None:
        """It has."""

    def follow(self, tell: Callable[[str], object] | None) -> None:
        """It has ended."""


def kept_processes(monkeypatch: pytest.MonkeyPatch) -> list[Typed]:
    """Those that would have been started."""
    kept: list[Typed] = []

    def start(words: Sequence[str], log: Path) -> Typed:
        kept.append(Typed(words, log))
        return kept[-1]

    for module in ("launching", "searches"):
        monkeypatch.setattr(f"search.api.{module}.OwnProcess", start)
    return kept


def test_every_argument_is_an_option_of_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    processes = kept_processes(monkeypatch)

    search.launch_search(
        "core",
        data="faces",
        name="all",
        fix={"train.epochs": 3},
        trials=5,
        time_budget="20m",
        first="heads:9",
        storage=tmp_path,
        tracking_uri="http://127.0.0.1:5000",
        seed=3,
        max_concurrent=2,
        cpus_per_trial=0.5,
        gpus_per_trial="auto",
        resources={"memory": "8G", "spot": 1},
        address="auto",
        hang_after=90,
        let_finish=0.2,
        faces_in_mlflow=False,
    )

    found = processes[0].settings
    assert (found.trials, found.time_budget, found.first, found.seed, found.silent_s) == (5, 1200.0, "heads:9", 3, 90.0)
    assert (found.cpus_per_trial, found.gpus_per_trial, found.address) == (0.5, "auto", "auto")
    assert dict(found.resources).keys() == {"memory", "spot"}
    assert (found.let_finish, found.shows_faces, found.max_concurrent) == (0.2, False, 2)


def test_every_argument_of_the_final_job_is_an_option_of_the_command(
    made_search: Callable[..., SearchFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    processes = kept_processes(monkeypatch)
    found = search.open_search("made", storage=made_search(n_trials=5).path.parent)

    with pytest.raises(SearchError, match="affectune ensemble made"):  # the process did nothing
        found.build_ensemble(
            bags=2, configs=1, members=4, time_budget=60, also="wild", objective="worst", snapshots=3, soup=True, seed=7
        )

    settings = processes[0].settings
    assert (settings.bags, settings.configs, settings.members, settings.time_budget) == (2, 1, 4, 60.0)
    assert (settings.also, settings.objective, settings.snapshots) == ("wild", "worst", 3)
    assert (settings.soup, settings.seed) == (True, 7)


@pytest.mark.slow
def test_search_that_cannot_begin_raises_what_its_command_says(tmp_path: Path) -> None:
    with pytest.raises(SearchError, match=r"dataset.json"):
        search.launch_search("core", data=tmp_path / "nowhere", storage=tmp_path / "runs", name="none", trials=1)

    assert not (tmp_path / "runs" / "none").exists()

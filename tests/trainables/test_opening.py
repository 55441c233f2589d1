"""Where a worker reads its table from: where it is, or a copy that is nearer."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from spaces.errors import DataError, UsageError
from trainables.budget import OutOfTime
from trainables.data.mounts import is_on_network
from trainables.data.opening import shared_data
from trainables.data.table import FaceTable
from trainables.run import TrialOrder, TrialRun


@pytest.fixture
def copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of copies for one test."""
    monkeypatch.setenv("AFFECTUNE_TABLES", str(tmp_path / "copies"))
    return tmp_path / "copies"


@pytest.fixture
def mounted(tmp_path: Path, toy_table: FaceTable, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The toy table in a folder that another machine is said to have."""
    table = tmp_path / "shared" / "table"
    shutil.copytree(toy_table.path, table)
    (tmp_path / "mounts").write_text(f"/dev/vda / ext4 rw 0 0\nserver:/faces {table.parent.resolve()} nfs4 rw 0 0\n")
    monkeypatch.setattr("trainables.data.opening.is_on_network", lambda path: is_on_network(path, tmp_path / "mounts"))
    return table


def test_worker_maps_a_folder_of_its_own_machine(copies: Path, toy_table: FaceTable) -> None:
    assert shared_data(str(toy_table.path)).path == toy_table.path
    assert not copies.exists()


def test_worker_maps_a_copy_of_a_folder_of_another_machine(copies: Path, mounted: Path, toy_table: FaceTable) -> None:
    table = shared_data(str(mounted))

    assert table.path == copies / toy_table.info.content_hash
    assert (table.split("train").images == toy_table.split("train").images).all()


def test_worker_maps_one_and_the_same_copy_for_trials_in_a_row(copies: Path, mounted: Path) -> None:
    assert shared_data(str(mounted)) is shared_data(str(mounted))


def test_worker_asks_for_nothing_when_it_has_the_copy(copies: Path, mounted: Path, toy_table: FaceTable) -> None:
    told = toy_table.info.content_hash
    shared_data(str(mounted), content_hash=told)
    shutil.rmtree(mounted)

    assert shared_data(str(mounted), content_hash=told).path == copies / told
    assert shared_data("s3://gone/for/ever", content_hash=told).path == copies / told


def test_worker_reads_over_the_network_when_copies_are_switched_off(
    copies: Path, mounted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AFFECTUNE_TABLES", "off")

    assert shared_data(str(mounted)).path == mounted


def test_worker_reads_over_the_network_when_the_copies_would_be_there_too(
    mounted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AFFECTUNE_TABLES", str(mounted.parent / "copies"))

    assert shared_data(str(mounted)).path == mounted


def test_worker_reads_over_the_network_and_says_so_when_there_is_no_room(
    copies: Path, mounted: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("AFFECTUNE_TABLES_GB", "0")

    assert shared_data(str(mounted)).path == mounted
    assert "face table is mapped over the network, and trials read it slowly: copies of face tables" in caplog.text


@pytest.mark.parametrize("kind", ["folder", "uri", "mounted"])
def test_worker_refuses_another_table_in_its_place(
    kind: str, copies: Path, mounted: Path, toy_table: FaceTable
) -> None:
    data = {"folder": str(toy_table.path), "uri": f"file://{toy_table.path}", "mounted": str(mounted)}[kind]
    sentence = rf"must be the one that is searched on \(0123456789ab\), got {toy_table.info.content_hash[:12]}: "

    with pytest.raises(DataError, match=sentence):
        shared_data(data, content_hash="0123456789abcdef")


def test_worker_refuses_a_uri_when_copies_are_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFFECTUNE_TABLES", "off")

    with pytest.raises(
        UsageError, match="AFFECTUNE_TABLES must name a folder where a face table is a URI, got none: gs:"
    ):
        shared_data("gs://faces/toy")


def test_copying_ends_with_the_search(copies: Path, mounted: Path) -> None:
    with pytest.raises(OutOfTime):
        shared_data(str(mounted), until_s=1.0)


def test_trial_is_preempted_when_the_search_ends_before_its_table_is_there(
    copies: Path, toy_table: FaceTable, make_config: Callable[..., Any], tmp_path: Path
) -> None:
    settings = make_config().to_flat()
    order = TrialOrder("t0000", settings, f"file://{toy_table.path}", str(tmp_path / "t0000"), search_ends_s=1.0)
    run = TrialRun(order)

    report = run.step()

    run.release()
    assert (report["end"], report["best/macro_f1"]) == ("preempted", 0.0)

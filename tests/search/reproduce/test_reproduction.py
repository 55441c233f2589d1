"""A table of a paper from its words to its page, on generated faces with small networks."""

import json
from pathlib import Path
from typing import Any

import pytest

from search.cli import main
from search.folder import SearchFolder, SearchManifest
from search.reproduce.job import _keep
from search.tracking import Tracker
from trainables.data.synth import write_synth_table
from trainables.data.table import FaceTable

FIXES = ["model.backbone=test_resnet", "train.batch_size=32", "optimiser.lr=0.003", "model.image_px=null"]


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> FaceTable:
    """Faces of other people, at another size."""
    out = tmp_path_factory.mktemp("others") / "table"
    return write_synth_table(out, n_train=12, n_valid=48, n_test=12, image_px=32, seed=11)


@pytest.fixture(scope="module")
def words(
    ray_local: None, face_table: FaceTable, others: FaceTable, tmp_path_factory: pytest.TempPathFactory
) -> list[str]:
    """Table 1 of paper 001 with a row that diverges; the search is called `smoothing`."""
    import torch
    from safetensors.torch import save_file

    from trainables.models.backbones import build_backbone

    storage = tmp_path_factory.mktemp("storage")
    state = build_backbone("test_resnet").net.state_dict()
    nan = torch.tensor(float("nan"))
    save_file({k: v * nan if v.is_floating_point() else v for k, v in state.items()}, storage / "nan.safetensors")
    fixes = [*FIXES, f"s04:model.weights={storage / 'nan.safetensors'}"]
    where = ["--data", str(face_table.path), "--also", str(others.path), "--storage", str(storage)]
    sizes = ["--epochs", "1", "--seeds", "2", "--max-concurrent", "2", "--name", "smoothing"]
    return ["reproduce", "001:1", *where, "--fix", *fixes, *sizes]


@pytest.fixture(scope="module")
def folder(words: list[str]) -> SearchFolder:
    """The search's folder after the command."""
    assert main(words) == 0
    return SearchFolder(Path(words[words.index("--storage") + 1]) / "smoothing")


@pytest.fixture(scope="module")
def document(folder: SearchFolder) -> dict[str, Any]:
    return dict(json.loads((folder.path / "reproduce.json").read_text(), parse_constant=pytest.fail))


def test_page_waits_in_the_journal_when_the_server_is_away(tmp_path: Path) -> None:
    folder, away = SearchFolder(tmp_path / "a"), "http://127.0.0.1:9"
    folder.write_manifest(
        SearchManifest("a", "data", "hash", ("x",), seed=0, n_trials=1, time_budget_s=None, tracking_uri=away)
    )
    tracker = Tracker(away, "a", folder.tracking_dir)
    tracker.start_search(name="a")
    tracker.close(timeout_s=0.1)

    _keep(folder, {"paper": "001", "table": "1", "rows": []}, markdown="# Page")

    journal = "".join(file.read_text() for file in folder.tracking_dir.glob("*.jsonl"))
    waiting = [json.loads(line) for line in journal.splitlines() if '"artifact"' in line]
    assert [Path(line["path"]).read_text()[:1] for line in waiting] == ["{", "#"]


@pytest.mark.ray
def test_rows_are_trials_of_one_search_and_none_is_stopped_early(folder: SearchFolder) -> None:
    records = folder.read_records()

    smoothing = [record.config["loss.label_smoothing"] for record in records]
    assert smoothing == [0, 0, 0.1, 0.1, 0.2, 0.2, 0.4, 0.4]
    assert [record.config["train.seed"] for record in records] == [0, 1] * 4
    assert [record.end for record in records] == ["completed"] * 6 + ["diverged"] * 2


@pytest.mark.ray
def test_rows_have_the_papers_figures_beside_the_mean_of_the_seeds(
    folder: SearchFolder, document: dict[str, Any]
) -> None:
    records = folder.read_records()
    row = document["rows"][1]

    scores = [record.best_macro_f1 for record in records if record.values["row"] == "s01"]
    assert (row["key"], row["published"]) == ("s01", 0.5596)
    assert row["ours"]["score"] == pytest.approx(sum(score or 0 for score in scores) / 2)
    assert row["ours"]["low"] <= row["ours"]["score"] <= row["ours"]["high"]
    assert row["ours"]["unit"] == "subject"
    assert 0 <= row["also"]["score"] <= 1


@pytest.mark.ray
def test_diverged_row_is_shown_with_its_reason(document: dict[str, Any]) -> None:
    row = document["rows"][3]

    assert (row["key"], row["ours"]) == ("s04", None)
    assert row["no_score"].startswith("diverged in epoch")


@pytest.mark.ray
def test_page_stands_in_the_folder_and_with_the_parent_run(folder: SearchFolder, document: dict[str, Any]) -> None:
    from mlflow import MlflowClient

    manifest = folder.read_manifest()
    client, run_id = MlflowClient(manifest.tracking_uri), str(manifest.parent_run_id)

    run = client.get_run(run_id)
    assert "The data differ." in (folder.path / "reproduce.md").read_text()
    assert {file.path for file in client.list_artifacts(run_id)} == {"reproduce.json", "reproduce.md"}
    assert run.data.metrics["reproduce/s01"] == pytest.approx(document["rows"][1]["ours"]["score"])
    assert run.data.tags["affectune.reproduces"] == "001:1"


@pytest.mark.ray
def test_same_words_print_the_page_again_and_train_nothing(
    words: list[str], folder: SearchFolder, document: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    code = main([*words, "--json"])

    assert code == 0
    assert json.loads(capsys.readouterr().out) == document
    assert folder.read_manifest().n_launches == 1


@pytest.mark.ray
def test_name_of_another_search_is_refused(
    words: list[str], folder: SearchFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["2" if word == "2" else "001:2" if word == "001:1" else word for word in words if "s04:" not in word])

    assert code == 1
    assert "search 'smoothing' is there already" in capsys.readouterr().err


@pytest.mark.ray
def test_table_without_any_score_is_printed_and_leaves_with_1(
    words: list[str], folder: SearchFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    nan = folder.path.parent / "nan.safetensors"
    alone = [*words[: words.index("--also")], "--storage", str(folder.path.parent), "--name", "broken"]

    code = main([*alone, "--epochs", "1", "--fix", *FIXES, f"model.weights={nan}"])

    captured = capsys.readouterr()
    assert code == 1
    assert "No row has a score." in captured.out
    assert "diverged in epoch" in captured.out
    assert (folder.path.parent / "broken" / "reproduce.md").is_file()

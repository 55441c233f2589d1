"""The notebooks in examples/ run as they stand, but on fewer faces and for fewer epochs."""

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
SHORTER = {
    "n_train=800, n_valid=240": "n_train=240, n_valid=120",
    '"train.epochs": 6': '"train.epochs": 2',
    "trials=4": "trials=3",
}
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))


def read(notebook: Path) -> dict[str, Any]:
    return dict(json.loads(notebook.read_text(encoding="utf-8")))


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_kept_without_outputs(notebook: Path) -> None:
    code = [cell for cell in read(notebook)["cells"] if cell["cell_type"] == "code"]

    assert code and all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """For temporary files: the names of Ray's sockets have room for a short path alone."""
    with tempfile.TemporaryDirectory(prefix="af-", dir="/tmp") as folder:
        yield Path(folder)


@pytest.mark.slow
def test_notebook_of_a_search_runs_from_launch_to_prediction(
    short_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nbclient = pytest.importorskip("nbclient", reason="needs nbclient and ipykernel: make setup")
    nbformat = pytest.importorskip("nbformat")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("TMPDIR", str(short_folder))
    notebook = nbformat.read(ROOT / "examples" / "search.ipynb", as_version=4)
    for long, short in SHORTER.items():
        assert any(long in cell.source for cell in notebook.cells), long
        for cell in notebook.cells:
            cell.source = cell.source.replace(long, short)

    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()

    shown = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    data = [output["data"] for output in shown if "data" in output]
    said = "".join(output["text"] for output in shown if output["output_type"] == "stream")
    assert "ended" in said and "best:" in said
    assert [output["text"] for output in shown if output.get("name") == "stderr"] == []
    assert any("image/png" in each for each in data)
    tables = [each["text/html"] for each in data if "text/html" in each]
    assert len(tables) >= 4 and "macro_f1" in tables[0] and "estimate" in "".join(tables)
    assert list(short_folder.glob("affectune-notebook-*/report.html"))

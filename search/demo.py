"""The whole story on generated faces: table, search, ensemble, artifact, predictions, sealed test."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console

from search.evaluate import evaluate_table, load_ensemble, predict_files
from search.final import build_ensemble
from search.folder import SUMMARY_FILE
from search.handover import export_search
from search.launch import run_search
from search.plan import EnsemblePlan, SearchPlan
from search.result_tables import print_summary
from spaces.loading import load_space
from trainables.data.synth import write_synth_table
from trainables.data.table import FaceTable
from trainables.outputs import check_new_folder

NAME = "demo"


@dataclass(frozen=True)
class DemoSizes:
    """How much there is to do; as it stands, some minutes on two cores.

    Attributes:
        n_train, n_valid, n_test: generated faces of each split.
        image_px: side of the faces.
        n_configs: of the best trials, each trained once more for the ensemble.
        bags_s: seconds for all of these bags.
    """

    n_train: int = 2400
    n_valid: int = 800
    n_test: int = 1200
    image_px: int = 48
    n_configs: int = 4
    bags_s: float = 45.0


def run_demo(
    out: Path, *, n_trials: int, time_budget_s: float, seed: int, sizes: DemoSizes | None = None
) -> dict[str, Any]:
    """Run it all into one new folder.

    Args:
        out: new or empty; gets `faces` (the table), `runs` (the search's storage), `model` (the artifact), `pictures`.
        n_trials: of the search.
        time_budget_s: of the search.
        seed: of faces and search.
        sizes: of the faces and the final job; those of a demo when omitted.

    Returns:
        The summary.

    Raises:
        OutputError: `out` already holds something, or the disk is full.
    """
    started_s = time.time()
    out = out.absolute()
    check_new_folder(out)
    console = Console(highlight=False, soft_wrap=True)
    storage = out / "runs"
    sizes = sizes or DemoSizes()

    _headline(console, 1, f"{sizes.n_train + sizes.n_valid + sizes.n_test} generated faces")
    table = _draw_faces(out / "faces", sizes, seed=seed)
    _headline(console, 2, f"a search of {n_trials} trials, {time_budget_s:.0f} s at most")
    plan = SearchPlan(n_trials=n_trials, time_budget_s=time_budget_s, seed=seed)
    outcome = run_search(load_space(NAME), data=table.path, storage=storage, name=NAME, plan=plan)
    if outcome.interrupted:
        raise KeyboardInterrupt
    _headline(console, 3, "bags of the best configs, and a selection among all")
    final = EnsemblePlan(n_bags=1, n_configs=sizes.n_configs, time_budget_s=sizes.bags_s, seed=seed)
    build_ensemble(outcome.folder, final)
    _headline(console, 4, "the artifact, and what it says of three faces")
    model = export_search(outcome.folder, out / "model").path
    _predict_some(console, model, table, out / "pictures")
    _headline(console, 5, "the sealed test")
    evaluation = evaluate_table(model, table)
    summary = {**outcome.folder.read_summary(), "wall_s": round(time.time() - started_s, 1)}
    outcome.folder.write_summary(summary)
    print_summary(summary, console=console)
    console.print(f"the artifact itself scores {evaluation.macro_f1:.4f} on the sealed test")
    console.print()
    console.print(f"artifact  {model}", markup=False)
    console.print(f"summary   {outcome.folder.path / SUMMARY_FILE}", markup=False)
    console.print(f"trials    affectune ui --storage {storage}", markup=False)
    console.print(f"took      {summary['wall_s']:.0f} s")
    return summary


def _draw_faces(out: Path, sizes: DemoSizes, *, seed: int) -> FaceTable:
    return write_synth_table(
        out,
        n_train=sizes.n_train,
        n_valid=sizes.n_valid,
        n_test=sizes.n_test,
        image_px=sizes.image_px,
        seed=seed,
        progress=True,
    )


def _headline(console: Console, number: int, text: str) -> None:
    console.print(f"[bold]{number}. {text}[/]")


def _predict_some(console: Console, model: Path, table: FaceTable, folder: Path) -> None:
    """Write three valid faces as pictures and let the artifact name their expressions."""
    split = table.split("valid")
    folder.mkdir(parents=True)
    files = []
    for row in np.linspace(0, split.n_rows - 1, 3).astype(int).tolist():
        name = table.info.classes[split.expression[row]]
        files.append(folder / f"{row:04d}-{name}.png")
        Image.fromarray(split.images[row].squeeze()).save(files[-1])
    ensemble = load_ensemble(model)
    for file, probs in zip(files, predict_files(ensemble, files), strict=True):
        best = int(probs.argmax())
        console.print(f"  {file.name:24} {ensemble.classes[best]:10} {probs[best]:.2f}", markup=False)

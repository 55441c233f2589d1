"""The worked examples of docs/extending.md, put into a copy of the checkout and trained."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"^```(?:python|yaml)\n# (?P<file>\S+)(?: (?P<registry>\S+))?\n(?P<text>.*?)^```", re.M | re.S)

PROGRAM = """
import json, sys
from pathlib import Path
import numpy as np
from spaces.loading import load_space
from trainables.data.synth import write_synth_table
from trainables.run import TrialOrder, TrialRun

table = write_synth_table(Path("faces"), n_train=120, n_valid=48, n_test=0, image_px=32, seed=1)
space = load_space("balanced")
values = {**space.default(), "loss.name": "poly", "data.sampler": "rounds"}
config = {**space.to_config(values).to_flat(), "train.epochs": 2, "train.batch_size": 16}
run = TrialRun(TrialOrder("t0000", config, str(table.path), str(Path("t0000"))))
while not (report := run.step())["end"]:
    pass
print(json.dumps({"end": report["end"], "f1": report["best/macro_f1"], "loss": report["train/loss"]}))
"""


@pytest.mark.slow
def test_examples_of_the_page_train_a_trial(tmp_path: Path) -> None:
    for floor in ("spaces", "trainables"):
        shutil.copytree(ROOT / floor, tmp_path / floor, ignore=shutil.ignore_patterns("__pycache__"))
    blocks = list(BLOCK.finditer((ROOT / "docs" / "extending.md").read_text(encoding="utf-8")))
    for block in blocks:
        put(tmp_path / block["file"], block["text"], registry=block["registry"])

    ended = subprocess.run([sys.executable, "-c", PROGRAM], cwd=tmp_path, capture_output=True, text=True)

    assert len(blocks) == 8
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert '"end": "completed"' in ended.stdout


def put(file: Path, text: str, *, registry: str | None) -> None:
    """A new file; or a line behind the opening of a registry in an old one, or among its imports."""
    if registry is None:
        assert not file.exists(), f"example must be a new file, got {file}"
        file.write_text(text, encoding="utf-8")
        return
    known = file.read_text(encoding="utf-8")
    opening = r"^from torch import nn\n" if registry == "import" else rf"^{registry}\b.*= {{\n"
    changed, n_found = re.subn(opening, lambda found: found[0] + text, known, count=1, flags=re.M)
    assert n_found == 1, f"registry must be there, got none: {registry} of {file}"
    file.write_text(changed, encoding="utf-8")

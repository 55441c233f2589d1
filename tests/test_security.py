"""What our code never does, whoever sends it a file."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("spaces", "trainables", "search", "benchmarks")
SOURCES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))

RUNS_WHAT_IT_READS = {"cloudpickle", "dill", "joblib", "marshal", "pickle", "shelve"}
"""Libraries whose files are programs."""

NEVER_CALLED = {
    "eval": "runs text",
    "exec": "runs text",
    "os.popen": "runs text in a shell",
    "os.system": "runs text in a shell",
    "pd.read_pickle": "runs what it reads",
    "pandas.read_pickle": "runs what it reads",
    "tempfile.mktemp": "somebody else can make the file first",
    "yaml.full_load": "makes objects",
    "yaml.unsafe_load": "makes objects",
    "yaml.unsafe_load_all": "makes objects",
}


def calls(tree: ast.Module) -> Iterator[tuple[str, ast.Call]]:
    """Every call in a file, with the dotted name of what is called."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func) if isinstance(node.func, ast.Name | ast.Attribute) else "", node


def imports(tree: ast.Module) -> Iterator[str]:
    """The first part of every name that a file imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield str(node.module).split(".")[0]


def given(call: ast.Call, name: str) -> object:
    """The value of a keyword argument that is written out; None where it is not given."""
    for keyword in call.keywords:
        if keyword.arg == name:
            return keyword.value.value if isinstance(keyword.value, ast.Constant) else ast.unparse(keyword.value)
    return None


def breaches(path: Path) -> list[str]:
    """What a file does that it must not."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = [f"import {name}" for name in imports(tree) if name in RUNS_WHAT_IT_READS]
    for name, call in calls(tree):
        if name in NEVER_CALLED:
            found.append(f"{name}: {NEVER_CALLED[name]}")
        if name == "torch.load" and given(call, "weights_only") is not True:
            found.append("torch.load without weights_only=True")
        if name.endswith(".load") and given(call, "allow_pickle") not in (None, False):
            found.append(f"{name} with allow_pickle")
        if name.startswith("yaml.load") and "Safe" not in str(given(call, "Loader")) and path.name != "yaml_text.py":
            found.append(f"{name} without a safe loader")
        if given(call, "shell") not in (None, False):
            found.append(f"{name} with a shell")
        if given(call, "verify") is False:
            found.append(f"{name} without looking at certificates")
    return found


def test_sources_run_nothing_that_they_read() -> None:
    found = {str(path.relative_to(ROOT)): breaches(path) for path in SOURCES}

    assert len(found) > 100
    assert {path: what for path, what in found.items() if what} == {}


@pytest.mark.parametrize(
    ("line", "n"),
    [
        ("torch.load(file)", 1),
        ("torch.load(file, weights_only=False)", 1),
        ("torch.load(file, weights_only=True)", 0),
        ("np.load(file, allow_pickle=True)", 1),
        ("np.load(file)", 0),
        ("yaml.load(text, Loader=yaml.Loader)", 1),
        ("yaml.load(text, Loader=yaml.SafeLoader)", 0),
        ("subprocess.run(text, shell=True)", 1),
        ("eval(text)", 1),
        ("network.eval()", 0),
        ("import pickle", 1),
        ("from joblib import load", 1),
    ],
)
def test_breach_is_seen_where_there_is_one(tmp_path: Path, line: str, n: int) -> None:
    file = tmp_path / "some.py"
    file.write_text(f"{line}\n")

    assert len(breaches(file)) == n


def test_reader_of_spaces_makes_nothing_but_plain_values() -> None:
    from spaces.errors import SpaceError
    from spaces.loading import parse_space

    for tag in ("!!python/object/apply:os.system ['true']", "!!python/name:os.system", "!!python/tuple [1]"):
        with pytest.raises(SpaceError):
            parse_space(f"name: bad\nfixed:\n  model.backbone: {tag}\n", where="bad.yaml")

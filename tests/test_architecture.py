"""The rules of docs/style.md that a program can check."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FLOORS = ("spaces", "trainables", "search")
"""From the ground up; imports go down only."""

MAX_LINES = 400

ALLOWED = {
    "ray": [
        "trainables/trial.py",
        "search/first_stage.py",
        "search/driving.py",
        "search/packs/callbacks.py",
        "search/packs/searcher.py",
        "search/searcher.py",
        "search/scheduler.py",
        "search/callbacks.py",
        "search/cluster.py",
        "search/worker_keeper.py",
        "search/gpu_sharing.py",
        "search/ensemble/bagging.py",
        "search/ensemble/job.py",
    ],
    "mlflow": [
        "search/tracking*.py",
        "search/export.py",
        "search/predictor.py",
        "search/registry.py",
        "search/champion_exam.py",
        "search/evaluate.py",
        "search/commands/tools.py",
    ],
    "cmaes": ["search/ensemble/evolution.py"],
    "jinja2": ["search/report/page.py"],
    "matplotlib": [
        "search/card_pictures.py",
        "search/ensemble_charts.py",
        "search/report/*.py",
        "search/trial_pictures.py",
    ],
    "optuna": ["search/sampler.py", "search/searcher.py", "search/study_file.py"],
    "albumentations": ["trainables/data/augment.py"],
    "timm": ["trainables/models/*.py", "trainables/checkpoint.py"],
    "onnx": ["search/onnx_export.py"],
    "shtab": ["search/completion.py"],
}
"""Library to the files that may import it: each stays in one place, and can be replaced there."""

SPACES_MAY_IMPORT = {"pydantic", "spaces", "yaml"}
HEAVY = ["albumentations", "cv2", "mlflow", "optuna", "pandas", "pyarrow", "ray", "sklearn", "timm", "torch"]

# Packages that setup.cfg asks for, by the names they are imported as, and a few that come with them.
LIBRARIES = {
    *HEAVY,
    "cmaes",
    "threadpoolctl",
    "jinja2",
    "matplotlib",
    "numpy",
    "onnx",
    "onnxruntime",
    "onnxscript",
    "PIL",
    "psutil",
    "pydantic",
    "pytest",
    "rich",
    "safetensors",
    "scipy",
    "shtab",
    "torchvision",
    "yaml",
}

NO_NOUN = {"common", "helper", "helpers", "misc", "util", "utilities", "utils"}


@cache
def sources() -> tuple[Path, ...]:
    """Every module of our packages, relative to the checkout."""
    return tuple(sorted(path.relative_to(ROOT) for floor in FLOORS for path in (ROOT / floor).rglob("*.py")))


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse((ROOT / path).read_text(encoding="utf-8"), filename=str(path))


def module_of(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def imports_of(path: Path) -> tuple[str, ...]:
    """Dotted names a file imports anywhere in it; `from a import b` gives `a` and `a.b`."""
    return tuple(name for node in ast.walk(tree_of(path)) for name in _imported(node))


def _imported(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        if node.level:  # only where code travels: see test_networks_travel_alone
            return
        assert node.module
        yield node.module
        yield from (f"{node.module}.{alias.name}" for alias in node.names)


def roots_of(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imports_of(path)}


def all_python_files() -> list[Path]:
    tracked = [*FLOORS, "tests", "benchmarks"]
    found = (path.relative_to(ROOT) for folder in tracked for path in (ROOT / folder).rglob("*.py"))
    return sorted(path for path in found if ".venv" not in path.parts)


each_source = pytest.mark.parametrize("path", sources(), ids=str)


@each_source
def test_imports_go_down_only(path: Path) -> None:
    above = set(FLOORS[FLOORS.index(path.parts[0]) + 1 :])

    assert roots_of(path) & above == set()


@pytest.mark.parametrize("path", [path for path in sources() if path.parts[0] == "spaces"], ids=str)
def test_spaces_are_plain_python(path: Path) -> None:
    foreign = roots_of(path) - SPACES_MAY_IMPORT - set(sys.stdlib_module_names)

    assert foreign == set()


@pytest.mark.parametrize("library", ALLOWED)
def test_library_is_imported_only_where_it_belongs(library: str) -> None:
    importing = [path.as_posix() for path in sources() if library in roots_of(path)]

    assert [path for path in importing if not any(fnmatch(path, allowed) for allowed in ALLOWED[library])] == []


def test_trainables_know_no_tracking_and_no_search() -> None:
    below = [path for path in sources() if path.parts[0] == "trainables"]

    assert [str(path) for path in below if roots_of(path) & {"mlflow", "optuna", "search"}] == []


TRAVELS = ("trainables", "models", "architectures")
"""The networks' code is copied into every exported model and loaded there under another name."""


def test_networks_travel_alone() -> None:
    folder = [path for path in sources() if path.parts[:3] == TRAVELS]
    roots = {path.name: roots_of(path) - set(sys.stdlib_module_names) for path in folder}

    assert len(folder) > 5
    assert {name: found for name, found in roots.items() if found - {"torch", "timm", "torchvision"}} == {}


def test_imports_are_written_from_the_top() -> None:
    elsewhere = [path for path in sources() if path.parts[:3] != TRAVELS]
    relative = [
        path
        for path in elsewhere
        if any(isinstance(node, ast.ImportFrom) and node.level for node in ast.walk(tree_of(path)))
    ]

    assert relative == []


def test_ensembles_are_numpy_on_arrays() -> None:
    folder = [path for path in sources() if path.parts[:2] == ("search", "ensemble")]
    arrays = [path for path in folder if path.name not in ("bagging.py", "job.py")]

    assert [str(path) for path in arrays if roots_of(path) & {"mlflow", "ray", "torch"}] == []


def test_predictor_needs_nothing_of_ours() -> None:
    assert roots_of(Path("search/predictor.py")) & set(FLOORS) == set()


@pytest.mark.parametrize(
    "path", [path for path in sources() if path.parts[:2] == ("search", "commands")], ids=lambda path: path.stem
)
def test_command_imports_its_work_when_it_runs(path: Path) -> None:
    at_once = {name for node in tree_of(path).body for name in _imported(node)}
    foreign = {name for name in at_once if name.split(".")[0] not in sys.stdlib_module_names}

    assert {name for name in foreign if not name.startswith("search.commands")} == set()


def test_modules_do_not_import_each_other_in_a_circle() -> None:
    modules = {module_of(path): path for path in sources()}
    graph = {name: {other for other in imports_of(path) if other in modules} - {name} for name, path in modules.items()}

    assert _circle(graph) == []


def _circle(graph: dict[str, set[str]]) -> list[str]:
    """Modules of one circle, empty where there is none: leaves are taken away until nothing is left."""
    while leaves := {name for name, others in graph.items() if not others & graph.keys()}:
        graph = {name: others for name, others in graph.items() if name not in leaves}
    return sorted(graph)


def test_circle_is_found_where_there_is_one() -> None:
    assert _circle({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()}) == ["a", "b", "c"]
    assert _circle({"a": {"b"}, "b": set()}) == []


@pytest.mark.parametrize("path", [path for path in sources() if path.name == "__init__.py"], ids=str)
def test_package_is_a_shop_window(path: Path) -> None:
    docstring, *rest = tree_of(path).body

    assert isinstance(docstring, ast.Expr) and isinstance(docstring.value, ast.Constant)
    assert [node for node in rest if not isinstance(node, ast.ImportFrom | ast.Assign)] == []


def test_packages_load_nothing_heavy() -> None:
    packages = [module_of(path) for path in sources() if path.name == "__init__.py"]
    program = f"import {', '.join(packages)}, json, sys; print(json.dumps([n for n in {HEAVY} if n in sys.modules]))"

    ended = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)

    assert json.loads(ended.stdout) == []


@each_source
def test_file_can_be_read_in_one_go(path: Path) -> None:
    n_lines = len((ROOT / path).read_text(encoding="utf-8").splitlines())

    assert n_lines <= MAX_LINES


@each_source
def test_public_functions_and_classes_say_what_they_are_for(path: Path) -> None:
    body = tree_of(path).body
    public = [node for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name[0] != "_"]

    assert ast.get_docstring(tree_of(path)) is not None
    assert [node.name for node in public if ast.get_docstring(node) is None] == []


@pytest.mark.parametrize("path", all_python_files(), ids=str)
def test_file_has_a_name_of_its_own(path: Path) -> None:
    assert path.stem not in NO_NOUN
    assert path.stem not in LIBRARIES
    assert path.stem == "__main__" or path.stem not in sys.stdlib_module_names


def test_folder_mlflow_holds_no_python_file() -> None:
    assert list((ROOT / "mlflow").rglob("*.py")) == []


def test_tests_are_no_package() -> None:
    assert list((ROOT / "tests").rglob("__init__.py")) == []

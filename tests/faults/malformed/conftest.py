"""What every test of malformed input asks of a command: a sentence, the right exit code, and nothing half-written."""

import copy
import os
import random
import re
import signal
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import psutil
import pytest

from search.cli import main

LIMIT_S = 10
"""Of processor time, for a command."""
WAITING_S = 60
"""More of wall time: a command that waits for something that never comes takes none of the processor's."""
LIMIT_BYTES = 1 << 30
"""Of memory, beyond what the process held before."""
LONGEST_SENTENCE = 5000
WHOLE = ["dataset.json", "test.arrow", "train.arrow", "valid.arrow"]

_PEAK = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")


class TooSlowError(BaseException):
    """A command took longer than it may. No `except Exception` on the way can swallow it."""


@dataclass(frozen=True)
class Answer:
    """What a command said."""

    code: int
    out: str
    sentence: str


@dataclass(frozen=True)
class Survives:
    """Runs a command on malformed input in this process, and looks at everything that it did."""

    folder: Path
    read: Callable[[], tuple[str, str]]

    def __call__(
        self, *words: str | Path, codes: Collection[int] = (1,), writes: Sequence[str] = (), limit_s: int = LIMIT_S
    ) -> Answer:
        """Run a command.

        Args:
            words: after the program's name.
            codes: exit codes that are right.
            writes: patterns of paths in the test's folder that it may write, whatever comes of it.
            limit_s: of processor time.
        """
        before, held = _tree(self.folder), psutil.Process().memory_info().rss
        _forget_peak()
        with _deadline(limit_s):
            code = main([str(word) for word in words])
        out, err = self.read()
        what = f"{words}: {code}\n{out[-2000:]}\n{err[-2000:]}"
        assert code in codes, what
        assert _peak_bytes() - held < LIMIT_BYTES, what
        changed = {path for path, mark in _tree(self.folder).items() if before.get(path) != mark} | before.keys() - (
            _tree(self.folder).keys()
        )
        changed = {path for path in changed if not any(re.fullmatch(pattern, path) for pattern in writes)}
        assert not changed, f"{sorted(changed)} after {what}"
        return Answer(code, out, check_words(code, err))

    def ingest(self, source: Path, *words: str, codes: Collection[int]) -> Answer:
        """Make a table of a source: the whole of it where the exit code is 0, else none."""
        answer = self(
            "data", "ingest", "--train", source, "--out", "table", "--workers", "1", *words,
            codes=codes, writes=["table(/.*)?"],
        )  # fmt: skip
        assert sorted(path.name for path in (self.folder / "table").glob("*")) == ([] if answer.code else WHOLE)
        return answer


CheckWords = Callable[[int, str], str]


@pytest.fixture(name="check_words")
def _check_words() -> CheckWords:
    """Looks at what a command said on stderr; gives its sentence."""
    return check_words


def check_words(code: int, err: str) -> str:
    """The one sentence of a command that failed; nothing of one that did not."""
    assert "Traceback" not in err and "nobody expected" not in err, err
    sentences = [line.removeprefix("affectune: ") for line in err.splitlines() if line.startswith("affectune: ")]
    assert len(sentences) == (code != 0), err
    assert all(len(sentence) <= LONGEST_SENTENCE for sentence in sentences), err
    return sentences[0] if sentences else ""


def _tree(folder: Path) -> dict[str, tuple[int, int, int]]:
    """What stands in a folder, at any depth: path to what tells a file from another. Links are not followed."""
    found: dict[str, tuple[int, int, int]] = {}
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(parent, name)
            info = path.lstat()
            is_folder = name in folders and not path.is_symlink()
            mark = (0, 0, 0) if is_folder else (info.st_ino, info.st_size, info.st_mtime_ns)
            found[path.relative_to(folder).as_posix()] = mark
    return found


@contextmanager
def _deadline(limit_s: int) -> Iterator[None]:
    def stop(number: int, frame: FrameType | None) -> None:
        raise TooSlowError(f"more than {limit_s} s of the processor, or {WAITING_S} s more of waiting")

    timers = {signal.SIGPROF: (signal.ITIMER_PROF, limit_s), signal.SIGALRM: (signal.ITIMER_REAL, limit_s + WAITING_S)}
    before = {number: signal.signal(number, stop) for number in timers}
    for timer, seconds in timers.values():
        signal.setitimer(timer, seconds, 1.0)
    try:
        yield
    finally:
        for number, (timer, _) in timers.items():
            signal.setitimer(timer, 0)
            signal.signal(number, before[number])


def _forget_peak() -> None:
    """Let Linux count the peak of memory from now on."""
    if _PEAK.exists():
        _PEAK.write_text("5")


def _peak_bytes() -> int:
    """Of memory that the process held since `_forget_peak`; where the system does not say, what it holds now."""
    found = re.search(r"VmHWM:\s+(\d+) kB", _STATUS.read_text()) if _STATUS.exists() else None
    return int(found[1]) * 1024 if found else psutil.Process().memory_info().rss


@pytest.fixture(scope="session")
def libraries() -> None:
    """What commands import when they run is imported once, so that it does not count as theirs."""
    import search.prelaunch  # noqa: F401


@pytest.fixture
def survives(
    libraries: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Survives:
    """Runs a command from the test's own folder, in which alone it finds a place for temporary files."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.delenv("AFFECTUNE_STORAGE", raising=False)
    capfd.readouterr()
    return Survives(tmp_path, capfd.readouterr)


@pytest.fixture
def damage() -> Callable[[Path, int], str]:
    """Damages a file as disks, networks and hands do, by a seed; says how."""
    return damage_file


def damage_file(path: Path, seed: int) -> str:
    """Cut off, flip, overwrite or repeat a part of a file."""
    draw = random.Random(seed)
    content = bytearray(path.read_bytes())
    start = draw.randrange(len(content))
    stop = min(len(content), start + draw.choice((1, 8, 64, 4096)))
    kind = ("cut off", "flipped", "zeroed", "taken out", "repeated", "filled with noise")[seed % 6]
    if kind == "cut off":
        del content[start:]
    elif kind == "flipped":
        content[start] ^= 1 << draw.randrange(8)
    elif kind == "zeroed":
        content[start:stop] = bytes(stop - start)
    elif kind == "taken out":
        del content[start:stop]
    elif kind == "repeated":
        content[stop:stop] = content[start:stop]
    else:
        content[start:stop] = draw.randbytes(stop - start)
    path.write_bytes(bytes(content))
    return f"{kind} from byte {start}"


ODD_VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 1e308, float("nan"), 1 << 70, "", "x", "../../x", "\x00", "e" * 300, [], {}, [[]], {"a": {}},
)  # fmt: skip
"""What may stand where something else should."""


Mutants = Callable[[Any, int], Iterator[tuple[str, Any]]]


@pytest.fixture
def mutants(moments: random.Random) -> Mutants:
    """Copies of a document, in each of which one part is missing or another value; drawn anew in every run."""

    def draw(document: Any, n: int) -> Iterator[tuple[str, Any]]:
        places = list(_places(document))
        for _ in range(n):
            place = moments.choice(places)
            value = moments.choice((*ODD_VALUES, ...) if place else ODD_VALUES)
            yield f"{place} is {str(value)[:20]!r}", _replaced(document, place, value)

    return draw


def _places(document: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Ways to all parts of a document; of a long list, to its first ones."""
    yield at
    keys: Iterable[Any] = document if isinstance(document, dict) else ()
    for key in range(len(document[:2])) if isinstance(document, list) else keys:
        yield from _places(document[key], (*at, key))


def _replaced(document: Any, place: tuple[Any, ...], value: Any) -> Any:
    if not place:
        return value
    changed = copy.copy(document)
    if value is ... and len(place) == 1:
        del changed[place[0]]
    else:
        changed[place[0]] = _replaced(document[place[0]], place[1:], value)
    return changed


@pytest.fixture(scope="session")
def good_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported ensemble of one small untrained network. Read it; do not change it."""
    import torch

    from search.export import ArtifactNetwork, write_artifact
    from trainables.checkpoint import NetworkSpec, save_network
    from trainables.models.backbones import build_network

    folder, classes = tmp_path_factory.mktemp("model"), ("anger", "fear", "happiness")
    spec = NetworkSpec("test_efficientnet", classes, 40, 40, 1, (0.5,) * 3, (0.25,) * 3)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = build_network(spec.backbone, n_classes=len(classes))
    save_network(folder / "network.safetensors", network.state_dict(), spec)
    voter = ArtifactNetwork(folder / "network.safetensors", weight=1.0, member="t0000", role="fine_tuned")
    return write_artifact(folder / "model", networks=[voter], classes=classes, card="", provenance={})


@pytest.fixture
def face(tmp_path: Path) -> Path:
    """An image that any model answers to."""
    from PIL import Image

    Image.linear_gradient("L").save(tmp_path / "face.png")
    return tmp_path / "face.png"

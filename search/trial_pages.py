"""Pages of trials: their pictures are drawn while a search runs, by a process of its own that gets what others leave.

The driver asks for pictures where a trial has ended and never waits for them; MLflow gets them as they come. What was
not drawn when a launch ended is drawn once a trial of the next one has.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from search.checkout import CHECKOUT
from search.folder import SearchFolder, TrialRecord
from search.privacy import PRIVATE_ENVIRONMENT
from trainables.outputs import new_folder
from trainables.scores import SCORES_FILE

PICTURES_DIR = "pictures"
"""Of a trial's folder."""
CLOSE_S, INTERRUPTED_S = 8.0, 1.0
"""So long the last pictures are waited for; only searches of seconds have some left to draw."""


class TrialPages:
    """Has the pictures of trials drawn.

    Args:
        folder: of the search, on a disk.
        drawn: is told of a trial that has its pictures now, from a thread.
        shows_faces: whether the faces that a trial got most wrong are among them.
    """

    def __init__(self, folder: SearchFolder, drawn: Callable[[str], None], *, shows_faces: bool = True) -> None:
        self._folder, self._drawn, self._shows_faces = folder, drawn, shows_faces
        self._late: list[str] = []
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None

    def catch_up(self, records: Sequence[TrialRecord]) -> None:
        """Ask for those of trials that ended in earlier launches, with the first that is asked for."""
        ended = [record.trial_id for record in records if record.end is not None]
        self._late = [trial_id for trial_id in ended if not (self._folder.trial_dir(trial_id) / PICTURES_DIR).exists()]

    def ask(self, trial_id: str) -> None:
        """Ask for a trial's pictures; one that left no scores has none."""
        asked = [each for each in (trial_id, *self._late) if (self._folder.trial_dir(each) / SCORES_FILE).is_file()]
        if trial_id not in asked:
            return
        self._late = []
        with contextlib.suppress(OSError):  # no process, or it has died: the search goes on without pictures
            if self._process is None:
                self._start()
            assert self._process is not None and self._process.stdin is not None
            self._process.stdin.write("".join(f"{each}\n" for each in asked))
            self._process.stdin.flush()

    def close(self, timeout_s: float | None = None) -> None:
        """Let what was asked for be drawn, for so long; for `CLOSE_S` if None."""
        process, self._process = self._process, None
        if process is None or self._reader is None:
            return
        with contextlib.suppress(OSError):
            assert process.stdin is not None
            process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(CLOSE_S if timeout_s is None else timeout_s)
        process.kill()
        process.wait()
        self._reader.join(timeout=1.0)

    def _start(self) -> None:
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "search.trial_pages",
                str(self._folder.path),
                "with faces" if self._shows_faces else "without faces",
            ],
            cwd=CHECKOUT,
            env={**os.environ, **PRIVATE_ENVIRONMENT, "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, args=(self._process,), name="affectune-pages", daemon=True)
        self._reader.start()

    def _read(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self._drawn(line.strip())


def draw_pages(folder: SearchFolder, trial_ids: Iterable[str], *, shows_faces: bool = True) -> Iterator[str]:
    """Draw the pictures of trials into their folders.

    Args:
        folder: of the search.
        trial_ids: which; what can't be read, or has no room, is passed over.
        shows_faces: whether the faces that a trial got most wrong are among the pictures.

    Yields:
        Each trial that has its pictures.

    Raises:
        AffectuneError: the search or its face table can't be read.
    """
    from search.named_table import open_named_table
    from search.trial_pictures import draw_trial
    from spaces.errors import AffectuneError
    from trainables.scores import load_scores

    manifest = folder.read_manifest()
    table = open_named_table(manifest.data, content_hash=manifest.content_hash) if shows_faces else None
    faces = table.split("valid") if table else None
    for trial_id in trial_ids:
        trial_dir = folder.trial_dir(trial_id)
        with contextlib.suppress(AffectuneError, OSError):
            pictures = draw_trial(folder.read_record(trial_id), load_scores(trial_dir / SCORES_FILE), faces)
            with new_folder(trial_dir / PICTURES_DIR) as staging:
                for name, content in pictures.items():
                    (staging / name).write_bytes(content)
            yield trial_id


def main() -> None:
    """Draw for a driver, which names trials line by line and hears of each when it is done. Its Ctrl-C is not ours."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(19)
    with contextlib.suppress(AttributeError, OSError):  # Linux alone; Ray's workers are nice, too
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    folder, shows_faces = SearchFolder(Path(sys.argv[1])), sys.argv[2] == "with faces"
    for trial_id in draw_pages(folder, (line.strip() for line in sys.stdin), shows_faces=shows_faces):
        print(trial_id, flush=True)


if __name__ == "__main__":
    main()

"""An MLflow server of a test: a process on a free port, with its runs in SQLite."""

import subprocess
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

from processes import NODE_MARK, end_all, free_port, new_mark, wait_until
from searches import Place

START_S = 180.0


@dataclass
class TrackingServer:
    """The server of a place; it can be killed and started again over the same files.

    Attributes:
        place: whose end is the server's too.
        port: on which it listens, on this machine alone.
        mark: in the environment of its processes.
    """

    place: Place
    port: int = field(default_factory=free_port)
    mark: str = field(default_factory=new_mark)

    @property
    def uri(self) -> str:
        """For `--tracking-uri`."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def database(self) -> Path:
        """Its SQLite file."""
        return self.place.folder / "server" / "mlflow.db"

    def start(self) -> "TrackingServer":
        """Start it, and wait until it answers."""
        self.database.parent.mkdir(exist_ok=True)
        own = {NODE_MARK: self.mark, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        with (self.database.parent / "server.log").open("ab") as output:
            subprocess.Popen(
                [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port),
                 "--workers", "1", "--backend-store-uri", f"sqlite:///{self.database}",
                 "--artifacts-destination", str(self.database.parent / "artifacts")],
                cwd=self.database.parent,
                env={**self.place.environment, **own},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip
        wait_until(self.answers, timeout_s=START_S, what="the tracking server answers", every_s=0.3)
        return self

    def answers(self) -> bool:
        """Whether it says that it is well."""
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=2.0) as answer:
                return bool(answer.read(2) == b"OK")
        except (urllib.error.URLError, OSError):
            return False

    def kill(self) -> None:
        """SIGKILL to all its processes."""
        end_all(self.mark, name=NODE_MARK)

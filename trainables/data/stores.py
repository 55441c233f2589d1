"""Where the files of a face table may be read from: a folder, or a prefix in an object store."""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from spaces.errors import DataError, near_miss

CONNECT_S, ANSWER_S, ATTEMPTS = 5.0, 15.0, 3
"""How long a store may take to be reached and to send its next byte, and how often it is asked."""

_URI = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)

ReadAt = Callable[[int, int], bytes]
"""From an offset and a number of bytes to those bytes; fewer at a file's end. Several threads may call it at once."""


class StoreError(DataError):
    """A store does not answer, or breaks off: it may do better when it is asked again."""


@dataclass(frozen=True)
class StoredFile:
    """A file as a store tells of it; one that was replaced has another size or time.

    Attributes:
        n_bytes: its size.
        changed_ns: Unix time at which it was written.
    """

    n_bytes: int
    changed_ns: int


class Store(Protocol):
    """Where a face table is."""

    @property
    def shown(self) -> str:
        """As sentences name it."""

    def look(self, name: str) -> StoredFile | None:
        """A file; None where there is none.

        Raises:
            StoreError: the store does not answer.
            DataError: it refuses.
        """

    def reading(self, name: str) -> AbstractContextManager[ReadAt]:
        """A context with the `ReadAt` of a file. Raises as `look` does, as that does when it is called."""

    def what_is_there(self) -> str:
        """Instead of a table, in words."""


class FolderStore:
    """A folder, of this machine or mounted from another."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def shown(self) -> str:
        """The folder."""
        return str(self._folder)

    def look(self, name: str) -> StoredFile | None:
        """A file of the folder."""
        path = self._folder / name
        with _as_sentences(str(path)):
            if not path.is_file():
                return None
            found = path.stat()
            return StoredFile(found.st_size, found.st_mtime_ns)

    @contextmanager
    def reading(self, name: str) -> Iterator[ReadAt]:
        """Reads a file of the folder."""
        path = self._folder / name

        def read_at(offset: int, n_bytes: int) -> bytes:
            with _as_sentences(str(path)):
                return os.pread(file.fileno(), n_bytes, offset)

        with _as_sentences(str(path)):
            file = path.open("rb")
        with file:
            yield read_at

    def what_is_there(self) -> str:
        """Instead of a table."""
        return "a folder without it" if self._folder.is_dir() else "a file" if self._folder.exists() else "nothing"


class BucketStore:
    """A prefix in a bucket of an object store.

    Args:
        files: pyarrow's file system.
        bucket: its name.
        prefix: within the bucket, without slashes at its ends; empty for all of the bucket.
        shown: the URI, without what stands behind a question mark.
    """

    def __init__(self, files: Any, bucket: str, *, prefix: str, shown: str) -> None:
        self._files = files
        self._bucket = bucket
        self._folder = f"{bucket}/{prefix}" if prefix else bucket
        self._shown = shown

    @property
    def shown(self) -> str:
        """The URI."""
        return self._shown

    def look(self, name: str) -> StoredFile | None:
        """An object below the prefix."""
        with _as_sentences(self._shown):
            found = self._files.get_file_info(f"{self._folder}/{name}")
        return StoredFile(found.size, found.mtime_ns or 0) if found.is_file else None

    @contextmanager
    def reading(self, name: str) -> Iterator[ReadAt]:
        """Reads an object below the prefix."""

        def read_at(offset: int, n_bytes: int) -> bytes:
            with _as_sentences(self._shown):
                return bytes(file.read_at(n_bytes, offset))

        with _as_sentences(self._shown):
            file = self._files.open_input_file(f"{self._folder}/{name}")
        with file:
            yield read_at

    def what_is_there(self) -> str:
        """Instead of a table."""
        from pyarrow.fs import FileType

        try:
            found = self._files.get_file_info([self._bucket, self._folder])
        except OSError:  # who may read a table need not be allowed to look around
            return "nothing"
        if found[0].type == FileType.NotFound:
            return f"no bucket {self._bucket}"
        return "a prefix without it" if found[1].type == FileType.Directory else "nothing"


def is_uri(data: str) -> bool:
    """Whether what a user names is a URI and not a path."""
    return _URI.match(data) is not None


def find_store(data: str) -> Store:
    """The store that a folder or a URI names; whether there is anything is not looked at.

    Raises:
        DataError: the URI is of no store, or holds what it should not.
        StoreError: the store does not answer where it is asked for a bucket's region.
    """
    if not is_uri(data):
        return FolderStore(Path(data).absolute())
    parts = urlsplit(data)
    if parts.scheme == "file":
        return FolderStore(Path(unquote(parts.path)))
    kind = _KINDS.get(parts.scheme)
    if kind is None:
        known = ", ".join(sorted({*_KINDS, "file"}))
        raise DataError(f"face table must be a folder or a URI of {known}, got {parts.scheme}: {_without_user(parts)}")
    bucket = parts.netloc.rpartition("@")[2]
    if not bucket:
        raise DataError(f"URI of a face table must name a bucket, got none; {parts.scheme}://BUCKET/PREFIX")
    words = _words_of(parts, kind.words)
    if parts.username is not None and (parts.username, parts.password) not in kind.users:
        raise DataError(
            f"URI of a face table must hold no key or password, got one: {_without_user(parts)}; {kind.advice}"
        )
    shown = parts._replace(query="", fragment="").geturl()
    with _as_sentences(shown):
        files = kind.connect(bucket, words, parts.username)
    return BucketStore(files, bucket, prefix=unquote(parts.path).strip("/"), shown=shown)


def _words_of(parts: SplitResult, known: tuple[str, ...]) -> dict[str, str]:
    words = dict(parse_qsl(parts.query))
    for name in words:
        if name not in known:
            shown = _without_user(parts).partition("?")[0]
            raise DataError(f"URI of a face table must not have {name!r}: {shown}{near_miss(name, known)}")
    return words


def _without_user(parts: SplitResult) -> str:
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _connect_s3(bucket: str, words: dict[str, str], _user: str | None) -> Any:
    """Amazon's store, or one that speaks like it.

    pyarrow heeds AWS_ENDPOINT_URL only where it takes the URI, and then knows no limits of time.
    """
    from pyarrow import fs

    named = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
    scheme, _, endpoint = words.get("endpoint_override", named).rpartition("://")
    region = words.get("region")
    if not (region or endpoint or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")):
        region = fs.resolve_s3_region(bucket)
    return fs.S3FileSystem(
        region=region,
        scheme=words.get("scheme") or scheme or "https",
        endpoint_override=endpoint.rstrip("/") or None,
        connect_timeout=CONNECT_S,
        request_timeout=ANSWER_S,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=ATTEMPTS),
    )


def _connect_gcs(_bucket: str, words: dict[str, str], user: str | None) -> Any:
    """Google's store."""
    from datetime import timedelta

    from pyarrow import fs

    scheme, _, endpoint = words.get("endpoint_override", "").rpartition("://")
    return fs.GcsFileSystem(
        anonymous=user is not None,
        scheme=words.get("scheme") or scheme or "https",
        endpoint_override=endpoint or None,
        project_id=words.get("project_id"),
        retry_time_limit=timedelta(seconds=ANSWER_S),
    )


@dataclass(frozen=True)
class _Kind:
    """A kind of store: what its URIs may say, and how one is opened."""

    connect: Callable[[str, dict[str, str], str | None], Any]
    words: tuple[str, ...]
    advice: str
    users: tuple[tuple[str, None], ...] = ()


_GCS = _Kind(
    _connect_gcs,
    ("endpoint_override", "project_id", "scheme"),
    "GOOGLE_APPLICATION_CREDENTIALS names a file with one, gs://anonymous@BUCKET goes without",
    (("anonymous", None),),
)
_KINDS = {
    "gcs": _GCS,
    "gs": _GCS,
    "s3": _Kind(
        _connect_s3,
        ("endpoint_override", "region", "scheme"),
        "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY hold them",
    ),
}


_REFUSALS = (
    "ACCESS_DENIED",
    "INVALID_ACCESS_KEY_ID",
    "SIGNATURE_DOES_NOT_MATCH",
    "PERMISSION_DENIED",
    "UNAUTHENTICATED",
)
_REASON = re.compile(r"Details: (?P<details>[^;]+?)(?:, \d+ ms)?$|last message of (?P<last>.+?)(?: error_info|$)", re.S)


@contextmanager
def _as_sentences(where: str) -> Iterator[None]:
    """What file systems raise, as one sentence."""
    try:
        yield
    except DataError:
        raise
    except FileNotFoundError as error:
        raise DataError(f"face table must stay while it is read, got a file that is gone: {where}") from error
    except PermissionError as error:
        raise DataError(f"face table must be readable, got permission denied: {where}") from error
    except (OSError, ValueError) as error:  # pyarrow's ArrowInvalid is a ValueError
        text = str(error)
        refusal = next((word for word in _REFUSALS if word in text), None)
        if refusal is not None:
            got = refusal.lower().replace("_", " ")
            raise DataError(f"face table must be readable, got {got} from its store: {where}") from error
        found = _REASON.search(text)
        reason = (found["details"] or found["last"]) if found else getattr(error, "strerror", None) or text
        reason = " ".join(reason.split()).partition(". ")[0][:200].rstrip(".")
        raise StoreError(f"store of a face table must answer, got: {reason}: {where}") from error

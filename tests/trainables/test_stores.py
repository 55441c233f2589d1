"""Where a table may be read from: folders and object stores, and what they say where there is none."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from spaces.errors import DataError
from trainables.data import stores
from trainables.data.opening import absolute_data, open_data
from trainables.data.stores import StoredFile, StoreError, find_store, is_uri
from trainables.data.table import FaceTable

PLACES = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
Silent = Callable[[str], str]


def wait_for_port(port: int) -> None:
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.05)
    pytest.fail("moto's server did not start within 10 s")


@pytest.fixture(scope="module")
def s3_query(toy_table: FaceTable) -> Iterator[str]:
    """A server that speaks as S3 does, with the toy table as s3://faces/toy: what its URIs end with."""
    from pyarrow import fs

    program = shutil.which("moto_server", path=PLACES)
    if program is None:
        pytest.skip("needs moto's server (pip install 'moto[server]'), there is none on the PATH")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [program, "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}.items():
            patch.setenv(name, value)
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        try:
            wait_for_port(port)
            bucket = fs.S3FileSystem(
                endpoint_override=f"127.0.0.1:{port}", scheme="http", allow_bucket_creation=True, region="us-east-1"
            )
            bucket.create_dir("faces")
            fs.copy_files(str(toy_table.path), "faces/toy", destination_filesystem=bucket)
            yield f"?endpoint_override=127.0.0.1%3A{port}&scheme=http"
        finally:
            server.kill()
            server.wait()


@pytest.fixture
def own_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of copies for one test."""
    monkeypatch.setenv("AFFECTUNE_TABLES", str(tmp_path / "copies"))
    return tmp_path / "copies"


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Iterator[Silent]:
    """A store that takes every connection and never says a word: from a kind of URI to one of it."""
    monkeypatch.setattr(stores, "ANSWER_S", 0.5)
    monkeypatch.setattr(stores, "ATTEMPTS", 1)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "none")
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        door.listen(16)
        port = door.getsockname()[1]
        yield lambda scheme: f"{scheme}://faces/toy?endpoint_override=127.0.0.1%3A{port}&scheme=http&region=x"


@pytest.mark.parametrize(
    ("data", "told"),
    [("s3://faces/toy", True), ("FILE:///faces", True), ("faces/toy", False), ("s3:/faces", False), ("", False)],
)
def test_uri_is_told_from_a_path(data: str, told: bool) -> None:
    assert is_uri(data) is told


def test_data_is_absolute_when_it_is_a_path() -> None:
    assert absolute_data("table") == str(Path("table").absolute())
    assert absolute_data("s3://faces/toy") == "s3://faces/toy"


def test_folder_gives_sizes_and_parts_of_files(tmp_path: Path) -> None:
    (tmp_path / "train.arrow").write_bytes(b"0123456789")
    store = find_store(f"file://{tmp_path}")

    with store.reading("train.arrow") as read_at:
        parts = [read_at(0, 4), read_at(8, 4)]

    found = store.look("train.arrow")
    assert found == StoredFile(10, (tmp_path / "train.arrow").stat().st_mtime_ns)
    assert store.look("valid.arrow") is None
    assert parts == [b"0123", b"89"]


@pytest.mark.parametrize(
    ("uri", "sentence"),
    [
        ("ftp://faces/toy", "face table must be a folder or a URI of file, gcs, gs, s3, got ftp: ftp://faces/toy"),
        ("s3:///toy", "URI of a face table must name a bucket, got none; s3://BUCKET/PREFIX"),
        (
            "s3://faces/toy?regoin=x",
            "URI of a face table must not have 'regoin': s3://faces/toy; did you mean 'region'",
        ),
        ("s3://me:hush@faces/toy", "must hold no key or password, got one: s3://faces/toy; AWS_ACCESS_KEY_ID and"),
        ("gs://me@faces/toy", "must hold no key or password, got one: gs://faces/toy; GOOGLE_APPLICATION_CREDENTIALS"),
    ],
    ids=["scheme", "bucket", "word", "password", "user"],
)
def test_uri_is_refused_and_its_password_is_not_repeated(uri: str, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence.replace("?", r"\?")) as caught:
        find_store(uri)

    assert "hush" not in str(caught.value)


def test_store_that_never_says_a_word_is_given_up_in_time(silent: Silent, own_copies: Path) -> None:
    started_s = time.monotonic()

    with pytest.raises(StoreError, match=r"store of a face table must answer, got: .*: s3://faces/toy$"):
        open_data(silent("s3"))

    assert time.monotonic() - started_s < 5
    assert not own_copies.exists()


def test_store_is_given_up_when_nobody_listens(own_copies: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "ATTEMPTS", 1)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "none")

    with pytest.raises(
        StoreError, match=r"store of a face table must answer, got: .*127\.0\.0\.1 port 9.*: s3://f/toy"
    ):
        open_data("s3://f/toy")


def test_table_is_opened_from_a_bucket(s3_query: str, own_copies: Path, toy_table: FaceTable) -> None:
    shares: list[float] = []
    uri = f"s3://faces/toy{s3_query}"

    table = open_data(uri, report=shares.append)

    assert (table.info, table.origin) == (toy_table.info, uri)
    assert table.path == own_copies / toy_table.info.content_hash
    assert (table.split("train").images == toy_table.split("train").images).all()
    assert shares[-1] == 1.0


def test_endpoint_of_a_bucket_is_taken_from_the_environment(
    s3_query: str, own_copies: Path, toy_table: FaceTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = s3_query.partition("%3A")[2].partition("&")[0]
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}/")

    assert open_data("s3://faces/toy/").info == toy_table.info


@pytest.mark.parametrize(
    ("place", "got"),
    [
        ("nowhere/toy", "no bucket nowhere"),
        ("faces/toys", "nothing"),
        ("faces", "a prefix without it"),
        ("faces/toy/train.arrow", "nothing"),
    ],
)
def test_bucket_without_a_table_is_refused(s3_query: str, own_copies: Path, place: str, got: str) -> None:
    sentence = (
        rf"face table must be a folder with dataset\.json, got {got}: s3://{place}; `affectune data ingest` makes"
    )

    with pytest.raises(DataError, match=sentence):
        open_data(f"s3://{place}{s3_query}")

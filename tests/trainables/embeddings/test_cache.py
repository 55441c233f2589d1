"""The cache of embeddings: computed once, mapped, bounded; and nothing that is wrong with its folder stops anybody."""

import errno
import fcntl
import logging
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spaces.errors import UsageError
from trainables.embeddings import entry
from trainables.embeddings.cache import EmbeddingCache, default_cache
from trainables.embeddings.key import EmbeddingKey

MakeKey = Callable[..., EmbeddingKey]
Numbers = np.ndarray[Any, np.dtype[np.float16]]

ROOT = Path(__file__).resolve().parents[3]


class Computer:
    """Computes what it was given, and counts how often."""

    def __init__(self, numbers: Numbers) -> None:
        self.numbers = numbers
        self.n_calls = 0

    def __call__(self) -> Numbers:
        self.n_calls += 1
        return self.numbers.copy()


def never() -> Numbers:
    raise AssertionError("computed although it is kept")


def files_in(cache: EmbeddingCache) -> list[Path]:
    return sorted(path for path in cache.folder.rglob("*") if path.is_file())


def reopened(cache: EmbeddingCache) -> EmbeddingCache:
    """The cache as another process sees it."""
    return EmbeddingCache(cache.folder, max_bytes=cache.max_bytes)


@contextmanager
def small_files() -> Iterator[None]:
    """No file may grow beyond a kilobyte."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_embeddings_are_computed_once_and_then_mapped(
    cache: EmbeddingCache, make_key: MakeKey, numbers: Numbers
) -> None:
    compute = Computer(numbers)

    found = [cache.fetch(make_key(), compute), cache.fetch(make_key(), compute)]
    found.append(reopened(cache).fetch(make_key(), compute))

    assert compute.n_calls == 1
    for array in found:
        assert (array.dtype, array.flags.writeable, array.flags.owndata) == (np.float16, False, False)
        np.testing.assert_array_equal(array, numbers)
    assert [path.suffix for path in files_in(cache)] == [".arrow"]


def test_mapped_embeddings_lie_in_the_file_itself(cache: EmbeddingCache, make_key: MakeKey, numbers: Numbers) -> None:
    found = cache.fetch(make_key(), Computer(numbers))

    (path,) = files_in(cache)
    maps = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
    areas = [line.split()[0].split("-") for line in maps if line.endswith(str(path))]
    address = found.__array_interface__["data"][0]
    assert any(int(first, 16) <= address < int(last, 16) for first, last in areas)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("encoder", "e1"), ("backbone", "resnet18"), ("design", '{"encoder": "dan"}'), ("image_px", 48),
        ("channels", 3), ("mean", (0.4,) * 3), ("std", (0.3,) * 3), ("table", "t1"), ("split", "valid"),
        ("view", "mirror"), ("alterations", "a1"), ("dtype", "float32"), ("device", "cuda"), ("libraries", "torch 3"),
        ("version", 0),
    ],
)  # fmt: skip
def test_whatever_embeddings_depend_on_keeps_them_apart(
    cache: EmbeddingCache, make_key: MakeKey, numbers: Numbers, name: str, value: Any
) -> None:
    cache.fetch(make_key(), Computer(numbers))
    other = Computer((numbers + 1).astype(np.float32))

    found = cache.fetch(make_key(**{name: value}), other)

    assert other.n_calls == 1
    np.testing.assert_array_equal(found, other.numbers)
    np.testing.assert_array_equal(cache.fetch(make_key(), never), numbers)


def test_numbers_that_float16_can_not_hold_are_kept_as_they_came(
    cache: EmbeddingCache, make_key: MakeKey, numbers: Numbers
) -> None:
    large = numbers.astype(np.float32) * 1e6

    cache.fetch(make_key(), lambda: large.copy())

    np.testing.assert_array_equal(reopened(cache).fetch(make_key(), never), large)


def cut_short(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def cut_to_nothing(path: Path) -> None:
    path.write_bytes(b"")


def flip_a_number(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


def say_another_version(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"version\x00", b"verslon\x00"))


def be_of_another_table(path: Path) -> None:
    data = path.read_bytes()
    assert data.count(b'"table": "t0"') == 2
    path.write_bytes(data.replace(b'"table": "t0"', b'"table": "t1"'))


def be_something_else(path: Path) -> None:
    path.write_text("not at all what it was\n" * 100)


@pytest.mark.parametrize(
    "spoil", [cut_short, cut_to_nothing, flip_a_number, say_another_version, be_of_another_table, be_something_else]
)
def test_spoilt_file_is_rebuilt(
    cache: EmbeddingCache, make_key: MakeKey, numbers: Numbers, spoil: Callable[[Path], None]
) -> None:
    cache.fetch(make_key(), Computer(numbers))
    spoil(files_in(cache)[0])
    again = Computer(numbers)

    found = reopened(cache).fetch(make_key(), again)

    assert again.n_calls == 1
    np.testing.assert_array_equal(found, numbers)
    np.testing.assert_array_equal(reopened(cache).fetch(make_key(), never), numbers)


def test_file_of_an_older_version_is_rebuilt_under_the_same_name(
    cache: EmbeddingCache, make_key: MakeKey, numbers: Numbers, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.fetch(make_key(), Computer(numbers))
    monkeypatch.setattr(entry, "VERSION", entry.VERSION + 1)
    again = Computer(numbers)

    reopened(cache).fetch(make_key(), again)

    assert (again.n_calls, len(files_in(cache))) == (1, 1)


def test_no_flipped_byte_anywhere_gives_other_numbers(
    cache: EmbeddingCache, make_key: MakeKey, numbers: Numbers
) -> None:
    cache.fetch(make_key(), Computer(numbers))
    (path,) = files_in(cache)
    whole = path.read_bytes()

    for place in range(0, len(whole), 17):
        spoilt = bytearray(whole)
        spoilt[place] ^= 1 << place % 8
        path.write_bytes(spoilt)
        found = entry.map_entry(path, make_key(), checks_sum=True)
        assert found is None or np.array_equal(found, numbers)


def test_checksum_is_compared_once_in_a_process(
    cache: EmbeddingCache, make_key: MakeKey, numbers: Numbers, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.fetch(make_key(), Computer(numbers))
    checked: list[bool] = []
    map_entry = entry.map_entry

    def watched(path: Path, key: EmbeddingKey, *, checks_sum: bool) -> Any:
        checked.append(checks_sum)
        return map_entry(path, key, checks_sum=checks_sum)

    monkeypatch.setattr("trainables.embeddings.cache.map_entry", watched)

    other = reopened(cache)
    for _ in range(3):
        other.fetch(make_key(), never)

    assert checked == [True, False, False]


def test_entries_that_were_not_used_for_longest_make_room(
    cache: EmbeddingCache, make_key: MakeKey, numbers: Numbers
) -> None:
    for age_s, table in enumerate(["new", "old", "oldest", "used"]):
        cache.fetch(make_key(table=table), Computer(numbers))
        (path,) = [each.path for each in cache.entries() if f'"{table}"' in each.header().key]  # type: ignore[union-attr]
        os.utime(path, (1_000_000 - age_s, 1_000_000 - age_s))
    n_bytes = cache.entries()[0].n_bytes
    room_for_three = EmbeddingCache(cache.folder, max_bytes=3 * n_bytes + 16_384)
    room_for_three.fetch(make_key(table="used"), never)

    room_for_three.fetch(make_key(table="newest"), Computer(numbers))

    for table in ("new", "used", "newest"):
        room_for_three.fetch(make_key(table=table), never)
    assert len(room_for_three.entries()) == 3


def test_entry_that_another_has_mapped_can_make_room(
    cache: EmbeddingCache, make_key: MakeKey, numbers: Numbers
) -> None:
    mapped = cache.fetch(make_key(table="old"), Computer(numbers))
    room_for_one = EmbeddingCache(cache.folder, max_bytes=cache.entries()[0].n_bytes + 16_384)

    room_for_one.fetch(make_key(table="new"), Computer(numbers))

    assert len(cache.entries()) == 1
    np.testing.assert_array_equal(mapped, numbers)


def test_entry_larger_than_the_bound_is_used_and_not_kept(
    tmp_path: Path, make_key: MakeKey, numbers: Numbers, caplog: pytest.LogCaptureFixture
) -> None:
    cache, compute = EmbeddingCache(tmp_path, max_bytes=2_000), Computer(numbers)
    assert not cache.serves(make_key())

    found = [cache.fetch(make_key(), compute) for _ in range(2)]

    assert compute.n_calls == 2
    np.testing.assert_array_equal(found[1], numbers)
    assert not found[1].flags.writeable
    assert files_in(cache) == []
    assert cache.serves(make_key(rows=1)) is False and EmbeddingCache(tmp_path, max_bytes=20_000).serves(make_key())
    (record,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert "2,400 bytes are more than AFFECTUNE_CACHE_GB allows (2,000)" in record.getMessage()


def test_error_of_the_computation_passes_and_leaves_nothing(cache: EmbeddingCache, make_key: MakeKey) -> None:
    def fail() -> Numbers:
        raise OSError("no such weights")

    with pytest.raises(OSError, match="no such weights"):
        cache.fetch(make_key(), fail)

    assert files_in(cache) == []


def test_file_that_may_grow_no_further_ends_the_cache_and_not_the_trial(
    cache: EmbeddingCache, make_key: MakeKey, numbers: Numbers, caplog: pytest.LogCaptureFixture
) -> None:
    with small_files():
        found = [cache.fetch(make_key(table=str(i)), Computer(numbers)) for i in range(2)]

    np.testing.assert_array_equal(found[1], numbers)
    assert files_in(cache) == []
    assert not cache.serves(make_key())
    (record,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert "kept in memory and shared with no other trial: the file is too large" in record.getMessage()


def test_place_where_no_folder_can_be_ends_the_cache_and_not_the_trial(
    tmp_path: Path, make_key: MakeKey, numbers: Numbers, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    cache = EmbeddingCache(tmp_path / "file", max_bytes=10**6)

    found = cache.fetch(make_key(), Computer(numbers))

    np.testing.assert_array_equal(found, numbers)
    assert cache.entries() == []
    assert cache.empty() == []
    assert "can't be written to, or its file system has no locks" in caplog.text


def test_file_system_without_locks_shares_nothing(
    cache: EmbeddingCache, make_key: MakeKey, numbers: Numbers, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    compute = Computer(numbers)
    monkeypatch.setattr(fcntl, "flock", no_locks)

    for _ in range(2):
        np.testing.assert_array_equal(cache.fetch(make_key(), compute), numbers)

    assert compute.n_calls == 2
    assert files_in(cache) == []
    assert not cache.serves(make_key())


def in_a_small_disk(program: str, *, mount: str) -> "subprocess.CompletedProcess[str]":
    """Run Python where /mnt is a file system of its own, in a namespace of its own."""
    script = f'{mount} && exec "$0" -c "$1"'
    words = ["unshare", "--map-root-user", "--mount", "sh", "-c", script, sys.executable, program]
    return subprocess.run(
        words, env={**os.environ, "PYTHONPATH": str(ROOT)}, cwd=ROOT, capture_output=True, text=True, check=False
    )


def needs_namespaces() -> None:
    probe = "mount -t tmpfs none /mnt"
    try:
        ended = subprocess.run(["unshare", "--map-root-user", "--mount", "sh", "-c", probe], capture_output=True)
    except FileNotFoundError:
        pytest.skip("needs unshare, there is none")
    if ended.returncode:
        pytest.skip("needs a user namespace with mounts, none is allowed here")


IN_A_SMALL_DISK = """
import json
from pathlib import Path
import numpy as np
from trainables.embeddings.cache import EmbeddingCache
from trainables.embeddings.key import EmbeddingKey

key = EmbeddingKey("e", "b", "", 32, 1, (), (), "t", "train", "plain", "", 500, 256, "float16", "cpu", "")
cache = EmbeddingCache(Path("/mnt/cache"), max_bytes=10**7)
found = [cache.fetch(key, lambda: np.ones((500, 256), np.float16)) for _ in range(2)]
assert all((each == 1).all() for each in found)
print(json.dumps(sorted(str(path) for path in Path("/mnt").rglob("*") if path.is_file())))
"""


@pytest.mark.parametrize(
    ("mount", "why"),
    [
        ("mount -t tmpfs -o size=128k none /mnt", "the disk is full"),
        (
            "mount -t tmpfs none /mnt && mkdir -p /mnt/cache/embeddings && mount -o remount,ro /mnt",
            "can't be written to",
        ),
    ],
    ids=["full", "read-only"],
)
def test_disk_that_takes_nothing_ends_the_cache_and_not_the_trial(mount: str, why: str) -> None:
    needs_namespaces()

    ended = in_a_small_disk(IN_A_SMALL_DISK, mount=mount)

    assert (ended.returncode, ended.stdout.strip()) == (0, "[]"), ended.stderr
    assert why in ended.stderr
    assert ended.stderr.count("kept in memory") == 1


def test_what_killed_processes_left_is_swept(cache: EmbeddingCache, make_key: MakeKey, numbers: Numbers) -> None:
    cache.fetch(make_key(), Computer(numbers))
    folder, mine, other = cache.entries()[0].path.parent, make_key(view="mirror").name, make_key(table="t9").name
    for left in (f".{mine}.arrow.1.partial", f".{other}.arrow.2.partial", f"{other}.lock"):
        (folder / left).write_text("half")

    cache.fetch(make_key(view="mirror"), Computer(numbers))

    assert [path.suffix for path in files_in(cache)] == [".arrow", ".arrow"]


def test_what_somebody_is_writing_is_not_swept(cache: EmbeddingCache, make_key: MakeKey, numbers: Numbers) -> None:
    folder, name = cache.folder / "embeddings", make_key(table="t9").name
    folder.mkdir(parents=True)
    partial, lock = folder / f".{name}.arrow.2.partial", folder / f"{name}.lock"
    partial.write_text("half")
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)

        cache.fetch(make_key(), Computer(numbers))
        cache.empty()

        assert partial.exists() and lock.exists()


def test_emptying_removes_what_a_clock_that_went_wrong_has_dated(
    cache: EmbeddingCache, make_key: MakeKey, numbers: Numbers
) -> None:
    cache.fetch(make_key(), Computer(numbers))
    os.utime(cache.entries()[0].path, (4e9, 4e9))

    assert len(cache.empty()) == 1


def test_emptying_removes_all_or_what_was_not_used_for_long(
    cache: EmbeddingCache, make_key: MakeKey, numbers: Numbers
) -> None:
    for table in ("t1", "t2"):
        cache.fetch(make_key(table=table), Computer(numbers))
    old = cache.entries()[1].path
    os.utime(old, (1_000_000, 1_000_000))

    assert [entry.path for entry in cache.empty(unused_s=86_400)] == [old]
    assert len(cache.empty()) == 1
    assert files_in(cache) == []


def test_default_cache_is_where_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFFECTUNE_CACHE", str(tmp_path / "here"))
    monkeypatch.setenv("AFFECTUNE_CACHE_GB", "0.5")
    named = default_cache()
    monkeypatch.setenv("AFFECTUNE_CACHE", "")
    monkeypatch.setenv("AFFECTUNE_CACHE_GB", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    of_the_user = default_cache()
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    at_home = default_cache()

    assert named is not None and of_the_user is not None and at_home is not None
    assert (named.folder, named.max_bytes) == (tmp_path / "here", 500_000_000)
    assert (of_the_user.folder, of_the_user.max_bytes) == (tmp_path / "xdg" / "affectune", 20_000_000_000)
    assert at_home.folder == tmp_path / "home" / ".cache" / "affectune"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("word", ["off", "OFF"])
def test_default_cache_can_be_switched_off(word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFFECTUNE_CACHE", word)

    assert default_cache() is None


@pytest.mark.parametrize("text", ["much", "-1", "nan", "inf"])
def test_bound_that_is_no_size_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFFECTUNE_CACHE_GB", text)

    with pytest.raises(UsageError) as caught:
        default_cache()

    assert str(caught.value) == f"AFFECTUNE_CACHE_GB must be a number of gigabytes from 0 up, got {text!r}"

"""What both kinds of payload store do alike, and how each fails."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from orchestrator.core.payload import StoreUrl, reference
from orchestrator.errors import PayloadLost, PayloadUnavailable
from orchestrator.payloads import Payloads, payloads
from orchestrator.payloads.payloads import MARK
from tests.support.payloads import CREDENTIALS, bucket_server, payloads_of

RUN = UUID(int=7)
DATA = b'{"text":"' + b"x" * 3000 + b'"}'


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with bucket_server() as address, pytest.MonkeyPatch.context() as patch:
        for name, value in CREDENTIALS.items():
            patch.setenv(name, value)
        yield address


@pytest.fixture(params=["folder", "bucket"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "folder":
        return f"file://{tmp_path}"
    endpoint: str = request.getfixturevalue("endpoint")
    return f"s3://flows/{uuid4().hex}?endpoint={endpoint}&region=us-east-1"


@pytest.fixture
def store(url: str) -> Payloads:
    """One that has its mark."""
    made = payloads_of(url)
    made.put_mark(uuid4())
    return made


def test_what_is_written_is_read_elsewhere(url: str, store: Payloads) -> None:
    payload = store.write(reference(RUN, "price", 3), DATA)
    assert (payload.reference, payload.size) == (f"{RUN}/price/3.json", len(DATA))
    assert payloads_of(url).read(payload) == {"text": "x" * 3000}


def test_a_name_is_replaced_as_a_whole(store: Payloads) -> None:
    store.write("a/b/1.json", b'"first"')
    assert store.read(store.write("a/b/1.json", b'"second"')) == "second"


def test_all_of_a_run_is_removed_and_nothing_else(store: Payloads) -> None:
    other = UUID(int=70)
    gone = [store.write(reference(RUN, "price", fence), DATA) for fence in (1, 2)]
    kept = store.write(reference(other, "price", 1), DATA)
    store.remove(RUN)
    store.remove(RUN)
    for payload in gone:
        with pytest.raises(PayloadLost, match=r"is not there any more.*Fix: restore it"):
            store.read(payload)
    assert store.read(kept) == {"text": "x" * 3000}


def test_many_threads_write_and_read(store: Payloads) -> None:
    def there_and_back(n: int) -> bool:
        payload = store.write(reference(RUN, "many", n), f'"{n}"'.encode())
        return store.read(payload) == str(n)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(there_and_back, range(40)))


def test_what_was_changed_is_not_given_to_a_step(url: str, store: Payloads) -> None:
    payload = store.write("a/b/1.json", DATA)
    store.write("a/b/1.json", DATA.replace(b"x", b"y", 1))
    with pytest.raises(PayloadLost, match="is not what was written"):
        store.read(payload)


def test_a_store_without_its_mark_is_another_one(url: str) -> None:
    """As a folder is that another file system was to be mounted on."""
    with pytest.raises(PayloadUnavailable, match=f"has no mark `{MARK}`.*Fix: mount"):
        payloads_of(url).write("a/b/1.json", DATA)


def test_another_store_is_not_searched(store: Payloads) -> None:
    payload = store.write("a/b/1.json", DATA)
    with pytest.raises(PayloadLost, match="and the one here is"):
        store.read(replace(payload, store=uuid4()))


def test_without_a_store_the_error_names_the_setting() -> None:
    none = Payloads()
    assert not none
    with pytest.raises(PayloadUnavailable, match=r"ORCHESTRATOR_PAYLOAD_STORE is not set.*Fix: set it"):
        none.mark()


def test_a_mark_that_nobody_can_read_is_named(store: Payloads) -> None:
    store._store.write(MARK, b"\xff")
    with pytest.raises(PayloadUnavailable, match=r"cannot be read. Fix: restore it"):
        store.mark()


# ---- a folder ----


def test_a_folder_that_was_unmounted_takes_nothing(tmp_path: Path) -> None:
    """Else it would be written below the place where the file system belongs, where no other host sees it."""
    folder = tmp_path / "mounted"
    folder.mkdir()
    store = payloads_of(f"file://{folder}")
    store.put_mark(uuid4())
    payload = store.write("a/b/1.json", DATA)
    folder.rename(tmp_path / "away")
    for call in (lambda: store.write("a/b/2.json", DATA), lambda: store.read(payload)):
        with pytest.raises(PayloadUnavailable, match="is not a folder"):
            call()
    folder.mkdir()
    for call in (lambda: store.write("a/b/2.json", DATA), lambda: store.read(payload)):
        with pytest.raises(PayloadUnavailable, match="has lost its mark"):
            call()
    assert list(folder.iterdir()) == []


def test_a_write_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = payloads_of(f"file://{tmp_path}")
    store.put_mark(uuid4())

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(PayloadUnavailable, match=r"No space left on device. Fix: see to it"):
        store.write("a/b/1.json", DATA)
    assert list((tmp_path / "a" / "b").iterdir()) == []


def test_nobody_reads_half_of_it(tmp_path: Path) -> None:
    """The name appears when all of it is on the disk."""
    store = payloads_of(f"file://{tmp_path}")
    store.put_mark(uuid4())
    payload = store.write("a/b/1.json", DATA)
    big = DATA * 200
    with ThreadPoolExecutor(2) as pool:
        writing = pool.submit(lambda: [store.write("a/b/1.json", big) for _ in range(20)])
        while not writing.done():
            found = (tmp_path / payload.reference).read_bytes()
            assert found in (DATA, big)
        writing.result()


# ---- a bucket ----


def test_a_bucket_that_is_not_there_is_named(endpoint: str) -> None:
    store = payloads_of(f"s3://nowhere/x?endpoint={endpoint}&region=us-east-1")
    with pytest.raises(PayloadUnavailable, match=r"s3://nowhere/x.*NoSuchBucket.*Fix: see to it that the bucket"):
        store.mark()


def test_a_forked_child_makes_its_own_connections(endpoint: str) -> None:
    store = payloads_of(f"s3://flows/forked?endpoint={endpoint}&region=us-east-1")
    store.put_mark(uuid4())
    payload = store.write("a/b/1.json", DATA)
    before = store._store._client  # type: ignore[attr-defined]
    child = os.fork()
    if child == 0:
        own = store._store._client is not before  # type: ignore[attr-defined]
        os._exit(0 if own and store.read(payload) else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert store.read(payload)


# ---- its URL ----


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("/mnt/payloads", "neither a folder nor a bucket"),
        ("file:payloads", "absolute path"),
        ("file://host/payloads", "absolute path"),
        ("file:///payloads?sync=1", "no options"),
        ("s3:///folder", "a bucket's name follows"),
        ("s3://key:secret@bucket/x", "credentials come from"),
        ("s3://bucket/x?endpont=http://h", "`endpont` is not known"),
    ],
)
def test_a_url_that_names_no_store_is_refused(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=f"{says}.*Fix: "):
        StoreUrl.read(text)


def test_a_url_is_read() -> None:
    found = StoreUrl.read("s3://bucket/a/b/?endpoint=https://minio:9000&region=eu")
    assert (found.bucket, found.path) == ("bucket", "a/b")
    assert found.options == {"endpoint": "https://minio:9000", "region": "eu"}
    assert StoreUrl.read("file:///mnt/my%20payloads").path == "/mnt/my payloads"


def test_the_defaults() -> None:
    assert (payloads.THRESHOLD, payloads.CAP) == (262_144, 67_108_864)

"""The memory that uploads of unknown length share: who gets it, who waits, and how much is used."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
import requests

from s3api.bodies import Body
from s3api.failures import FileError, TooBusy
from s3api.upload_memory import STEP, UploadMemory
from support.raw_client import RawClient
from support.servers import S3, Service, running_service, until

MiB = 1024 * 1024
PART = 8 * STEP


class Slow(io.RawIOBase):
    """A body that gives a step for each `go`, and then waits."""

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self.go = threading.Semaphore(0)
        self.given = 0

    def read(self, amount: int = -1) -> bytes:
        self.go.acquire()
        if self.given == self._steps:
            return b""
        self.given += 1
        return b"x" * amount


def body(stream: object) -> Body:
    return Body(stream, None, 1 << 40)  # type: ignore[arg-type]


def length_of_part(memory: UploadMemory, stream: object) -> int:
    with memory.part(body(stream)) as data:
        return len(data)


def test_slow_uploads_hold_only_what_has_arrived() -> None:
    """With memory for three parts, eight uploads that have sent one step each leave room for a whole part."""
    memory = UploadMemory(3 * PART, PART, patience=5)
    slow = [Slow(1) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        lengths = [pool.submit(length_of_part, memory, one) for one in slow]
        for one in slow:
            one.go.release()
        until(lambda: all(one.given for one in slow), "each has sent a step")
        try:
            fast = length_of_part(memory, io.BytesIO(bytes(PART)))
        finally:
            for one in slow:
                one.go.release()

    assert fast == PART
    assert [length.result() for length in lengths] == [STEP] * 8


def test_uploads_never_wait_for_each_other_without_end() -> None:
    """Many uploads of several parts, with memory for one and a half, all end; none is refused."""
    memory = UploadMemory(PART + PART // 2, PART, patience=20)

    def upload(_: int) -> int:
        stream, total = body(io.BytesIO(bytes(3 * PART + 5))), 0
        while True:
            with memory.part(stream) as data:
                total += len(data)
                if len(data) < PART:
                    return total

    with ThreadPoolExecutor(12) as pool:
        assert list(pool.map(upload, range(24))) == [3 * PART + 5] * 24


def test_the_limit_holds() -> None:
    """The uploads of a process together never hold more than the limit."""
    memory = UploadMemory(3 * PART, PART, patience=20)
    most = 0

    class Watched(io.BytesIO):
        def read(self, amount: int | None = -1) -> bytes:
            nonlocal most
            most = max(most, sum(memory._held.values()))
            return super().read(amount)

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(lambda _: length_of_part(memory, Watched(bytes(PART))), range(48)))

    assert PART <= most <= 3 * PART
    assert not memory._held


def test_one_is_refused_once_no_memory_comes_free() -> None:
    """An upload that finds no memory for so long raises; when another gives some back, it is waited for."""
    memory = UploadMemory(PART, PART, patience=0.2)
    with memory.part(body(io.BytesIO(bytes(PART)))):
        started = time.monotonic()
        with pytest.raises(TooBusy):
            length_of_part(memory, io.BytesIO(bytes(PART)))

        assert time.monotonic() - started >= 0.2
    assert length_of_part(memory, io.BytesIO(bytes(PART))) == PART


def test_what_fails_gives_its_memory_back() -> None:
    """A body that breaks off, and a store that fails, leave the whole memory to others."""
    memory = UploadMemory(PART, PART, patience=0.2)

    class Broken(io.BytesIO):
        def read(self, _amount: int | None = -1) -> bytes:
            raise TimeoutError

    with pytest.raises(FileError):
        length_of_part(memory, Broken())
    with pytest.raises(KeyError), memory.part(body(io.BytesIO(bytes(PART)))):
        raise KeyError

    assert length_of_part(memory, io.BytesIO(bytes(PART))) == PART


# --- the service


@pytest.fixture(scope="module")
def service(seaweedfs_s3: S3, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with memory for three parts."""
    bucket = seaweedfs_s3.make_bucket("day02-upload-memory")
    directory = tmp_path_factory.mktemp("upload-memory")
    # The settings of malloc are those of the image.
    malloc = {"malloc_arena_max": 2, "malloc_mmap_threshold_": MiB}
    with running_service(seaweedfs_s3, bucket, directory, upload_buffer_bytes=24 * MiB, **malloc) as service:
        yield service


def pieces(size: int) -> Iterator[bytes]:
    for _ in range(size // 65_536):
        yield b"p" * 65_536


def resident(service: Service, what: str) -> int:
    booted = [line["event"] for line in service.log_lines() if "Booting worker with pid" in line["event"]]
    status = Path(f"/proc/{booted[-1].rpartition(' ')[2]}/status").read_text()
    return int(status.partition(f"{what}:")[2].split()[0]) * 1024


def test_many_large_uploads_of_unknown_length_are_all_stored(service: Service) -> None:
    """Twenty generator PUTs of three parts in sixteen threads are 200, and share a bounded memory."""
    requests.put(service.at("/upload/", "warm"), data=pieces(9 * MiB), timeout=60).raise_for_status()
    before = resident(service, "VmRSS")

    def put(number: int) -> int:
        url = service.at("/upload/", f"generator-{number}")
        return requests.put(url, data=pieces(20 * MiB), timeout=120).status_code

    with ThreadPoolExecutor(16) as pool:
        statuses = list(pool.map(put, range(20)))
    listed = requests.get(service.at("/list_files?details=true"), timeout=10).json()["content"]

    assert statuses == [200] * 20
    assert {file["size"] for file in listed if file["name"] != "warm"} == {20 * MiB}
    assert resident(service, "VmHWM") - before < 60 * MiB  # and 16 times what each connection needs


def test_slow_large_uploads_leave_room_for_others(service: Service) -> None:
    """Eight clients that have sent a MiB of a large file and then pause do not delay another upload.

    With a place for a whole part each, the fourth would have waited for the first three.
    """
    with ExitStack() as stack:
        clients = [stack.enter_context(RawClient(service.url)) for _ in range(8)]
        for number, client in enumerate(clients):
            client.begin("PUT", f"/upload/slow-{number}", Transfer_Encoding="chunked")
            client.send_chunk(b"s" * MiB)
        started = time.monotonic()
        fast = requests.put(service.at("/upload/", "fast"), data=pieces(9 * MiB), timeout=60)
        took = time.monotonic() - started
        for client in clients:
            client.send_chunk(b"")
        answers = [client.answer().status for client in clients]

    assert fast.status_code == 200
    assert took < 9  # less than UPLOAD_WAIT_SECONDS, after which it would have been refused
    assert answers == [200] * 8

"""Clients that are too slow, mostly in reading: how long they hold a connection, and what counts them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from support.raw_client import RawClient
from support.servers import S3, Service, running_service, until

MiB = 1024 * 1024
MINIMUM = 512 * 1024
PATIENCE = 10


@contextmanager
def running(s3: S3, bucket: str, directory: Path, patience: int, size: int) -> Iterator[Service]:
    """A service with a file, whose clients must read 512 KiB a second and may pause for this `patience`."""
    s3.make_bucket(bucket)
    s3.client().put_object(Bucket=bucket, Key="file", Body=os.urandom(size))
    limits = {"client_stall_seconds": patience, "client_min_bytes_per_second": MINIMUM}
    with running_service(s3, bucket, directory, **limits) as service:
        yield service


@pytest.fixture(scope="module")
def service(seaweedfs_s3: S3, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with a file of 8 MiB, for clients that are too slow."""
    directory = tmp_path_factory.mktemp("readers")
    with running(seaweedfs_s3, "day02-slow-readers", directory, 2, 8 * MiB) as service:
        yield service


@pytest.fixture(scope="module")
def patient_service(seaweedfs_s3: S3, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with a file of 16 MiB, for clients that must not be ended when the machine is busy.

    At twice the minimum rate, the client reads this file for longer than the patience. So its rate is checked
    at least once.
    """
    directory = tmp_path_factory.mktemp("patient-readers")
    with running(seaweedfs_s3, "day02-patient-readers", directory, PATIENCE, 16 * MiB) as service:
        yield service


def read(client: RawClient, rate: int, seconds: float) -> int:
    """Read at this rate until the connection ends, or for this long; returns how many bytes came."""
    started = time.monotonic()
    received = 0
    client.socket.settimeout(seconds)
    while (elapsed := time.monotonic() - started) < seconds:
        wanted = int(elapsed * rate) - received
        if wanted <= 0:
            time.sleep(0.01)  # the pace is what is tested
            continue
        try:
            data = client.socket.recv(wanted)
        except ConnectionResetError:
            return received
        if not data:
            return received
        received += len(data)
    raise AssertionError(f"the connection still stands, after {received} bytes")


def slow(service: Service, part: str) -> int:
    """How many requests were ended because this part of them was too slow."""
    name = f's3api_slow_clients_total{{part="{part}"}} '
    value = requests.get(service.metrics_url, timeout=10).text.partition(name)[2].partition("\n")[0]
    return int(float(value or 0))


def ended(service: Service) -> list[str]:
    """The ids of the requests that were ended because their client read too slowly, by the log."""
    events = [line["event"] for line in service.log_lines()]
    return [event.split()[4] for event in events if event.startswith("The client of request ")]


@pytest.mark.parametrize("rate", [0, MINIMUM // 4])
def test_a_client_below_the_minimum_rate_is_ended(service: Service, rate: int) -> None:
    """A download that is read too slowly, or not at all, ends; the log says why, and the metrics count it."""
    name = f"reader-{rate}"
    before = slow(service, "answer")
    with RawClient(service.url, receive_buffer=16 * 1024) as client:
        client.begin("GET", "/files/file", X_Request_Id=name)
        if rate:
            received = read(client, rate, 60)
        until(lambda: name in ended(service), "the log tells why it ended")
        if not rate:
            received = read(client, 100 * MiB, 60)
    lines = [line for line in service.log_lines() if line.get("request_id") == name]

    assert received < 8 * MiB
    assert slow(service, "answer") == before + 1
    assert [line["event"] for line in lines] == ["request"]
    assert lines[0]["sent_bytes"] < 8 * MiB


def test_a_client_at_twice_the_minimum_rate_gets_the_whole(patient_service: Service) -> None:
    """A client that reads slowly, in steps that the kernel's buffers make, is waited for."""
    with RawClient(patient_service.url, receive_buffer=16 * 1024) as client:
        client.begin("GET", "/files/file", Connection="close")
        received = read(client, 2 * MINIMUM, 120)

    assert received > 16 * MiB  # with the head


def test_a_pause_within_the_patience_is_no_fault(patient_service: Service) -> None:
    """A client that pauses once, for less than CLIENT_STALL_SECONDS, then reads at speed, gets the whole."""
    with RawClient(patient_service.url, receive_buffer=16 * 1024) as client:
        client.begin("GET", "/files/file", Connection="close")
        assert client.socket.recv(1000)
        time.sleep(PATIENCE / 2)
        received = read(client, 100 * MiB, 60)

    assert received > 16 * MiB - 1000


@pytest.mark.parametrize("part", ["head", "body"])
def test_slow_senders_are_counted_as_well(service: Service, part: str) -> None:
    """A head that stops, or a body, is counted once, under its own label."""
    before = slow(service, part)
    with RawClient(service.url) as client:
        if part == "head":
            client.send(b"GET /livez HTTP/1.1\r\n")
        else:
            client.begin("PUT", "/upload/slow", Content_Length=100)
        answer = client.answer().status

    assert answer == 408
    until(lambda: slow(service, part) > before, "it is counted")
    assert slow(service, part) == before + 1

"""The works that list: a page of names, and a whole bucket as JSON lines."""

from __future__ import annotations

import itertools
import json
import re
import time
from collections.abc import Callable, Mapping

from bench import opponents
from bench.client import Client, ask
from bench.opponents import Server
from bench.small_requests import CPU
from bench.stage import FOLDER, OURS, Bar, Contestant, Measure, Metric, Stage, Work, expect, target
from bench.transfers import FLASK, RCLONE_HTTP

DIRECT_LIST = "S3 directly"
PAGING = "S3 directly, page by page"


def list_a_page(stage: Stage) -> Work:
    """List 1,000 keys of a bucket that has 100,000, one request after another."""
    stage.fill(stage.sizes.keys)
    folders = [f"d{number:06d}/" for number in range(stage.sizes.keys // FOLDER)]

    def lists(
        url: str,
        get: Callable[[str], str],
        read: Callable[[bytes], list[str]],
        server: Server | None = None,
    ) -> Measure:
        following = itertools.cycle(folders)

        def measure() -> Mapping[str, float]:
            before = server.cpu_seconds() if server else 0.0
            with Client(url) as client:
                begun = time.perf_counter()
                for folder in itertools.islice(following, stage.sizes.listings):
                    client.request("GET", get(folder)).expect(200)
                wall = 1000 * (time.perf_counter() - begun) / stage.sizes.listings
            if server is None:
                return {"wall": wall}
            return {"wall": wall, "cpu": 1000 * (server.cpu_seconds() - before) / stage.sizes.listings}

        names = read(ask(url, "GET", get("d000001/")).expect(200).body)
        wanted = [f"d000001/k{number:06d}" for number in range(FOLDER)]
        expect(names == wanted, f"{len(names)} names, {names[:2]} … {names[-2:]}")
        return measure

    def content(body: bytes) -> list[str]:
        return list(json.loads(body)["content"])

    ours = stage.server(opponents.service)
    measure = lists(ours.url, lambda folder: f"/list_files?limit=1000&prefix={folder}", content, ours)
    contestants = [Contestant(OURS, "ours", measure)]
    if rclone := stage.opponent(RCLONE_HTTP, "rclone", lambda *where: opponents.rclone("http", *where)):
        measure = lists(
            rclone.url,
            lambda folder: f"/{folder}",
            lambda body: [f"d000001/{name}" for name in re.findall(r'href="(k\d+)"', body.decode())],
            rclone,
        )
        contestants.append(Contestant(RCLONE_HTTP, "opponent", measure))
    if flask := stage.opponent(FLASK, "flask", opponents.flask_boto3):
        measure = lists(flask.url, lambda folder: f"/list_files?prefix={folder}", content, flask)
        contestants.append(Contestant(FLASK, "opponent", measure))

    def directly(folder: str) -> str:
        return target(stage.signed("GET", **{"list-type": "2", "max-keys": "1000", "prefix": folder}))

    measure = lists(stage.s3.url, directly, lambda body: re.findall("<Key>(.*?)</Key>", body.decode()))
    contestants.append(Contestant(DIRECT_LIST, "limit", measure))
    return Work(
        f"List 1,000 of {stage.sizes.keys:,} keys",
        "One kept connection, one request after another. Each lists the next folder of 1,000 keys, because "
        "rclone cannot list a part of a folder. The limit reads S3's XML and does not parse it. Names are "
        "compared once.",
        [Metric("wall", "wall clock", "ms/request"), CPU],
        contestants,
        [
            Bar("wall", DIRECT_LIST, at_most=1.6),
            Bar("cpu", at_most=4),
        ],
        stage.sizes.rounds,
    )


def list_everything(stage: Stage) -> Work:
    """List a million keys as JSON lines."""
    keys = stage.sizes.many_keys
    stage.fill(keys)
    ours = stage.server(opponents.service)
    headers = {"Accept": "application/x-ndjson"}

    lines = ask(ours.url, "GET", "/list_files?prefix=d00000", headers).expect(200).body.splitlines()
    wanted = [f"d{n // FOLDER:06d}/k{n % FOLDER:06d}" for n in range(min(keys, 10 * FOLDER))]
    expect([json.loads(line)["name"] for line in lines] == wanted, "the names of the first folders differ")

    def stream() -> Mapping[str, float]:
        """Seconds for all lines, and how much the worker's memory grew after the first 20,000, in MiB."""
        count, settled, most, looked = 0, 0.0, 0.0, 0.0

        def look(piece: memoryview) -> None:
            nonlocal count, settled, most, looked
            count += bytes(piece).count(b"\n")
            if time.perf_counter() < looked + 0.05:
                return
            looked = time.perf_counter()
            resident = ours.resident_mib()
            if count <= min(20_000, keys // 2):
                settled = resident
            most = max(most, resident)

        with Client(ours.url) as client:
            begun = time.perf_counter()
            client.download("/list_files", headers, look=look)
            seconds = time.perf_counter() - begun
        expect(count == keys, f"{count} lines instead of {keys}")
        return {"wall": seconds, "growth": most - settled, "peak": most}

    def page_by_page() -> Mapping[str, float]:
        """Seconds to read the XML of all pages, one after another, without parsing it."""
        count, query = 0, {"list-type": "2", "max-keys": "1000"}
        with Client(stage.s3.url) as s3:
            begun = time.perf_counter()
            token: re.Match[bytes] | None = None
            while count == 0 or token is not None:
                body = s3.request("GET", target(stage.signed("GET", **query))).expect(200).body
                count += body.count(b"<Key>")
                token = re.search(b"<NextContinuationToken>(.*?)</NextContinuationToken>", body)
                query["continuation-token"] = token[1].decode() if token else ""
            seconds = time.perf_counter() - begun
        expect(count == keys, f"{count} keys instead of {keys}")
        return {"wall": seconds}

    return Work(
        f"List {keys:,} keys as JSON lines",
        "One request that streams all of them. The limit pages through S3 and parses nothing. The memory is "
        "the worker's, read 20 times per second.",
        [
            Metric("wall", "wall clock", "s", 2),
            Metric("growth", "growth of memory after the first 20,000", "MiB"),
            Metric("peak", "peak memory", "MiB"),
        ],
        [Contestant(OURS, "ours", stream), Contestant(PAGING, "limit", page_by_page)],
        [Bar("wall", PAGING, at_most=1.5), Bar("growth", at_most=8)],
        stage.sizes.long_rounds,
    )

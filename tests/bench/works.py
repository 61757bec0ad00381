"""Every work by its number, and the S3 that it needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from bench import containers, listings, liveness, memory, small_requests, transfers
from bench.stage import Sizes, Stage, Work, named

#: `own` is for a work that makes S3 slower for those after it.
Kind = Literal["plain", "tls", "own"]


@dataclass(frozen=True)
class Entry:
    """A short name, and what makes the work; that is None when this machine lacks what the work needs."""

    name: str
    make: Callable[[Stage], Work | None]
    s3: Kind = "plain"


def all_works(sizes: Sizes) -> Mapping[str, Entry]:
    """The works in the order of the report."""
    file, big_file = named(sizes.file), named(sizes.big_file)

    def raw(size: int) -> Callable[[Stage], Work]:
        return lambda stage: transfers.raw_upload(stage, size)

    def form(size: int) -> Callable[[Stage], Work]:
        return lambda stage: transfers.form_upload(stage, size)

    return {
        "1a": Entry("upload plan", small_requests.upload_plans),
        "1b": Entry("download, unchecked", small_requests.presigned_downloads),
        "2": Entry("/download", small_requests.checked_downloads),
        "3": Entry("list 1,000 keys", listings.list_a_page),
        "4": Entry(f"list {sizes.many_keys:,} keys", listings.list_everything, "own"),
        "5a": Entry(f"raw upload, {file}", raw(sizes.file)),
        "5b": Entry(f"raw upload, {big_file}", raw(sizes.big_file)),
        "5c": Entry(f"raw upload over TLS, {file}", raw(sizes.file), "tls"),
        "5d": Entry(f"raw upload over TLS, {big_file}", raw(sizes.big_file), "tls"),
        "6a": Entry(f"form upload, {file}", form(sizes.file)),
        "6b": Entry(f"form upload, {big_file}", form(sizes.big_file)),
        "7a": Entry(f"download, {big_file}", transfers.downloads),
        "7b": Entry(f"download over TLS, {big_file}", transfers.downloads, "tls"),
        "8a": Entry("memory of uploads", memory.during_uploads),
        "8b": Entry("memory of idle connections", memory.idle_connections),
        "9a": Entry("/livez, slow uploads", liveness.slow_uploads),
        "9b": Entry("/livez, full speed", liveness.full_speed),
        "9c": Entry("/livez, bad clients", liveness.bad_clients),
        "9d": Entry("/livez, S3 hangs", liveness.hanging_s3),
        "9e": Entry("/livez, S3 drips", liveness.dripping_s3),
        "10": Entry("files of 4 KiB", small_requests.small_files),
        "11": Entry("tasks", containers.tasks),
        "12": Entry("image", containers.image),
    }

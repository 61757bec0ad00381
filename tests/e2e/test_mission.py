"""The rows that the mission asks for, sentence by sentence."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from e2e.api import Api, good, part_of_form, refused, sha256


def test_hello(api: Api) -> None:
    """The root names the project."""
    body = good(api.call("GET", "/"))

    assert re.fullmatch(r"Successfully connected to \S+ upload/download API", body["message"])
    assert body == {"status": 200, "message": body["message"]}


def test_course_file_goes_round(api: Api, bucket: str, course_file: bytes) -> None:
    """The course's file is uploaded by a form, listed, downloaded by its presigned URL, and deleted."""
    name = api.name("appstore_games.csv")
    uploaded = good(
        api.call(
            "POST",
            "/upload",
            data={"prefix": api.folder},
            files=[part_of_form("appstore_games.csv", course_file)],
        )
    )
    listed = good(api.call("GET", "/list_files", params={"prefix": api.folder}))
    signed = good(api.call("GET", "/download/", name))
    fetched = api.s3("GET", signed["content"])
    deleted = good(api.call("DELETE", "/delete/", name))

    assert uploaded["message"] == f"Successfully uploaded '{name}' to the bucket '{bucket}'"
    [file] = uploaded["content"]
    assert (file["name"], file["size"], file["sha256"]) == (name, len(course_file), sha256(course_file))
    assert file["etag"]
    assert listed["message"] == f"Successfully listed files on s3 bucket '{bucket}'"
    assert listed["content"] == [name]
    assert signed["message"] == f"Successfully generated presigned url for '{name}'"
    assert (fetched.status_code, sha256(fetched.content)) == (200, sha256(course_file))
    assert deleted["message"] == f"Successfully deleted file '{name}' on s3 bucket '{bucket}'"
    assert not api.exists(name)


def test_form_of_one_file_without_prefix(api: Api, bucket: str) -> None:
    """Without a prefix a form's file is stored under its own name."""
    name = api.name("x.txt").replace("/", "-")
    try:
        body = good(api.call("POST", "/upload", files=[part_of_form(name, b"one")]))

        assert body["message"] == f"Successfully uploaded '{name}' to the bucket '{bucket}'"
        assert api.exists(name)
    finally:
        api.call("DELETE", "/delete/", name)


def test_form_of_several_files(api: Api, bucket: str) -> None:
    """Several files of a form make one sentence, their names joined by a comma."""
    wanted = {api.name(name): name.encode() * 3 for name in ("a.csv", "b b.txt", "ç.bin")}
    parts = [part_of_form(name.rpartition("/")[2], data) for name, data in wanted.items()]
    body = good(api.call("POST", "/upload", data={"prefix": api.folder}, files=parts))

    assert body["message"] == f"Successfully uploaded '{', '.join(wanted)}' to the bucket '{bucket}'"
    assert [(one["name"], one["sha256"]) for one in body["content"]] == [
        (name, sha256(data)) for name, data in wanted.items()
    ]
    assert api.names(api.folder) == sorted(wanted, key=str.encode)


def test_form_prefix_is_taken_as_it_stands(api: Api) -> None:
    """A prefix needs no slash, and a file's own name is its last path segment."""
    name = api.name("report-a.csv")
    parts = [part_of_form("some/where/a.csv", b"1")]
    body = good(api.call("POST", "/upload", data={"prefix": f"{api.folder}report-"}, files=parts))

    assert [one["name"] for one in body["content"]] == [name]


def test_form_of_an_empty_file(api: Api) -> None:
    """A file of no bytes is a file."""
    name = api.name("empty.txt")
    good(api.call("POST", "/upload", data={"prefix": api.folder}, files=[part_of_form("empty.txt", b"")]))

    assert api.call("GET", "/files/", name).content == b""


def test_form_without_a_file(api: Api) -> None:
    """A form without a part named file, one without a file's name, and no form at all are 404."""
    no_part = api.call("POST", "/upload", files=[("other", ("a.txt", b"x"))])
    boundary = "b0"
    no_name = api.call(
        "POST",
        "/upload",
        headers={"Content-Type": f"multipart/form-data; boundary={boundary}"},
        data=(
            f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename=""\r\n'
            f"Content-Type: application/octet-stream\r\n\r\n\r\n--{boundary}--\r\n"
        ).encode(),
    )
    no_form = api.call("POST", "/upload")

    for answer in (no_part, no_name, no_form):
        assert refused(answer, 404, "file_not_found") == "The file '' was not found"


def test_download_of_a_missing_file(api: Api, bucket: str) -> None:
    """A presigned URL is not made for a file that is not there."""
    name = api.name("nothing.txt")
    message = refused(api.call("GET", "/download/", name), 404, "file_not_found")

    assert message == f"The file '{name}' was not found on the bucket '{bucket}'"


def test_presigned_url_expires_in_120_seconds(api: Api) -> None:
    """The answer says when the URL dies: 120 seconds from now, or sooner with the signing credentials."""
    name = api.name("a.txt")
    api.put(name, b"x")
    body = good(api.call("GET", "/download/", name))
    left = datetime.fromisoformat(body["expires_at"]) - datetime.now(UTC)

    assert "X-Amz-Expires=120&" in body["content"] + "&"
    assert left.total_seconds() <= 125

"""Uploads direct to S3: the presigned form, and the parts of a multipart upload."""

from __future__ import annotations

import hashlib
import random
from typing import Any

import pytest
import requests

from e2e.api import Api, MiB, good, refused, sha256

# Above the size from which the service plans parts.
LARGE = 65 * MiB


def _post(api: Api, plan: dict[str, Any], data: bytes) -> requests.Response:
    assert plan["method"] == "POST"
    return api.s3("POST", plan["url"], data=plan["fields"], files={"file": ("any name", data)})


def _part(number: int, size: int) -> bytes:
    return random.Random(number).randbytes(size)


def _urls(api: Api, plan: dict[str, Any], *numbers: int) -> list[dict[str, Any]]:
    answer = api.call("POST", f"/uploads/{plan['id']}/parts", json={"parts": numbers})
    return list(good(answer)["content"])


def _received(api: Api, plan: dict[str, Any]) -> list[int]:
    return [part["number"] for part in good(api.call("GET", f"/uploads/{plan['id']}/parts"))["content"]]


# --- one presigned POST


def test_post(api: Api, bucket: str, course_file: bytes) -> None:
    """A small file goes to S3 in one form that the service has signed."""
    name = api.name("posted é.csv")
    answer = api.call("POST", "/uploads", json={"name": name, "size": len(course_file)})
    posted = _post(api, good(answer)["content"], course_file)

    assert good(answer)["message"] == f"Successfully planned the upload of '{name}' to the bucket '{bucket}'"
    assert posted.status_code in (200, 201, 204), posted.text
    assert sha256(api.call("GET", "/files/", name).content) == sha256(course_file)
    assert api.call("HEAD", "/files/", name).headers["Content-Type"] == "text/csv"


@pytest.mark.parametrize("size", [99, 101, 0])
def test_post_of_another_size(api: Api, size: int) -> None:
    """S3 refuses a file that is not of the size planned."""
    name = api.name("posted.txt")
    posted = _post(api, api.plan(name, 100), b"x" * size)

    assert 400 <= posted.status_code < 500, posted.text
    assert not api.exists(name)


def test_post_under_another_name(api: Api) -> None:
    """S3 refuses the form when its fields were altered."""
    plan = api.plan(api.name("mine.txt"), 1)
    other = api.name("not-mine.txt")
    posted = _post(api, {**plan, "fields": {**plan["fields"], "key": other}}, b"x")

    assert posted.status_code == 403
    assert not api.exists(other)


def test_post_with_sha256(api: Api) -> None:
    """A form signed for a SHA-256 stores only bytes that have it."""
    name = api.name("hashed.bin")
    forged = _post(api, api.plan(name, 4, sha256=sha256(b"good")), b"evil")

    assert forged.status_code == 400
    assert not api.exists(name)
    posted = _post(api, api.plan(name, 4, sha256=sha256(b"good")), b"good")

    assert posted.status_code in (200, 201, 204), posted.text
    assert api.call("GET", "/files/", name).content == b"good"


def test_plan_above_the_limit(api: Api) -> None:
    """A size above the limit is refused before anything is sent."""
    refused(
        api.call("POST", "/uploads", json={"name": api.name("huge"), "size": 2**60}), 413, "file_too_large"
    )


@pytest.mark.parametrize(
    "wrong", [{"size": -1}, {"size": "1"}, {"sha256": "abc"}, {"content_type": "a\nb"}, {"unknown": 1}]
)
def test_plan_that_is_wrong(api: Api, wrong: dict[str, Any]) -> None:
    """A plan with wrong fields is refused, and the field is named."""
    body = {"name": api.name("a"), "size": 1, **wrong}
    message = refused(api.call("POST", "/uploads", json=body), 400, "invalid_request")

    assert next(iter(wrong)) in message


def test_post_without_a_size(api: Api, bucket: str, course_file: bytes) -> None:
    """The GET of the course's current edition plans a form, which S3 answers with 204."""
    name = api.name("course.csv")
    answer = api.call("GET", "/upload/", name)
    plan = good(answer)["content"]

    assert not api.exists(name)
    assert good(answer)["message"] == f"Successfully uploaded file '{name}' on s3 bucket '{bucket}'"
    assert answer.headers["Cache-Control"] == "no-store"
    assert _post(api, plan, course_file).status_code == 204
    assert sha256(api.call("GET", "/files/", name).content) == sha256(course_file)


# --- parts


def test_parts_resumed_and_completed(api: Api, bucket: str) -> None:
    """A large file is sent in parts, resumed from the parts at S3, completed, and completed again."""
    name = api.name("large.bin")
    plan = api.plan(name, LARGE, content_type="application/x-large")
    assert plan["method"] == "MULTIPART"
    wanted = hashlib.sha256()
    sizes = [min(plan["part_size"], LARGE - start) for start in range(0, LARGE, plan["part_size"])]
    assert len(sizes) == plan["parts"]
    for number, size in enumerate(sizes, 1):
        wanted.update(_part(number, size))

    first_half = list(range(1, plan["parts"] // 2 + 1))
    for part in _urls(api, plan, *first_half):
        assert part["size"] == sizes[part["number"] - 1]
        sent = api.s3("PUT", part["url"], data=_part(part["number"], part["size"]))
        assert sent.status_code == 200, sent.text
        assert sent.headers["ETag"]
    assert _received(api, plan) == first_half
    too_early = api.call("POST", f"/uploads/{plan['id']}/complete")
    missing = [number for number in range(1, plan["parts"] + 1) if number not in first_half]
    refused(too_early, 400, "invalid_parts")
    assert too_early.json()["content"] == {"missing": missing}
    assert not api.exists(name)
    for part in _urls(api, plan, *missing):
        assert api.s3("PUT", part["url"], data=_part(part["number"], part["size"])).status_code == 200
    completed = good(api.call("POST", f"/uploads/{plan['id']}/complete"))
    again = good(api.call("POST", f"/uploads/{plan['id']}/complete"))
    found = hashlib.sha256()
    with api.s3("GET", good(api.call("GET", "/download/", name))["content"], stream=True) as fetched:
        for piece in fetched.iter_content(MiB):
            found.update(piece)

    assert completed["message"] == f"Successfully uploaded '{name}' to the bucket '{bucket}'"
    assert (completed["content"]["name"], completed["content"]["size"]) == (name, LARGE)
    assert again["content"] == completed["content"]
    assert found.hexdigest() == wanted.hexdigest()
    assert api.call("HEAD", "/files/", name).headers["Content-Type"] == "application/x-large"


def test_part_of_another_size(api: Api) -> None:
    """S3 refuses a part that is not of the size planned."""
    plan = api.plan(api.name("large.bin"), LARGE)
    [part] = _urls(api, plan, 1)
    sent = api.s3("PUT", part["url"], data=b"too short")

    assert sent.status_code == 403
    assert _received(api, plan) == []


def test_part_outside_the_plan(api: Api) -> None:
    """The plan has no part beyond its last, and none before its first."""
    plan = api.plan(api.name("large.bin"), LARGE)
    beyond = api.call("POST", f"/uploads/{plan['id']}/parts", json={"parts": [plan["parts"] + 1]})
    before = api.call("POST", f"/uploads/{plan['id']}/parts", json={"parts": [0]})

    refused(beyond, 400, "invalid_parts")
    refused(before, 400, "invalid_request")


def test_abort(api: Api) -> None:
    """An aborted upload is gone; aborting it again is no error, and says that nothing was left."""
    name = api.name("large.bin")
    plan = api.plan(name, LARGE)
    aborted = good(api.call("DELETE", f"/uploads/{plan['id']}"))
    again = good(api.call("DELETE", f"/uploads/{plan['id']}"))

    assert aborted["message"] == f"Successfully aborted the upload of '{name}'"
    assert aborted["content"] == {"name": name, "aborted": True}
    assert again["content"] == {"name": name, "aborted": False}
    refused(api.call("GET", f"/uploads/{plan['id']}/parts"), 404, "upload_not_found")
    refused(api.call("POST", f"/uploads/{plan['id']}/complete"), 404, "upload_not_found")
    assert not api.exists(name)


def _sent(api: Api, name: str, data: bytes, **more: str) -> dict[str, Any]:
    """The plan of an upload in one part, which has been sent. Such a name is never planned as a form."""
    plan = api.plan(name, len(data), **more)
    [part] = _urls(api, plan, 1)
    assert api.s3("PUT", part["url"], data=data).status_code == 200
    return plan


def test_another_file_confirms_no_upload(api: Api) -> None:
    """Completing an aborted upload is 404, even where a file of its name, size and parts is there."""
    name = api.name("${filename}")
    aborted = _sent(api, name, b"aborted")
    good(api.call("DELETE", f"/uploads/{aborted['id']}"))
    stored = _sent(api, name, b"another")
    completed = good(api.call("POST", f"/uploads/{stored['id']}/complete"))
    again = good(api.call("POST", f"/uploads/{stored['id']}/complete"))

    refused(api.call("POST", f"/uploads/{aborted['id']}/complete"), 404, "upload_not_found")
    assert again == completed
    refused(api.call("DELETE", f"/uploads/{stored['id']}"), 409, "upload_completed")
    assert api.call("GET", "/files/", name).content == b"another"


def test_sha256_of_parts(api: Api) -> None:
    """A SHA-256 that the parts do not have is reported as declared, never as the file's own."""
    name = api.name("${filename}")
    plan = _sent(api, name, b"these bytes", sha256=sha256(b"other bytes"))
    good(api.call("POST", f"/uploads/{plan['id']}/complete"))
    answer = api.call("GET", "/files/", name)

    assert answer.content == b"these bytes"
    assert "Repr-Digest" not in answer.headers
    assert answer.headers["X-Declared-SHA-256"] == sha256(b"other bytes")


def test_id_that_was_not_given_out(api: Api) -> None:
    """An upload's id is signed: one that is altered is unknown, whatever is asked of it."""
    upload_id = api.plan(api.name("large.bin"), LARGE)["id"]
    for wrong in ("x", upload_id[:-1], f"x{upload_id}"):
        refused(api.call("GET", f"/uploads/{wrong}/parts"), 404, "upload_not_found")
        refused(api.call("DELETE", f"/uploads/{wrong}"), 404, "upload_not_found")
        refused(api.call("POST", f"/uploads/{wrong}/complete"), 404, "upload_not_found")
        signing = api.call("POST", f"/uploads/{wrong}/parts", json={"parts": [1]})
        refused(signing, 404, "upload_not_found")

    assert _received(api, {"id": upload_id}) == []

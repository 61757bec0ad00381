"""Deleting and undeleting."""

from __future__ import annotations

import pytest

from e2e.api import Api, good, refused


def test_delete(api: Api, bucket: str) -> None:
    """A deleted file is gone from every view, and deleting it again is 404."""
    name = api.name("gone é.txt")
    api.put(name, b"x")
    deleted = good(api.call("DELETE", "/delete/", name))
    again = api.call("DELETE", "/delete/", name)

    assert deleted["message"] == f"Successfully deleted file '{name}' on s3 bucket '{bucket}'"
    assert refused(again, 404, "file_not_found") == (
        f"The file '{name}' was not found on the bucket '{bucket}'"
    )
    assert api.names(api.folder) == []
    refused(api.call("GET", "/download/", name), 404, "file_not_found")


def test_delete_many(api: Api, bucket: str) -> None:
    """Each name of a bulk delete has its own result, in the order given; a missing one is no error."""
    there = [api.name(name) for name in ("a", "b & <c>", "d\u2028e", "+ %2B")]
    for name in there:
        api.put(name, b"x")
    wanted = [*there[:2], api.name("missing"), *there[2:]]
    body = good(api.call("POST", "/delete", json={"files": wanted}))

    assert body["message"] == f"Successfully deleted 4 of 5 files on s3 bucket '{bucket}'"
    assert body["content"] == [
        {"name": name, "deleted": True}
        if name in there
        else {"name": name, "deleted": False, "code": "file_not_found"}
        for name in wanted
    ]
    assert api.names(api.folder) == []


def test_delete_many_names_one_twice(api: Api) -> None:
    """A name that is given twice is deleted once, and has one result."""
    name = api.name("twice")
    api.put(name, b"x")
    body = good(api.call("POST", "/delete", json={"files": [name, name]}))

    assert body["content"] == [{"name": name, "deleted": True}]


@pytest.mark.parametrize(
    "body", [{}, {"files": []}, {"files": "a"}, {"files": [1]}, [], {"files": ["e2e"] * 1001}]
)
def test_delete_of_what_is_no_list_of_names(api: Api, body: object) -> None:
    """It takes a list of one to a thousand names."""
    refused(api.call("POST", "/delete", json=body), 400, "invalid_request")
    broken = api.call("POST", "/delete", data=b"{", headers={"Content-Type": "application/json"})
    refused(broken, 400, "bad_request")


def test_a_link_does_not_delete(api: Api) -> None:
    """A GET of the deletion's URL deletes nothing."""
    name = api.name("stays")
    api.put(name, b"x")
    answer = api.call("GET", "/delete/", name)

    refused(answer, 405, "method_not_allowed")
    assert "DELETE" in answer.headers["Allow"]
    assert api.exists(name)


def test_restore(api: Api, bucket: str) -> None:
    """A deleted file is restored if the bucket keeps versions; otherwise the answer says why not."""
    name = api.name("back.txt")
    api.put(name, b"older")
    api.put(name, b"newest")
    good(api.call("DELETE", "/delete/", name))
    answer = api.call("POST", "/restore/", name)
    keeps_versions = api.target.keeps_versions
    if keeps_versions is None:
        keeps_versions = answer.status_code == 200

    if not keeps_versions:
        # A role that may not read the bucket's versioning cannot tell this from a file that never existed.
        assert (answer.status_code, answer.json()["code"]) in {
            (409, "versioning_off"),
            (404, "file_not_found"),
        }
        assert not api.exists(name)
        return
    body = good(answer)
    assert body["message"] == f"Successfully restored file '{name}' on s3 bucket '{bucket}'"
    assert (body["content"]["name"], body["content"]["size"]) == (name, 6)
    assert api.call("GET", "/files/", name).content == b"newest"
    assert api.call("HEAD", "/files/", name).headers["Content-Type"].startswith("text/plain")


def test_restore_of_a_file_that_is_there(api: Api) -> None:
    """A file that is not deleted cannot be restored."""
    name = api.name("there.txt")
    api.put(name, b"x")
    answer = api.call("POST", "/restore/", name)

    refused(answer, 409, "file_not_deleted")

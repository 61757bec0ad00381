"""Deleted files and older versions: listed, and restored, on every store and over HTTP."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.exceptions import ClientError
from flask.testing import FlaskClient

from s3api import failures, versions
from s3api.auth import new_token
from s3api.file_store import FileStore, FileVersion, VersionPage
from s3api.s3_errors import S3Errors
from s3api.s3_versions import S3Versions
from support.memory_store import MemoryStore
from support.servers import S3
from support.stores import content, put, s3_store
from support.together import Together

S3_KINDS = ["ministack", "seaweedfs", "localstack"]


@pytest.fixture(params=["memory", *S3_KINDS])
def any_store(request: pytest.FixtureRequest) -> FileStore:
    """An empty store of each kind that keeps versions."""
    if request.param == "memory":
        return MemoryStore()
    s3: S3 = request.getfixturevalue(f"{request.param}_s3")
    return s3_store(s3, s3.make_bucket(f"day02-{uuid.uuid4().hex[:12]}", versioned=True))


def all_versions(store: FileStore, prefix: str = "", limit: int = 1000) -> list[FileVersion]:
    found: list[FileVersion] = []
    token: str | None = None
    while True:
        page = store.list_versions(prefix, limit, token)
        assert len(page.versions) <= limit
        found += page.versions
        token = page.next_token
        if token is None:
            return found


def filled(store: FileStore) -> None:
    put(store, "a", b"1")
    put(store, "a", b"22")
    put(store, "a longer name", b"333")
    put(store, "b", b"4444")
    store.delete("b")
    put(store, "ü/c", b"55555")
    store.delete("ü/c")


@pytest.mark.parametrize("limit", [1, 2, 1000])
def test_versions_are_listed(request: pytest.FixtureRequest, any_store: FileStore, limit: int) -> None:
    """Every version and every deletion is listed once, the newest of each name first."""
    if request.node.callspec.params["any_store"] == "localstack" and limit < 1000:
        pytest.skip("LocalStack repeats or leaves out versions at the end of a page")
    filled(any_store)
    found = all_versions(any_store, limit=limit)

    assert [(one.name, one.latest, one.deleted, one.size) for one in found] == [
        ("a", True, False, 2),
        ("a", False, False, 1),
        ("a longer name", True, False, 3),
        ("b", True, True, None),
        ("b", False, False, 4),
        ("ü/c", True, True, None),
        ("ü/c", False, False, 5),
    ]
    assert len({(one.name, one.version) for one in found}) == 7
    assert found[0].etag == any_store.stat("a").etag


def test_deleted_files_are_listed(any_store: FileStore) -> None:
    """A deleted file is listed once, with its size; one that was stored again is not."""
    filled(any_store)
    put(any_store, "c", b"1")
    any_store.delete("c")
    put(any_store, "c", b"2")
    page = versions.list_versions(any_store, "", 1000, None, deleted=True)

    assert [(one.name, one.size, one.deleted) for one in page.versions] == [("b", 4, True), ("ü/c", 5, True)]
    below = versions.list_versions(any_store, "ü/", 1000, None, deleted=True)
    assert [one.name for one in below.versions] == ["ü/c"]


@pytest.mark.parametrize("limit", [1, 1000])
def test_versions_of_one_file(any_store: FileStore, limit: int) -> None:
    """Files with longer names are not listed, and no page of them is promised."""
    filled(any_store)
    # SeaweedFS 4.48 pages by the names of its folders, in which "a x.versions" comes before "a.versions".
    put(any_store, "az")
    found: list[FileVersion] = []
    token: str | None = None
    for _ in range(3):
        page = versions.list_versions_of(any_store, "a", limit, token)
        found += page.versions
        token = page.next_token
        if token is None:
            break

    assert token is None
    assert [one.size for one in found] == [2, 1]


def test_an_older_version_is_restored(any_store: FileStore) -> None:
    """A version replaces a newer file only when that is asked for, and the newer one stays a version."""
    filled(any_store)
    newer, older = (one for one in all_versions(any_store, "a") if one.name == "a")
    with pytest.raises(failures.FileNotDeleted, match="overwrite"):
        any_store.restore("a", older.version)
    with pytest.raises(failures.FileChanged):
        any_store.restore("a", older.version, if_match='"0123456789abcdef0123456789abcdef"')
    assert content(any_store, "a") == b"22"
    any_store.restore("a", older.version, overwrite=True)
    assert content(any_store, "a") == b"1"
    restored = any_store.restore("a", newer.version, if_match=f'"{any_store.stat("a").etag}"')

    assert (content(any_store, "a"), restored.size) == (b"22", 2)
    assert [one.size for one in all_versions(any_store, "a") if one.name == "a"] == [2, 1, 2, 1]


def test_a_version_of_a_deleted_file_is_restored(any_store: FileStore) -> None:
    """Of a deleted file, any version can be restored without asking to overwrite."""
    put(any_store, "a", b"1")
    put(any_store, "a", b"22")
    any_store.delete("a")
    oldest = all_versions(any_store, "a")[-1]
    any_store.restore("a", oldest.version)

    assert content(any_store, "a") == b"1"


@pytest.mark.parametrize("kind", S3_KINDS)
def test_a_version_that_does_not_exist(request: pytest.FixtureRequest, kind: str) -> None:
    """An unknown version, one of another file, and the marker of a deletion cannot be restored.

    AWS answers 400 to a version whose form is not valid, 404 to an unknown one, and 405 to a marker:
    https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadObject.html
    """
    s3: S3 = request.getfixturevalue(f"{kind}_s3")
    store = s3_store(s3, s3.make_bucket(f"day02-{uuid.uuid4().hex[:12]}", versioned=True))
    filled(store)
    of_other = all_versions(store, "a longer")[0].version
    marker = all_versions(store, "b")[0].version
    for name, version in (("a", "no such version"), ("a", of_other), ("b", marker)):
        with pytest.raises(failures.FileError) as failed:
            store.restore(name, version, overwrite=True)
        assert isinstance(failed.value, failures.FileNotFound), (name, version, failed.value)
    assert content(store, "a") == b"22"


@pytest.mark.parametrize("limit", [1, 2, 1000])
def test_a_folder_is_restored(any_store: FileStore, limit: int) -> None:
    """All deleted files of the folder come back once; all other files stay as they are."""
    for name in ("f/1", "f/2", "f/3", "g/1"):
        put(any_store, name, name.encode())
        any_store.delete(name)
    put(any_store, "f/2", b"newer")
    results: list[versions.Result] = []
    token: str | None = None
    for _ in range(20):
        page = versions.restore_folder(any_store, "f/", limit, token)
        results += page.files
        token = page.next_token
        if token is None:
            break

    assert [(one.name, one.code) for one in results] == [("f/1", None), ("f/3", None)]
    assert [content(any_store, f"f/{n}") for n in (1, 2, 3)] == [b"f/1", b"newer", b"f/3"]
    assert [file.name for file in any_store.list_page("", "", 1000, None).files] == ["f/1", "f/2", "f/3"]


@pytest.mark.parametrize(
    ("failure", "results"),
    [
        (failures.FileNotDeleted("stored meanwhile"), []),
        (
            failures.StoreDenied("not allowed", "put_object"),
            [{"name": "b", "restored": False, "code": "s3_put_object_denied", "message": "not allowed"}],
        ),
    ],
    ids=["stored meanwhile", "denied"],
)
def test_a_file_that_cannot_be_restored(
    client: FlaskClient,
    store: MemoryStore,
    monkeypatch: pytest.MonkeyPatch,
    failure: failures.FileError,
    results: list[Any],
) -> None:
    """Its result says why, and the next file is restored. A file that exists again has no result."""
    filled(store)
    restore = store.restore

    def restore_all_but_b(name: str, *arguments: Any) -> Any:
        if name == "b":
            raise failure
        return restore(name, *arguments)

    monkeypatch.setattr(store, "restore", restore_all_but_b)
    body = client.post("/restore", json={"prefix": ""}).get_json()

    assert body["content"] == [*results, {"name": "ü/c", "restored": True}]
    total = len(body["content"])
    assert body["message"] == f"Successfully restored 1 of {total} files on s3 bucket 'day02-memory'"


def test_eight_files_are_restored_at_the_same_time(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A restore waits for S3 most of the time, so eight run at the same time, and no more."""
    for number in range(16):
        put(store, str(number))
        store.delete(str(number))
    restore, together = store.restore, Together(8)

    def restore_together(name: str) -> Any:
        together.wait()
        return restore(name)

    monkeypatch.setattr(store, "restore", restore_together)
    results = versions.restore_folder(store, "", 1000, None)

    assert [one.code for one in results.files] == [None] * 16
    assert len(together.threads) == 8


@pytest.mark.parametrize("kind", S3_KINDS)
@pytest.mark.parametrize("files", [(), ("a",)], ids=["empty", "with a file"])
def test_a_bucket_that_keeps_no_versions_says_so(
    request: pytest.FixtureRequest, kind: str, files: tuple[str, ...]
) -> None:
    """The answer is not an empty list, which would say that nothing was deleted."""
    s3: S3 = request.getfixturevalue(f"{kind}_s3")
    store = s3_store(s3, s3.make_bucket(f"day02-{uuid.uuid4().hex[:12]}"))
    for name in files:
        put(store, name)
    with pytest.raises(failures.VersioningOff, match="keeps no versions"):
        store.list_versions("", 1000, None)


@pytest.mark.parametrize("token", ["x", "5", "null", '["a"]'])
def test_a_position_that_is_none(ministack_s3: S3, token: str) -> None:
    """A position in the list that the store has not given is refused, whatever JSON it is."""
    store = s3_store(ministack_s3, "day02-not-asked")
    with pytest.raises(failures.InvalidCursor, match="begin again without it"):
        store.list_versions("", 1000, token)


class _Api:
    """S3's answers to the two operations that a list of versions needs, and their names in order."""

    def __init__(self, versioning: dict[str, Any] | Exception, **listed: Any) -> None:
        self.asked: list[str] = []
        self._versioning = versioning
        self._listed = {"IsTruncated": False, **listed}

    def list_object_versions(self, **_: Any) -> dict[str, Any]:
        self.asked.append("versions")
        return self._listed

    def get_bucket_versioning(self, **_: Any) -> dict[str, Any]:
        self.asked.append("versioning")
        if isinstance(self._versioning, Exception):
            raise self._versioning
        return self._versioning

    def page(self, token: str | None = None) -> VersionPage:
        errors = S3Errors("day02", "eu-west-1", checks_owner=False)
        return S3Versions(self, "day02", errors).page("", 1000, token)


def _entry(version: str) -> dict[str, Any]:
    now = datetime.now(UTC)
    return {
        "Key": "a",
        "VersionId": version,
        "LastModified": now,
        "IsLatest": True,
        "Size": 1,
        "ETag": '"0123456789abcdef0123456789abcdef"',
    }


@pytest.mark.parametrize(
    ("versions_", "markers"),
    [(["3HL4kqtJlcpXroDTDmJ"], []), (["zzz"], []), (["null", "zzz"], []), ([], ["null"])],
    ids=["before null", "after null", "both", "a deletion during a suspension"],
)
def test_a_list_with_versions_needs_no_other_question(versions_: list[str], markers: list[str]) -> None:
    """Only a list in which all could be files of a bucket without versions leads to a second request."""
    api = _Api(
        {}, Versions=[_entry(one) for one in versions_], DeleteMarkers=[_entry(one) for one in markers]
    )

    assert len(api.page().versions) == len(versions_) + len(markers)
    assert api.asked == ["versions"]


def test_only_the_first_page_asks_whether_the_bucket_keeps_versions() -> None:
    """A later page follows one that was listed."""
    api = _Api({}, Versions=[_entry("null")])

    assert len(api.page('["a", ""]').versions) == 1
    assert api.asked == ["versions"]


@pytest.mark.parametrize(
    "versioning",
    [
        ClientError({"Error": {"Code": "AccessDenied"}}, "GetBucketVersioning"),
        {"Status": "Suspended"},
        {"Status": "Enabled"},
    ],
    ids=["may not be asked", "suspended", "enabled"],
)
def test_files_from_before_versioning_are_listed(versioning: dict[str, Any] | Exception) -> None:
    """Files of the version "null" alone are no sign that the bucket keeps no versions."""
    api = _Api(versioning, Versions=[_entry("null")])

    assert [one.version for one in api.page().versions] == ["null"]
    assert api.asked == ["versions", "versioning"]


# --- HTTP


def test_the_answers(client: FlaskClient, store: MemoryStore) -> None:
    """The sentences and the contents of the routes."""
    filled(store)
    body = client.get("/versions?limit=1").get_json()
    assert body["message"] == "Successfully listed versions on s3 bucket 'day02-memory'"
    (version,) = body["content"]
    assert set(version) == {"name", "version", "last_modified", "latest", "deleted", "size", "etag"}
    following = client.get(f"/versions?limit=1&cursor={body['next']}").get_json()
    assert following["content"][0]["size"] == 1
    wrong = client.get(f"/versions?deleted=true&cursor={body['next']}")
    assert (wrong.status_code, wrong.get_json()["code"]) == (400, "invalid_cursor")
    deleted = client.get("/versions?deleted=true").get_json()
    assert deleted["message"] == "Successfully listed deleted files on s3 bucket 'day02-memory'"
    assert [one["name"] for one in deleted["content"]] == ["b", "ü/c"]
    mine = client.get("/versions/a").get_json()
    assert mine["message"] == "Successfully listed versions of 'a' on s3 bucket 'day02-memory'"
    older = mine["content"][1]["version"]
    stays = client.post(f"/restore/a?version={older}")
    assert (stays.status_code, stays.get_json()["code"]) == (409, "file_not_deleted")
    changed = client.post(f"/restore/a?version={older}", headers={"If-Match": '"0"'})
    assert (changed.status_code, changed.get_json()["code"]) == (412, "precondition_failed")
    assert client.post(f"/restore/a?version={older}&overwrite=true").get_json()["content"]["size"] == 1
    assert client.post("/restore/a?overwrite=true").status_code == 400
    body = client.post("/restore", json={"prefix": ""}).get_json()

    assert body["message"] == "Successfully restored 2 of 2 files on s3 bucket 'day02-memory'"
    assert body["content"] == [{"name": "b", "restored": True}, {"name": "ü/c", "restored": True}]


def test_a_folder_is_restored_in_several_requests(client: FlaskClient, store: MemoryStore) -> None:
    """`next` is the `cursor` of the next request, for the same folder only, until there is no `next`."""
    for name in ("f/1", "f/2"):
        put(store, name)
        store.delete(name)
    restored: list[str] = []
    body: dict[str, Any] = {"prefix": "f/", "limit": 1}
    for _ in range(20):
        answer = client.post("/restore", json=body).get_json()
        restored += [one["name"] for one in answer["content"]]
        if "next" not in answer:
            break
        body["cursor"] = answer["next"]
        other = client.post("/restore", json={**body, "prefix": "f"})
        assert (other.status_code, other.get_json()["code"]) == (400, "invalid_cursor")

    assert restored == ["f/1", "f/2"]
    assert "cursor" in body
    assert "next" not in answer


@pytest.mark.parametrize(
    ("method", "target", "body", "verbs"),
    [
        ("GET", "/versions?prefix=a/", None, {"list"}),
        ("GET", "/versions/a/1", None, {"list"}),
        ("POST", "/restore", {"prefix": "a/"}, {"list", "write"}),
    ],
)
def test_the_token_decides(
    make_client: Callable[..., FlaskClient],
    store: MemoryStore,
    *,
    method: str,
    target: str,
    body: Any,
    verbs: set[Any],
) -> None:
    """Each route needs all of its verbs, and stays within the prefix of the token."""
    put(store, "a/1")

    def status(verbs: set[Any], prefix: str) -> int:
        token, entry = new_token("t", frozenset(verbs), prefix)
        client = make_client(api_tokens=[entry], allow_anonymous=False)
        headers = {"Authorization": f"Bearer {token}"}
        return client.open(target, method=method, json=body, headers=headers).status_code

    assert status(verbs, "a/") == 200
    assert status(verbs, "b/") == 403
    for verb in verbs:
        assert status({"list", "read", "write", "delete"} - {verb}, "") == 403

"""Names: valid ones come back unchanged, others are refused before S3 sees them."""

from __future__ import annotations

import pytest

from e2e.api import Api, good, refused, sha256

ALLOWED = [
    "plain.txt",
    "two words.txt",
    " leading and trailing ",
    "a+b (1)'!*&#?%=.txt",
    "100%25.txt",
    "%2e%2e",
    "%2F",
    'quo"te',
    "<script>alert(1)</script>.txt",
    "a;b,c=d@e$f:g|h~`^{}[]",
    "${filename}",
    "été.txt",
    "e\u0301.txt",
    "😀.txt",
    "日本語.csv",
    "עברית-العربية",
    "line\u2028separator",
    "...",
    ".hidden",
    "a..b",
    "deep/er/and/deeper.txt",
    "x" * 255,
]
# Names that some S3 servers, which keep files on a disk, do not list.
UNUSUAL_PATHS = ["a//b", "folder/", "a/ /b"]
LIKE_DOTS = [".", "..", "a/..", "a/../b", "./a", "a/./b", "a/."]


@pytest.mark.parametrize("own", ALLOWED, ids=ascii)
def test_name_goes_round(api: Api, bucket: str, own: str) -> None:
    """A name is the same in every answer, for every kind of upload and download."""
    name = api.name(own)
    data = own.encode()
    raw = good(api.call("PUT", "/upload/", name, data=data))
    listed = good(api.call("GET", "/list_files", params={"prefix": api.folder}))
    signed = good(api.call("GET", "/download/", name))
    presigned, streamed = api.s3("GET", signed["content"]), api.call("GET", "/files/", name)
    deleted = good(api.call("DELETE", "/delete/", name))
    plan = api.plan(name, len(data))
    if plan["method"] == "POST":
        api.s3("POST", plan["url"], data=plan["fields"], files={"file": ("any", data)})
        assert api.names(api.folder) == [name]

    assert raw["message"] == f"Successfully uploaded '{name}' to the bucket '{bucket}'"
    assert raw["content"][0]["sha256"] == sha256(data)
    assert listed["content"] == [name]
    assert signed["message"] == f"Successfully generated presigned url for '{name}'"
    assert presigned.content == streamed.content == data
    assert deleted["message"] == f"Successfully deleted file '{name}' on s3 bucket '{bucket}'"


@pytest.mark.parametrize("own", UNUSUAL_PATHS)
def test_slashes_are_kept(api: Api, own: str) -> None:
    """Double and trailing slashes are part of the name, and so is a slash that is not encoded."""
    name = api.name(own)
    api.put(name, b"kept")
    path = f"/files/{api.folder}{own.replace(' ', '%20')}"
    plain = api.raw("GET", path)
    [result] = good(api.call("POST", "/delete", json={"files": [name]}))["content"]

    assert (plain.status, plain.body) == (200, b"kept")
    assert result == {"name": name, "deleted": True}


def test_plus_is_no_space(api: Api) -> None:
    """In a path a plus is a plus; in a query it is a space."""
    plus, space = api.name("a+b"), api.name("a b")
    api.put(plus, b"plus")
    api.put(space, b"space")
    listed = api.raw("GET", f"/list_files?prefix={api.folder}a+b").json()

    assert api.raw("GET", f"/files/{api.folder}a+b").body == b"plus"
    assert api.raw("GET", f"/files/{api.folder}a%20b").body == b"space"
    assert listed["content"] == [space]


def test_name_is_decoded_once(api: Api) -> None:
    """A path that is encoded twice is a name with a percent sign, not another file."""
    api.put(api.name("a/b"), b"x")

    assert api.raw("GET", f"/files/{api.folder}a%2Fb").body == b"x"
    refused(api.raw("GET", f"/files/{api.folder}a%252Fb"), 404, "file_not_found")


@pytest.mark.parametrize(
    "own",
    ["x" * 1024, "é" * 512, "😀" * 256, ("y" * 199 + "/") * 6],
    ids=["ascii", "accents", "emoji", "folders"],
)
def test_longest_names(api: Api, own: str) -> None:
    """1,024 bytes are a name, in whatever letters."""
    name = (api.folder + own).encode()[:1024].decode(errors="ignore")
    name += "x" * (1024 - len(name.encode()))
    api.put(name, b"long")

    assert len(name.encode()) == 1024
    assert api.call("GET", "/files/", name).content == b"long"
    assert good(api.call("GET", "/list_files", params={"prefix": api.folder}))["content"] == [name]


@pytest.mark.parametrize(
    "path",
    [
        *(
            name.replace(".", "%2e").replace("/", slash)
            for name in LIKE_DOTS
            for slash in ("/", "%2F", "%2f")
        ),
        *(name.replace(".", "%2E") for name in LIKE_DOTS),
        "..%2f..%2fetc%2fpasswd",
        "%2Fetc%2Fpasswd",
        "%2F",
        "a%00b",
        "%00",
        "a%0Ab",
        "a%0D%0ASet-Cookie:x",
        "a%7Fb",
        "a%C2%85b",
        "a%5Cb",
        "..%5C..%5Cx",
        "a%FFb",
        "%C0%AE%C0%AE",
        "%ED%A0%80",
        "x" * 1025,
        "%C3%A9" * 512 + "x",
    ],
    ids=lambda path: path[:40],
)
def test_name_that_is_refused(api: Api, path: str) -> None:
    """A name that is not allowed, sent unchanged, is 400 on every route."""
    answers = [
        api.raw("GET", f"/download/{path}"),
        api.raw("GET", f"/files/{path}"),
        api.raw("DELETE", f"/delete/{path}"),
        api.raw("POST", f"/restore/{path}"),
        api.raw("PUT", f"/upload/{path}", body=b"x"),
    ]

    for answer in answers:
        refused(answer, 400, "invalid_file_name")


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../x", "a/../b", "/x", "a\\b", "a\0b", "a\nb", "a\x85b", "x" * 1025, "é" * 513],
    ids=lambda name: ascii(name)[:20],
)
def test_name_that_is_refused_in_a_body(api: Api, name: str) -> None:
    """The same names are refused in JSON and in a form."""
    planned = api.call("POST", "/uploads", json={"name": name, "size": 1})
    deleted = good(api.call("POST", "/delete", json={"files": [name]}))["content"]
    parts = [("file", ("x.txt", b"x"))]
    prefix, _, _ = name.rpartition("x")

    refused(planned, 400, "invalid_file_name")
    assert deleted == [{"name": name, "deleted": False, "code": "invalid_file_name"}]
    if name.endswith(("/x", "\\b", "\0b", "\nb", "\x85b")) or len(name) > 500:
        posted = api.call("POST", "/upload", data={"prefix": prefix or name}, files=parts)
        refused(posted, 400, "invalid_file_name")

"""Writes: a header or a form that asks for something other than storing a whole file is refused."""

from __future__ import annotations

import base64
import gzip
import hashlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from e2e.api import Api, MiB, good, part_of_form, refused

FOREIGN = ("a\ufffeb", "a\uffffb")


def _base64(name: str, data: bytes) -> str:
    return base64.b64encode(hashlib.new(name, data).digest()).decode()


def _etag(api: Api, name: str) -> str:
    return api.call("HEAD", "/files/", name).headers["ETag"]


def _at_s3(api: Api, name: str) -> requests.Response:
    """The file as S3 itself answers it, its body as it is stored."""
    url = good(api.call("GET", "/download/", name))["content"]
    answer = api.s3("GET", url, headers={"Accept-Encoding": "gzip"}, stream=True)
    assert answer.status_code == 200
    return answer


# --- headers that change what a write means


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("Content-Range", "bytes 5-9/10"),  # RFC 9110, section 14.5; `curl -C - -T`
        ("Upload-Offset", "5"),  # tus 1.0
        ("Upload-Length", "5"),
        ("Upload-Complete", "?0"),  # draft-ietf-httpbis-resumable-upload
        ("Tus-Resumable", "1.0.0"),
        ("X-HTTP-Method-Override", "DELETE"),
        ("X-Amz-Copy-Source", "/bucket/other"),  # S3's CopyObject
        ("If", "(<urn:uuid:1>)"),  # RFC 4918, section 10.4
        ("Content-Disposition", "attachment"),
    ],
)
def test_a_header_that_changes_a_write_is_refused(api: Api, header: str, value: str) -> None:
    """Every kind of write refuses the header and names it, and nothing changes."""
    name = api.name("whole.txt")
    api.put(name, b"the whole file")
    given = {header: value}
    answers = [
        api.call("PUT", "/upload/", name, data=b"tail", headers=given),
        api.call("POST", "/upload", files=[part_of_form(name, b"tail")], headers=given),
        api.call("POST", "/uploads", json={"name": name, "size": 4}, headers=given),
        api.call("DELETE", "/delete/", name, headers=given),
        api.call("POST", "/delete", json={"files": [name]}, headers=given),
        api.call("POST", "/restore/", name, headers=given),
    ]

    for answer in answers:
        assert header in refused(answer, 400, "bad_request")
    assert api.call("GET", "/files/", name).content == b"the whole file"


def test_a_range_in_a_put_means_nothing(api: Api) -> None:
    """RFC 9110, section 14.2: a server ignores Range in any method but GET."""
    name = api.name("whole.txt")
    api.put(name, b"the whole file", Range="bytes=0-1")

    assert api.call("GET", "/files/", name).content == b"the whole file"


# --- preconditions: RFC 9110, section 13


@pytest.mark.parametrize("chunked", [False, True])
def test_put_if_match(api: Api, chunked: bool) -> None:
    """If-Match replaces only the version that the client knows."""
    name = api.name("known.txt")
    api.put(name, b"first")
    first = _etag(api, name)

    def put(data: bytes, etag: str) -> requests.Response:
        body = iter([data]) if chunked else data
        return api.call("PUT", "/upload/", name, data=body, headers={"If-Match": etag})

    good(put(b"second", first))
    refused(put(b"third", first), 412, "precondition_failed")
    assert api.call("GET", "/files/", name).content == b"second"


def test_put_if_match_of_a_missing_file(api: Api) -> None:
    """RFC 9110, section 13.1.1: If-Match is false where there is no file."""
    name = api.name("missing.txt")
    answer = api.call("PUT", "/upload/", name, data=b"x", headers={"If-Match": '"abc"'})

    refused(answer, 412, "precondition_failed")
    assert not api.exists(name)


@pytest.mark.parametrize(
    "given",
    [
        {"If-Match": "*"},
        {"If-Match": '"a", "b"'},
        {"If-Match": 'W/"a"'},
        {"If-None-Match": '"a"'},
        {"If-None-Match": "*", "If-Match": '"a"'},
        {"If-Unmodified-Since": "Sun, 06 Nov 1994 08:49:37 GMT"},
    ],
    ids=str,
)
def test_a_precondition_that_s3_cannot_hold(api: Api, given: dict[str, str]) -> None:
    """A PUT with a condition that S3 does not support is refused, and replaces nothing."""
    name = api.name("kept.txt")
    api.put(name, b"kept")

    refused(api.call("PUT", "/upload/", name, data=b"x", headers=given), 400, "bad_request")
    assert api.call("GET", "/files/", name).content == b"kept"


@pytest.mark.parametrize(
    "given",
    [
        {"If-Unmodified-Since": "99999 not a date"},  # RFC 9110, section 13.1.4: MUST ignore
        {"If-Modified-Since": "Sun, 06 Nov 1994 08:49:37 GMT"},  # section 13.1.3: only of GET and HEAD
    ],
    ids=str,
)
def test_a_precondition_that_does_not_count(api: Api, given: dict[str, str]) -> None:
    """The service ignores these preconditions, as RFC 9110 requires."""
    api.put(api.name("stored.txt"), b"x", **given)

    assert api.exists(api.name("stored.txt"))


def test_delete_if_match(api: Api) -> None:
    """A deletion with If-Match deletes only the version that the client knows."""
    name = api.name("known.txt")
    api.put(name, b"first")
    first = _etag(api, name)
    api.put(name, b"second")

    refused(api.call("DELETE", "/delete/", name, headers={"If-Match": first}), 412, "precondition_failed")
    for given in (
        {"If-None-Match": "*"},
        {"If-Unmodified-Since": "Sun, 06 Nov 1994 08:49:37 GMT"},
        {"If-Match": 'W/"x"'},
    ):
        refused(api.call("DELETE", "/delete/", name, headers=given), 400, "bad_request")
    assert api.exists(name)
    answer = api.call("DELETE", "/delete/", name, headers={"If-Match": _etag(api, name)})
    if answer.status_code == 502:
        refused(answer, 502, "s3_error")
        assert api.exists(name)
        pytest.skip("this S3 has no conditional deletion")
    good(answer)
    assert not api.exists(name)
    refused(api.call("DELETE", "/delete/", name, headers={"If-Match": "*"}), 404, "file_not_found")


@pytest.mark.parametrize(
    ("header", "value"),
    [("If-Match", "*"), ("If-None-Match", "*"), ("If-Unmodified-Since", "Sun, 06 Nov 1994 08:49:37 GMT")],
)
def test_a_precondition_where_none_is_held(api: Api, header: str, value: str) -> None:
    """Forms, plans, bulk deletes and restores take no condition."""
    name = api.name("kept.txt")
    api.put(name, b"kept")
    given = {header: value}

    form = api.call("POST", "/upload", files=[part_of_form("kept.txt", b"x")], headers=given)
    for answer in (
        form,
        api.call("POST", "/uploads", json={"name": name, "size": 1}, headers=given),
        api.call("POST", "/delete", json={"files": [name]}, headers=given),
        api.call("POST", "/restore/", name, headers=given),
    ):
        assert header in refused(answer, 400, "bad_request")
    assert api.call("GET", "/files/", name).content == b"kept"


def _send_parts(api: Api, plan: dict[str, object], data: bytes) -> None:
    signed = good(api.call("POST", f"/uploads/{plan['id']}/parts", json={"parts": [1]}))["content"]
    assert api.s3("PUT", signed[0]["url"], data=data).status_code == 200


def test_complete_with_a_condition(api: Api) -> None:
    """A multipart upload is completed only if its condition holds; otherwise it stays open."""
    name = api.name("parts.bin")
    # Some S3 servers answer 409 if the file was stored after the upload had begun.
    api.put(name, b"meanwhile")
    plan = api.plan(name, 5, multipart=True)
    _send_parts(api, plan, b"parts")
    complete = f"/uploads/{plan['id']}/complete"

    refused(api.call("POST", complete, headers={"If-None-Match": "*"}), 412, "file_exists")
    refused(api.call("POST", complete, headers={"If-Match": '"other"'}), 412, "precondition_failed")
    assert api.call("GET", "/files/", name).content == b"meanwhile"
    good(api.call("POST", complete, headers={"If-Match": _etag(api, name)}))
    assert api.call("GET", "/files/", name).content == b"parts"


# --- digests: RFC 9530, RFC 3230, RFC 1864


def _digest_headers(data: bytes) -> dict[str, str]:
    return {
        "Content-MD5": _base64("md5", data),
        "Digest": f"sha-256={_base64('sha256', data)}",
        "digest": f"MD5={_base64('md5', data)}, unixsum=1",
        "Repr-Digest": f"sha-256=:{_base64('sha256', data)}:",
        "Content-Digest": f"sha-512=:{_base64('sha512', data)}:",
    }


@pytest.mark.parametrize("header", list(_digest_headers(b"")))
@pytest.mark.parametrize("chunked", [False, True])
def test_every_digest_is_checked(api: Api, header: str, chunked: bool) -> None:
    """A body with a correct digest is stored; one with a wrong or an invalid digest is not."""
    name = api.name("digest.bin")
    data = b"d" * 100_000

    def put(value: str, data: bytes = data) -> requests.Response:
        body = iter([data]) if chunked else data
        return api.call("PUT", "/upload/", name, data=body, headers={header: value})

    refused(put(_digest_headers(b"other")[header]), 400, "digest_mismatch")
    refused(put("nonsense", b"x"), 400, "bad_request")
    assert not api.exists(name)
    good(put(_digest_headers(data)[header]))


def test_two_digests_of_one_body(api: Api) -> None:
    """Digests that contradict each other are refused."""
    given = {**_digest_headers(b"x"), "Content-Digest": f"sha-256=:{_base64('sha256', b'y')}:"}
    answer = api.call("PUT", "/upload/", api.name("two"), data=b"x", headers=given)

    refused(answer, 400, "bad_request")


# --- Content-Encoding: RFC 9110, section 8.4


def test_content_encoding_stays(api: Api) -> None:
    """S3 reports a compressed body as compressed, for every kind of upload."""
    data = gzip.compress(b"text " * 1000)
    whole, chunked, posted, parts = (
        api.name(f"{kind}.txt") for kind in ("whole", "chunked", "post", "parts")
    )
    api.put(whole, data, **{"Content-Encoding": "GZIP", "Content-Language": "de, pt-BR"})
    given = {"Content-Encoding": "gzip"}
    good(api.call("PUT", "/upload/", chunked, data=iter([data]), headers=given))
    plan = api.plan(posted, len(data), content_encoding="gzip")
    assert api.s3("POST", plan["url"], data=plan["fields"], files={"file": ("f", data)}).ok
    plan = api.plan(parts, len(data), content_encoding="gzip", multipart=True)
    _send_parts(api, plan, data)
    good(api.call("POST", f"/uploads/{plan['id']}/complete"))

    for name in (whole, chunked, posted, parts):
        answer = _at_s3(api, name)
        assert answer.headers["Content-Encoding"] == "gzip"
        assert answer.raw.read(decode_content=False) == data
    assert _at_s3(api, whole).headers["Content-Language"] == "de, pt-BR"


def test_restore_keeps_what_the_file_had(api: Api) -> None:
    """A restored file has the encoding, the language and the type that it had."""
    if not api.target.keeps_versions:
        pytest.skip("the bucket keeps no versions")
    name = api.name("back.txt")
    data = gzip.compress(b"text")
    had = {"Content-Encoding": "gzip", "Content-Language": "de", "Content-Type": "text/x-own"}
    api.put(name, data, **had)
    good(api.call("DELETE", "/delete/", name))
    good(api.call("POST", "/restore/", name))
    answer = _at_s3(api, name)

    assert {header: answer.headers.get(header) for header in had} == had


@pytest.mark.parametrize("value", ["aws-chunked", "gzip, aws-chunked", "not a coding!", "a b"])
def test_content_encoding_that_is_refused(api: Api, value: str) -> None:
    """`aws-chunked`, which belongs to S3's protocol, and invalid codings are 415."""
    name = api.name("wrapped")
    given = {"Content-Encoding": value}
    plan = {"name": name, "size": 1, "content_encoding": value}

    answer = api.call("PUT", "/upload/", name, data=b"x", headers=given)
    refused(answer, 415, "unsupported_media_type")
    refused(api.call("POST", "/uploads", json=plan), 415, "unsupported_media_type")
    assert not api.exists(name)


# --- forms


def _form(api: Api, *parts: bytes, kind: str = "multipart/form-data") -> requests.Response:
    """A form with these parts, each with its own headers, as raw bytes."""
    body = b"".join(b"--limit\r\n" + part + b"\r\n" for part in parts) + b"--limit--\r\n"
    return api.call("POST", "/upload", data=body, headers={"Content-Type": f"{kind}; boundary=limit"})


def _file(name: str, *headers: str, data: bytes = b"x", field: str = "file") -> bytes:
    head = f'Content-Disposition: form-data; name="{field}"; filename="{name}"'
    return "\r\n".join([head, *headers, "", ""]).encode() + data


def _field(field: str, value: bytes) -> bytes:
    return f'Content-Disposition: form-data; name="{field}"\r\n\r\n'.encode() + value


def test_two_files_of_one_name(api: Api) -> None:
    """Two files with the same name are refused before any is stored, and the name is in the answer."""
    name = api.name("same.txt")
    prefix = _field("prefix", api.folder.encode())
    answer = _form(api, prefix, _file("other.txt"), _file("a/same.txt"), _file("b/same.txt"))

    assert name in refused(answer, 400, "duplicate_file_name")
    assert api.names(api.folder) == []


@pytest.mark.parametrize("header", ["Content-Encoding: gzip", "Content-Transfer-Encoding: base64"])
def test_a_part_in_a_coding(api: Api, header: str) -> None:
    """A form part with Content-Encoding or Content-Transfer-Encoding is refused: RFC 7578, section 4.7."""
    refused(_form(api, _file(api.name("coded"), header)), 415, "unsupported_media_type")


def test_a_piece_in_a_part(api: Api) -> None:
    """A part with Content-Range is a piece of a file."""
    refused(_form(api, _file(api.name("piece"), "Content-Range: bytes 0-0/9")), 400, "bad_request")


@pytest.mark.parametrize(
    ("fields", "accepted"),
    [
        ({"dzuuid": "u", "dzchunkindex": "0", "dztotalchunkcount": "5"}, False),  # Dropzone 5 and 6
        ({"dzuuid": "u", "dzchunkindex": "0", "dztotalchunkcount": "1"}, True),
        ({"resumableChunkNumber": "1", "resumableTotalChunks": "5"}, False),  # Resumable.js 1.1
        ({"flowChunkNumber": "1", "flowTotalChunks": "5"}, False),  # Flow.js 2
        ({"flowChunkNumber": "1", "flowTotalChunks": "1"}, True),
        ({"name": "a", "chunk": "0", "chunks": "5"}, False),  # Plupload 2
        ({"qqpartindex": "0", "qqtotalparts": "5"}, False),  # Fine Uploader 5
        ({"chunkNumber": "1", "totalChunks": "5"}, False),  # simple-uploader.js
    ],
    ids=str,
)
def test_a_widget_that_sends_pieces(api: Api, fields: dict[str, str], accepted: bool) -> None:
    """A piece of a file is refused, and the answer says what to do; a file in one piece is stored."""
    name = api.name("widget.bin")
    parts = [_field(key, value.encode()) for key, value in fields.items()]
    answer = _form(api, *parts, _field("prefix", api.folder.encode()), _file("widget.bin"))

    if accepted:
        good(answer)
    else:
        assert "POST /uploads" in refused(answer, 400, "bad_request")
    assert api.exists(name) == accepted


@pytest.mark.parametrize(
    "fields",
    [
        {"chunkMetadata": '{"FileName":"widget.bin","Index":0,"TotalCount":3}'},  # DevExtreme FileUploader
        {"metadata": '{"chunkIndex":0,"totalChunks":3}'},  # Kendo UI Upload
        {
            "_chunkSize": "1",
            "_currentChunkSize": "1",
            "_chunkNumber": "0",
            "_totalSize": "3",
        },  # ng-file-upload
        {"chunk-index": "0", "total-chunk": "3"},  # Syncfusion Uploader
        {"chunkIndex": "0"},
        {"offset": "5"},
        {"uploadId": "u"},
        {"dztotalchunkcount": "2"},
        {"qqtotalparts": "2"},
        {"totalChunks": "2"},
        {"resumableChunkNumber": "1"},
        {"overwrite": "false"},
        {"Prefix": "aa/"},  # RFC 7578, section 4.2: names are compared as they are
        {"name": "wanted.txt"},
        {"relativePath": "folder/widget.bin"},
        {"key": "k/"},
        {"file": "other.bin"},  # `curl -F file=other.bin -F file=@widget.bin`
    ],
    ids=str,
)
def test_a_field_that_is_not_known(api: Api, fields: dict[str, str]) -> None:
    """A field can say that the form has only a piece of a file, or another name: 400, nothing stored."""
    parts = [_field(key, value.encode()) for key, value in fields.items()]
    answer = _form(api, *parts, _field("prefix", api.folder.encode()), _file("widget.bin"))
    message = refused(answer, 400, "bad_request")

    assert any(f"'{field}'" in message for field in fields)
    assert api.names(api.folder) == []


@pytest.mark.parametrize(
    "fields",
    [
        {"submit": "Upload", "csrf_token": "t"},  # an HTML form of a framework
        {"name": "widget.bin", "chunk": "0", "chunks": "1"},  # Plupload 2
        {"qquuid": "u", "qqfilename": "widget.bin", "qqtotalfilesize": "1"},  # Fine Uploader 5
        {"flowTotalChunks": "1", "flowFilename": "widget.bin", "flowRelativePath": "widget.bin"},  # Flow.js 2
        {"file": "{}"},  # FilePond 4
    ],
    ids=str,
)
def test_fields_that_change_nothing(api: Api, fields: dict[str, str]) -> None:
    """Fields that common widgets add to a whole file are accepted."""
    parts = [_field(key, value.encode()) for key, value in fields.items()]

    good(_form(api, *parts, _field("prefix", api.folder.encode()), _file("widget.bin")))
    assert api.exists(api.name("widget.bin"))


@pytest.mark.parametrize(
    "parameters",
    [
        "name=file; filename=annual report 2026.txt",  # RFC 9110, section 5.6.6: a token has no space
        'name=file; filename=a"b.txt',
        'name=file; filename="a"b.txt"',
        'name=file; filename="a.txt',
        'name=file; filename="a\\"',  # a name that ends with a backslash
        "name=file; filename*=UTF-8''%ff.txt",  # RFC 8187, section 3.2.1
        "name=file; filename*=bogus''%e9.txt",
        "name=file; filename*=UTF-8''%zz.txt",
        "name=file; filename*=a.txt",
        'name=file; filename="a.txt"; filename="b.txt"',  # RFC 6266, section 4.1
        'name=file; filename="a.txt"; FILENAME="b.txt"',
        "name=file; filename*0=a; filename*1=.txt",  # RFC 2231, section 3
        "name=file; filename*0*=UTF-8''a; filename*1*=.txt",
        'name=file; name=other; filename="a.txt"',
        'filename="a.txt"',  # RFC 7578, section 4.2: a part has a name
        'name=file; nonsense; filename="a.txt"',
        'name=file, filename="a.txt"',
    ],
)
def test_a_file_name_that_parsers_read_differently(api: Api, parameters: str) -> None:
    """RFC 7578, section 4.2: a Content-Disposition that is not valid is 400, and no part of it is used."""
    part = f"Content-Disposition: form-data; {parameters}\r\n\r\nx".encode()
    answer = _form(api, _field("prefix", api.folder.encode()), part)

    assert "Content-Disposition" in refused(answer, 400, "bad_request")
    assert api.names(api.folder) == []


@pytest.mark.parametrize(
    ("parameters", "own"),
    [
        ('name="file"; filename="annual report; 2026.txt"', "annual report; 2026.txt"),
        ("name=file; filename=a.txt", "a.txt"),  # .NET's HttpClient sends tokens
        ("name=file; filename=\"=?utf-8?B?w6k=?=\"; filename*=utf-8''%C3%A9", "é"),  # and both names
        ("name=file; filename*=iso-8859-1''%e9", "é"),  # RFC 5987, section 3.2.1
        ('name="file"; filename="a\\"b.txt"', 'a"b.txt'),  # curl until 7.80
        ('name="file"; filename="a%22b.txt"', 'a"b.txt'),  # browsers, and curl since 7.81
        ('name="file"; filename="a.txt"; size=1;', "a.txt"),  # RFC 2183, section 2
        ('NAME="file" ;Filename="é.txt"', "é.txt"),
    ],
)
def test_a_file_name_as_clients_send_it(api: Api, parameters: str, own: str) -> None:
    """The file gets the name of its part, in each form that clients send: RFC 7578, section 4.2."""
    part = f"Content-Disposition: form-data; {parameters}\r\n\r\nx".encode()
    good(_form(api, _field("prefix", api.folder.encode()), part))

    assert api.names(api.folder) == [api.folder + own]


@pytest.mark.parametrize(
    "twice",
    [
        ("Content-Encoding: identity", "Content-Encoding: gzip"),
        ("Content-Transfer-Encoding: binary", "content-transfer-encoding: base64"),
        ("Content-Type: text/plain", "Content-Type: text/html"),
        ('Content-Disposition: form-data; name="file"; filename="b.txt"',),
    ],
    ids=str,
)
def test_a_header_twice_in_a_part(api: Api, twice: tuple[str, ...]) -> None:
    """RFC 5322, section 3.6, and RFC 9110, section 5.3: a header that is no list occurs once."""
    prefix = _field("prefix", api.folder.encode())
    answer = _form(api, prefix, _file("a.txt", *twice))

    assert "twice" in refused(answer, 400, "bad_request")
    assert api.names(api.folder) == []


def test_a_field_in_a_coding(api: Api) -> None:
    """A field with Content-Transfer-Encoding is refused; its Base64 text would become the prefix.

    Source: RFC 7578, section 4.7.
    """
    field = b'Content-Disposition: form-data; name="prefix"\r\nContent-Transfer-Encoding: base64\r\n\r\nYS8='

    refused(_form(api, field, _file("a.txt")), 415, "unsupported_media_type")


def test_the_language_of_a_part(api: Api) -> None:
    """RFC 9110, section 8.5: a part's Content-Language is stored, as that of a PUT is."""
    prefix = _field("prefix", api.folder.encode())
    good(_form(api, prefix, _file("de.txt", "Content-Language: de, pt-BR")))

    assert api.call("GET", "/files/", api.name("de.txt")).headers["Content-Language"] == "de, pt-BR"
    refused(_form(api, prefix, _file("x.txt", "Content-Language: -")), 400, "bad_request")
    assert not api.exists(api.name("x.txt"))


@pytest.mark.parametrize(
    "parts",
    [(), (_file("a", field="upload"),), (_field("file", b"report.csv"),), (_file(""),)],
    ids=["nothing", "another field", "curl without @", "no name"],
)
def test_a_form_without_its_file_says_what_to_send(api: Api, parts: tuple[bytes, ...]) -> None:
    """The contract's sentence stays, and a hint says what to send."""
    answer = _form(api, *parts)

    assert refused(answer, 404, "file_not_found") == "The file '' was not found"
    assert "'file'" in answer.json()["hint"]


def test_a_file_in_another_field_is_not_dropped(api: Api) -> None:
    """A form with one file in the right field and one in another stores neither."""
    prefix = _field("prefix", api.folder.encode())
    answer = _form(api, prefix, _file("right"), _file("other", field="attachment"))

    assert "attachment" in refused(answer, 400, "bad_request")
    assert api.names(api.folder) == []


def test_a_form_by_put(api: Api) -> None:
    """A form that is sent by PUT would be stored with its boundaries: 415."""
    name = api.name("form.bin")
    answer = api.call("PUT", "/upload/", name, files=[part_of_form("x", b"x")])

    refused(answer, 415, "unsupported_media_type")
    assert not api.exists(name)


def test_media_types_have_no_case(api: Api) -> None:
    """RFC 9110, section 8.3.1: type and subtype are case-insensitive."""
    prefix = _field("prefix", api.folder.encode())

    good(_form(api, prefix, _file("case.txt"), kind="Multipart/Form-Data"))
    assert api.exists(api.name("case.txt"))


@pytest.mark.parametrize("value", [b"caf\xe9/", b"\xff", b"\xed\xa0\x80"])
def test_a_prefix_that_is_not_utf_8(api: Api, value: bytes) -> None:
    """Bytes that are no UTF-8 are not replaced by others."""
    refused(_form(api, _field("prefix", value), _file("x")), 400, "bad_request")


def test_two_prefixes(api: Api) -> None:
    """One form has one prefix."""
    answer = _form(api, _field("prefix", b"a/"), _field("prefix", b"b/"), _file("x"))

    refused(answer, 400, "bad_request")


# --- names that S3's XML cannot carry


@pytest.mark.parametrize("own", FOREIGN, ids=ascii)
def test_names_that_xml_cannot_carry(api: Api, own: str) -> None:
    """XML 1.0, section 2.2: U+FFFE and U+FFFF are not characters. Every kind of upload refuses them."""
    name = api.folder + own
    answers = [
        api.call("PUT", "/upload/", name, data=b"small"),
        api.call("PUT", "/upload/", name, data=iter([b"chunked"])),
        _form(api, _file(own)),
        api.call("POST", "/uploads", json={"name": name, "size": 100 * MiB}),
        api.call("POST", "/uploads", json={"name": name, "size": 1}),
        api.call("POST", "/restore/", name),
        api.call("DELETE", "/delete/", name),
        api.call("GET", "/files/", name),
    ]

    for answer in answers:
        assert "U+FFFE" in refused(answer, 400, "invalid_file_name")


# --- bulk deletes


@pytest.mark.parametrize("bad", ["../x", "a\nb", "", "/x", "a\\b", "a\ufffeb", "x" * 1025], ids=ascii)
def test_a_bad_name_does_not_stop_the_others(api: Api, bad: str) -> None:
    """A name that is not allowed has a result of its own, and the rest is deleted."""
    names = [api.name("one"), api.name("two")]
    for name in names:
        api.put(name, b"x")
    body = good(api.call("POST", "/delete", json={"files": [names[0], bad, names[1]]}))

    assert body["content"] == [
        {"name": names[0], "deleted": True},
        {"name": bad, "deleted": False, "code": "invalid_file_name"},
        {"name": names[1], "deleted": True},
    ]
    assert api.names(api.folder) == []


# --- bodies of unknown length


def _pieces(size: int) -> Iterator[bytes]:
    for _ in range(size // 65_536):
        yield b"p" * 65_536


@pytest.mark.parametrize("size", [128 * 1024, 2 * MiB])
def test_many_uploads_of_unknown_length(api: Api, size: int) -> None:
    """Twenty generator PUTs in eight threads, the default body of many clients, are all stored."""
    names = [api.name(f"generator-{number}") for number in range(20)]

    def put(name: str) -> int:
        return api.call("PUT", "/upload/", name, data=_pieces(size)).status_code

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(put, names)) == [200] * len(names)


def test_small_uploads_of_unknown_length_need_no_place(api: Api) -> None:
    """Slow clients that have sent little do not use up the places of others."""
    connections = []
    try:
        for number in range(12):
            connection = api.target.connection()
            connections.append(connection)
            connection.putrequest("PUT", f"/upload/{api.name(f'slow-{number}')}")
            connection.putheader("Transfer-Encoding", "chunked")
            for header, value in api._headers().items():
                if header != "Host":
                    connection.putheader(header, value)
            connection.endheaders(b"4\r\nsome\r\n")
        good(api.call("PUT", "/upload/", api.name("fast"), data=_pieces(2 * MiB)))
        for connection in connections:
            connection.send(b"0\r\n\r\n")
        assert [connection.getresponse().status for connection in connections] == [200] * 12
    finally:
        for connection in connections:
            connection.close()


# --- plans


def test_a_plan_in_parts_of_a_size(api: Api) -> None:
    """The client chooses a multipart upload and the part size, and the plan repeats both."""
    plan = api.plan(api.name("small"), 11 * MiB, multipart=True, part_size=5 * MiB)
    by_size = api.plan(api.name("by-size"), 11 * MiB, part_size=6 * MiB)
    small = api.plan(api.name("post"), 11 * MiB)

    assert (plan["method"], plan["multipart"], plan["part_size"], plan["parts"]) == (
        "MULTIPART",
        True,
        5 * MiB,
        3,
    )
    assert (by_size["multipart"], by_size["part_size"], by_size["parts"]) == (True, 6 * MiB, 2)
    assert (small["method"], small["multipart"]) == ("POST", False)


@pytest.mark.parametrize(
    "more",
    [
        {"part_size": 5 * MiB - 1},
        {"part_size": 5 * 1024 * MiB + 1},
        {"part_size": "5"},
        {"multipart": "yes"},
        {"multipart": False, "part_size": 5 * MiB},
    ],
    ids=str,
)
def test_a_plan_that_cannot_be(api: Api, more: dict[str, object]) -> None:
    """Part sizes that S3 does not take, and contradictions, are 400."""
    body = {"name": api.name("x"), "size": 1, **more}
    answer = api.call("POST", "/uploads", json=body)

    assert answer.status_code == 400


@pytest.mark.parametrize("checked", [False, True])
def test_a_name_that_a_form_would_replace(api: Api, checked: bool) -> None:
    """A name with `${filename}` is uploaded by one presigned PUT of exactly the planned size."""
    name = api.name("${filename} x")
    more = {"sha256": hashlib.sha256(b"right").hexdigest()} if checked else {}
    plan = api.plan(name, 5, multipart=False, content_type="text/x-own", **more)

    assert (plan["method"], plan["multipart"]) == ("PUT", False)
    if checked:
        assert api.s3("PUT", plan["url"], data=b"wrong", headers=plan["headers"]).status_code == 400
    longer = {**plan["headers"], "Content-Length": "6"}
    assert api.s3("PUT", plan["url"], data=b"longer", headers=longer).status_code == 403
    assert api.s3("PUT", plan["url"], data=b"right", headers=plan["headers"]).status_code == 200
    answer = api.call("GET", "/files/", name)
    assert (answer.content, answer.headers["Content-Type"]) == (b"right", "text/x-own")


def test_creation_is_race_free(api: Api) -> None:
    """Of many writers that send the same ETag, exactly one replaces the file."""
    name = api.name("raced")
    api.put(name, b"before")
    etag = _etag(api, name)
    ready = threading.Barrier(6)

    def put(number: int) -> int:
        ready.wait()
        data = f"writer {number}".encode()
        return api.call("PUT", "/upload/", name, data=data, headers={"If-Match": etag}).status_code

    with ThreadPoolExecutor(6) as threads:
        statuses = sorted(threads.map(put, range(6)))

    assert statuses.count(200) == 1
    assert set(statuses) <= {200, 409, 412}

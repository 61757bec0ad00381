"""The service behind nginx, with the blocks of docs/proxies.md as they stand, at `/` and below a prefix.

The behaviour of nginx was checked with Debian's nginx 1.22.1.
"""

from __future__ import annotations

import http.client
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import quote, urljoin, urlsplit

import pytest
import requests
from flask.testing import FlaskClient

from support.nginx import BLOCKS, running_nginx
from support.servers import S3, Service

NAMES = [
    "plain.txt",
    "a//b",
    "a///b//",
    "folder/",
    "a b+c.txt",
    "100%.txt",
    "100%25.txt",
    "a%2Fb",
    "%2e%2e/a",
    "what?.txt",
    "#1.txt",
    "a&b=c;d,e:f@g$h",
    "'()!*~[]{}|^`\"<>.txt",
    "..a/.b/c..",
    "ünï-日本語/😀.txt",
    "files-api/files-api/a",
    "upload/upload",
    "n" * 1024,
    "é" * 512,
]


@dataclass(frozen=True)
class Proxied:
    """A service behind nginx; `url` has the prefix, without a slash at its end."""

    url: str
    s3: S3
    bucket: str
    directory: Path

    def send(
        self, method: str, path: str, body: bytes | Iterator[bytes] = b"", **headers: str
    ) -> tuple[int, bytes]:
        """A request whose path is sent as it stands: most clients would tidy it."""
        to = urlsplit(self.url)
        connection = http.client.HTTPConnection(to.hostname or "", to.port, timeout=30)
        try:
            connection.request(method, to.path + path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


@pytest.fixture(scope="module", params=BLOCKS)
def proxied(
    request: pytest.FixtureRequest,
    ministack_s3: S3,
    make_service: Callable[..., Service],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Proxied]:
    bucket = ministack_s3.make_bucket(f"day02-proxied{list(BLOCKS).index(request.param)}")
    service = make_service(ministack_s3, bucket, trusted_proxy_hops=1)
    directory = tmp_path_factory.mktemp("nginx")
    with running_nginx(BLOCKS[request.param], service, directory) as port:
        url = f"http://127.0.0.1:{port}{request.param.rstrip('/')}"
        yield Proxied(url, ministack_s3, bucket, directory)


def test_the_documentation_has_both_places() -> None:
    """The blocks that the other tests run are the documentation's."""
    assert list(BLOCKS) == ["/", "/files-api/"]


@pytest.mark.parametrize("safe", ["", "/"], ids=["slashes encoded", "slashes as they are"])
@pytest.mark.parametrize("name", NAMES, ids=lambda name: ascii(name[:20]))
def test_a_name_goes_round_unchanged(proxied: Proxied, name: str, safe: str) -> None:
    """What is stored under a name through nginx is in S3 under that name, and comes back by it."""
    path, body = quote(name, safe=safe), f"the bytes of {name}".encode()

    assert proxied.send("PUT", f"/upload/{path}", body)[0] == 200
    assert proxied.s3.keys(proxied.bucket) == {name}
    assert proxied.send("GET", f"/files/{path}") == (200, body)
    assert proxied.send("GET", f"/download/{path}?redirect=true")[0] == 302
    assert proxied.send("DELETE", f"/delete/{path}")[0] == 200
    assert proxied.s3.keys(proxied.bucket) == set()


@pytest.mark.parametrize(
    "path", ["/upload/x/../y", "/upload/x/%2e%2e/y", "/upload/x%2f..%2fy", "/upload/./y", "/upload/%5cy"]
)
def test_a_refused_name_is_not_tidied_into_another(proxied: Proxied, path: str) -> None:
    """Dot segments reach the service, which refuses them; nothing is stored under another name."""
    assert proxied.send("PUT", path, b"data")[0] == 400
    assert proxied.s3.keys(proxied.bucket) == set()


def test_dot_segments_do_not_leave_the_prefix(proxied: Proxied) -> None:
    """nginx chooses the location by the path it has resolved; the service gets nothing of another path."""
    status, _ = proxied.send("GET", "/../elsewhere/../files-api/livez")

    assert status in (400, 404)


def test_large_uploads_stream(proxied: Proxied) -> None:
    """nginx neither limits a body nor writes it to its disk, of which it would warn."""
    piece, pieces = b"0123456789abcdef" * 65536, 24
    try:
        assert proxied.send("PUT", "/upload/large", iter([piece] * pieces))[0] == 200
        assert proxied.send("PUT", "/upload/large", piece * pieces)[0] == 200
        assert proxied.send("GET", "/files/large")[1] == piece * pieces
    finally:
        proxied.send("DELETE", "/delete/large")
    assert "buffered to a temporary file" not in (proxied.directory / "nginx.log").read_text()


def test_the_next_page_is_found_by_its_link(proxied: Proxied) -> None:
    """RFC 8288, section 3.1: the reference in `Link` is relative to the request, whatever the prefix."""
    for number in range(3):
        proxied.send("PUT", f"/upload/page/{number}", b"x")
    first = requests.get(f"{proxied.url}/list_files?prefix=page/&limit=2", timeout=10)
    second = requests.get(urljoin(first.url, first.links["next"]["url"]), timeout=10)
    for number in range(3):
        proxied.send("DELETE", f"/delete/page/{number}")

    assert second.json()["content"] == ["page/2"]


class Links(HTMLParser):
    """The files that a page loads, and the pages it leads to."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, _tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for key, value in attrs if key in ("src", "href") and value]


@pytest.mark.parametrize("page", ["/ui", "/docs"])
def test_pages_find_their_files(proxied: Proxied, page: str) -> None:
    """Every file that a page loads is there, and so is every page that it links to."""
    answer = requests.get(proxied.url + page, timeout=10)
    links = Links()
    links.feed(answer.text)
    found = [link for link in links.found if not link.startswith("#")]
    statuses = {link: requests.get(urljoin(answer.url, link), timeout=10).status_code for link in found}

    assert len(statuses) >= 3
    assert set(statuses.values()) == {200}, statuses


def test_the_document_names_where_the_service_is(proxied: Proxied) -> None:
    """OpenAPI 3.1, section 4.8.5: a relative server is resolved against the document's own URL."""
    document = requests.get(f"{proxied.url}/openapi.json", timeout=10)
    (server,) = document.json()["servers"]

    assert urljoin(document.url, server["url"]).rstrip("/") == proxied.url
    assert requests.get(urljoin(document.url, server["url"]) + "livez", timeout=10).status_code == 200


def test_the_own_page_may_change_files_and_another_may_not(proxied: Proxied) -> None:
    """The origin of the service's pages is that of the proxy."""
    own = "{0.scheme}://{0.netloc}".format(urlsplit(proxied.url))

    assert proxied.send("PUT", "/upload/own", b"x", Origin=own)[0] == 200
    assert proxied.send("DELETE", "/delete/own", Origin="http://foreign.example")[0] == 403
    assert proxied.send("DELETE", "/delete/own", Origin=own)[0] == 200


# --- which headers of proxies are believed


def test_forwarded_host_is_the_own_origin_where_a_proxy_replaces_host(
    make_client: Callable[..., FlaskClient],
) -> None:
    """As Apache's does without ProxyPreserveHost: Host is the upstream's name."""
    sent = {
        "Host": "upstream:5000",
        "X-Forwarded-Host": "files.example",
        "X-Forwarded-Proto": "https",
        "Origin": "https://files.example",
    }
    trusting = make_client(host="0.0.0.0", trusted_proxy_hops=1)
    trusting_none = make_client(host="0.0.0.0")

    assert trusting.put("/upload/a", data=b"x", headers=sent).status_code == 200
    assert trusting_none.put("/upload/a", data=b"x", headers=sent).status_code == 403


def test_a_forwarded_host_of_the_client_does_not_hide_its_host(
    make_client: Callable[..., FlaskClient],
) -> None:
    """AWS's load balancers pass on X-Forwarded-Host: a page of a rebound name could send a served one."""
    client = make_client(host="0.0.0.0", trusted_proxy_hops=1, allowed_hosts=("files.example",))

    def status(host: str, forwarded: str) -> int:
        return client.get("/list_files", headers={"Host": host, "X-Forwarded-Host": forwarded}).status_code

    assert status("files.example", "files.example") == 200
    assert status("evil.example", "files.example") == 421
    assert status("files.example", "evil.example") == 421
    assert status("files.example", "files.example/evil") == 400


def test_a_forwarded_prefix_changes_no_path(make_client: Callable[..., FlaskClient]) -> None:
    """Whatever it is, and believed or not: it neither hides a route nor shows in an answer's links."""
    for client in (make_client(), make_client(trusted_proxy_hops=1)):
        client.put("/upload/a", data=b"x")
        client.put("/upload/b", data=b"x")
        for prefix in ("/files-api", "/files-api/", "/upload", "//evil.example", "\xff", "a b", "/../"):
            answer = client.get("/list_files?limit=1", headers={"X-Forwarded-Prefix": prefix})
            assert answer.status_code == 200
            assert answer.headers["Link"].startswith("<?")

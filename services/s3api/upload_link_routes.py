"""The views of upload links."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any
from urllib.parse import quote

from apiflask import APIFlask
from flask import Response, request
from flask.globals import app_ctx, request_ctx
from werkzeug.exceptions import BadRequest

from s3api import pages, upload_links, write_headers
from s3api.auth import Forbidden
from s3api.file_store import Upload
from s3api.json_bodies import SMALL, json_body
from s3api.names import check_name, check_prefix
from s3api.observability import log
from s3api.routes import answer, bp, documented, raw_body
from s3api.schemas import (
    MIN_EXPIRES,
    CreatedUploadLink,
    ReadUploadLink,
    UploadedFiles,
    UploadLinkRequest,
)
from s3api.services import Services, current_caller, current_services
from s3api.upload_links import UploadLink

#: What a use of a link can answer, for the reference.
BY_LINK = (404, 410)
UPLOADS = (*BY_LINK, 409, 411, 412, 413, 415)


@bp.post("/upload_links")
@json_body(SMALL)
@bp.input(UploadLinkRequest, arg_name="wanted")
@documented(413, 415, answers=CreatedUploadLink, others={201: "Created; `Location` is the URL of the link"})
def create_upload_link(wanted: UploadLinkRequest) -> Response:
    """Create a URL with which someone without a token can upload to one name, or into one folder.

    `curl -T <file> <url>` uploads a file, and a browser shows a page for it. The link allows nothing else. It
    replaces no file unless `overwrite` is true. It ends at `expires_at`, or earlier if its creator may no
    longer write there. The URL is a secret: everyone who has it can use it.
    """
    services = current_services()
    target = _target(wanted)
    current_caller().require("write", target)
    link = upload_links.create(
        services.signer,
        services.settings,
        current_caller(),
        target,
        max_bytes=_size(services, wanted.max_bytes),
        seconds=_life(services, wanted.expires),
        overwrite=wanted.overwrite,
    )
    # `caller` made the link. The log names each upload with the link by `link`.
    fields = {"request_id": app_ctx.g.request_id, "caller": current_caller().name, "link": link.caller.name}
    log.info("upload_link_created", extra={"fields": fields})
    path = f"upload_links/{link.value}{'/' if link.is_folder else ''}"
    response = answer(
        f"Successfully created an upload link for '{target}'",
        {"url": f"{request.root_url}{path}", "path": path, **_details(link)},
        status=201,
    )
    # A relative reference (RFC 3986, section 4.2) is valid below every path prefix of a proxy.
    response.headers["Location"] = path
    return response


@bp.get("/upload_links/<link>")
@documented(
    *BY_LINK, answers=ReadUploadLink, others={302: "To the page for the upload, for a client that wants HTML"}
)
def read_upload_link(link: str) -> Response:
    """Tell what an upload link allows. It needs no token.

    A browser is redirected to the page for the upload.
    """
    if _wants_page():
        # Only a link that the service has signed goes into a header: browsers would take `https:example.org`
        # for another site. The page explains why a signed link is no longer valid.
        current_services().signer.read_upload_link(link)
        response = answer("The page for the upload has a slash at the end of its URL", status=302)
        # A relative reference (RFC 3986, section 4.2): the link is the last segment of this URL. It is quoted
        # because Base64 ignores other characters in a signature.
        response.headers["Location"] = f"{quote(link, safe='')}/"
        response.headers["Vary"] = "Accept"
        return response
    return _described(_open(link)[1])


@bp.get("/upload_links/<link>/")
@bp.doc(hide=True)  # the same for a browser, and for the URL of a folder's link
def show_upload_link(link: str) -> Response:
    if _wants_page():
        return pages.upload_page()
    return _described(_open(link)[1])


@bp.put("/upload_links/<link>")
@documented(*UPLOADS, answers=UploadedFiles)
def upload_by_link(link: str) -> Response:
    """Upload the raw body of the request to the name of an upload link. It needs no token.

    The body and its headers are those of `PUT /upload/<name>`, without `If-Match`. If the file
    exists, the answer is 412, unless the link allows replacing it. A body above the link's `max_bytes` is
    413.
    """
    services, opened = _open(link)
    if opened.is_folder:
        raise BadRequest("This link is for a folder: add a slash and the name of the file to its URL")
    return _uploaded(upload_links.put(services.store, _sent(opened, opened.target)))


@bp.put("/upload_links/<link>/<name:name>")
@documented(*UPLOADS, answers=UploadedFiles)
def upload_into_link(link: str, name: str) -> Response:
    """Upload the raw body of the request into the folder of an upload link. It needs no token.

    The rules are those of an upload to the name of a link. Slashes in the name make folders.
    """
    services, opened = _open(link)
    if not opened.is_folder:
        raise BadRequest("This link is for one file: send it to the URL of the link, with nothing after it")
    return _uploaded(upload_links.put(services.store, _sent(opened, opened.target + check_name(name))))


def _open(value: str) -> tuple[Services, UploadLink]:
    """The link in the URL. From here on, it is the caller of the request."""
    services = current_services()
    link = upload_links.read(services.signer, services.tokens, services.settings, value)
    app_ctx.g.caller = link.caller
    return services, link


def _sent(link: UploadLink, name: str) -> upload_links.Sent:
    """The file that this request sends, to be stored under this name."""
    check_name(name)
    create_only, if_match = write_headers.condition()
    if if_match is not None:
        raise BadRequest("An upload link takes no If-Match; nothing was stored")
    return upload_links.Sent(
        name,
        *raw_body(name, link.max_bytes),
        create_only=create_only or not link.overwrite,
        body_waits=request.headers.get("Expect", "").lower() == "100-continue",
    )


def _uploaded(stored: Upload) -> Response:
    """The sender learns its own file, but not the name of the bucket."""
    return answer(f"Successfully uploaded '{stored.name}'", [asdict(stored)])


def _target(wanted: UploadLinkRequest) -> str:
    if (wanted.name is None) == (wanted.prefix is None):
        raise BadRequest("An upload link has a name or a prefix; give one of them")
    if wanted.name is not None:
        if wanted.name.endswith("/"):
            raise BadRequest("The name ends with a slash; give a folder as prefix")
        return check_name(wanted.name)
    prefix = check_prefix(str(wanted.prefix))
    if not prefix.endswith("/"):
        raise BadRequest("The prefix must be a folder, and end with a slash, as in 'inbox/'")
    check_name(f"{prefix}a")  # a prefix that no name can begin with, such as '../', would make a useless link
    return prefix


def _size(services: Services, wanted: int | None) -> int:
    largest = services.settings.max_file_bytes
    if wanted is not None and wanted > largest:
        raise BadRequest(f"The member max_bytes must be at most {largest}, the limit of the service")
    return largest if wanted is None else wanted


def _life(services: Services, wanted: int | None) -> int:
    longest = services.settings.max_upload_link_seconds
    if not longest:
        raise Forbidden(
            "Upload links are switched off; the service's operator can set MAX_UPLOAD_LINK_SECONDS"
        )
    if wanted is None:
        return min(longest, upload_links.DEFAULT_SECONDS)
    if not MIN_EXPIRES <= wanted <= longest:
        raise BadRequest(f"The member expires must be from {MIN_EXPIRES} to {longest} seconds")
    return wanted


def _details(link: UploadLink) -> dict[str, Any]:
    return {
        "prefix" if link.is_folder else "name": link.target,
        "max_bytes": link.max_bytes,
        "overwrite": link.overwrite,
        "expires_at": link.expires_at,
    }


def _described(link: UploadLink) -> Response:
    response = answer("The upload link is valid", _details(link))
    response.headers["Vary"] = "Accept"
    return response


def _wants_page() -> bool:
    return request.accept_mimetypes.best_match(["application/json", "text/html"]) == "text/html"


def register(app: APIFlask) -> None:
    """The URL is a secret. So a browser does not send it as the referrer of later requests."""

    @app.after_request
    def hide_url(response: Response) -> Response:
        if request_ctx.request.environ["PATH_INFO"].startswith("/upload_links/"):
            response.headers["Referrer-Policy"] = "no-referrer"
        return response

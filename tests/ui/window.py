"""The page in a tab of a real browser, with its service and its S3."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import (
    BrowserContext,
    ConsoleMessage,
    Dialog,
    Error,
    Locator,
    Page,
    Request,
    Response,
    Route,
    expect,
)

from support.servers import S3, Service, until

MiB = 1024 * 1024
#: Kinds of screens, as options of a browser's context.
LOOKS: dict[str, dict[str, Any]] = {
    "light": {"color_scheme": "light", "viewport": {"width": 1100, "height": 720}},
    "dark": {"color_scheme": "dark", "viewport": {"width": 1100, "height": 720}},
    "phone": {
        "color_scheme": "light",
        "viewport": {"width": 360, "height": 740},
        "device_scale_factor": 2,
        "is_mobile": True,
        "has_touch": True,
    },
}

# Reports violations of the policy on the console, where the tests read them.
LISTENER = """
  window.addEventListener("securitypolicyviolation", (event) =>
    console.error(`Content-Security-Policy: ${event.violatedDirective} ${event.blockedURI} ${event.sample}`));
"""


@dataclass
class Window:
    """`folder` holds all of a test's files, and is what the page shows first.

    `complaints` are errors on the console or of the page, failed requests, dialogs, and violations of the
    policy. A test lists the patterns of those that it causes in `forgiven`. Any other one fails the test.
    """

    context: BrowserContext
    service: Service
    s3: S3
    bucket: str
    folder: str
    forgiven: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    client: Any = field(init=False)
    page: Page = field(init=False)

    def __post_init__(self) -> None:
        self.client = self.s3.client()
        self.context.add_init_script(LISTENER)
        self.new_tab()

    def new_tab(self) -> None:
        """Open another tab of the same browser, and use it from now on."""
        self.page = page = self.context.new_page()
        page.on("console", self._said)
        page.on("pageerror", self._threw)
        page.on("dialog", self._dialog)
        # Who first listens when a picker is about to open may be too late: the browser must know before.
        page.on("filechooser", lambda _: None)
        page.on("request", self._request)
        page.on("response", self._answered)
        page.on("requestfailed", self._failed)

    def _said(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.complaints.append(message.text)

    def _threw(self, error: Error) -> None:
        self.complaints.append(str(error))

    def _request(self, request: Request) -> None:
        self.requests.append(request)

    def _answered(self, response: Response) -> None:
        if response.status >= 400:
            self._not_loaded(f"status {response.status}", response.request)

    def _failed(self, request: Request) -> None:
        if request.failure != "net::ERR_ABORTED":  # the page or a reload has ended it
            self._not_loaded(str(request.failure), request)

    def _not_loaded(self, why: str, request: Request) -> None:
        self.complaints.append(
            f"Failed to load resource: {why}: {request.method} {urlsplit(request.url).path}"
        )

    def _dialog(self, dialog: Dialog) -> None:
        self.complaints.append(f"dialog {dialog.type}: {dialog.message}")
        dialog.accept()

    def unforgiven(self) -> list[str]:
        return [one for one in self.complaints if not any(re.search(rule, one) for rule in self.forgiven)]

    # --- the page

    def open(self, folder: str | None = None) -> None:
        """Reload the page, at a folder."""
        shown = self.folder if folder is None else folder
        self.page.goto("about:blank")  # or a URL that differs only in its fragment loads nothing
        self.page.goto(f"{self.service.url}/ui#{quote(shown)}")
        self.settled()

    def settled(self) -> None:
        """Wait until the page shows what it has asked for: a listing, a problem, or the form for a token."""
        self.page.wait_for_function(
            "() => ['#count:not(:empty)', '#problem:not([hidden])', '#token:not([hidden])']"
            ".some((one) => document.querySelector(one)) && !document.querySelector('[aria-busy]')"
        )

    def button(self, name: str) -> Locator:
        return self.page.get_by_role("button", name=name, exact=True)

    def names(self) -> list[str]:
        """The names shown, folders first."""
        return self.page.locator("tbody tr:visible .name").all_text_contents()  # of rows out of view, too

    def row(self, name: str) -> Locator:
        return self.page.locator("tbody tr").filter(has=self.page.get_by_text(name, exact=True))

    def upload(self, name: str) -> Locator:
        """The line of an upload, by the file's whole name."""
        return self.page.locator("#uploads li").filter(has=self.page.get_by_text(name, exact=True))

    def choose(self, *files: Path) -> None:
        self.page.set_input_files("#pick-files", files)

    def uploaded(self, *names: str) -> None:
        for name in names:
            expect(self.upload(self.folder + name)).to_contain_text("uploaded", timeout=120_000)

    def drop(self, *paths: Path) -> None:
        """Drag files and folders of this machine over the page, and drop them."""
        session = self.context.new_cdp_session(self.page)
        dragged = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            session.send("Input.dispatchDragEvent", {"type": kind, "x": 300, "y": 300, "data": dragged})
            if kind == "dragOver":
                expect(self.page.locator("#drop")).to_be_visible()
        session.detach()

    @contextmanager
    def slow_network(self, bytes_a_second: int) -> Iterator[None]:
        """The browser sends no faster than this, so that a test can step into the middle of an upload."""
        page = self.page
        session = self.context.new_cdp_session(page)
        slow = {"offline": False, "latency": 0, "downloadThroughput": -1}
        session.send("Network.enable")
        session.send("Network.emulateNetworkConditions", {**slow, "uploadThroughput": bytes_a_second})
        try:
            yield
        finally:
            if not page.is_closed():
                session.send("Network.emulateNetworkConditions", {**slow, "uploadThroughput": -1})
                session.detach()

    @contextmanager
    def holding_parts(self, *numbers: int) -> Iterator[list[Route]]:
        """Hold these parts of a file until the block ends, so that its upload cannot end before."""
        page = self.page
        held: list[Route] = []
        over = False
        parts = re.compile(rf"[?&]partNumber=({'|'.join(map(str, numbers))})(&|$)")

        def hold(route: Route) -> None:
            if over:
                route.continue_()
            else:
                held.append(route)

        page.route(parts, hold)
        try:
            yield held
        finally:
            over = True
            # `unroute` would lose the event of a request that begins at the same time.
            if not page.is_closed():
                for route in held:
                    route.continue_()

    def violations(self) -> list[str]:
        """What axe finds wrong with the page as it stands, all its rules."""
        found = Axe().run(self.page).response["violations"]
        return [f"{one['id']}: {node['html']}" for one in found for node in one["nodes"]]

    def is_wide(self) -> bool:
        """Whether the page is wider than the window."""
        return bool(self.page.evaluate("document.documentElement.scrollWidth > innerWidth"))

    def faults(self) -> list[str]:
        """What axe finds wrong with the page as it stands, and whether it is wider than the screen."""
        return self.violations() + (["wider than the screen"] if self.is_wide() else [])

    # --- what it asked for

    def asked(self, method: str, path: str = "") -> list[str]:
        """The URLs of the requests so far, those to the service, by their method and how the path begins."""
        return [
            request.url
            for request in self.requests
            if request.method == method
            and request.url.startswith(self.service.url)
            and urlsplit(request.url).path.startswith(path)
        ]

    def sent_to_s3(self, method: str) -> list[str]:
        return [one.url for one in self.requests if one.method == method and one.url.startswith(self.s3.url)]

    # --- what is behind it

    def put(self, name: str, data: bytes = b"data", **more: Any) -> None:
        self.client.put_object(Bucket=self.bucket, Key=self.folder + name, Body=data, **more)

    def data(self, name: str) -> bytes:
        found: bytes = self.client.get_object(Bucket=self.bucket, Key=self.folder + name)["Body"].read()
        return found

    def stored(self) -> set[str]:
        """The names in the folder, as S3 has them."""
        found = self.client.list_objects_v2(Bucket=self.bucket, Prefix=self.folder)
        return {entry["Key"].removeprefix(self.folder) for entry in found.get("Contents", ())}

    def open_uploads(self) -> Sequence[dict[str, Any]]:
        """The folder's multipart uploads that are neither complete nor aborted."""
        found = self.client.list_multipart_uploads(Bucket=self.bucket).get("Uploads", ())
        return [one for one in found if one["Key"].startswith(self.folder)]

    def parts(self) -> set[int]:
        """The parts that S3 has of the one upload that is open."""
        [upload] = self.open_uploads()
        found = self.client.list_parts(Bucket=self.bucket, Key=upload["Key"], UploadId=upload["UploadId"])
        return {part["PartNumber"] for part in found.get("Parts", ())}

    def until_parts(self, many: int) -> None:
        until(lambda: self.open_uploads() and len(self.parts()) >= many, f"S3 has {many} parts", 60)


MakeWindow = Callable[..., Window]

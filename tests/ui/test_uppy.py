"""Stock Uppy from npm in a web page on another origin: the code of docs/uppy.md, in a real browser."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from playwright.sync_api import Browser, CDPSession, Error, Page, Request

from s3api import bucket
from support.http_server import serving
from support.servers import ROOT, S3, Service, need, until
from ui.window import MiB

HERE = Path(__file__).parent / "uppy"
COMMON, AWS_S3_5, AWS_S3_6, TUS = re.findall(
    r"```js\n(.*?)```", (ROOT / "docs" / "uppy.md").read_text(encoding="utf-8"), re.DOTALL
)
#: For each client, the folder whose packages it uses, and its code.
CLIENTS = {"aws-s3-5": ("5", COMMON + AWS_S3_5), "aws-s3-6": ("6", COMMON + AWS_S3_6), "tus": ("6", TUS)}
#: What a page with a file picker adds. `saved` is everything that the browser keeps over a reload.
HARNESS = """
const pick = Object.assign(document.createElement("input"), { type: "file", id: "pick", multiple: true });
document.body.append(pick);
pick.addEventListener("change", () => {
  uppy.addFiles([...pick.files]);
  pick.value = ""; // so that the same file can be picked again
});
window.seen = { failed: [], parts: 0, restored: false };
uppy.on("upload-error", (file, error) => seen.failed.push(`${file?.name}: ${error.message}`));
uppy.on("s3-multipart:part-uploaded", () => { seen.parts += 1; });
uppy.on("restored", () => { seen.restored = true; });
const records = (store) => new Promise((settle) => {
  const asked = store.getAll();
  asked.onsuccess = () => settle(JSON.stringify(asked.result));
});
window.saved = async () => {
  const found = Object.values(localStorage);
  for (const { name } of await indexedDB.databases()) {
    const database = await new Promise((settle) => {
      indexedDB.open(name).onsuccess = (event) => settle(event.target.result);
    });
    const stores = [...database.objectStoreNames];
    for (const store of stores) found.push(await records(database.transaction(store).objectStore(store)));
    database.close();
  }
  return found.join();
};
window.uppy = uppy;
"""
#: Sends the files until the first part is complete: Uppy has not begun to send the last parts then.
STOP_AFTER_A_PART = """(doing) => new Promise((settle) => {
  uppy.once("s3-multipart:part-uploaded", () => { uppy[doing](); settle(); });
  uppy.upload().catch(() => null);
})"""
#: The user cancels while the service plans the uploads.
CANCEL_WHILE_PLANNING = """async () => {
  const real = window.fetch;
  window.fetch = async (...asked) => {
    const answer = await real(...asked);
    if (asked[0].endsWith("/uploads")) uppy.cancelAll();
    return answer;
  };
  await uppy.upload().catch(() => null);
}"""


@dataclass
class Application:
    """A page with Uppy on an origin of its own, the service, and its bucket."""

    kind: str
    page: Page
    url: str
    s3: S3
    bucket: str
    sent: list[Request] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def open(self) -> None:
        self.page.goto(self.url)
        self.page.wait_for_function("window.uppy && seen.restored !== undefined")

    def pick(self, *files: Path) -> None:
        before = self.page.evaluate("Object.values(uppy.getState().files).filter((f) => !f.isGhost).length")
        self.page.set_input_files("#pick", files)
        self.page.wait_for_function(
            "(n) => Object.values(uppy.getState().files).filter((f) => !f.isGhost).length === n",
            arg=before + len(files),
        )

    def stop_after_a_part(self, doing: str) -> None:
        """Upload, and stop when S3 has a part of a file, but not the whole file.

        tus tells the page of no part. There S3 is asked, and a slow network gives the page the time to stop.
        """
        if self.kind != "tus":
            self.page.evaluate(STOP_AFTER_A_PART, doing)
            return
        session = self.page.context.new_cdp_session(self.page)
        session.send("Network.enable")
        limit_upload(session, MiB)  # the file takes more than a minute
        self.page.evaluate("void uppy.upload().catch(() => null)")
        until(self.parts, "S3 has a part", 120, pause=0.2)
        self.page.evaluate("(doing) => uppy[doing]()", doing)
        limit_upload(session, -1)

    def parts(self) -> int:
        """How many parts of incomplete uploads S3 has."""
        client = self.s3.client()
        uploads = client.list_multipart_uploads(Bucket=self.bucket).get("Uploads", ())
        of_uploads = [
            client.list_parts(Bucket=self.bucket, Key=one["Key"], UploadId=one["UploadId"]) for one in uploads
        ]
        return sum(len(one.get("Parts", ())) for one in of_uploads)

    def wait_until_nothing_is_open(self) -> None:
        """S3 has no incomplete upload. A request that the page has cancelled can still be under way."""
        until(lambda: not self.s3.open_uploads(self.bucket), "no upload is open", 60, pause=0.2)

    def empty_bucket(self) -> None:
        client = self.s3.client()
        for key in self.s3.keys(self.bucket):
            client.delete_object(Bucket=self.bucket, Key=key)
        for one in client.list_multipart_uploads(Bucket=self.bucket).get("Uploads", ()):
            client.abort_multipart_upload(Bucket=self.bucket, Key=one["Key"], UploadId=one["UploadId"])

    def wait_until_complete(self) -> None:
        self.page.wait_for_function(
            "seen.failed.length || uppy.getFiles().every((file) => file.progress.uploadComplete)",
            timeout=120_000,
        )
        assert self.page.evaluate("seen.failed") == []

    def stored(self, name: str) -> str:
        body = self.s3.client().get_object(Bucket=self.bucket, Key=name)["Body"]
        digest = hashlib.sha256()
        for chunk in body.iter_chunks(MiB):
            digest.update(chunk)
        return digest.hexdigest()

    def requests(self, method: str) -> list[Request]:
        return [request for request in self.sent if request.method == method]


def limit_upload(session: CDPSession, bytes_a_second: int) -> None:
    unlimited = {"offline": False, "latency": 0, "downloadThroughput": -1}
    session.send("Network.emulateNetworkConditions", {**unlimited, "uploadThroughput": bytes_a_second})


@pytest.fixture(scope="module")
def origin() -> Iterator[str]:
    """A web server with one page for each client, bundled as an application's build does it."""
    esbuild = HERE / "node_modules" / "esbuild" / "bin" / "esbuild"
    node = shutil.which("node")
    need(node, "Node.js is not installed; Uppy is not tried")
    need((HERE / "node_modules" / ".ready").exists(), f"{HERE} is not complete: `make test` installs it")
    assert node is not None
    bundles: dict[str, bytes] = {}
    for kind, (folder, code) in CLIENTS.items():
        source = f"const {{ service, token }} = window.settings;\n{code}\n{HARNESS}"
        command: list[str | Path] = [node, esbuild, "--bundle", "--format=esm", "--log-level=error"]
        done = subprocess.run(
            command, input=source.encode(), cwd=HERE / folder, capture_output=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr.decode()
        bundles[f"/{kind}.js"] = done.stdout

    class Pages(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            script = bundles.get(self.path)
            page = (
                f'<!doctype html><title>Uppy</title><body><script type=module src="{self.path}.js"></script>'
            )
            self.send_response(200)
            kind = "text/javascript" if script else "text/html"
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.end_headers()
            self.wfile.write(script or page.encode())

    with serving(Pages) as port:
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(scope="module")
def service(
    seaweedfs_s3: S3, origin: str, tokens: dict[str, tuple[str, str]], make_service: Callable[..., Service]
) -> tuple[Service, S3, str]:
    """A service that lets the pages in, with its bucket, which has the rule of `make bucket`."""
    name = seaweedfs_s3.make_bucket("day02-uppy")
    rule = bucket.open_to_pages([origin])
    seaweedfs_s3.client().put_bucket_cors(Bucket=name, CORSConfiguration={"CORSRules": [rule]})
    entries = f"[{tokens['uploader'][1]}]"
    made = make_service(seaweedfs_s3, name, cors_origins=origin, allow_anonymous="false", api_tokens=entries)
    return made, seaweedfs_s3, name


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("small") / "small & <b>é.bin", 5 * MiB)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("large") / "large & <b>é.bin", 70 * MiB)


def written(path: Path, size: int) -> Path:
    """A file without two parts that are the same."""
    path.write_bytes(hashlib.shake_256(path.name.encode()).digest(size))
    return path


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@pytest.fixture(params=CLIENTS)
def application(
    request: pytest.FixtureRequest,
    browser: Browser,
    origin: str,
    service: tuple[Service, S3, str],
    tokens: dict[str, tuple[str, str]],
) -> Iterator[Application]:
    made, s3, name = service
    context = browser.new_context()
    settings = json.dumps({"service": made.url, "token": tokens["uploader"][0]})
    context.add_init_script(f"window.settings = {settings};")
    # With no network but loopback, Chromium says that it is offline, and version 6 of aws-s3 waits.
    context.add_init_script("Object.defineProperty(navigator, 'onLine', { value: true });")
    page = context.new_page()
    app = Application(request.param, page, f"{origin}/{request.param}", s3, name)

    def failed(error: Error) -> None:
        app.failures.append(error.message)

    def sent(one: Request) -> None:
        app.sent.append(one)

    page.on("pageerror", failed)
    page.on("request", sent)
    app.open()
    yield app
    context.close()
    app.empty_bucket()
    assert app.failures == []


def test_files_are_stored_and_a_pause_loses_nothing(
    application: Application, small: Path, large: Path
) -> None:
    """5 MiB and 70 MiB arrive unchanged. In a pause the large file is incomplete; then it continues."""
    application.pick(large)
    application.stop_after_a_part("pauseAll")
    assert len(application.s3.open_uploads(application.bucket)) == 1
    assert application.s3.keys(application.bucket) == set()
    application.page.evaluate("uppy.resumeAll()")
    application.wait_until_complete()
    application.pick(small)
    application.page.evaluate("void uppy.upload()")
    application.wait_until_complete()

    assert application.stored(large.name) == sha256(large)
    assert application.stored(small.name) == sha256(small)
    application.wait_until_nothing_is_open()


def test_a_cancelled_upload_leaves_nothing(application: Application, large: Path) -> None:
    """S3 keeps no part of an upload that was being sent."""
    application.pick(large)
    application.stop_after_a_part("cancelAll")

    application.wait_until_nothing_is_open()
    assert application.s3.keys(application.bucket) == set()


@pytest.mark.parametrize("application", ["aws-s3-5", "aws-s3-6"], indirect=True)
def test_a_cancelled_upload_that_was_not_sent_leaves_nothing(application: Application, large: Path) -> None:
    """Uppy sends six files at a time. Two more are planned, and one is cancelled while it is planned."""
    application.pick(large)
    application.page.evaluate("""() => {
      const [file] = uppy.getFiles();
      for (let n = 0; n < 7; n += 1) uppy.addFile(new File([file.data], `${n}.bin`, { type: file.type }));
    }""")
    application.stop_after_a_part("cancelAll")
    application.wait_until_nothing_is_open()
    assert len([sent for sent in application.requests("POST") if sent.url.endswith("/uploads")]) == 8
    application.pick(large)
    application.page.evaluate(CANCEL_WHILE_PLANNING)

    application.wait_until_nothing_is_open()
    assert application.s3.keys(application.bucket) == set()


def test_an_upload_continues_after_a_reload(application: Application, large: Path) -> None:
    """Golden Retriever restores the upload; after the user picks the file again, its other parts are sent."""
    application.pick(large)
    application.stop_after_a_part("pauseAll")
    of_upload = '"tus":{"' if application.kind == "tus" else '"s3Multipart":{"'
    until(
        # `wait_for_function` takes the promise for a true value.
        lambda: of_upload in application.page.evaluate("saved()").replace("\\", ""),
        "Golden Retriever saves the upload",
        60,
    )
    application.open()
    application.page.wait_for_function("seen.restored && uppy.getFiles()[0].isGhost")
    application.sent.clear()
    application.pick(large)
    application.page.evaluate("uppy.emit('restore-confirmed')")
    application.wait_until_complete()

    assert application.stored(large.name) == sha256(large)
    application.wait_until_nothing_is_open()
    if application.kind == "tus":
        assert int(application.requests("PATCH")[0].headers["upload-offset"]) >= 5 * MiB
        assert application.requests("POST") == []
    else:
        assert 0 < len(application.requests("PUT")) < 9


def test_a_refused_file_does_not_stop_the_others(
    application: Application, small: Path, tmp_path: Path
) -> None:
    """The page reads why the service refuses a file; the other file of the same batch is stored."""
    refused = tmp_path / ("x" * 200 + ".bin")
    refused.write_bytes(b"x")
    application.pick(refused, small)
    application.page.evaluate("""() => {
      const one = uppy.getFiles().find((file) => file.size === 1);
      uppy.setFileMeta(one.id, { relativePath: "../x.bin", filename: "../x.bin" });
      void uppy.upload().catch(() => null);
    }""")
    application.page.wait_for_function(
        "uppy.getFiles().every((file) => file.progress.uploadComplete || file.error)", timeout=120_000
    )

    (failed,) = application.page.evaluate("seen.failed")
    assert "invalid_file_name" in failed
    assert application.s3.keys(application.bucket) == {small.name}

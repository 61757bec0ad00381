"""The commands of the client, with their options and their help. docs/cli.md is generated from them."""

from __future__ import annotations

import functools
import os
import re
import select
import shlex
import signal
import stat
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn
from urllib.parse import urlencode, urlsplit

import click
from click.shell_completion import get_completion_class

from s3api.client import archives
from s3api.client.api import EXISTS, FAILED, NOT_FOUND, Api, Failure
from s3api.client.completion import SECONDS as COMPLETION_SECONDS
from s3api.client.completion import local_paths, remote_names
from s3api.client.downloads import Downloads, below, folder_of, is_kind, make_folder
from s3api.client.journal import Journal
from s3api.client.sources import Source, sources
from s3api.client.targets import apart, file_system_of
from s3api.client.terminal import Output, metered
from s3api.client.transfer import Transferred, Via, spread
from s3api.client.uploads import Uploads
from s3api.client.wording import folder_explained
from s3api.misspelt_variables import CLIENT, unread
from s3api.safe_text import shown

DEFAULT_URL = "http://127.0.0.1:5000"
DEFAULT_PORT = 5000
BROKEN_PIPE = 128 + signal.SIGPIPE
END_SECONDS = 5.0  # to restore the terminal's cursor and print a sentence
ONE_NAME = "--name names one file; --prefix is for several"
#: The exit statuses for the codes of single files in one answer.
RESULTS = {"file_exists": EXISTS, "file_not_found": NOT_FOUND}
PAGE = 1000  # names on a page of a listing, and in one request that deletes
#: Versions in one request that restores: the service answers when it has restored all of them.
VERSIONS = 100

HELP = """Files in a bucket, through the file API: list, upload, download, delete.

\b
Examples:
  s3api ping
  s3api upload report.csv 'logs/*.gz' photos
  tar c src | s3api upload - --name backups/src.tar
  s3api list --long backups/
  s3api download report.csv --to /tmp
  s3api download photos/ --to photos
  s3api download backups/src.tar --to - | tar x
  s3api archive photos/
  s3api presign report.csv
  s3api upload-link inbox/ --expires 7d
  s3api delete report.csv && s3api restore report.csv

The service is at http://127.0.0.1:5000, or where --url, --ip or S3API_URL say. The token comes from
S3API_TOKEN, or from the file that --token-file or S3API_TOKEN_FILE name; never from the command line itself,
which others on the machine can see.

\b
Exit status:
  0    everything was done
  1    something failed; or several things failed, with different exit statuses
  2    the command line is wrong
  3    a file was not found
  4    not allowed: no valid token (401), or one that may not do this (403)
  5    the service or S3 cannot be reached, or is not ready
  6    the bytes that were stored or received differ from those that were sent
  7    the file exists already: download and archive without --force, copy and move without
       --overwrite, upload --if-absent
  130  interrupted by Ctrl-C (143: by SIGTERM); run the same command again to continue
  141  the program that reads the output, such as head, ended first

With --json every result is one JSON object on a line of standard output. So is a failure, also one of the
command line: "ok" is false, and "code" and "message" say why. With "download --to -" standard output is the
file, and the objects go to standard error. Progress is shown on a terminal only. 1 MB is 1,000,000 bytes.

Shell completion: source <(s3api completion bash), the same with zsh; s3api completion fish | source. It
completes the paths of local files, and asks the service for the names in the bucket.
"""


# --- what the commands share


@dataclass(frozen=True)
class Client:
    """The values of the shared options, and the objects made from them."""

    api: Api
    output: Output
    jobs: int

    @contextmanager
    def uploads(self, via: Via) -> Iterator[Uploads]:
        journal = Journal(Path(_state_folder(), "s3api", "uploads"))
        with metered(self.output) as meter:
            yield Uploads(self.api, via=via, jobs=self.jobs, meter=meter, journal=journal)

    @contextmanager
    def downloads(self, via: Via) -> Iterator[Downloads]:
        with metered(self.output) as meter:
            yield Downloads(self.api, via=via, jobs=self.jobs, meter=meter)


def _state_folder() -> Path:
    """The folder for the state of programs. Without a home folder, a path in which nothing can be made."""
    if state := os.environ.get("XDG_STATE_HOME"):
        return Path(state)
    try:
        return Path.home() / ".local" / "state"
    except RuntimeError:
        return Path(os.devnull)


SHARED = (
    click.option("--url", metavar="URL", help=f"Where the service is.  [default: {DEFAULT_URL}]"),
    click.option("--ip", metavar="HOST[:PORT]", help=f"The same by its address; the port is {DEFAULT_PORT}."),
    click.option(
        "--token-file",
        metavar="FILE",
        type=click.Path(path_type=Path),
        envvar="S3API_TOKEN_FILE",
        help="A file that holds the token, instead of S3API_TOKEN.",
    ),
    click.option(
        "--timeout",
        default=60.0,
        metavar="SECONDS",
        type=click.FloatRange(0, min_open=True),
        help="Give up a request that makes no progress for this long.  [default: 60]",
    ),
    click.option("--json", "as_json", is_flag=True, help="One JSON object for each result."),
    click.option("--quiet", "-q", is_flag=True, help="Print only failures, and what was asked for."),
)


def _for_completion(given: dict[str, Any]) -> Api:
    url = _address(given.get("url"), given.get("ip"))
    token = _token(given.get("token_file"))
    return Api(url, token, timeout=COMPLETION_SECONDS, retries=0, connections=1)


REMOTE = remote_names(_for_completion)
FILENAME = click.option(
    "--filename",
    "filenames",
    multiple=True,
    metavar="NAME",
    help="The same as NAME.",
    shell_complete=REMOTE,
)
NAMES = click.argument("arguments", nargs=-1, metavar="[NAME]...", shell_complete=REMOTE)
JOBS = click.option(
    "--jobs",
    default=4,
    show_default=True,
    metavar="N",
    type=click.IntRange(1, 64),
    help="Transfers at once.",
)
VIA = click.option(
    "--via",
    type=click.Choice(["auto", "s3", "service"]),
    default="auto",
    show_default=True,
    help="Straight from and to S3, or through the service; auto: straight where S3 can be reached.",
)


def command(
    name: str, *options: Callable[[Any], Any], retries: int = 5
) -> Callable[[Callable[..., None]], click.Command]:
    """Make a command with its own options and the shared ones. It is called with the `Client` first.

    `retries` is the default of --retries.
    """
    attempts = click.option(
        "--retries",
        default=retries,
        show_default=True,
        metavar="N",
        type=click.IntRange(0, 100),
        help="Attempts after the first, each after a longer pause.",
    )

    def decorate(function: Callable[..., None]) -> click.Command:
        @functools.wraps(function)
        def run(
            *,
            url: str | None,
            ip: str | None,
            token_file: Path | None,
            timeout: float,
            retries: int,
            as_json: bool,
            quiet: bool,
            jobs: int = 1,
            **own: Any,
        ) -> None:
            at, token = _address(url, ip), _token(token_file)
            output = Output(as_json=as_json, quiet=quiet)
            ours = (variable for variable in os.environ if variable.startswith("S3API_"))
            for variable, problem in unread(ours, CLIENT):
                output.note(f"{variable} {problem}")
            api = Api(at, token, timeout=timeout, retries=retries, connections=2 * jobs)
            if sys.stderr.isatty():
                api.on_pause = lambda failure, wait: output.note(f"{failure.message}; again in {wait:.0f} s")
            with _ending(api, output):
                function(Client(api, output, jobs), **own)

        for option in reversed([*options, *SHARED[:-2], attempts, *SHARED[-2:]]):
            run = option(run)
        return click.command(name)(run)

    return decorate


def _address(url: str | None, ip: str | None) -> str:
    if ip is None:
        url = url or os.environ.get("S3API_URL") or DEFAULT_URL
        if not url.startswith(("http://", "https://")):
            raise click.UsageError(
                f"'{url}' is not the URL of a service: that begins with http:// or https://"
            )
        return _checked(url)
    if url is not None:
        raise click.UsageError("--ip and --url say the same thing; give one of them")
    if ip.count(":") > 1 and not ip.startswith("["):
        ip = f"[{ip}]"  # an IPv6 address has colons of its own
    return _checked(f"http://{ip}" if ":" in ip.rpartition("]")[2] else f"http://{ip}:{DEFAULT_PORT}")


def _checked(url: str) -> str:
    try:
        urlsplit(url)
    except ValueError as error:  # of an IPv6 address
        raise click.UsageError(f"'{url}' is not the URL of a service: {error}") from error
    return url


def _token(path: Path | None) -> str | None:
    try:
        token = path.read_text(encoding="utf-8") if path else os.environ.get("S3API_TOKEN", "")
    except (OSError, UnicodeDecodeError) as error:
        raise click.UsageError(f"The token file {path} cannot be read: {error}") from error
    token = token.strip()
    if not (token.isascii() and token.isprintable()):
        raise click.UsageError("The token contains characters that no token has")
    return token or None


@contextmanager
def _ending(api: Api, output: Output) -> Iterator[None]:
    """Run a command. It ends with its exit status, without a traceback, and soon after a signal."""
    signals = _end_soon_after_a_signal()
    try:
        yield
        sys.stdout.flush()
    except (KeyboardInterrupt, click.Abort):
        api.stopped.set()
        output.note("interrupted; run the same command again to continue")
        _leave(128 + (signals[0] if signals else signal.SIGINT))
    except OSError as error:  # of the output; errors of local files are `Failure`s
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            _leave(BROKEN_PIPE)  # the reader, such as `head`, has closed the pipe
        api.stopped.set()
        click.echo(f"s3api: the output cannot be written: {error.strerror or error}", err=True)
        _leave(FAILED)
    except Failure as failure:
        output.failed(failure)
    if output.exit_status:
        raise click.exceptions.Exit(output.exit_status)


def _end_soon_after_a_signal() -> list[int]:
    """Raise `KeyboardInterrupt` at the first SIGINT or SIGTERM. End the process at the second.

    The process also ends `END_SECONDS` after the first signal. The main thread cannot always
    end it: it may wait for a terminal that nothing reads, a lock, or a name look-up. So another thread waits
    for the signals. Returns a list to which the first signal is added.
    """
    received: list[int] = []

    def interrupt(number: int, _frame: FrameType | None) -> None:
        if not received:
            received.append(number)
            raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as a shell sets SIGINT for its background jobs
            signal.signal(number, interrupt)
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)

    def end() -> None:
        number = os.read(reader, 1)[0]
        select.select([reader], [], [], END_SECONDS)
        os._exit(128 + number)

    threading.Thread(target=end, name="signals", daemon=True).start()
    return received


def _leave(status: int) -> NoReturn:
    """End the process at once, without waiting for threads that use the network."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _wanted(arguments: Sequence[str], filenames: Sequence[str]) -> list[str]:
    names = list(dict.fromkeys([*arguments, *filenames]))
    if not names:
        raise click.UsageError("Name at least one file")
    if "" in names:  # from an empty variable of a script; as a path it would be the current folder
        raise click.UsageError("The name of a file is empty")
    return names


def _listed(api: Api, prefix: str, contains: str = "") -> Iterator[list[dict[str, Any]]]:
    """Every file whose name begins with the prefix, a page at a time, in the order of S3.

    With `contains` only those whose names contain it; a page can then be empty.

    The names come in pages and not in one stream: the service ends a stream that is not read for a while, and
    the caller may need a long time for each name.
    """
    query = {"prefix": prefix, "details": "true", "limit": PAGE}
    if contains:
        query["contains"] = contains
    while True:
        try:
            route = f"/list_files?{urlencode(query)}"
        except UnicodeEncodeError:
            raise Failure("invalid_file_name", "The prefix or the text is not valid UTF-8") from None
        answer = api.call("GET", route)
        yield answer["content"]
        if "next" not in answer:
            return
        query["cursor"] = answer["next"]


def _pages(api: Api, route: str, name: str, query: Mapping[str, object]) -> Iterator[dict[str, Any]]:
    """Every entry of a list that comes in pages."""
    more: dict[str, object] = {}
    while True:
        answer = api.call("GET", route, name, query={**query, **more, "limit": PAGE})
        yield from answer["content"]
        if "next" not in answer:
            return
        more = {"cursor": answer["next"]}


def _seconds(entry: dict[str, Any]) -> str:
    """When the file was changed, to the second."""
    return str(entry["last_modified"])[:19].replace("T", " ")


def _results(client: Client, route: str, body: Mapping[str, object], done: str) -> None:
    """Repeat a request until its answer has no `next`. Print the result of each file."""
    found, more = False, dict(body)
    while True:
        answer = client.api.call("POST", route, body=more, repeat=False)
        for result in answer["content"]:
            found = True
            name = result["name"]
            if result[done]:
                to = f" to {result['destination']}" if "destination" in result else ""
                client.output.done(f"{done} {name}{to}", **result, outcome=done)
            else:
                status = RESULTS.get(result["code"], FAILED)
                client.output.failed(Failure(result["code"], result["message"], status), name)
        if "next" not in answer:
            break
        more["cursor"] = answer["next"]
    if not found:
        raise Failure("file_not_found", f"There was nothing that could be {done}", NOT_FOUND)


# --- the commands


@command("ping", retries=0)
def ping(client: Client) -> None:
    """Check that the service answers, and is ready.

    \b
    Examples:
      s3api ping
      s3api ping --ip 203.0.113.7
    """
    greeting = client.api.call("GET", "/")["message"]
    client.api.call("GET", "/readyz")
    client.output.done(greeting, url=client.api.url, message=greeting)


@command("whoami")
def whoami(client: Client) -> None:
    """Print what the token may do, and with which files.

    \b
    Examples:
      s3api whoami
      s3api whoami --json
    """
    caller = client.api.call("GET", "/whoami")["content"]
    name, verbs, prefix = caller["name"], caller["verbs"], caller["prefix"]
    which = f"files that begin with '{prefix}'" if prefix else "all files"
    client.output.answer(
        f"{name}: {', '.join(verbs)}; {which}", ok=True, name=name, verbs=verbs, prefix=prefix
    )


@command(
    "list",
    click.argument("prefix", default="", shell_complete=REMOTE),
    click.option(
        "--prefix",
        "option",
        metavar="PREFIX",
        help="The same as the argument.",
        shell_complete=REMOTE,
    ),
    click.option("--long", "-l", is_flag=True, help="Size in bytes and date of change (UTC) first."),
    click.option(
        "--contains",
        default="",
        metavar="TEXT",
        help="Only names that contain TEXT below the folder of PREFIX; case does not matter.",
    ),
    click.option("--deleted", is_flag=True, help="The files that are deleted and can be restored."),
    click.option("--versions", metavar="NAME", help="The versions of one file.", shell_complete=REMOTE),
)
def list_files(
    client: Client,
    *,
    prefix: str,
    option: str | None,
    long: bool,
    contains: str,
    deleted: bool,
    versions: str | None,
) -> None:
    """List the names that begin with PREFIX, or all names, one on each line.

    Names are printed as they arrive. A pipe receives each name unchanged; on a terminal, control characters
    are escaped. Only --json is safe for names that contain a line break.

    With --contains, the service compares every name that begins with PREFIX, 1,000 in each request. Ctrl-C
    ends the search.

    With --deleted, --long shows the size of the deleted file and the time of the deletion. With --versions,
    each line begins with the version that "restore --version" takes; the newest comes first, and is marked as
    current.

    \b
    Examples:
      s3api list
      s3api list --contains invoice reports/
      s3api list --long reports/
      s3api list --deleted reports/
      s3api list --versions report.csv
      s3api list --json | jq -r 'select(.size > 1e9).name'
    """
    if prefix and option is not None:
        raise click.UsageError("PREFIX and --prefix say the same thing; give one of them")
    wanted = option or prefix
    if (versions is not None) + bool(contains) + deleted > 1 or (wanted and versions is not None):
        raise click.UsageError("Give --contains, --deleted or --versions NAME, only one of them")
    if versions is not None:
        _list_versions(client, versions)
    elif deleted:
        _list_deleted(client, wanted, long=long)
    else:
        _list_names(client, wanted, contains, long=long)


def _list_versions(client: Client, name: str) -> None:
    found = False
    for entry in _pages(client.api, "/versions/", name, {}):
        found = True
        size = "deleted" if entry["deleted"] else f"{entry['size']:,}"
        current = "  current" if entry["latest"] else ""
        client.output.answer(f"{entry['version']}  {size:>15}  {_seconds(entry)}{current}", **entry)
    if not found:
        raise Failure("file_not_found", f"There is no version of '{name}'", NOT_FOUND)


def _list_deleted(client: Client, prefix: str, *, long: bool) -> None:
    for entry in _pages(client.api, "/versions", "", {"prefix": prefix, "deleted": "true"}):
        text = entry["name"]
        if long:
            size = f"{entry['size']:,}" if "size" in entry else "unknown"
            text = f"{size:>15}  {_seconds(entry)}  {text}"
        client.output.answer(text, **entry)


def _list_names(client: Client, prefix: str, contains: str, *, long: bool) -> None:
    for page in _listed(client.api, prefix, contains):
        for file in page:
            text = file["name"]
            if long:
                text = f"{file['size']:>15,}  {_seconds(file)}  {text}"
            client.output.answer(text, **file)


@command(
    "upload",
    click.argument("arguments", nargs=-1, metavar="[FILE|FOLDER|GLOB|-]...", shell_complete=local_paths),
    click.option(
        "--filename",
        "filenames",
        multiple=True,
        metavar="FILE",
        help="The same as FILE.",
        shell_complete=local_paths,
    ),
    click.option("--name", metavar="NAME", help="What to store one file, or standard input, as."),
    click.option("--prefix", default="", metavar="PREFIX", help="Put this before every name."),
    click.option("--if-absent", is_flag=True, help="Only what is not there yet; never replace."),
    JOBS,
    VIA,
)
def upload(
    client: Client,
    *,
    arguments: tuple[str, ...],
    filenames: tuple[str, ...],
    name: str | None,
    prefix: str,
    if_absent: bool,
    via: Via,
) -> None:
    """Upload files, folders, the matches of a glob, or standard input (-).

    A file is stored under its own name. The files of a folder keep the folder's name and their paths in it,
    as in photos/2024/a.jpg. The matches of a quoted glob keep their paths from the first wildcard on. A
    symbolic link is followed when you name it. Links found in folders or by globs, broken links, pipes,
    sockets and devices are skipped; each is reported, and the exit status is then 1. Empty folders are not
    stored. A file that changes while it is read is an error, and is not stored.

    Files go directly to S3, by presigned URLs, or through the service where S3 cannot be reached. A file of
    unknown size, as in /proc, and standard input go through the service. Every other file is read first to
    compute its SHA-256, and S3 or the service stores only bytes that match it. For a file in parts, S3 checks
    the MD5 of each part instead, and the command compares the MD5 of the whole. The SHA-256 is stored with
    the file, and a download is compared with it.

    Large files go in parts. After Ctrl-C, kill -9 or a network failure the same command sends only the parts
    that S3 does not have: it asks S3 for its parts, and compares each with the file. A file that has changed
    is sent from the start. For each unfinished upload this machine keeps the upload's id, the service's URL,
    and the file's name, size, SHA-256 and part size, in $XDG_STATE_HOME/s3api/uploads, by default
    ~/.local/state/s3api/uploads. With --if-absent, and from standard input, a file goes through the service
    in one piece, and starts again after an interruption.

    \b
    Examples:
      s3api upload report.csv
      s3api upload report.csv --name reports/2024.csv
      s3api upload photos --prefix backup/
      s3api upload 'logs/**/*.gz' --jobs 8
      mysqldump shop | s3api upload - --name shop.sql
      s3api upload --ip 203.0.113.7 --filename report.csv
    """
    wanted = _wanted(arguments, filenames)
    if "-" in wanted and (name is None or len(wanted) > 1):
        raise click.UsageError("Standard input (-) is uploaded alone, and with --name")
    if name == "":
        raise click.UsageError("--name is empty")
    if name is not None and len(wanted) > 1:
        raise click.UsageError(ONE_NAME)
    with client.uploads(via) as uploads:
        if "-" in wanted:
            assert name is not None  # noqa: S101 - as just checked
            done = uploads.upload_stream(
                sys.stdin.buffer, Path("standard input"), prefix + name, if_absent=if_absent
            )
            _report(client, done)
            return
        found = sources(client.output, wanted, prefix)
        if name is not None:
            files = list(islice(found, 2))
            if len(files) > 1:
                raise click.UsageError(ONE_NAME)
            found = iter([Source(file.path, prefix + name) for file in files])

        def send(source: Source) -> Transferred:
            return uploads.upload(source.path, source.name, if_absent=if_absent)

        _run(client, send, found)


@command(
    "download",
    click.argument("arguments", nargs=-1, metavar="[NAME|PREFIX/]...", shell_complete=REMOTE),
    FILENAME,
    click.option(
        "--to",
        default=".",
        metavar="FOLDER|FILE|-",
        shell_complete=local_paths,
        help="Where to: a folder, a file, or standard output.  [default: this folder]",
    ),
    click.option("--recursive", "-r", is_flag=True, help="Take every NAME for a prefix."),
    click.option("--force", "-f", is_flag=True, help="Replace files that have other contents."),
    JOBS,
    VIA,
)
def download(
    client: Client,
    *,
    arguments: tuple[str, ...],
    filenames: tuple[str, ...],
    to: str,
    recursive: bool,
    force: bool,
    via: Via,
) -> None:
    """Download files, or all files below a prefix that ends in /; with --recursive, any prefix.

    A file keeps the last part of its name. With a prefix, the part of the name after the prefix's last slash
    becomes the path below the folder; an empty object whose name ends in / becomes a folder. Nothing is
    written outside the folder: a name that would lead outside, or that is not a valid file name here, is
    refused. An existing file with the same contents is left alone; one with other contents is replaced only
    with --force.

    A folder cannot hold all names that a bucket can. Where a file has the name of a folder, the files of the
    folder are downloaded and the file is not. Of names that are the same here, such as a and A where case
    does not count, the first is downloaded. The others are reported before the first transfer. Download such
    a file alone, with --to FILE.

    The bytes go into a .part file next to the target. It gets the target's name when it is complete and
    checked. After Ctrl-C, kill -9 or a network failure the same command continues where it stopped, if the
    file in S3 has not changed. The bytes are checked by the SHA-256 that the uploader declared, or else by
    the MD5 that S3 has. Where there is neither, the result says that only the size was checked.

    \b
    Examples:
      s3api download report.csv
      s3api download report.csv --to copy.csv
      s3api download photos/ --to photos
      s3api download shop.sql --to - | mysql shop
      s3api download --ip 203.0.113.7 --filename report.csv
    """
    wanted = _wanted(arguments, filenames)
    path = Path(to)
    many = recursive or len(wanted) > 1 or wanted[0].endswith("/")
    folder, file = is_kind(path, stat.S_IFDIR), is_kind(path, stat.S_IFREG)
    into = folder or (to != "-" and (many or to.endswith("/")))
    stream = to == "-" or is_kind(path, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFSOCK)
    if many and (stream or file):
        raise click.UsageError("--to must be a folder for more than one file")
    with client.downloads(via) as downloads:
        if stream:
            client.output.results_to_stderr = to == "-"
            with nullcontext(sys.stdout.buffer) if to == "-" else path.open("wb") as sink:
                with folder_explained(wanted[0]):
                    done = downloads.download_to(wanted[0], sink)
                _report(client, done)
            return

        def bring(target: Source) -> Transferred:
            with folder_explained(target.name):
                return downloads.download(target.name, target.path, force=force)

        files = _targets(client, wanted, path, recursive=recursive) if into else [Source(path, wanted[0])]
        _run(client, bring, files)


def _targets(client: Client, names: Sequence[str], folder: Path, *, recursive: bool) -> list[Source]:
    """The target of each file. A file that can have none is reported, before anything is transferred."""
    files: list[Source] = []
    markers: list[Source] = []
    for name in names:
        try:
            found = _found(client.api, name, below_prefix=recursive or name.endswith("/"))
        except Failure as failure:
            client.output.failed(failure, name)
            continue
        for one, relative, size in found:
            try:
                if relative and not relative.endswith("/"):
                    files.append(Source(below(folder, relative), one))
                else:
                    markers.append(Source(folder_of(one, size, folder, relative.removesuffix("/")), one))
            except Failure as failure:
                client.output.failed(failure, one)
    kept, refused = apart(files, markers, folder, file_system_of(folder))
    for no in refused:
        client.output.failed(no.failure, no.source.name)
    for marker in dict.fromkeys(markers):
        try:
            make_folder(marker.path)
        except Failure as failure:
            client.output.failed(failure, marker.name)
        else:
            made = str(marker.path)
            client.output.done(f"made folder {made}", name=marker.name, outcome="folder", path=made)
    return kept


def _found(api: Api, name: str, *, below_prefix: bool) -> list[tuple[str, str, int]]:
    """The name of each file, its path below the folder, and its size. A single file is not looked up."""
    if not below_prefix:
        return [(name, name.rpartition("/")[2], 0)]
    cut = name.rfind("/") + 1
    found = [(file["name"], file["name"][cut:], file["size"]) for page in _listed(api, name) for file in page]
    if not found:
        raise _none_begins_with(name)
    return found


def _none_begins_with(prefix: str) -> Failure:
    about = f" whose name begins with '{prefix}'" if prefix else " in the bucket"
    return Failure("file_not_found", f"There is no file{about}", NOT_FOUND)


def _run(client: Client, function: Callable[[Source], Transferred], files: Iterable[Source]) -> None:
    """Transfer the files, several at once. A failure of one does not stop the others."""
    pool = ThreadPoolExecutor(client.jobs, thread_name_prefix="file")
    for file, future in spread(pool, function, files, client.jobs):
        try:
            _report(client, future.result())
        except Failure as failure:
            client.output.failed(failure, file.name)


def _report(client: Client, done: Transferred) -> None:
    checked = {"sha256": "checked by SHA-256", "md5": "checked by MD5", None: "only the size was checked"}
    said = [f"{done.size:,} bytes", checked[done.verified]]
    if done.via == "service":
        said.append("through the service")
    if done.resumed:
        said.append(f"{done.resumed:,} of them were there already")
    fields = {key: value for key, value in asdict(done).items() if value is not None or key == "verified"}
    client.output.done(f"{done.outcome} {done.path or done.name}: {', '.join(said)}", **fields)


@command(
    "archive",
    click.argument("arguments", nargs=-1, metavar="[NAME]...|[PREFIX/]", shell_complete=REMOTE),
    click.option("--all", "everything", is_flag=True, help="All files in the bucket."),
    click.option(
        "--output",
        "-o",
        metavar="FILE|FOLDER|-",
        shell_complete=local_paths,
        help="Where to: a file, a folder, or standard output.  [default: the name of the folder, and .zip]",
    ),
    click.option("--force", "-f", is_flag=True, help="Replace the file."),
)
def archive(
    client: Client, *, arguments: tuple[str, ...], everything: bool, output: str | None, force: bool
) -> None:
    """Download a folder, or several files, as one ZIP, through the service.

    The ZIP is not compressed. It gets its name when it is complete. If the service cannot read all of the
    files, the command names them and leaves no ZIP. A download cannot be resumed; "download PREFIX/" can.

    \b
    Examples:
      s3api archive photos/
      s3api archive report.csv notes.txt --output both.zip
      s3api archive photos/ --output - | ssh backup 'cat > photos.zip'
    """
    if everything and arguments:
        raise click.UsageError("Give names, a prefix or --all, only one of them")
    wanted = [""] if everything else _wanted(arguments, ())
    is_prefix = everything or (len(wanted) == 1 and wanted[0].endswith("/"))
    if not is_prefix and any(name.endswith("/") for name in wanted):
        raise click.UsageError("An archive is of one prefix that ends in /, or of names")
    query = [("prefix" if is_prefix else "name", name) for name in wanted]
    folder = wanted[0].rstrip("/").rpartition("/")[2] if is_prefix else ""
    path = Path(output or f"{folder or 'files'}.zip")
    explained = folder_explained(wanted[0]) if len(wanted) == 1 and wanted[0] else nullcontext()
    with metered(client.output) as meter, explained:
        if output == "-":
            client.output.results_to_stderr = True
            size = archives.write(client.api, query, sys.stdout.buffer, meter, "archive")
        else:
            path = path / f"{folder or 'files'}.zip" if path.is_dir() else path
            size = archives.save(client.api, query, path, meter, force=force)
    client.output.done(f"archived {path}: {size:,} bytes", path=str(path), size=size, outcome="archived")


@command(
    "delete",
    NAMES,
    FILENAME,
    click.option(
        "--prefix", metavar="PREFIX", help="All files whose names begin with this.", shell_complete=REMOTE
    ),
    click.option("--all", "everything", is_flag=True, help="All files in the bucket."),
    click.option("--yes", "-y", is_flag=True, help="Do not ask before deleting by --prefix or --all."),
)
def delete(
    client: Client,
    *,
    arguments: tuple[str, ...],
    filenames: tuple[str, ...],
    prefix: str | None,
    everything: bool,
    yes: bool,
) -> None:
    """Delete files by name, or all files whose names begin with a prefix, after asking.

    An empty prefix is refused, because a script with an empty variable would delete every file. Use --all.

    \b
    Examples:
      s3api delete report.csv
      s3api delete --prefix tmp/
      s3api delete --prefix tmp/ --yes
    """
    if sum((prefix is not None, everything, bool(arguments or filenames))) > 1:
        raise click.UsageError("Give names, --prefix or --all, only one of them")
    if prefix == "":
        raise click.UsageError("An empty --prefix means every file in the bucket; to delete them, give --all")
    if everything or prefix is not None:
        _delete_by_prefix(client, prefix or "", yes=yes)
        return
    names = _wanted(arguments, filenames)
    for start in range(0, len(names), PAGE):
        _delete(client, names[start : start + PAGE])


def _delete_by_prefix(client: Client, prefix: str, *, yes: bool) -> None:
    if not yes and not sys.stdin.isatty():
        raise click.UsageError("Not a terminal: add --yes")
    count = 0 if yes else sum(len(page) for page in _listed(client.api, prefix))
    if not yes and not count:
        raise _none_begins_with(prefix)
    which = f"the {count:,} files whose names begin with '{shown(prefix)}'"
    question = f"Delete {which if prefix else f'all {count:,} files in the bucket'}?"
    if not yes and not click.confirm(question, err=True):
        raise Failure("not_confirmed", "nothing was deleted")
    found = False
    for page in _listed(client.api, prefix):
        if page:
            found = True
            _delete(client, [file["name"] for file in page])
    if not found:
        raise _none_begins_with(prefix)


def _delete(client: Client, names: Sequence[str]) -> None:
    try:
        results = client.api.call("POST", "/delete", body={"files": names}, repeat=False)["content"]
    except Failure as failure:
        if len(names) == 1 or failure.code != "invalid_file_name":
            for name in names:
                client.output.failed(failure, name)
            return
        for name in names:  # one such name makes the service refuse the request; the other names are deleted
            _delete(client, [name])
        return
    for result in results:
        name, code = result["name"], result.get("code")
        if code is None:
            client.output.done(f"deleted {name}", name=name, outcome="deleted")
        elif code == "file_not_found":
            message = f"The file '{name}' was not found"
            if name.endswith("/"):
                message += f"; --prefix {shlex.quote(name)} deletes the files whose names begin with it"
            client.output.failed(Failure(code, message, NOT_FOUND), name)
        elif code == "invalid_file_name":
            reason = "the service does not take this name; delete it with another client of S3"
            client.output.failed(Failure(code, f"'{name}' was not deleted: {reason}"), name)
        else:
            client.output.failed(Failure(code, f"'{name}' was not deleted: {code}"), name)


@command(
    "restore",
    click.argument("arguments", nargs=-1, metavar="[NAME]..."),
    click.option("--filename", "filenames", multiple=True, metavar="NAME", help="The same as NAME."),
    click.option("--prefix", metavar="PREFIX", help="All deleted files whose names begin with this."),
    click.option("--all", "everything", is_flag=True, help="All deleted files in the bucket."),
    click.option("--version", metavar="ID", help='This version of one file, from "list --versions NAME".'),
    click.option("--overwrite", is_flag=True, help="Replace the existing file by the version."),
)
def restore(
    client: Client,
    *,
    arguments: tuple[str, ...],
    filenames: tuple[str, ...],
    prefix: str | None,
    everything: bool,
    version: str | None,
    overwrite: bool,
) -> None:
    """Restore deleted files, or an older version of a file, where the bucket keeps versions.

    An existing file is never replaced, unless you give --version and --overwrite. The file that is replaced
    stays an older version. An empty prefix is refused; use --all.

    \b
    Examples:
      s3api restore report.csv
      s3api restore --prefix reports/
      s3api restore report.csv --version 3sL4kqtJlcpX --overwrite
    """
    if everything or prefix is not None:
        if arguments or filenames or version is not None or overwrite or (everything and prefix is not None):
            raise click.UsageError("--prefix and --all restore deleted files only; give one of them, alone")
        if prefix == "":
            raise click.UsageError("An empty --prefix means all deleted files; to restore them, give --all")
        _results(client, "/restore", {"prefix": prefix or "", "limit": VERSIONS}, "restored")
        return
    names = _wanted(arguments, filenames)
    if version is not None and len(names) > 1:
        raise click.UsageError("--version is of one file")
    if overwrite and version is None:
        raise click.UsageError("--overwrite needs --version")
    query = {} if version is None else {"version": version, "overwrite": str(overwrite).lower()}
    for name in names:
        try:
            file = client.api.call("POST", "/restore/", name, query=query, repeat=False)["content"]
        except Failure as failure:
            client.output.failed(failure, name)
        else:
            client.output.done(f"restored {name}: {file['size']:,} bytes", **file, outcome="restored")


_SOURCE = click.argument("source", metavar="NAME|PREFIX/", shell_complete=REMOTE)
_DESTINATION = click.argument("destination", metavar="NAME|PREFIX/", shell_complete=REMOTE)
_OVERWRITE = click.option("--overwrite", is_flag=True, help="Replace files that exist.")


@command("copy", _SOURCE, _DESTINATION, _OVERWRITE)
def copy(client: Client, *, source: str, destination: str, overwrite: bool) -> None:
    """Copy a file, or all files of a folder, inside the bucket.

    A source that ends in / is a folder; the destination is then a folder too. A file that is copied into a
    folder keeps the last part of its name. The bytes do not leave S3. The command can be repeated.

    \b
    Examples:
      s3api copy report.csv archive/2026.csv
      s3api copy photos/ backup/photos/
    """
    _copy(client, "copy", source, destination, overwrite=overwrite)


@command("move", _SOURCE, _DESTINATION, _OVERWRITE)
def move(client: Client, *, source: str, destination: str, overwrite: bool) -> None:
    """Move (rename) a file, or all files of a folder, inside the bucket.

    The names are those of "copy". A file is deleted only after its copy is complete, and only if it was not
    replaced meanwhile. In a bucket that keeps versions, the old name is then a deleted file. After an
    interruption, run the same command again.

    \b
    Examples:
      s3api move report.csv archive/
      s3api move photos/ pictures/
    """
    _copy(client, "move", source, destination, overwrite=overwrite)


def _copy(client: Client, kind: str, source: str, destination: str, *, overwrite: bool) -> None:
    done = {"copy": "copied", "move": "moved"}[kind]
    body = {"source": source, "destination": destination, "overwrite": overwrite}
    if source.endswith("/"):
        _results(client, f"/{kind}/folder", body, done)
        return
    if destination.endswith("/"):
        body["destination"] = destination + source.rpartition("/")[2]
    with folder_explained(source):
        file = client.api.call("POST", f"/{kind}", body=body, repeat=False)["content"]
    client.output.done(f"{done} {source} to {file['name']}: {file['size']:,} bytes", **file, outcome=done)


class _Duration(click.ParamType[int]):
    """A time in seconds, such as `90`, `10m` or `7d`."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        match = re.fullmatch(r"([0-9]{1,9})([smhd]?)", value) if isinstance(value, str) else None
        if match is None:
            self.fail(
                f"'{value}' is not a duration; write seconds, or a number with s, m, h or d: 10m", param, ctx
            )
        return int(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}[match[2]]


@command(
    "presign",
    NAMES,
    FILENAME,
    click.option(
        "--expires",
        metavar="DURATION",
        type=_Duration(),
        help="The life of the URL, from 60s to 7d, such as 10m.  [default: that of the service]",
    ),
)
def presign(
    client: Client, *, arguments: tuple[str, ...], filenames: tuple[str, ...], expires: int | None
) -> None:
    """Print a URL for each file. Anyone can download the file from it until it expires.

    The URL goes to standard output, the time when it expires to standard error. A URL expires with the
    credentials of the service at the latest, which can be earlier than --expires says.

    \b
    Examples:
      s3api presign report.csv
      s3api presign --expires 7d report.csv
      curl -o report.csv "$(s3api presign --quiet report.csv)"
    """
    for name in _wanted(arguments, filenames):
        try:
            query = {} if expires is None else {"expires": expires}
            signed = client.api.call("GET", "/download/", name, query=query)
        except Failure as failure:
            client.output.failed(failure, name)
            continue
        url, end = signed["content"], signed["expires_at"]
        client.output.answer(url, ok=True, name=name, url=url, expires_at=end)
        if not client.output.as_json:
            client.output.note(f"the URL of '{name}' expires at {end}")


class _Size(click.ParamType[int]):
    """A number of bytes, such as `5000`, `100M` or `2G`."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        match = re.fullmatch(r"([0-9]{1,12})([kmgt]?)b?", value.lower()) if isinstance(value, str) else None
        if match is None or not int(match[1]):
            self.fail(
                f"'{value}' is not a size; write bytes, or a number with k, M, G or T: 100M", param, ctx
            )
        factors = {"": 1, "k": 1000, "m": 1000**2, "g": 1000**3, "t": 1000**4}
        return int(match[1]) * factors[match[2]]


@command(
    "upload-link",
    click.argument("target", metavar="NAME|PREFIX/", shell_complete=REMOTE),
    click.option(
        "--expires",
        metavar="DURATION",
        type=_Duration(),
        help="The life of the link, from 60s, such as 12h or 7d.  [default: 1d]",
    ),
    click.option(
        "--max-size",
        metavar="SIZE",
        type=_Size(),
        help="The size of the largest file, such as 100M.  [default: the limit of the service]",
    ),
    click.option("--overwrite", is_flag=True, help="Allow to replace existing files."),
)
def upload_link(
    client: Client, *, target: str, expires: int | None, max_size: int | None, overwrite: bool
) -> None:
    """Print a URL with which someone without a token can upload.

    The upload goes to NAME, or into the folder PREFIX/. The URL is a secret: everyone who has it can upload
    until it expires. Its holder opens it in a browser, or runs "curl -T FILE URL", and can do nothing else.
    The link ends when your token ends, or may no longer write there.

    The URL goes to standard output, the time when it expires to standard error.

    \b
    Examples:
      s3api upload-link inbox/
      s3api upload-link report.csv --expires 12h --max-size 100M
      curl -T photo.jpg "$(s3api upload-link --quiet inbox/)"
    """
    given = {"max_bytes": max_size, "expires": expires, "overwrite": overwrite or None}
    body: dict[str, object] = {key: value for key, value in given.items() if value is not None}
    body["prefix" if target.endswith("/") else "name"] = target
    link = client.api.call("POST", "/upload_links", body=body)["content"]
    # The service can know its host by another name than this command.
    url, end = f"{client.api.url}/{link['path']}", link["expires_at"]
    client.output.answer(url, ok=True, **{**link, "url": url})
    if not client.output.as_json:
        what = "uploads into this folder" if target.endswith("/") else "uploads this one file"
        client.output.note(f"the upload link for '{target}' expires at {end}; it {what}")


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script that lets a shell complete this command.

    \b
    Examples:
      source <(s3api completion bash)
      s3api completion fish | source
    """
    kind = get_completion_class(shell)
    assert kind is not None  # noqa: S101 - these are the shells that click knows
    click.echo(kind(context.find_root().command, {}, "s3api", "_S3API_COMPLETE").source())


COMMANDS = (
    ping,
    whoami,
    list_files,
    upload,
    download,
    archive,
    copy,
    move,
    delete,
    restore,
    presign,
    upload_link,
    completion,
)

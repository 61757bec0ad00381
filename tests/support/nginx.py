"""nginx: in front of a service, with the configuration that docs/proxies.md gives, or with another one."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from local_servers import free_port, stop, wait_for
from support.servers import ROOT, Service, need

#: The blocks of the documentation, by the path under which the service is.
BLOCKS: Mapping[str, str] = dict(
    re.findall(
        r"<!-- run: (\S+) -->\n```nginx\n(.+?)```",
        (ROOT / "docs" / "proxies.md").read_text(encoding="utf-8"),
        re.DOTALL,
    )
)


def program() -> str | None:
    """The path of nginx, which Debian keeps out of the PATH of ordinary users."""
    return shutil.which("nginx", path=f"{os.environ['PATH']}{os.pathsep}/usr/sbin")


@contextmanager
def running_nginx(block: str, service: Service, directory: Path) -> Iterator[int]:
    """nginx with a block of the documentation, in front of the service; yields its port."""
    need(program(), "nginx is not installed: on Debian and Ubuntu, apt install nginx-light")
    port = free_port()
    assert "127.0.0.1:5000;" in block
    assert "listen 80;" in block
    block = block.replace("127.0.0.1:5000;", f"{urlsplit(service.url).netloc};")
    block = block.replace("listen 80;", f"listen 127.0.0.1:{port};")
    with running(block, port, directory):
        yield port


@contextmanager
def running(block: str, port: int, directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    """nginx of one process; `block` is what its `http` holds, and must listen on the port of 127.0.0.1."""
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "".join(f"{kind}_temp_path {directory}/{kind};\n" for kind in kinds)
    configuration = directory / "nginx.conf"
    configuration.write_text(
        f"daemon off;\nmaster_process off;\npid {directory}/nginx.pid;\nerror_log stderr warn;\nevents {{}}\n"
        f"http {{\naccess_log off;\n{temporary}\n{block}\n}}\n"
    )
    log = directory / "nginx.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(program()), "-p", str(directory), "-c", str(configuration)],
            stdout=output,
            stderr=output,
            stdin=subprocess.DEVNULL,
        )
    try:
        wait_for(f"http://127.0.0.1:{port}/", process, "nginx", log)
        yield process
    finally:
        stop(process)

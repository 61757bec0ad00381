"""TLS in front of a server that speaks plain HTTP, with a certificate that only one CA file verifies."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from support.certificates import make_certificate
from support.servers import S3

PIECE = 1 << 16


@dataclass
class TlsFront:
    """`s3` is the S3 behind TLS; its credentials do not name the CA, so its clients refuse the certificate.

    `trusted` is the same S3 for clients that know the CA. `seen` has the bytes that clients sent.
    """

    s3: S3
    trusted: S3
    authority: Path
    seen: bytearray = field(default_factory=bytearray)


@contextmanager
def running_tls(
    upstream: S3, directory: Path, *, keeps: bool = False, met: Callable[[], None] | None = None
) -> Iterator[TlsFront]:
    """Terminate TLS in front of an S3. With `keeps`, `seen` keeps what is sent, without a limit.

    `met` is called for each connection before its handshake, so its client waits and has sent no request.
    """
    files = make_certificate(directory)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.key)
    parts = urlsplit(upstream.url)
    plain = (str(parts.hostname), int(parts.port or 80))
    # An S3 with few such ports gets its last one; the others are for a proxy that fails (`faulty_s3`).
    listener = socket.create_server(("127.0.0.1", (upstream.proxy_ports or (0,))[-1]))
    url = f"https://127.0.0.1:{listener.getsockname()[1]}"
    trusting = {**upstream.credentials, "AWS_CA_BUNDLE": str(files.ca)}
    front = TlsFront(S3(upstream.kind, url, upstream.credentials), S3(upstream.kind, url, trusting), files.ca)

    def copy(source: socket.socket, sink: socket.socket, seen: bytearray | None) -> None:
        with suppress(OSError):
            while data := source.recv(PIECE):
                if seen is not None:
                    seen += data
                sink.sendall(data)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def serve(client: socket.socket) -> None:
        if met:
            met()
        with (
            suppress(OSError),
            context.wrap_socket(client, server_side=True) as inside,
            socket.create_connection(plain) as server,
        ):
            back = threading.Thread(target=copy, args=(server, inside, None), daemon=True)
            back.start()
            copy(inside, server, front.seen if keeps else None)
            back.join()

    def accept() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield front
    finally:
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)  # a close alone does not end `accept`
        listener.close()
        thread.join()

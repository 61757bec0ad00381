"""An S3 that never finishes an answer: `stalling_s3.py hang`, or `drip` for a byte each tenth of a second."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import suppress

HOW = sys.argv[1]


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError, asyncio.IncompleteReadError):
        head = await reader.readuntil(b"\r\n\r\n")
        if head.startswith(b"GET /ready "):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        elif HOW == "drip":
            writer.write(b"HTTP/1.1 200 OK\r\nX-Filler: ")
            while not writer.is_closing():
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0.1)
        else:
            await reader.read()  # until the client gives up
        writer.close()
        await writer.wait_closed()


async def main() -> None:
    server = await asyncio.start_server(serve, "127.0.0.1", int(os.environ["PORT"]), backlog=1000)
    await server.serve_forever()


asyncio.run(main())

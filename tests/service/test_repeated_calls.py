"""Calls that an AWS SDK repeats, at an application without an emulator.

Source: https://docs.aws.amazon.com/sdkref/latest/guide/feature-retry-behavior.html; boto3 and the SDK for Go
send one `amz-sdk-invocation-id` with all attempts of a call. tests/deploy/test_emulated_services.py repeats
calls at the emulated AWS.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, MutableMapping
from typing import Any

import pytest

from emulator import repeated_calls
from guard.asgi import Message, Receive, Send

SIGNED = b"AWS4-HMAC-SHA256 Credential=key/20261127/eu-west-1/logs/aws4_request, Signature=0"


class Calls:
    """An application that answers with the given statuses, and the calls that reached it."""

    def __init__(self, statuses: Iterator[int]) -> None:
        self.carried_out = 0
        self._statuses = statuses
        self._app = repeated_calls.carried_out_once(self._answer)

    async def _answer(self, _scope: MutableMapping[str, Any], _receive: Receive, send: Send) -> None:
        self.carried_out += 1
        await send({"type": "http.response.start", "status": next(self._statuses), "headers": []})
        await send({"type": "http.response.body", "body": str(self.carried_out).encode()})

    def send(self, call: str) -> tuple[int, int]:
        """The status of the answer, and the number in its body: the same number is the same answer."""
        sent: list[Message] = []

        async def receive() -> Message:
            return {"type": "http.request", "body": b""}

        async def send(message: Message) -> None:
            sent.append(message)

        headers = [(b"authorization", SIGNED), (b"amz-sdk-invocation-id", call.encode())]
        scope = {"type": "http", "method": "POST", "path": "/", "headers": headers}

        async def attempt() -> None:
            await self._app(scope, receive, send)

        asyncio.run(attempt())
        return sent[0]["status"], int(sent[1]["body"])


@pytest.mark.parametrize("status", [300, 400, 403, 500, 503])
def test_a_call_that_failed_is_carried_out_again(status: int) -> None:
    """Only a success is kept: what a call is refused for can change before its next attempt."""
    calls = Calls(iter([status, 200]))

    assert [calls.send("a") for _ in range(3)] == [(status, 1), (200, 2), (200, 2)]


def test_the_oldest_answer_is_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of kept answers is bounded, and a repetition soon follows its call."""
    monkeypatch.setattr(repeated_calls, "KEPT", 2)
    calls = Calls(iter([200] * 4))
    first = [calls.send(call) for call in ("a", "b", "c")]

    assert first == [(200, 1), (200, 2), (200, 3)]
    assert [calls.send(call) for call in ("b", "c")] == first[1:]
    assert calls.send("a") == (200, 4)

"""Calls that an AWS SDK repeats: each is carried out once."""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

from guard.asgi import App, Message, Receive, Send

logger = logging.getLogger("repeated_calls")
KEPT = 1_000


@dataclass(frozen=True)
class _Answered:
    """The messages of an answer, and when it was sent (monotonic seconds)."""

    messages: tuple[Message, ...]
    at: float


def carried_out_once(inner: App) -> App:
    """Answer a repeated call with its first answer, if that was a success.

    An SDK gives all attempts of one call the same id. It repeats a call whose answer did not arrive, and a
    create that is carried out again fails with "already exists"
    (https://docs.aws.amazon.com/sdkref/latest/guide/feature-retry-behavior.html). S3 is left out: its bodies
    are large, and its requests can be repeated. The guard has checked the signature of each attempt.
    """
    answers: OrderedDict[tuple[str, str], _Answered] = OrderedDict()

    async def outer(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        fields = {name.lower(): value.decode("latin-1") for name, value in scope.get("headers", ())}
        attempt = fields.get(b"amz-sdk-request", "")
        call = _call_of(fields) if scope["type"] == "http" and scope["method"] == "POST" else None
        answered = answers.get(call) if call else None
        if attempt and not attempt.startswith("attempt=1;"):
            age = (
                f"{time.monotonic() - answered.at:.3f} s after its answer" if answered else "not answered yet"
            )
            scope_of_key = call[0].partition("/")[2] if call else scope["path"]
            logger.warning("repeated call: %r of %r, %s", attempt, scope_of_key, age)
        if call is None:
            await inner(scope, receive, send)
            return
        if answered:
            for message in answered.messages:
                await send(message)
            return
        sent: list[Message] = []

        async def recording(message: Message) -> None:
            sent.append(message)
            if not message.get("more_body", False) and message["type"] == "http.response.body":
                if sent[0]["status"] < 300:
                    answers[call] = _Answered(tuple(sent), time.monotonic())
                if len(answers) > KEPT:
                    answers.popitem(last=False)
            await send(message)

        await inner(scope, receive, recording)

    return outer


def _call_of(fields: Mapping[bytes, str]) -> tuple[str, str] | None:
    """The scope of the signature and the id of a call; None if this is no call that is answered again."""
    signature = fields.get(b"authorization", "").partition("Credential=")[2].partition(",")[0]
    number = fields.get(b"amz-sdk-invocation-id", "")
    return (signature, number) if signature and number and "/s3/" not in signature else None

"""The guard of the emulated AWS: which requests it accepts.

Every request must be signed with a key of the emulated AWS: the root's, an IAM user's, or a session's. There
are three exceptions: requests to the registry carry a token of ECR; a task's request for the credentials of
its role must come from the tasks' network; and the guard's readiness endpoint is open.
"""

from __future__ import annotations

import importlib
import ipaddress
import os
from collections.abc import Callable, Mapping, MutableMapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote

from emulator.registry import CHALLENGE, Tokens
from emulator.restrictions import SERVICES
from guard import signatures
from guard.asgi import App, Receive, Send
from guard.guard import Answer, Guard, Wanted
from guard.keys import Keys
from guard.signatures import Rejected, Request, Secret

#: `deploy.emulated_aws` puts the root's key here before it starts the container.
KEYS = Path("/run/keys")
#: Paths that tasks request without a signature: the credentials of their role, and the metadata of ECS.
_TASK_PATHS = ("/v2/credentials/", "/v4/")
#: The access key that signed the current form, and the object key it names; empty for other requests.
_form: ContextVar[tuple[str, str]] = ContextVar("form", default=("", ""))
#: Header fields that browsers send and SDKs do not.
_BROWSER_FIELDS = ("origin", "referer", "sec-fetch-site", "sec-fetch-mode", "sec-fetch-dest")


@dataclass(frozen=True)
class Network:
    """The engine's network that the tasks and the emulated AWS share."""

    subnet: ipaddress.IPv4Network

    def has_task(self, client_address: str) -> bool:
        """Whether an address is a task's.

        Requests of this machine come from the gateway, the first address.
        """
        try:
            address = ipaddress.IPv4Address(client_address)
        except ValueError:
            return False
        return address in self.subnet and address != self.subnet[1]


@dataclass(frozen=True)
class Entrance(Guard):
    """The guard, extended by the requests that are not signed with a key."""

    tokens: Tokens = field(kw_only=True)
    network: Network = field(kw_only=True)
    is_registry: Callable[[str], bool] = field(kw_only=True)
    #: The access key that MiniStack reads from a request. It must be the key that the guard has checked.
    key_read: Callable[[Request], str] = field(kw_only=True)

    def decide(self, request: Request) -> Answer | Wanted | None:
        path = unquote(request.path.decode("latin-1"))
        _form.set(("", ""))
        try:
            if self.is_registry(path):
                return self.closed(request) or self._of_registry(request)
            if path.startswith(_TASK_PATHS):
                return self.closed(request) or self._of_task(request)
            decision = super().decide(request)
            if isinstance(decision, Answer) or decision is Wanted.FORM:
                return decision
            return self._same_key(request) or decision
        except Rejected as rejected:
            return Answer(rejected.status, rejected.code, rejected.message)

    def _of_registry(self, request: Request) -> Answer | None:
        if self.tokens.accept(request.header("authorization")):
            return None
        return Answer(
            401,
            "UNAUTHORIZED",
            "Log in with a token of ecr:GetAuthorizationToken.",
            headers=((b"www-authenticate", CHALLENGE.encode()),),
        )

    def _of_task(self, request: Request) -> Answer | None:
        browser = [name for name in _BROWSER_FIELDS if name in request.fields]
        if request.method == "GET" and not browser and self.network.has_task(request.client_address):
            return None
        return Answer(403, "AccessDenied", "Only a task may request this, from its own network.")

    def _same_key(self, request: Request) -> Answer | None:
        if request.method == "OPTIONS":
            return None
        claim = (
            signatures.claim_of_query(request)
            if signatures.is_presigned(request)
            else signatures.claim_of_header(request)
        )
        if self.key_read(request) == claim.scope[0]:
            return None
        return Answer(400, "InvalidRequest", "The request names more than one access key.")

    def decide_body(self, request: Request, wanted: Wanted, body: bytes, *, whole: bool) -> Answer | None:
        answer = super().decide_body(request, wanted, body, whole=whole)
        if answer is None and wanted is Wanted.FORM:
            fields = signatures.form_fields(request.header("content-type"), body)
            _form.set((fields["x-amz-credential"].split("/")[0], fields.get("key", "")))
        return answer


def entrance(root: Keys, tokens: Tokens, environment: Mapping[str, str] = os.environ) -> Entrance:
    """Make the guard of this container. Call it before MiniStack's application is loaded."""
    from ministack.core import iam_evaluator, router

    # MiniStack accepts as the root's key: `test`, any account number, and no key at all.
    iam_evaluator.is_root_access_key = lambda key: key == root.access_key
    os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"] = root.access_key, root.secret.key

    enforce = iam_evaluator.enforce

    def as_the_signer(
        access_key: str,
        action: str,
        service: str,
        region: str,
        resource_arn: str = "*",
        *rest: Any,
        **named: Any,
    ) -> Any:
        """Check the rights of the user who signed a form, on the object that the form names.

        MiniStack reads neither from a form: it checks the root's rights on the bucket.
        """
        signer, key = _form.get()
        if signer:
            access_key, resource_arn = access_key or signer, f"{resource_arn}/{key}"
        return enforce(access_key, action, service, region, resource_arn, *rest, **named)

    iam_evaluator.enforce = as_the_signer

    def secret_of(key: str) -> Secret | None:
        from ministack.core.responses import _account_from_sts_session, get_account_id

        if secret := root.secret_of(key):
            return secret
        account = (
            iam_evaluator.find_iam_access_key_account(key)
            or _account_from_sts_session(key)
            or get_account_id()
        )
        known = iam_evaluator.resolve_credential(key, account)
        if isinstance(known, iam_evaluator.CredentialResolutionError):
            return None
        return Secret(known.secret_access_key, known.session_token or "")

    def key_read(request: Request) -> str:
        headers = {name.decode("latin-1").lower(): v.decode("latin-1") for name, v in request.headers}
        query = parse_qs(request.query.decode("latin-1"), keep_blank_values=True)
        return str(router.extract_access_key_id(headers, query))

    def is_registry(path: str) -> bool:
        app: Any = importlib.import_module("ministack.app")
        return bool(app._is_ecr_registry_path(path))

    return Entrance(
        hosts=frozenset(environment["GUARD_HOSTS"].split(",")),
        origins=frozenset(environment["GUARD_ORIGINS"].split(",")),
        secret_of=secret_of,
        services=SERVICES,
        tokens=tokens,
        network=Network(ipaddress.IPv4Network(environment["TASK_NETWORK"])),
        is_registry=is_registry,
        key_read=key_read,
    )


def with_task_endpoints(inner: App) -> App:
    """Answer the requests of tasks before the application does.

    The application may take their header fields for a request to another service.
    """
    from ministack.services import ecs_metadata, imds

    async def outer(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(_TASK_PATHS):
            await inner(scope, receive, send)
            return
        module = imds if scope["path"].startswith(_TASK_PATHS[0]) else ecs_metadata
        headers = {name.decode("latin-1").lower(): v.decode("latin-1") for name, v in scope["headers"]}
        status, fields, body = await module.handle_request("GET", scope["path"], headers, b"", {})
        answered = [(name.lower().encode(), str(value).encode()) for name, value in fields.items()]
        answered = [
            *(field for field in answered if field[0] != b"content-length"),
            (b"content-length", str(len(body)).encode()),
        ]
        await send({"type": "http.response.start", "status": status, "headers": answered})
        await send({"type": "http.response.body", "body": body})

    return outer

"""JWTs of an application as tokens. Each refusal names its section of RFC 8725 or of another document."""

from __future__ import annotations

import base64
import gc
import hashlib
import hmac
import io
import itertools
import json
import os
import re
import ssl
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal
from unittest.mock import Mock

import jwt
import pytest
import requests
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from flask.testing import FlaskClient
from pydantic import SecretStr
from urllib3 import HTTPResponse

from s3api.app import create_app
from s3api.auth import new_token
from s3api.failures import TokenKeysUnavailable
from s3api.jwt_tokens import FETCH_SECONDS, FetchedKeys, Key
from s3api.manage import entry_json
from s3api.reloading import Reloaded
from s3api.settings import Settings, SettingsError
from support.certificates import make_certificate
from support.http_server import Server
from support.memory_store import MemoryStore
from support.servers import ROOT, S3, Service, until
from support.stores import settings_for

ISSUER, AUDIENCE = "https://app.example", "day02 files"
SECURITY = ROOT / "docs" / "security.md"
NOT_ITS_KEY = "The token's signature is not valid: it does not match the key of its kid"
SECRET = "a secret of 32 characters or more"

RSA = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()
KEYS: Mapping[str, tuple[str, Any]] = {
    "rsa": ("RS256", RSA),
    "ec": ("ES256", EC),
    "ed": ("EdDSA", ED),
}
ALGORITHMS: Mapping[str, Any] = {
    "RS256": jwt.algorithms.RSAAlgorithm,
    "ES256": jwt.algorithms.ECAlgorithm,
    "EdDSA": jwt.algorithms.OKPAlgorithm,
}


def public(kid: str, algorithm: str, key: Any, **more: Any) -> dict[str, Any]:
    """The JWK of a public key."""
    return {**ALGORITHMS[algorithm].to_jwk(key.public_key(), as_dict=True), "kid": kid, **more}


def jwks(*more: dict[str, Any]) -> str:
    return json.dumps({"keys": [*(public(kid, *pair) for kid, pair in KEYS.items()), *more]})


def claims(**changes: Any) -> dict[str, Any]:
    """Valid claims with changes; a claim that is None is left out."""
    now = int(time.time())
    valid = {"iss": ISSUER, "aud": AUDIENCE, "exp": now + 300, "sub": "user-1"}
    valid |= {"verbs": ["list", "read", "write"], "prefix": "docs/", **changes}
    return {name: value for name, value in valid.items() if value is not None}


def token(kid: str = "ec", *, headers: Mapping[str, Any] | None = None, **changes: Any) -> str:
    algorithm, key = KEYS[kid]
    return signed(claims(**changes), key, algorithm, {"kid": kid, **(headers or {})})


def signed(payload: dict[str, Any], key: Any, algorithm: str, headers: Mapping[str, Any]) -> str:
    """A JWS of any claims, also of those that PyJWT would not sign."""
    head = json.dumps({"typ": "JWT", "alg": algorithm, **headers}).encode()
    return raw(head, json.dumps(payload).encode(), key, algorithm)


def raw(head: bytes, payload: bytes, key: Any, algorithm: str) -> str:
    text = encoded(head) + b"." + encoded(payload)
    if algorithm == "none":
        return f"{text.decode()}."
    if algorithm == "HS256":
        signature = hmac.digest(key, text, hashlib.sha256)
    else:
        signature = jwt.get_algorithm_by_name(algorithm).sign(text, key)
    return (text + b"." + encoded(signature)).decode()


def encoded(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def bearer(value: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {value}"}


@pytest.fixture
def keys_file(tmp_path: Path) -> Path:
    path = tmp_path / "keys.json"
    path.write_text(jwks())
    return path


@pytest.fixture
def make(tmp_path: Path, store: MemoryStore, keys_file: Path) -> Callable[..., FlaskClient]:
    def made(**values: Any) -> FlaskClient:
        given = {"jwt_issuer": ISSUER, "jwt_audience": AUDIENCE, "allow_anonymous": False}
        if "jwt_secret" not in values and "jwt_jwks_url" not in values:
            given["jwt_jwks_file"] = keys_file
        return create_app(settings_for(tmp_path, **{**given, **values}), store).test_client()

    return made


def refused(client: FlaskClient, value: str, sentence: str = "") -> None:
    answer = client.get("/list_files?prefix=docs/", headers=bearer(value))
    assert (answer.status_code, answer.get_json()["code"]) == (401, "unauthorized"), answer.json
    # RFC 6750, section 3.1
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="s3api", error="invalid_token"'
    assert sentence in answer.get_json()["message"]
    if value:
        assert value not in answer.text


def accepted(client: FlaskClient, value: str) -> None:
    answer = client.get("/list_files?prefix=docs/", headers=bearer(value))
    assert answer.status_code == 200, answer.json


# --- what is accepted


@pytest.mark.parametrize("kid", KEYS)
def test_a_token_of_each_kind_of_key(make: Callable[..., FlaskClient], kid: str) -> None:
    """RS256, ES256 (RFC 7518, section 3.1) and EdDSA (RFC 8037, section 3.1), by the keys of a file."""
    accepted(make(), token(kid))


def test_the_example_of_the_documentation(make: Callable[..., FlaskClient], keys_file: Path) -> None:
    """The application in docs/security.md makes a JWK set and a token that the service accepts."""
    found = re.search(r"<!-- jwt -->\n```python\n(.*?)```", SECURITY.read_text(encoding="utf-8"), re.DOTALL)
    assert found
    script = found[1] + "\nprint(jwks)\nprint(token_for('ana'))\n"
    ran = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    text, value = ran.stdout.splitlines()
    keys_file.write_text(text)
    answer = make(jwt_audience="files").get("/whoami", headers=bearer(value))

    assert answer.status_code == 200, answer.json
    assert answer.get_json()["content"]["prefix"] == "users/ana/"


def test_a_token_of_a_shared_secret(make: Callable[..., FlaskClient]) -> None:
    """HS256 needs no key id, because there is one key."""
    accepted(make(jwt_secret=SecretStr(SECRET)), signed(claims(), SECRET.encode(), "HS256", {}))


def test_the_rules_of_a_token_hold(make: Callable[..., FlaskClient]) -> None:
    """The claims `verbs` and `prefix` restrict a JWT as they restrict a configured token."""
    client, value = make(), bearer(token())

    assert client.put("/upload/docs/a", data=b"1", headers=value).status_code == 200
    for wrong in (
        client.put("/upload/other/a", data=b"1", headers=value),
        client.delete("/delete/docs/a", headers=value),
        client.get("/list_files", headers=value),
        client.get("/files/doc", headers=value),
    ):
        content = wrong.get_json()
        assert (wrong.status_code, content["code"]) == (403, "forbidden")
        assert "'jwt:user-1'" in content["message"]


def test_one_audience_of_several(make: Callable[..., FlaskClient]) -> None:
    """RFC 7519, section 4.1.3: `aud` may be a list."""
    accepted(make(), token(aud=["another", AUDIENCE]))


def test_clocks_may_differ_a_little(make: Callable[..., FlaskClient]) -> None:
    """RFC 7519, section 4.1.4: a small leeway, usually no more than a few minutes."""
    client, now = make(), int(time.time())

    accepted(client, token(exp=now - 10, nbf=now + 15, iat=now + 15))
    refused(client, token(exp=now - 60), "expired")


def test_the_leeway_is_thirty_seconds(
    make: Callable[..., FlaskClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It counts for each of the dates, and for the longest life of a token."""
    client, now = make(), NOW

    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Clock:
            return cls.fromtimestamp(now, tz)

    monkeypatch.setattr("jwt.api_jwt.datetime", Clock)
    monkeypatch.setattr(time, "time", lambda: float(now))

    for name, date in (("exp", now - 29), ("nbf", now + 30), ("iat", now + 30), ("exp", now + 3630)):
        accepted(client, signed(claims(**{name: date}), EC, "ES256", {"kid": "ec"}))
    refused(client, token(exp=now - 30), "has expired")
    refused(client, token(nbf=now + 31), "not valid yet")
    refused(client, token(iat=now + 31), "not valid yet")
    refused(client, token(exp=now + 3631), "more than 3600 seconds")


@pytest.mark.parametrize(("length", "taken"), [(4096, True), (4097, False)])
def test_the_longest_token(make: Callable[..., FlaskClient], length: int, taken: bool) -> None:
    """4,096 characters are the most. Base64 has no text of every length, so the header gets longer too."""
    shorter = length - 40 - len(token(headers={"x": ""}, x=""))
    value = next(
        made
        for claim, head in itertools.product(range(shorter * 3 // 4, shorter), range(3))
        if len(made := token(headers={"x": "x" * head}, x="x" * claim)) == length
    )

    if taken:
        accepted(make(), value)
    else:
        refused(make(), value, "more than 4096 characters")


def test_configured_tokens_stay_valid(make: Callable[..., FlaskClient]) -> None:
    """A service that accepts JWTs also accepts its configured tokens, and refuses other ones."""
    secret, entry = new_token("server", frozenset({"list"}), "docs/")
    client = make(api_tokens=(entry,))

    accepted(client, secret)
    accepted(client, token())
    refused(client, "s3api_another")


# --- what is refused


def flipped(value: str) -> str:
    head, payload, signature = value.split(".")
    return f"{head}.{payload}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}"


def pem(key: Any) -> bytes:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    data: bytes = key.public_key().public_bytes(serialization.Encoding.PEM, form)
    return data


NOW = int(time.time())
ATTACKS: Mapping[str, tuple[Callable[[], str], str]] = {
    "RFC 8725 2.1: alg none": (lambda: signed(claims(), None, "none", {"kid": "ec"}), "algorithm"),
    "RFC 8725 2.1: alg NoNe": (
        lambda: raw(b'{"alg":"NoNe","kid":"ec"}', json.dumps(claims()).encode(), None, "none"),
        "algorithm",
    ),
    "RFC 8725 2.1: HS256 with the public key": (
        lambda: signed(claims(), pem(RSA), "HS256", {"kid": "rsa"}),
        "algorithm",
    ),
    "RFC 8725 3.1: another algorithm of the key": (
        lambda: raw(b'{"alg":"RS512","kid":"rsa"}', json.dumps(claims()).encode(), RSA, "RS512"),
        "algorithm",
    ),
    "RFC 8725 3.1: the algorithm of another key": (
        lambda: signed(claims(), EC, "ES256", {"kid": "rsa"}),
        "algorithm",
    ),
    "RFC 8725 3.3: a changed signature": (lambda: flipped(token()), NOT_ITS_KEY),
    "RFC 8725 3.3: no signature": (lambda: token().rpartition(".")[0] + ".", NOT_ITS_KEY),
    "RFC 8725 3.3: signed by a stranger": (
        lambda: signed(claims(), ec.generate_private_key(ec.SECP256R1()), "ES256", {"kid": "ec"}),
        NOT_ITS_KEY,
    ),
    "RFC 8725 3.7: bytes that are not UTF-8": (
        lambda: raw(b'{"alg":"ES256","kid":"ec"}', b'{"sub":"\xff"}', EC, "ES256"),
        "not valid",
    ),
    "RFC 8725 3.8: another issuer": (lambda: token(iss="https://app.example/"), "issuer"),
    "RFC 8725 3.8: no issuer": (lambda: token(iss=None), "'iss'"),
    "RFC 8725 3.8: an issuer that is a list": (lambda: token(iss=[ISSUER]), ""),
    "RFC 8725 3.8: no subject": (lambda: token(sub=None), "'sub'"),
    "RFC 8725 3.8: a subject that is a number": (lambda: token(sub=1), ""),
    "RFC 8725 3.8: a subject with a line break": (lambda: token(sub="a\nb"), "subject"),
    "RFC 8725 3.9: another audience": (lambda: token(aud="another"), "audience"),
    "RFC 8725 3.9: no audience": (lambda: token(aud=None), "'aud'"),
    "RFC 8725 3.9: an audience that is an object": (lambda: token(aud={AUDIENCE: 1}), ""),
    "RFC 8725 3.10: an unknown kid": (lambda: token(headers={"kid": "new"}), "not known"),
    "RFC 8725 3.10: a kid that is a path": (lambda: token(headers={"kid": "../../dev/null"}), "not known"),
    "RFC 8725 3.10: a kid that is a number": (lambda: token(headers={"kid": 1}), ""),
    "RFC 8725 3.10: no kid": (lambda: signed(claims(), EC, "ES256", {}), "kid"),
    "RFC 8725 3.10: an embedded key": (
        lambda: token(headers={"jwk": public("ec", "ES256", EC)}),
        "its own key",
    ),
    "RFC 8725 3.10: jku": (lambda: token(headers={"jku": "http://127.0.0.1:1/"}), "its own key"),
    "RFC 8725 3.10: x5u": (lambda: token(headers={"x5u": "http://127.0.0.1:1/"}), "its own key"),
    "RFC 8725 3.10: x5c": (lambda: token(headers={"x5c": ["MII"]}), "its own key"),
    "RFC 8725 3.11: an ID token's or another type": (
        lambda: token(headers={"typ": "secevent+jwt"}),
        "type",
    ),
    "RFC 7515 4.1.11: crit": (lambda: token(headers={"crit": ["x"], "x": 1}), ""),
    "RFC 7797 3: b64": (lambda: token(headers={"crit": ["b64"], "b64": False}), ""),
    "RFC 7519 4.1.4: no exp": (lambda: token(exp=None), "'exp'"),
    "RFC 7519 4.1.4: expired": (lambda: token(exp=NOW - 3600), "expired"),
    "RFC 7519 4.1.5: not valid yet": (lambda: token(nbf=NOW + 3600), "yet"),
    "RFC 7519 2: exp is a string": (lambda: token(exp=str(NOW + 300)), "'exp'"),
    "RFC 7519 2: exp is true": (lambda: token(exp=True), ""),
    "RFC 7519 2: exp is infinite": (lambda: token(exp=float("inf")), ""),
    "RFC 7519 2: exp is not a number": (lambda: token(exp=float("nan")), ""),
    "RFC 7519 2: nbf is a string": (lambda: token(nbf="0"), "'nbf'"),
    "RFC 7519 7.2: claims that are a list": (
        lambda: raw(b'{"alg":"ES256","kid":"ec"}', b"[]", EC, "ES256"),
        "not valid",
    ),
    "RFC 7519 7.2: nested too deep": (
        lambda: raw(b'{"alg":"ES256","kid":"ec"}', b"[" * 2000, EC, "ES256"),
        "not valid",
    ),
    "docs/security.md: valid for too long": (lambda: token(exp=NOW + 86_400), "3600 seconds"),
    "docs/security.md: no verbs": (lambda: token(verbs=None), "'verbs'"),
    "docs/security.md: verbs that are a string": (lambda: token(verbs="list"), "'verbs'"),
    "docs/security.md: an unknown verb": (lambda: token(verbs=["list", "admin"]), "'verbs'"),
    "docs/security.md: a verb that is a list": (lambda: token(verbs=[["list"]]), "'verbs'"),
    "docs/security.md: no prefix": (lambda: token(prefix=None), "'prefix'"),
    "docs/security.md: a prefix that is a list": (lambda: token(prefix=["docs/"]), "'prefix'"),
    "docs/security.md: too long": (lambda: token(x="x" * 4096), "characters"),
    "not a JWT": (lambda: "a.b.c", "not a valid JWT"),
    "a date beyond all dates (RFC 7519, section 2)": (
        lambda: token(exp=10**400),
        "not a number",
    ),
    "nothing in its parts": (lambda: "..", "not a valid JWT"),
    "an encrypted one, of five parts (RFC 7516, section 3)": (lambda: "a.b.c.d.e", "not valid"),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_is_refused(make: Callable[..., FlaskClient], attack: str) -> None:
    """Each forged or incomplete JWT of the list is refused, and the answer says why."""
    forged, sentence = ATTACKS[attack]
    refused(make(), forged(), sentence)


def test_a_shared_secret_verifies_no_other_algorithm(make: Callable[..., FlaskClient]) -> None:
    """RFC 8725, section 3.1: a key has one algorithm."""
    client = make(jwt_secret=SecretStr(SECRET))

    refused(client, token("rsa"), "algorithm")
    refused(client, signed(claims(), b"x" * 32, "HS256", {}), "it does not match the configured secret")
    refused(client, signed(claims(), None, "none", {}), "algorithm")


def test_without_settings_every_jwt_is_refused(client: FlaskClient) -> None:
    """Nothing of the library is used then. The answer says how a request works."""
    refused(
        client,
        token(),
        "The token is not valid: this service has no tokens; send the request without one",
    )


# --- the keys


def _of_2047_bits() -> rsa.RSAPublicKey:
    return rsa.RSAPublicNumbers(65537, 2**2046 + 1).public_key()


SMALL = rsa.generate_private_key(65537, 1024)
P384 = ec.generate_private_key(ec.SECP384R1())
UNUSABLE: Mapping[str, dict[str, Any]] = {
    "RFC 7518 3.3: an RSA key of 1,024 bits": public("k", "RS256", SMALL),
    "RFC 7518 3.3: an RSA key of 2,047 bits": public("k", "RS256", SimpleNamespace(public_key=_of_2047_bits)),
    "RFC 7518 3.1: a curve that ES256 does not use": public("k", "ES256", P384),
    "RFC 8725 3.5: a symmetric key": {"kty": "oct", "kid": "k", "k": encoded(SECRET.encode()).decode()},
    "RFC 7517 9.2: a private key": {**jwt.algorithms.ECAlgorithm.to_jwk(EC, as_dict=True), "kid": "k"},
    "RFC 7517 4.2: a key for encryption": public("k", "ES256", EC, use="enc"),
    "RFC 7517 4.3: a key for another operation": public("k", "ES256", EC, key_ops=["sign"]),
    "RFC 7517 4.4: a key for another algorithm": public("k", "RS256", RSA, alg="RS512"),
    "RFC 7517 4.5: a key without an id": {**public("k", "ES256", EC), "kid": 5},
    "a point that is not on the curve": {**public("k", "ES256", EC), "x": "AAAA"},
}


@pytest.mark.parametrize("kind", UNUSABLE)
def test_an_unusable_key_is_ignored(make: Callable[..., FlaskClient], keys_file: Path, kind: str) -> None:
    """RFC 7517, section 5: the other keys of the set are used. A set without any other does not start."""
    keys_file.write_text(jwks(UNUSABLE[kind]))
    client = make()
    accepted(client, token())
    refused(client, token(headers={"kid": "k"}), "not known")

    keys_file.write_text(json.dumps({"keys": [UNUSABLE[kind]]}))
    with pytest.raises(SettingsError, match="JWT_JWKS_FILE: the file has no usable key"):
        make()


def test_a_changed_file_of_keys_is_used(make: Callable[..., FlaskClient], keys_file: Path) -> None:
    """A removed key ends at once. Content that is not valid changes nothing."""
    client = make()
    accepted(client, token("rsa"))

    keys_file.write_text(json.dumps({"keys": [public("ec", *KEYS["ec"])]}))
    refused(client, token("rsa"), "not known")
    accepted(client, token("ec"))

    keys_file.write_text("{")
    accepted(client, token("ec"))


class Issuer:
    """A real HTTPS server on loopback with the keys of an application."""

    def __init__(self, directory: Path) -> None:
        issuer = self
        self.content = jwks().encode()
        self.status = 200
        self.asked = 0
        self.answers = threading.Event()
        self.answers.set()
        files = make_certificate(directory)

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.asked += 1
                issuer.answers.wait(60)
                self.send_response(issuer.status)
                self.send_header("Location", "https://127.0.0.1:1/")
                self.send_header("Content-Length", str(len(issuer.content)))
                self.end_headers()
                self.wfile.write(issuer.content)

            def log_message(self, *_: object) -> None:
                pass

        self.server = Server(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(files.certificate, files.key)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.ca = files.ca
        self.url = f"https://127.0.0.1:{self.server.server_port}/jwks.json"
        self._thread = threading.Thread(target=self.server.serve_forever, args=(0.05,))
        self._thread.start()

    def close(self) -> None:
        self.answers.set()
        self.server.shutdown()
        self._thread.join()
        self.server.server_close()


@pytest.fixture
def issuer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Issuer]:
    made = Issuer(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(made.ca))
    yield made
    made.close()


def test_keys_by_url(make: Callable[..., FlaskClient], issuer: Issuer) -> None:
    """The keys are fetched once. An unknown kid does not fetch them again within the interval."""
    client = make(jwt_jwks_url=issuer.url)

    for kid in KEYS:
        accepted(client, token(kid))
    for number in range(5):
        refused(client, token(headers={"kid": f"unknown-{number}"}), "not known")
    assert issuer.asked == 1


def test_a_thousand_tokens_leave_nothing_behind(
    make: Callable[..., FlaskClient], issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory is bounded: nothing is kept for each token or each unknown key id, and the keys come once."""
    for name in (
        "FETCH_INTERVAL_SECONDS",
        "KEYS_LIFE_SECONDS",
    ):  # a slow machine takes longer than the interval
        monkeypatch.setattr(f"s3api.jwt_tokens.{name}", 3600)
    client = make(jwt_jwks_url=issuer.url, jwt_max_seconds=7200)
    expires = int(time.time()) + 3600
    headers = {"kid": "ec"}
    payloads = [claims(exp=expires, sub=f"user-{number}") for number in range(600)]
    good = [signed(payload, EC, "ES256", headers) for payload in payloads]
    unknown = [signed(payload, EC, "ES256", {"kid": payload["sub"] * 50}) for payload in payloads]

    def ask(count: range) -> int:
        """How much memory of Python is in use after these requests."""
        for number in count:
            path = "/list_files?prefix=docs/"
            assert client.get(path, headers=bearer(good[number])).status_code == 200
            assert client.get(path, headers=bearer(unknown[number])).status_code == 401
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        before = ask(range(100))  # what is loaded and kept once
        after = ask(range(100, 600))
    finally:
        tracemalloc.stop()

    assert issuer.asked == 1
    # The 500 unknown key ids alone take more than 200 KB.
    assert after - before < 100_000


def test_a_new_key_is_fetched_after_the_interval(
    make: Callable[..., FlaskClient], issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An issuer rotates its keys without a restart of the service. A failed fetch changes nothing."""
    client = make(jwt_jwks_url=issuer.url)
    accepted(client, token("ec"))
    monkeypatch.setattr("s3api.jwt_tokens.FETCH_INTERVAL_SECONDS", 0)

    issuer.content = jwks(public("new", "ES256", EC)).encode()
    accepted(client, token(headers={"kid": "new"}))

    for issuer.status, issuer.content in ((500, b""), (302, b""), (200, b"{"), (200, b" " * 300_000)):
        answer = client.get("/list_files?prefix=docs/", headers=bearer(token(headers={"kid": "newer"})))
        assert (answer.status_code, answer.get_json()["code"]) == (503, "token_keys_unavailable")
        assert answer.headers["Retry-After"]
        accepted(client, token("ec"))


def test_a_removed_key_ends_although_no_token_came(
    make: Callable[..., FlaskClient], issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a quiet time the first token waits until the keys have been fetched again."""
    client = make(jwt_jwks_url=issuer.url)
    accepted(client, token("ec"))
    issuer.content = json.dumps({"keys": [public("other", "ES256", EC)]}).encode()
    monkeypatch.setattr("s3api.jwt_tokens.FETCH_INTERVAL_SECONDS", 0)
    monkeypatch.setattr("s3api.jwt_tokens.KEYS_LIFE_SECONDS", 0)

    refused(client, token("ec"), "key is not known")


def test_a_certificate_that_is_not_trusted(
    make: Callable[..., FlaskClient], issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys from a server that cannot prove its name are not used. A client learns no reason."""
    monkeypatch.delenv("SSL_CERT_FILE")

    answer = make(jwt_jwks_url=issuer.url).get("/list_files", headers=bearer(token()))

    assert (answer.status_code, answer.get_json()["code"]) == (503, "token_keys_unavailable")
    assert issuer.asked == 0


def test_one_fetch_at_a_time(make: Callable[..., FlaskClient], issuer: Issuer) -> None:
    """Requests with unknown keys wait for the same fetch, and requests without a token wait for none."""
    client = make(jwt_jwks_url=issuer.url)
    issuer.answers.clear()
    found: list[int] = []
    value = bearer(token())

    def ask() -> None:
        found.append(
            client.application.test_client().get("/list_files?prefix=docs/", headers=value).status_code
        )

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    until(lambda: issuer.asked, "the fetch")
    assert client.get("/livez").status_code == 200
    assert found == []
    assert [thread.daemon for thread in threading.enumerate() if thread.name == "jwks"] == [True]
    issuer.answers.set()
    for thread in threads:
        thread.join()
    assert (found, issuer.asked) == ([200] * 4, 1)


class Fetches:
    """The keys of an issuer, with a clock that starts at 0, as that of a machine does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.asked = 0
        #: How long the issuer takes to answer, in seconds.
        self.takes = 0.0
        self.status = 200
        self.content = jwks()
        clock = SimpleNamespace(monotonic=lambda: self.now)
        monkeypatch.setattr("s3api.jwt_tokens.time", clock)
        self._keys = FetchedKeys("https://app.example/jwks.json")
        monkeypatch.setattr(self._keys, "_pool", self)

    def request(self, *_: object, **_options: object) -> HTTPResponse:
        self.asked += 1
        self.now += self.takes
        return HTTPResponse(io.BytesIO(self.content.encode()), status=self.status, preload_content=False)

    def find(self, kid: str = "ec") -> Key | None:
        """What a request finds. If it started a fetch, the fetch has ended."""
        try:
            return self._keys.find(kid)
        finally:
            for thread in threading.enumerate():
                if thread.name == "jwks":
                    thread.join()


@pytest.fixture
def fetches(monkeypatch: pytest.MonkeyPatch) -> Fetches:
    return Fetches(monkeypatch)


def test_the_interval_between_fetches(fetches: Fetches) -> None:
    """An unknown key id fetches the keys again 30 seconds after the last time, and not before."""
    assert fetches.find()
    for fetches.now, asked in ((29.9, 1), (30.0, 2), (59.9, 2), (60.0, 3)):
        assert fetches.find("new") is None
        assert fetches.asked == asked


@pytest.mark.parametrize(
    ("age", "asked", "found"),
    [(300.0, 1, True), (300.1, 2, True), (330.0, 2, True), (330.1, 2, False)],
)
def test_the_life_of_a_key(fetches: Fetches, age: float, asked: int, found: bool) -> None:
    """Keys older than 300 seconds are fetched again. If they are older than 330, a request waits for it."""
    fetches.takes = 2.0
    assert fetches.find()
    fetches.content = json.dumps({"keys": [public("other", "ES256", EC)]})
    fetches.now, fetches.takes = 2.0 + age, 0.0

    assert (fetches.find() is not None) is found
    assert fetches.asked == asked
    assert (fetches.find() is not None) is (asked == 1)


@pytest.mark.parametrize(("takes", "found"), [(5.0, True), (5.1, False)])
def test_the_longest_fetch(fetches: Fetches, takes: float, found: bool) -> None:
    """An answer that takes more than five seconds is not used."""
    fetches.takes = takes

    if found:
        assert fetches.find()
    else:
        with pytest.raises(TokenKeysUnavailable):
            fetches.find()


@pytest.mark.parametrize(("size", "found"), [(256 * 1024, True), (256 * 1024 + 1, False)])
def test_the_largest_set_of_keys(fetches: Fetches, size: int, found: bool) -> None:
    """A set of more than 256 KiB is not used."""
    fetches.content = jwks().ljust(size)

    if found:
        assert fetches.find()
    else:
        with pytest.raises(TokenKeysUnavailable):
            fetches.find()


def test_after_a_failed_fetch(fetches: Fetches) -> None:
    """A key that is not known may exist, until a fetch succeeds. Known keys stay in use."""
    assert fetches.find()
    fetches.now, fetches.status = 100.0, 500
    for fetches.now in (100.0, 110.0):
        assert fetches.find()
        with pytest.raises(TokenKeysUnavailable):
            fetches.find("new")
    assert fetches.asked == 2

    fetches.now, fetches.status = 130.0, 200
    assert fetches.find("new") is None


def test_a_connection_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fetch tries each address of the issuer once, and has the time for two that do not answer."""
    timeouts: list[float] = []

    def connect(_address: object, timeout: float, **_options: object) -> None:
        timeouts.append(timeout)
        raise OSError("no route")

    monkeypatch.setattr("urllib3.util.connection.create_connection", connect)
    with pytest.raises(TokenKeysUnavailable):
        FetchedKeys("https://app.example/jwks.json").find("ec")

    assert len(timeouts) == 1
    assert 0 < 2 * timeouts[0] < FETCH_SECONDS


# --- settings


def problems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **variables: str) -> str:
    for name in list(os.environ):
        if name.startswith(("JWT_", "API_TOKENS")):
            monkeypatch.delenv(name)
    given = {"BUCKET": "day02-x", "SIGNING_KEY": "k" * 32, "STAGING_DIR": str(tmp_path / "u"), **variables}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as raised:
        Settings.from_environment()
    return str(raised.value)


NAMES = {"JWT_ISSUER": ISSUER, "JWT_AUDIENCE": AUDIENCE}


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        (NAMES, "JWT_JWKS_URL: is not set"),
        (
            {"JWT_ISSUER": ISSUER},
            "JWT_AUDIENCE: is not set, but JWT_ISSUER is; JWTs need it\n  JWT_JWKS_URL: is not set",
        ),
        ({"JWT_SECRET": SECRET}, "JWT_ISSUER: is not set, but JWT_SECRET is"),
        ({"JWT_SECRET": SECRET, "JWT_ISSUER": ISSUER}, "JWT_AUDIENCE: is not set"),
        ({**NAMES, "JWT_SECRET": "short"}, "JWT_SECRET: must have at least 32 characters"),
        (
            {**NAMES, "JWT_SECRET": SECRET, "JWT_JWKS_URL": "https://app.example/k"},
            "JWT_SECRET: JWT_JWKS_URL is set too",
        ),
        (
            {**NAMES, "JWT_JWKS_URL": "http://app.example/k"},
            "JWT_JWKS_URL: must be a URL that begins with https",
        ),
        (
            {**NAMES, "JWT_JWKS_URL": "file:///etc/passwd"},
            "JWT_JWKS_URL: must be a URL that begins with https",
        ),
        ({**NAMES, "JWT_JWKS_URL": "https://user:pw@app.example/k"}, "must not carry credentials"),
        (
            {"API_TOKENS_FILE": "/nowhere"},
            "API_TOKENS_FILE: the file cannot be read (No such file or directory)",
        ),
        ({"API_TOKENS_FILE": "/dev/null"}, "API_TOKENS_FILE: the file is not valid JSON"),
    ],
)
def test_a_wrong_setting_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], sentence: str
) -> None:
    """A wrong setting of the tokens stops the start; the error names the variable and shows no secret."""
    message = problems(tmp_path, monkeypatch, **variables)
    assert sentence in message
    assert SECRET not in message


# --- configured tokens


def test_a_configured_token_expires(make_client: Callable[..., FlaskClient]) -> None:
    """A configured token with a date is refused after that date."""
    past, future = (datetime.now(UTC) + timedelta(seconds=seconds) for seconds in (-1, 3600))
    old, old_entry = new_token("old", frozenset({"list"}), "", past)
    new, new_entry = new_token("new", frozenset({"list"}), "", future)
    client = make_client(api_tokens=(old_entry, new_entry), allow_anonymous=False)

    accepted(client, new)
    refused(client, old, "The token has expired")


def test_a_changed_file_of_tokens_is_used(make_client: Callable[..., FlaskClient], tmp_path: Path) -> None:
    """A removed token ends with the next request, and a new one begins. Wrong content changes nothing."""
    first, first_entry = new_token("first", frozenset({"list"}), "")
    second, second_entry = new_token("second", frozenset({"list"}), "")
    path = tmp_path / "tokens.json"
    path.write_text(f"[{entry_json(first_entry)}]")
    client = make_client(api_tokens_file=path, allow_anonymous=False)
    accepted(client, first)
    refused(client, second)

    path.write_text(f"[{entry_json(second_entry)}]")
    refused(client, first)
    accepted(client, second)

    for wrong in ("[", '[{"name": "x"}]', "{}", ""):
        path.write_text(wrong)
        accepted(client, second)
    path.unlink()
    accepted(client, second)


def test_a_request_looks_at_each_file_once(
    make: Callable[..., FlaskClient], tmp_path: Path, keys_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The look blocks all requests of the worker, so a request costs one `stat`, and only a change a read."""
    tokens = tmp_path / "tokens.json"
    hashed, entry = new_token("hashed", frozenset({"list"}), "")
    tokens.write_text(f"[{entry_json(entry)}]")
    client = make(api_tokens_file=tokens)
    accepted(client, hashed)
    looked: list[Path] = []

    def look(file: Reloaded[Any]) -> tuple[int, ...]:
        looked.append(file._path)
        return look_at(file)

    look_at = Reloaded._look
    monkeypatch.setattr(Reloaded, "_look", look)
    monkeypatch.setattr(Reloaded, "_read", Mock(side_effect=AssertionError("the file has not changed")))

    accepted(client, hashed)
    assert looked == [tokens]
    accepted(client, token("ec"))
    assert looked == [tokens, tokens, keys_file]
    assert client.get("/livez").status_code == 200
    assert len(looked) == 3


def test_the_log_says_once_why_a_file_is_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Each request looks at the file, and would repeat the line. A reason that comes back is new."""
    path = tmp_path / "number"
    path.write_text("1")
    read = Reloaded(path, int)

    def after(text: str | None) -> tuple[int, list[str]]:
        """The value after a change of the file, and the lines that two looks at it made."""
        caplog.clear()
        path.unlink(missing_ok=True)
        if text is not None:
            path.write_text(text)
        assert read() == read()
        return read(), [
            record.getMessage().removeprefix(f"The changed file {path} ") for record in caplog.records
        ]

    with caplog.at_level("INFO", "s3api"):
        assert after("22") == (22, ["is used from now on"])
        wrong = "is not used: its content is not valid; the last valid content stays in use"
        gone = "is not used: No such file or directory"
        for text, lines in (("a", [wrong]), ("bc", []), (None, [gone]), ("d", [wrong]), ("ef", [])):
            assert after(text) == (22, lines)
        assert after("333") == (333, ["is used from now on"])
        assert after("g") == (333, [wrong])


def test_an_invalid_file_is_parsed_once(tmp_path: Path) -> None:
    """Each request looks at the file. It parses the file again only after another change."""
    path = tmp_path / "number"
    path.write_text("1")
    parsed: list[str] = []

    def parse(text: str) -> int:
        parsed.append(text)
        return int(text)

    read = Reloaded(path, parse)
    path.write_text("not a number")

    assert [read() for _ in range(3)] == [1, 1, 1]
    assert parsed == ["1", "not a number"]
    path.write_text("22")
    assert [read() for _ in range(3)] == [22, 22, 22]
    assert parsed == ["1", "not a number", "22"]


def test_a_file_that_cannot_be_read_for_a_time(
    make_client: Callable[..., FlaskClient], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A removed token ends once the file can be read again, although the file itself has not changed."""
    first, first_entry = new_token("first", frozenset({"list"}), "")
    second, second_entry = new_token("second", frozenset({"list"}), "")
    path = tmp_path / "tokens.json"
    path.write_text(f"[{entry_json(first_entry)}]")
    client = make_client(api_tokens_file=path, allow_anonymous=False)
    accepted(client, first)

    with monkeypatch.context() as patch:
        patch.setattr(Reloaded, "_read", Mock(side_effect=PermissionError(13, "Permission denied")))
        path.write_text(f"[{entry_json(second_entry)}]")
        accepted(client, first)
        accepted(client, first)
    refused(client, first)
    accepted(client, second)


@pytest.fixture(scope="module")
def workers(
    seaweedfs_s3: S3, make_service: Callable[..., Service], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Service, Path]]:
    """A real service with two workers, whose keys come from a real HTTPS server."""
    directory = tmp_path_factory.mktemp("issuer")
    made = Issuer(directory)
    tokens = directory / "tokens.json"
    tokens.write_text("[]")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(made.ca))
        service = make_service(
            seaweedfs_s3,
            seaweedfs_s3.make_bucket("day02-jwt"),
            allow_anonymous="false",
            web_concurrency=2,
            jwt_issuer=ISSUER,
            jwt_audience=AUDIENCE,
            jwt_jwks_url=made.url,
            api_tokens_file=tokens,
        )
    yield service, tokens
    made.close()


def test_a_real_service(workers: tuple[Service, Path]) -> None:
    """The log has the token's subject and nothing of the token."""
    service, _ = workers
    value = token()
    sent = requests.put(service.at("/upload/", "docs/a.txt"), b"data", headers=bearer(value), timeout=60)
    assert sent.status_code == 200, sent.text
    forged = flipped(value)
    assert requests.get(service.at("/list_files"), headers=bearer(forged), timeout=60).status_code == 401

    lines = until(
        lambda: [line for line in service.log_lines() if line.get("caller") == "jwt:user-1"], "the line"
    )
    assert lines[0]["path"] == "/upload/docs/a.txt"
    log = service.log_path.read_text()
    for part in {*value.split("."), *forged.split(".")}:
        assert part not in log


def test_every_worker_sees_a_changed_file_of_tokens(workers: tuple[Service, Path]) -> None:
    """Each connection may reach either worker."""
    service, path = workers
    verbs: frozenset[Literal["list"]] = frozenset({"list"})
    secret, entry = new_token("added", verbs, "")

    def statuses() -> set[int]:
        return {
            requests.get(service.at("/list_files"), headers=bearer(secret), timeout=60).status_code
            for _ in range(12)
        }

    assert statuses() == {401}
    path.write_text(f"[{entry_json(entry)}]")
    assert statuses() == {200}
    path.write_text("[]")
    assert statuses() == {401}

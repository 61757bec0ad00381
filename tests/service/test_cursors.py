"""A cursor continues the query that it was issued for, and no other one."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations

from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from support.memory_store import MemoryStore
from support.stores import put

Ask = Callable[[FlaskClient, dict[str, str]], TestResponse]


def get(path: str, **query: str) -> Ask:
    return lambda client, more: client.get(path, query_string={**query, **more})


def post(path: str, **content: object) -> Ask:
    return lambda client, more: client.post(path, json={**content, **more})


#: The values of the listings are the names of the other routes: without its own name in a cursor, a listing
#: would accept the cursors of the route below it.
QUERIES: dict[str, Ask] = {
    "a listing": get("/list_files", prefix="x/", limit="1"),
    "a listing by folders": get("/list_files", prefix="x/", delimiter="/", limit="1"),
    "a search": get("/list_files", prefix="x/", contains="x", limit="1"),
    "a listing like versions": get(
        "/list_files", prefix="versions", delimiter="x/", contains="False", limit="1"
    ),
    "versions": get("/versions", prefix="x/", limit="1"),
    "a listing like deleted files": get(
        "/list_files", prefix="versions", delimiter="x/", contains="True", limit="1"
    ),
    "deleted files": get("/versions", prefix="x/", deleted="true", limit="1"),
    "a listing like versions of a file": get("/list_files", prefix="versions of", delimiter="x/1", limit="1"),
    "versions of a file": get("/versions/x/1", limit="1"),
    "a listing like restore": get("/list_files", prefix="restore", delimiter="x/", limit="1"),
    "restore": post("/restore", prefix="x/", limit=1),
    "a listing like copy": get("/list_files", prefix="copy", delimiter="x/", contains="y/", limit="1"),
    "copy": post("/copy/folder", source="x/", destination="y/", limit=1),
    "a listing like move": get("/list_files", prefix="move", delimiter="x/", contains="z/", limit="1"),
    "move": post("/move/folder", source="x/", destination="z/", limit=1),
}


def test_a_cursor_of_another_query_is_refused(client: FlaskClient, store: MemoryStore) -> None:
    """Every pair of queries, of the same route and of different ones: 400, and nothing is done."""
    for name in ("x/1", "x/2", "x/3", "x/4"):
        put(store, name)
        put(store, name, b"newer")
    for word in ("versions", "versions of", "restore", "copy", "move"):
        put(store, f"{word}1")
        put(store, f"{word}2")
    cursors = {what: ask(client, {}).get_json()["next"] for what, ask in QUERIES.items()}
    files = sorted(store.objects)

    for of, asked in permutations(QUERIES, 2):
        answer = QUERIES[asked](client, {"cursor": cursors[of]})
        assert (answer.status_code, answer.get_json()["code"]) == (400, "invalid_cursor"), (of, asked)
    assert sorted(store.objects) == files

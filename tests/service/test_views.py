"""A view parses, makes at most one call, renders. The tests read the source of all modules with views."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType

import pytest

from s3api import copy_routes, pages, routes, tus, upload_link_routes, version_routes
from s3api.app import VIEWS, create_app
from support.memory_store import MemoryStore
from support.stores import settings_for

METHODS = {"get", "put", "post", "patch", "delete", "route"}


def _is_store(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and node.attr == "store"


def _calls(node: ast.AST) -> int:
    """The calls in this code that the store answers: its own methods, and functions that are given it.

    Code that can run more than once (a comprehension, a lambda, an inner function) counts as if it ran twice.
    """
    match node:
        case ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
            once = _calls(node.generators[0].iter)
            return 2 * sum(map(_calls, ast.iter_child_nodes(node))) - once
        case ast.Lambda() | ast.FunctionDef() | ast.AsyncFunctionDef():
            return 2 * sum(map(_calls, ast.iter_child_nodes(node)))
    within = sum(map(_calls, ast.iter_child_nodes(node)))
    return within + (isinstance(node, ast.Call) and _reaches_the_store(node))


def _reaches_the_store(call: ast.Call) -> bool:
    return (isinstance(call.func, ast.Attribute) and _is_store(call.func.value)) or any(
        map(_is_store, _arguments(call))
    )


def _arguments(call: ast.Call) -> list[ast.expr]:
    return [*call.args, *(keyword.value for keyword in call.keywords)]


def _most(statements: Sequence[ast.stmt]) -> int:
    """The most calls on any way through the statements. A loop counts as if it ran twice."""
    if not statements:
        return 0
    first, rest = statements[0], statements[1:]
    match first:
        case ast.If():
            return _calls(first.test) + max(_most([*first.body, *rest]), _most([*first.orelse, *rest]))
        case ast.Return() | ast.Raise():
            return _calls(first)
        case ast.For() | ast.While():
            return 2 * _calls(first) + _most(rest)
        case ast.With():
            return sum(map(_calls, first.items)) + _most([*first.body, *rest])
        case ast.Try():
            # `finally` also runs after a return.
            handled = max((_most([*handler.body, *rest]) for handler in first.handlers), default=0)
            succeeded = _most([*first.body, *first.orelse, *rest])
            return _most(first.finalbody) + max(succeeded, _most(first.body) + handled)
        case ast.Match():
            guards = sum(_calls(case.guard) for case in first.cases if case.guard)
            ways = (case.body for case in first.cases)
            return _calls(first.subject) + guards + max(_most([*way, *rest]) for way in ways)
    return _calls(first) + _most(rest)


def _functions(source: str) -> Iterator[tuple[ast.FunctionDef, bool]]:
    """Each function of a module, and whether it is a view."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef):
            routed = (
                decorator.func.attr
                for decorator in node.decorator_list
                if isinstance(decorator, ast.Call)
                and isinstance(decorator.func, ast.Attribute)
                and isinstance(decorator.func.value, ast.Name)
                and decorator.func.value.id == "bp"
            )
            yield node, not METHODS.isdisjoint(routed)


def _faults(source: str) -> list[str]:
    """The functions that break the rule: a view may make one call, and its helpers none.

    A view that another view calls counts as a call of the store.
    """
    functions = list(_functions(source))
    as_calls = _ViewsAsCalls({function.name for function, is_view in functions if is_view})
    return [
        function.name
        for function, is_view in functions
        if _most(as_calls.visit(function).body) > (1 if is_view else 0)
    ]


class _ViewsAsCalls(ast.NodeTransformer):
    """Replaces the name of a view by a method of the store."""

    def __init__(self, views: set[str]) -> None:
        self._views = views

    def visit_Name(self, name: ast.Name) -> ast.expr:
        replaced = f"services.store.{name.id}" if name.id in self._views else name.id
        return ast.parse(replaced, mode="eval").body


def _other_uses(source: str) -> list[str]:
    """The uses of a store that `_calls` would not see: another name, or services that are given away."""
    tree = ast.parse(source)
    helpers = {function.name for function, _ in _functions(source)}
    seen: set[ast.AST] = set()
    given: list[ast.expr] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            seen.update(_arguments(node))
            seen.update([node.func.value] if isinstance(node.func, ast.Attribute) else [])
            if not (isinstance(node.func, ast.Name) and node.func.id in helpers):
                given += filter(_is_services, _arguments(node))
        if isinstance(node, ast.Attribute) and node.attr == "bucket":
            seen.add(node.value)
    hidden = [node for node in ast.walk(tree) if _is_store(node) and node not in seen]
    return [ast.unparse(node) for node in [*hidden, *given]]


def _is_services(node: ast.AST) -> bool:
    return ast.unparse(node) in {"services", "current_services()"}


@pytest.mark.parametrize("module", [*VIEWS, pages], ids=lambda module: module.__name__)
def test_a_view_makes_at_most_one_call(module: ModuleType) -> None:
    """On every way through a view the store is called once at most, and no helper of a view calls it."""
    source = inspect.getsource(module)
    if module is routes:
        assert sum(is_view for _, is_view in _functions(source)) > 12

    assert _faults(source) == []


@pytest.mark.parametrize(
    ("module", "calls"),
    [(routes, 12), (pages, 1), (copy_routes, 4), (tus, 4), (upload_link_routes, 2), (version_routes, 4)],
    ids=["routes", "pages", "copy_routes", "tus", "upload_link_routes", "version_routes"],
)
def test_views_use_the_store_by_its_name(module: ModuleType, calls: int) -> None:
    """The views use the store as `services.store` only, so that no call escapes the test above."""
    source = inspect.getsource(module)

    assert _other_uses(source) == []
    assert _calls(ast.parse(source)) >= calls


@pytest.mark.parametrize(
    "body",
    [
        "services.store.stat(name); services.store.delete(name)",
        "files.delete_file(services.store, services.store.stat(name))",
        "files.find(store=services.store, name=name)\n    return services.store.stat(name)",
        "if check: services.store.stat(name)\n    services.store.delete(name)",
        "if services.store.stat(name): return files.open_file(services.store, name)",
        "for name in names: services.store.delete(name)",
        "with files.opened(services.store) as x: files.find(services.store, x)",
        "try: services.store.stat(name)\n    except KeyError: services.store.delete(name)",
        "try: return services.store.stat(name)\n    finally: services.store.delete(name)",
        "return [services.store.delete(n) for n in names]",
        "return {n: 1 for n in names if services.store.stat(n)}",
        "return list(files.find(services.store, n) for n in names)",
        "delete = lambda n: services.store.delete(n)\n    delete(name); delete(name)",
        "def delete(n): services.store.delete(n)\n    delete(name); delete(name)",
        "match name:\n        case 'a' if services.store.stat(name): services.store.delete(name)",
        "found = services.store.stat(name)\n    return view(found.name)",
    ],
)
def test_two_calls_are_found(body: str) -> None:
    """A view with two calls breaks the rule, whatever stands between them."""
    assert _faults(f"@bp.get('/x')\ndef view(name):\n    {body}\n") == ["view"]


@pytest.mark.parametrize(
    ("decorator", "body", "faults"),
    [
        (
            "@bp.get('/x')",
            "if lines: return files.list_all(services.store)\n    services.store.list_page()",
            [],
        ),
        ("@bp.get('/x')", "return answer(services.store.bucket, services.store.stat(name))", []),
        ("@bp.get('/x')", "return [found.name for found in services.store.list_all()]", []),
        ("@cache", "return services.store.stat(name)", ["view"]),
    ],
    ids=["either", "one", "iterated", "helper"],
)
def test_one_call_is_enough(decorator: str, body: str, faults: list[str]) -> None:
    """One call on each way is within the rule for a view, and beyond it for any other function."""
    assert _faults(f"{decorator}\ndef view(name):\n    {body}\n") == faults


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        ("kept = services.store", "services.store"),
        ("kept = getattr(services, 'store')", "services"),
        ("kept = attrgetter('store')(current_services())", "current_services()"),
        ("files.delete_all(services=services)", "services"),
    ],
)
def test_another_name_for_the_store_is_found(statement: str, found: str) -> None:
    """A store under another name would hide calls from this test, so no view gives it one."""
    assert _other_uses(f"def view():\n    {statement}\n    kept.stat('a')") == [found]


def test_only_the_hooks_that_are_called_are_registered(tmp_path: Path) -> None:
    """The application skips hooks of blueprints, and hooks after a request's context. So there are none."""
    app = create_app(settings_for(tmp_path), MemoryStore())

    assert set(app.before_request_funcs) == set(app.after_request_funcs) == {None}
    assert not app.url_value_preprocessors
    assert not app.teardown_request_funcs
    assert not app.teardown_appcontext_funcs

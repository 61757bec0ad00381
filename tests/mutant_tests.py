"""Answer for each mutant of a module which test notices it. `mutants.py` asks.

To start pytest takes seconds, and most tests never reach the changed line. So this process imports the
dependencies once, and learns from one run without a mutant which tests call which function. Then it forks a
process for each mutant, which runs the tests of the changed function only, until one fails.

python mutant_tests.py MODULE PYTEST_ARGUMENTS...

It prints "ready". Then it reads the line number of a mutant, and prints the test that noticed it, or nothing.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import functools
import importlib
import json
import os
import select
import signal
import sys
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

#: A mutant that runs much longer than the code itself hangs, which counts as noticed.
LEAST_SECONDS, TIMES_AS_LONG = 60, 5
BASELINE_SECONDS = 1800


class Observer:
    """A pytest plugin that records which tests call each function of the module, and how long they take."""

    def __init__(self) -> None:
        self._test = ""
        self._failed: set[str] = set()
        self._callers: dict[int, set[str]] = defaultdict(set)
        self._seconds: dict[str, float] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        began, self._test = time.monotonic(), item.nodeid
        try:
            return (yield)
        finally:
            self._test = ""
            self._seconds[item.nodeid] = time.monotonic() - began

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._failed.add(report.nodeid)

    def called(self, function: int) -> None:
        self._callers[function].add(self._test)

    def result(self) -> dict[str, Any]:
        return {
            "callers": {function: sorted(tests) for function, tests in self._callers.items()},
            "seconds": {test: spent for test, spent in self._seconds.items() if test not in self._failed},
            "failed": sorted(self._failed),
            "libraries": [name for name, module in list(sys.modules.items()) if _is_library(module)],
        }


class Calls(ast.NodeTransformer):
    """Each function of the module says first that it is called. Its line number identifies it."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        self.generic_visit(node)
        after_the_docstring = int(ast.get_docstring(node) is not None)
        node.body[after_the_docstring:after_the_docstring] = ast.parse(f"_mutant_called({node.lineno})").body
        return node


class Chosen:
    """A pytest plugin that runs the given tests in the given order, and records the first that fails."""

    def __init__(self, tests: Sequence[str]) -> None:
        self._rank = {test: rank for rank, test in enumerate(tests)}
        self.failed = ""

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = sorted(
            (item for item in items if item.nodeid in self._rank), key=lambda item: self._rank[item.nodeid]
        )

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed = self.failed or report.nodeid


def _is_library(module: object) -> bool:
    return "site-packages" in (getattr(module, "__file__", None) or "")


def _in_a_fork(work: Callable[[], str], seconds: float) -> str | None:
    """Return the result of the work in a forked process; None if it took too long or the process ended."""
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        os.setsid()
        log = os.open("tests.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        with contextlib.suppress(BaseException), os.fdopen(writing, "w") as pipe:
            pipe.write(work() + "\n")
        os._exit(0)
    os.close(writing)
    text = b""
    deadline = time.monotonic() + seconds
    try:
        while select.select([reading], [], [], max(0, deadline - time.monotonic()))[0]:
            read = os.read(reading, 1 << 20)
            text += read
            if not read or text.endswith(b"\n"):
                break
    finally:  # also after Ctrl-C
        os.close(reading)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process, signal.SIGKILL)  # also what a test started
        os.waitpid(process, 0)
    return text.decode().rstrip("\n") if text.endswith(b"\n") else None


def _run(arguments: Sequence[str], plugin: object) -> int:
    # The dependencies are imported before pytest could rewrite the assertions of those that are its plugins.
    rewriting = ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
    ours = ["-q", "-p", "no:cacheprovider", "--basetemp=temporary", *rewriting]
    return int(pytest.main([*ours, *arguments], plugins=[plugin]))


def _observe(path: Path, arguments: Sequence[str]) -> str:
    observer = Observer()
    vars(builtins)["_mutant_called"] = observer.called
    source = path.read_text()
    path.write_text(ast.unparse(Calls().visit(ast.parse(source))))
    try:
        _run(arguments, observer)
    finally:
        path.write_text(source)
    return json.dumps(observer.result())


def _notice(options: Sequence[str], tests: Sequence[str]) -> str:
    sys.dont_write_bytecode = True  # two mutants of one second can have the same size
    chosen = Chosen(tests)
    files = sorted({test.partition("::")[0] for test in tests})
    code = _run(["-x", *options, *files], chosen)
    if code in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        return ""
    return chosen.failed or "the module cannot be imported"


def tests_of(
    line: int, module: ast.Module, callers: Mapping[int, Collection[str]], seconds: Mapping[str, float]
) -> list[str]:
    """The tests that call the innermost function with the line in its body, the fastest first.

    All tests in their own order, if the line is outside of functions.
    """
    functions = [
        node.lineno
        for node in ast.walk(module)
        if isinstance(node, ast.FunctionDef) and node.body[0].lineno <= line <= (node.end_lineno or 0)
    ]
    tests = callers.get(max(functions), ()) if functions else [""]
    if "" in tests:  # called outside of tests
        return list(seconds)
    return sorted(set(tests) & seconds.keys(), key=seconds.__getitem__)


def main(module: str, *arguments: str) -> None:
    path = Path(module).resolve()
    tree = ast.parse(path.read_text())
    found = json.loads(_in_a_fork(lambda: _observe(path, arguments), BASELINE_SECONDS) or "{}")
    seconds = found.get("seconds")
    if not seconds:
        sys.exit("No test passes without a mutant: read .mutants/tests.log")
    for test in found["failed"]:
        print(f"left out, because it fails without a mutant: {test}", file=sys.stderr)
    for name in found["libraries"]:
        with contextlib.suppress(Exception), warnings.catch_warnings(action="ignore"):
            importlib.import_module(name)
    callers = {int(function): set(tests) for function, tests in found["callers"].items()}
    options = [argument for argument in arguments if not argument.startswith("tests/")]
    last = ""  # the test that noticed a mutant is likely to notice the next one
    print("ready", flush=True)
    for line in sys.stdin:
        tests = tests_of(int(line), tree, callers, seconds)
        answer: str | None = ""
        for group in ([last] if last in tests else [], tests):
            if group and answer == "":
                limit = LEAST_SECONDS + TIMES_AS_LONG * sum(map(seconds.__getitem__, group))
                answer = _in_a_fork(functools.partial(_notice, options, group), limit)
        last = answer if answer in tests else last
        print("no answer in time" if answer is None else answer, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])

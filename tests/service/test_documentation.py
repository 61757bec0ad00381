"""The documentation agrees with the code."""

from __future__ import annotations

import ast
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

from s3api import errors, failures
from s3api.errors import CODES
from s3api.file_store import NotModified
from s3api.observability import registry
from s3api.settings import Settings
from s3api.worker import REFUSALS
from service import generated
from support.servers import ROOT

SECURITY = ROOT / "docs" / "security.md"
ARCHITECTURE = ROOT / "docs" / "architecture.md"
SERVICES = ROOT / "services"
API = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8")
OPENAPI = SERVICES / "s3api" / "static" / "openapi.json"
CONFIGURATION = generated.CONFIGURATION.read_text(encoding="utf-8")
PAGES = [
    *ROOT.glob("*.md"),
    *ROOT.glob("docs/**/*.md"),
    *ROOT.glob("modules/*/*.md"),
    *ROOT.glob("envs/*/*.md"),
]
#: Variables of the system, of make itself, and of a WSGI request: nothing to configure.
NOT_OURS = re.compile(r"PATH|HOSTNAME|CURDIR|MAKE|MAKEFILE_LIST|HTTP_.*|REQUEST_(METHOD|URI)")
VARIABLE = r"[A-Z][A-Z0-9_]+"


def test_every_promise_names_tests_that_exist() -> None:
    """Each row of a table in docs/security.md names tests, and each of them is in the file that it names."""
    rows = [
        line.rstrip("|").rpartition("|")[2]
        for line in SECURITY.read_text(encoding="utf-8").splitlines()
        if line.startswith("| ") and not line.startswith("| promise ")
    ]
    unknown = []
    for row in rows:
        path = ""
        named = re.findall(r"`([^`]+)`", row)
        assert named, row
        for name in named:
            file, _, test = name.partition("::")
            path = file or path
            text = (ROOT / path).read_text(encoding="utf-8") if (ROOT / path).is_file() else ""
            if not text or (test and not re.search(rf"^\s*def {test}\(", text, re.MULTILINE)):
                unknown.append(name)

    assert len(rows) > 25
    assert unknown == []


def test_the_architecture_names_every_module() -> None:
    """The tables of docs/architecture.md have a row for each module and package, and no other row."""
    named = re.findall(r"^\| `(\w+)` \|", ARCHITECTURE.read_text(encoding="utf-8"), re.MULTILINE)
    modules = {path.stem for path in (SERVICES / "s3api").glob("*.py") if path.stem.isidentifier()}
    packages = {path.parent.name for path in SERVICES.glob("*/__init__.py")}
    scripts = {path.stem for path in SERVICES.glob("*.py")}
    expected = (modules | packages | scripts | {"client"}) - {"__init__", "__main__", "s3api"}

    assert sorted(named) == sorted(expected)


def test_the_architecture_names_the_clients_modules() -> None:
    """The row of the architecture for the client names each of the client's modules."""
    text = ARCHITECTURE.read_text(encoding="utf-8")
    row = re.search(r"^\| `client` \|.*: (.*) \|$", text, re.MULTILINE)
    assert row is not None
    modules = {path.stem for path in (SERVICES / "s3api" / "client").glob("*.py")} - {"__init__"}

    assert set(re.findall(r"`(\w+)`", row[1])) == modules


# --- codes and metrics


def test_every_code_is_explained() -> None:
    """docs/api.md has a row for each code of a failure, with its status, and no other row."""
    rows = dict(re.findall(r"^\| `([\w<>]+)` \| ([\d, ]+) \|", API, re.MULTILINE))

    assert {code: int(statuses.split(",")[0]) for code, statuses in rows.items()} == dict(CODES)


def test_the_codes_are_those_of_the_code() -> None:
    """`CODES` has the code of each error of the use cases, and each literal that makes an answer."""
    expected = {error.code for error in _subclasses(failures.FileError)}
    expected -= {NotModified.code, failures.StoreDenied.code}  # without a body; named by the operation
    for path in (SERVICES / "s3api").glob("*.py"):
        expected |= set(_literal_codes(ast.parse(path.read_text(encoding="utf-8"))))
    expected |= {code for _, code, _ in REFUSALS.values()}
    expected |= set(errors._CODES.values())  # what the framework raises by itself

    assert set(CODES) == expected | {"s3_<operation>_denied"}


def test_the_openapi_document_has_every_code() -> None:
    """The examples of `Failure.code` are the codes, and an operation documents the status of each."""
    document = json.loads(OPENAPI.read_text(encoding="utf-8"))
    examples = document["components"]["schemas"]["Failure"]["properties"]["code"]["examples"]
    operations = [operation for methods in document["paths"].values() for operation in methods.values()]
    answers = {status for operation in operations for status in operation["responses"]}
    # The worker and the router give these before an operation is known.
    before = {"malformed_request", "method_not_allowed", "moved", "not_found"}

    assert sorted(examples) == sorted(code.replace("<operation>", "get_object") for code in CODES)
    assert {str(status) for code, status in CODES.items() if code not in before} <= answers


def test_the_reference_has_every_status_of_a_malformed_request() -> None:
    """The row of docs/api.md lists what the worker answers: RFC 9110, section 15."""
    (row,) = re.findall(r"^\| `malformed_request` \| ([0-9, ]+) \|", API, re.MULTILINE)
    statuses = {status[:3] for status, code, _ in REFUSALS.values() if code == "malformed_request"}

    assert set(row.split(", ")) == {"400", *statuses}


def test_the_openapi_document_describes_redirects_and_heads() -> None:
    """RFC 9110, section 10.2.2: a 3xx has a Location. HEAD is described where it has a use of its own."""
    paths = json.loads(OPENAPI.read_text(encoding="utf-8"))["paths"]
    answers = [
        (path, method, operation["responses"][status])
        for path, methods in paths.items()
        for method, operation in methods.items()
        for status in operation["responses"]
        if status in ("301", "302", "303", "307", "308")
    ]
    heads = {path: methods["head"] for path, methods in paths.items() if "head" in methods}

    assert {(path, method) for path, method, _ in answers} == {
        ("/download/{name}", "get"),
        ("/download/{name}", "head"),
        ("/upload_links/{link}", "get"),
    }
    assert all("Location" in answer["headers"] for _, _, answer in answers)
    assert heads.keys() == {"/download/{name}", "/files/{name}", "/tus/{upload_id}"}
    for head in heads.values():
        assert not any("content" in answer for answer in head["responses"].values())


def _subclasses(kind: type[failures.FileError]) -> Iterator[type[failures.FileError]]:
    for one in kind.__subclasses__():
        yield one
        yield from _subclasses(one)


def _literal_codes(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id="failure"), args=[_, ast.Constant(value=str(code)), *_]):
                yield code


def test_every_metric_is_listed() -> None:
    """The runbook's table has each metric that the service registers, with its kind and labels."""
    rows = re.findall(r"^\| `(s3api_\w+)` \| (\w+) \| ([^|]*)\|", RUNBOOK, re.MULTILINE)
    listed = {name: (kind, re.findall(r"`(\w+)`", labels)) for name, kind, labels in rows}
    registered = {
        f"{metric.name}_total" if metric.type == "counter" else metric.name: (metric.type, labels)
        for collector in list(registry._collector_to_names)
        for metric in collector.collect()
        if metric.name.startswith("s3api_")
        for labels in [list(getattr(collector, "_labelnames", ()))]
    }

    assert len(registered) >= 5
    assert listed == registered


# --- configuration


def test_generated_tables_are_fresh() -> None:
    """The tables of settings and of layers are what `make docs` would write."""
    stale = [
        path.name for path, text in generated.pages().items() if path.read_text(encoding="utf-8") != text
    ]

    assert stale == [], "run: make docs"


def test_every_setting_has_a_description() -> None:
    """Each field of `Settings` has a docstring, which becomes its row."""
    assert set(generated.descriptions()) == set(Settings.model_fields)


def test_every_variable_that_is_read_is_documented() -> None:
    """Each variable that the code, the Makefile or a container file reads is in docs/configuration.md."""
    documented = {
        name
        for line in CONFIGURATION.splitlines()
        if line.startswith("| `")
        for name in re.findall(rf"`({VARIABLE})`", line.split("|")[1])
    }
    read = {
        name: path.relative_to(ROOT).as_posix()
        for path in _tracked()
        for name in _variables_read_by(path)
        if not NOT_OURS.fullmatch(name)
    }

    assert {"BUCKET", "STATE_BUCKET", "S3API_TOKEN_FILE", "DOCKER_BUILD_FLAGS", "S3_PORT", "FILES"} <= set(
        read
    )
    assert {name: where for name, where in read.items() if name not in documented} == {}


def _tracked() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [path for name in listed.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def _variables_read_by(path: Path) -> set[str]:
    if path.suffix == ".py":
        inside = not path.is_relative_to(ROOT / "tests")
        return set(_variables_of_python(ast.parse(path.read_text(encoding="utf-8")), inside=inside))
    if path.name == "Makefile":
        text = path.read_text(encoding="utf-8")
        own = set(re.findall(rf"^({VARIABLE})\s*:?=", text, re.MULTILINE))
        own |= set(re.findall(rf"^define ({VARIABLE})$", text, re.MULTILINE))
        # Not a variable whose name is computed, such as $(TESTS_$(MODULE)).
        return set(re.findall(rf"\$\$?[({{]({VARIABLE})\b(?!\$)", text)) - own
    if path.name == "compose.yaml":
        return set(re.findall(rf"\$\{{({VARIABLE})", path.read_text(encoding="utf-8")))
    if path.name == "Dockerfile":
        return set(re.findall(rf"^ARG ({VARIABLE})", path.read_text(encoding="utf-8"), re.MULTILINE))
    if path.suffix == ".mjs":
        found = re.findall(r"\{([^}]*)\} = process\.env", path.read_text(encoding="utf-8"))
        return set(re.findall(VARIABLE, " ".join(found)))
    return set()


def _variables_of_python(tree: ast.AST, *, inside: bool) -> Iterator[str]:
    """The names that are read from `os.environ`, from a mapping in its place, or by a click option."""
    sources = {"os.environ", "environment", "variables"} if inside else {"os.environ"}
    for node in ast.walk(tree):
        names: list[ast.expr] = []
        match node:
            case ast.Subscript(value=base, slice=key, ctx=ast.Load()) if ast.unparse(base) in sources:
                names = [key]
            case ast.Call(func=ast.Attribute(value=base, attr="get"), args=[key, *_]) if (
                ast.unparse(base) in sources
            ):
                names = [key]
            case ast.Compare(left=key, ops=[ast.In() | ast.NotIn()], comparators=[base]) if (
                ast.unparse(base) in sources
            ):
                names = [key]
            case ast.Call(keywords=options):
                names = [option.value for option in options if option.arg == "envvar"]
        for name in names:
            if isinstance(name, ast.Constant) and re.fullmatch(VARIABLE, str(name.value)):
                yield str(name.value)


# --- commands


def test_uppy_is_installed_in_the_tested_versions() -> None:
    """The lines of docs/uppy.md install the packages with which tests/ui/test_uppy.py runs its code."""
    page = (ROOT / "docs" / "uppy.md").read_text(encoding="utf-8")
    lines = re.findall(r"^npm install (.*)$", page, re.MULTILINE)
    installed = [dict(package.rsplit("@", 1) for package in line.split()) for line in lines]
    folder = ROOT / "tests" / "ui" / "uppy"
    tested = [
        json.loads((folder / version / "package.json").read_text(encoding="utf-8"))["dependencies"]
        for version in ("5", "6")
    ]

    assert installed == tested


def test_commands_of_make_exist() -> None:
    """Each `make …` on a page names a target of the Makefile."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = {
        target
        for line in re.findall(r"^([a-z][a-z -]*):(?!=)", makefile, re.MULTILINE)
        for target in line.split()
    }
    unknown = {
        f"{path.relative_to(ROOT)}: make {target}"
        for path in PAGES
        for target in re.findall(
            r"(?:`|^)make (?:-s )?([a-z][a-z-]*)", path.read_text(encoding="utf-8"), re.MULTILINE
        )
        if target not in targets
    }

    assert {"run", "test", "deploy", "destroy"} <= targets
    assert unknown == set()


def test_commands_of_pytest_select_tests() -> None:
    """Each `pytest PATH -k WORDS` on a page names a path with tests; each word is in one of their names."""
    commands = [
        (page, path, words)
        for page in PAGES
        for path, words in re.findall(
            r"`(?:\.venv/bin/)?pytest (tests/\S+?)(?: -k ('[^']+'|\w+))?(?: -\w+)*`",
            page.read_text(encoding="utf-8"),
        )
    ]
    wrong = []
    for page, path, words in commands:
        where = ROOT / path
        found = [where] if where.is_file() else list(where.rglob("test_*.py"))
        texts = [file.read_text(encoding="utf-8") for file in found]
        names = {file.stem for file in found} | {
            name for text in texts for name in re.findall(r"def (test_\w+)", text)
        }
        missing = [word for word in re.findall(r"\w+", words) if word != "or" and word not in " ".join(names)]
        if not names or missing:
            wrong.append(f"{page.name}: pytest {path} -k {words}: {missing}")

    assert len(commands) > 15
    assert wrong == []


# --- conventions


def test_every_exception_from_a_lint_rule_has_a_reason() -> None:
    """A `noqa` names its rules, and says why, as CONTRIBUTING.md promises."""
    bare = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in _tracked()
        if path.suffix == ".py" and path != Path(__file__)
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if "# noqa" in line and not re.search(r"# noqa: [A-Z0-9]+(, [A-Z0-9]+)* - \S", line)
    ]

    assert bare == []


def test_no_test_imports_a_file_of_tests() -> None:
    """A change of a file of tests changes no other tests. What tests share is in modules without tests."""
    imported = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path, node in _nodes_of_tests("*.py")
        if isinstance(node, (ast.Import, ast.ImportFrom))
        if any(name.rpartition(".")[2].startswith("test_") for name in _names_of(node))
    ]

    assert imported == []


def _nodes_of_tests(pattern: str) -> Iterator[tuple[Path, ast.AST]]:
    """Each node of the syntax of the files below `tests`, with its file."""
    for path in (ROOT / "tests").rglob(pattern):
        if "node_modules" not in path.parts:
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                yield path, node


def _names_of(node: ast.Import | ast.ImportFrom) -> list[str]:
    """The names that a statement imports, and the module from which it imports them."""
    names = [alias.name for alias in node.names]
    return [node.module or "", *names] if isinstance(node, ast.ImportFrom) else names


def test_every_test_has_a_docstring() -> None:
    """The docstring of each test says what it checks, not only which standard asks for it."""
    found = 0
    without = []
    for path, node in _nodes_of_tests("test_*.py"):
        if not isinstance(node, ast.FunctionDef) or not node.name.startswith("test_"):
            continue
        found += 1
        text = ast.get_docstring(node) or ""
        # Without its citations, such as "RFC 9110, sections 8.6 and 13.1", a sentence must remain.
        said = re.sub(r"https?://\S+|RFC \d+|\b(sections?|appendix) [\d.A-Z]+( and [\d.]+)?", "", text)
        if len(re.findall(r"\w+", said)) < 3:
            without.append(f"{path.relative_to(ROOT)}:{node.lineno}: {node.name}")

    assert found > 1000
    assert without == [], "say in one sentence which behaviour the test checks"


# --- plain English

#: Each key is a pattern of a phrase that is hard to read. Each value names better words. The first pattern
#: does not match a word in quotes: a user of Unix has that name.
BANNED = {
    r"(?<![\"'`_])\bnobody\b(?![\"'`_-])": "no one, no caller, none",
    r"\bwhoever\b": "the person who, a caller who, everyone who",
    r"\bfor ever\b": "permanently, endlessly, without a limit",
    r"\bof which there\b": "say how many in a sentence of its own",
    r"\b(?:told|tells?|telling) of\b": "told about, reports",
    r"\bdear(?:er|est)?\b": "slow, expensive",
    r"\bwhat is (?:(?!what\b|and\b|or\b)[\w']+\s){1,3}is\b": "name the thing: 'the missing parts are'",
    r"\bbeside\b": "next to, with, in addition to",
    r"\bso many bytes\b": "name the number",
    r"\bstands? for\b": "means, represents",
    r"\bof one piece\b": "consistent, complete",
    r"\bmany an? \w+": "many, often",
}
TEXT = re.compile(r"\.(py|md|tf|hcl|js|mjs|ts|html|css|svg|ya?ml|toml|in)$|Makefile$|Dockerfile$|/\.ci/")


def test_phrases_that_are_hard_to_read_stay_out() -> None:
    """No text of the repository has one of these phrases, on one line or across two."""
    found = []
    for path in _tracked():
        if path == Path(__file__) or not TEXT.search(path.as_posix()):
            continue
        # A phrase may go on in the next line, after indentation and the sign of a comment.
        text = re.sub(r"\n[ \t]*(?:(?:#|//|\*)[ \t]*)?", "\n", path.read_text(encoding="utf-8"))
        for phrase, better in BANNED.items():
            spread = phrase.replace(" ", r"\s")
            for match in re.finditer(spread, text, re.IGNORECASE):
                line = text.count("\n", 0, match.start()) + 1
                said = " ".join(match[0].split())
                found.append(f"{path.relative_to(ROOT)}:{line}: '{said}': write {better}")

    assert found == []

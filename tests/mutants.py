"""Change a module in one place at a time; print the changes that no test notices, and the score.

It runs in Cosmic Ray's environment, in a copy of the repository. COMMAND starts `mutant_tests.py`.

python mutants.py MODULE SAMPLE SEED COMMAND...

An empty SAMPLE means all mutants.
"""

from __future__ import annotations

import difflib
import random
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names

#: `str | None` is an annotation, which nothing computes. `is` differs from `==` only for numbers and texts.
#: Their identity depends on the interpreter, and the lint rules refuse to compare it.
NOT_USED = re.compile(
    r"core/(ReplaceBinaryOperator_BitOr_|ReplaceComparisonOperator_(Is_Eq|IsNot_NotEq|(?!Is)\w+_Is(Not)?)$)"
)
NOT_ON_LINES = (
    # `frozen` and `slots` refuse assignments, which mypy finds. No code depends on the refusal.
    (re.compile("core/ReplaceTrueWithFalse"), re.compile(r"^\s*@dataclass\(")),
    # A `*` of a signature is no operator. With `/` there, callers still use the same names.
    (re.compile("core/ReplaceBinaryOperator_Mul_"), re.compile(r"\*,")),
)


@dataclass(frozen=True)
class Mutant:
    line: int
    operator: str
    occurrence: int


def mutants(source: str) -> Iterator[Mutant]:
    tree, lines = get_ast(source), source.splitlines()
    for name in operator_names():
        if NOT_USED.match(name) or get_operator(name).arguments():
            continue
        positions = (
            start for node in ast_nodes(tree) for start, _ in get_operator(name)().mutation_positions(node)
        )
        for occurrence, (line, _) in enumerate(positions):
            if not any(it.match(name) and on.search(lines[line - 1]) for it, on in NOT_ON_LINES):
                yield Mutant(line, name, occurrence)


def is_python(source: str) -> bool:
    """Cosmic Ray also replaces what only looks like an operator, as the `*` before keyword arguments."""
    try:
        with warnings.catch_warnings(action="ignore"):
            compile(source, "mutant", "exec", dont_inherit=True)
    except SyntaxError:
        return False
    return True


def main(module: str, sample: str, seed: str, *command: str) -> None:
    path = Path(module)
    source = path.read_text()
    found = sorted(mutants(source), key=lambda mutant: (mutant.line, mutant.operator, mutant.occurrence))
    if sample and int(sample) < len(found):
        chosen = random.Random(seed).sample(range(len(found)), int(sample))
        print(f"{sample} of {len(found)} mutants, seed {seed}", flush=True)
        found = [found[index] for index in sorted(chosen)]
    killed = ran = 0
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as tests:
        assert tests.stdin is not None
        assert tests.stdout is not None
        if tests.stdout.readline() != "ready\n":
            sys.exit(1)
        for number, mutant in enumerate(found, 1):
            try:
                changed = mutate_code(source, get_operator(mutant.operator)(), mutant.occurrence)
            except AttributeError:  # cosmic-ray 8.7 cannot replace an exception with a dotted name
                continue
            if not is_python(changed):
                continue
            ran += 1
            path.write_text(changed)
            print(mutant.line, file=tests.stdin, flush=True)
            noticed = tests.stdout.readline().strip()
            killed += bool(noticed)
            print(f"{number}/{len(found)} line {mutant.line}: {noticed or 'SURVIVED'}", flush=True)
            if not noticed:
                diff = difflib.unified_diff(source.splitlines(), changed.splitlines(), lineterm="", n=1)
                print(*list(diff)[2:], sep="\n", flush=True)
        tests.stdin.close()
    path.write_text(source)
    print(f"{killed} of {ran} mutants were noticed: {killed / max(ran, 1):.0%}")


if __name__ == "__main__":
    main(*sys.argv[1:])

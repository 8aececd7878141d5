"""Mutation testing: one-line mutations drawn by a seed, and how many of them the everyday tests notice.

    python tests/mutations.py draw --seed 0 -n 60 mutants.json
    python tests/mutations.py probe mutants.json TREE           # then the tests in TREE, with --junitxml=junit.xml
    python tests/mutations.py run mutants.json TREE junit.xml   # each mutant: the tests that run its line, cheapest first
    python tests/mutations.py follow mutants.json TREE new.json # the same mutants where lines have moved or been renamed

TREE is a copy of the repository with an environment of its own in `.venv`; never a tree that somebody works in. Tools of this
kind on PyPI choose tests by the coverage of one process; here lines also run in servers, workers and commands that tests start,
so a probe in the line itself notes which test it ran under (pytest names it in the environment, which processes inherit).

Not here: whether a mutant that survives matters. Some change nothing that can be seen.
"""

import argparse
import ast
import io
import json
import os
import random
import re
import signal
import subprocess
import time
import tokenize
import xml.etree.ElementTree as ElementTree
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any, NamedTuple

PACKAGES = ("core", "operations", "serving", "adapters")
SWAPS = {
    "==": "!=", "!=": "==", "<": "<=", "<=": "<", ">": ">=", ">=": ">", "+": "-", "-": "+", "*": "+", "/": "*", "//": "*",
    "and": "or", "or": "and", "not": "", "True": "False", "False": "True", "min": "max", "max": "min",
    "any": "all", "all": "any",
    "+=": "-=", "-=": "+=", "break": "pass", "continue": "pass",
}  # fmt: skip
BUDGET_SECONDS = 120
"""of tests a mutant, by how long they took without it"""
PROBE = '''"""Written by tests/mutations.py: notes under which test a line ran."""

import os
import sys

_seen = set()


def hit(number: int) -> None:
    test = os.environ.get("PYTEST_CURRENT_TEST", "?").split(" ")[0]
    if (number, test) not in _seen:
        _seen.add((number, test))
        with open({hits!r}, "a", errors="surrogateescape") as file:
            file.write(f"{{number}}\\t{{int('pytest' in sys.modules)}}\\t{{test}}\\n")
'''


class Token(NamedTuple):
    """A token that can be changed: where it is, and into what."""

    row: int
    start: int
    end: int
    text: str
    into: str


def tokens_of(source: str) -> list[Token]:
    """What can be changed inside function bodies: operators, keywords, small functions, whole numbers, returned values."""
    found = []
    lines = _body_lines(ast.parse(source))
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        (row, start), (_, end), text = token.start, token.end, token.string
        if row not in lines:
            continue
        if token.type == tokenize.NUMBER and text.isdigit():
            found.append(Token(row, start, end, text, str(int(text) + 1)))
        elif token.type in (tokenize.OP, tokenize.NAME) and text in SWAPS:
            found.append(Token(row, start, end, text, SWAPS[text]))
        elif text == "return" and (rest := token.line[end:].strip()) and rest != "None" and rest[-1] not in "([{":
            found.append(Token(row, end, len(token.line.rstrip("\n")), token.line[end:].rstrip("\n"), " None"))
    return found


def _body_lines(tree: ast.Module) -> set[int]:
    """Lines of statements inside functions, without docstrings, nested definitions' heads and `if TYPE_CHECKING`."""
    found: set[int] = set()
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            for statement in function.body:
                if not (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)):
                    found |= set(range(statement.lineno, (statement.end_lineno or statement.lineno) + 1))
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            found -= set(range(function.lineno, function.body[0].lineno))
    return found


def mutated(source: str, token: Token) -> str:
    """The module with one token changed."""
    lines = source.splitlines(keepends=True)
    line = lines[token.row - 1]
    lines[token.row - 1] = line[: token.start] + token.into + line[token.end :]
    return "".join(lines)


def _compiles(source: str) -> bool:
    try:
        ast.parse(source)
    except SyntaxError:
        return False
    return True


def draw(root: Path, n: int, seed: int) -> list[dict[str, Any]]:
    """`n` mutants, each in a line of its own: a file is drawn by its number of lines, then one of its tokens."""
    chance = random.Random(seed)
    files = [
        path
        for package in PACKAGES
        for path in sorted((root / "src/openmlops" / package).rglob("*.py"))
        if "migrations" not in path.parts
    ]
    sources = {path: path.read_text() for path in files}
    choices = {path: tokens_of(source) for path, source in sources.items()}
    files = [path for path in files if choices[path]]
    found: list[dict[str, Any]] = []
    taken: set[tuple[Path, int]] = set()
    while len(found) < n:
        (path,) = chance.choices(files, [len(sources[each].splitlines()) for each in files])
        token = chance.choice(choices[path])
        if (path, token.row) in taken or not _compiles(mutated(sources[path], token)):
            continue
        taken.add((path, token.row))
        found.append(_described(root, path, sources[path], token, len(found)))
    return found


def _described(root: Path, path: Path, source: str, token: Token, number: int) -> dict[str, Any]:
    lines = source.splitlines()
    nth = [each for each in tokens_of(source) if each.row == token.row and each.text == token.text].index(token)
    around = lines[max(0, token.row - 3) : token.row + 2]
    into = mutated(source, token).splitlines()[token.row - 1].strip()
    return {
        "number": number, "path": str(path.relative_to(root)), "row": token.row,
        "line": lines[token.row - 1].strip(), "around": around, "text": token.text, "nth": nth, "into": into,
    }  # fmt: skip


def token_of(source: str, mutant: dict[str, Any]) -> Token:
    """The token that a mutant changes, in the module's text as it is."""
    return [each for each in tokens_of(source) if each.row == mutant["row"] and each.text == mutant["text"]][mutant["nth"]]


def follow(mutants: list[dict[str, Any]], root: Path) -> list[dict[str, Any]]:
    """The same mutants in a tree where lines have moved: each where the lines around it are most alike."""
    sources = {
        path: path.read_text() for package in PACKAGES for path in sorted((root / "src/openmlops" / package).rglob("*.py"))
    }
    found = []
    for mutant in mutants:
        best: tuple[float, Path, Token] | None = None
        for path, source in sources.items():
            lines, seen = source.splitlines(), {}  # type: ignore[var-annotated]
            for token in tokens_of(source):
                nth = seen[token.row, token.text] = seen.get((token.row, token.text), -1) + 1
                if nth != mutant["nth"] or token.text.strip()[:1] != mutant["text"].strip()[:1]:
                    continue
                line = SequenceMatcher(None, lines[token.row - 1].strip(), mutant["line"])
                if line.quick_ratio() < 0.6 or line.ratio() < 0.6:
                    continue
                around = SequenceMatcher(
                    None, "\n".join(lines[max(0, token.row - 3) : token.row + 2]), "\n".join(mutant["around"])
                ).ratio()
                alike = line.ratio() + around
                if best is None or alike > best[0]:
                    best = alike, path, token
        if best is None:
            print(f"{mutant['number']}: not found any more: {mutant['path']}: {mutant['line']}")
            continue
        alike, path, token = best
        moved = _described(root, path, sources[path], token, mutant["number"])
        if alike < 1.9:
            print(f"{mutant['number']} ({alike:.2f}): {mutant['line']}\n    -> {moved['path']}: {moved['line']}")
        found.append(moved)
    return found


def probe(mutants: list[dict[str, Any]], tree: Path) -> None:
    """Put a probe before the statement of each mutant's line."""
    package = tree / "src/openmlops"
    (package / "_probe.py").write_text(PROBE.format(hits=str((tree / "hits.tsv").resolve())))
    (tree / "hits.tsv").write_text("")
    for path in {mutant["path"] for mutant in mutants}:
        lines = (tree / path).read_text().splitlines(keepends=True)
        before: dict[int, list[int]] = {}
        for mutant in mutants:
            if mutant["path"] == path:
                before.setdefault(_statement(ast.parse("".join(lines)), mutant["row"]), []).append(mutant["number"])
        for row in sorted(before, reverse=True):
            indent = re.match(r" *", lines[row - 1])[0]  # type: ignore[index]
            hits = "; ".join(f"_probe.hit({number})" for number in before[row])
            lines.insert(row - 1, f"{indent}from openmlops import _probe; {hits}\n")
        (tree / path).write_text("".join(lines))


def _statement(tree: ast.Module, row: int) -> int:
    """The line before which a statement can be put, so that it runs when the line `row` does."""
    best: ast.stmt | None = None
    chained = {
        id(node.orelse[0])
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and len(node.orelse) == 1 and isinstance(node.orelse[0], ast.If)
    }
    for node in ast.walk(tree):
        is_around = isinstance(node, ast.stmt) and node.lineno <= row <= (node.end_lineno or 0) and id(node) not in chained
        if is_around and (best is None or node.lineno >= best.lineno):  # type: ignore[attr-defined]
            best = node  # type: ignore[assignment]
    assert best is not None
    return best.lineno


class Test(NamedTuple):
    """A test that passed: how pytest names it, and how long it took."""

    id: str
    seconds: float


def _passed(junit: Path) -> dict[str, float]:
    found = {}
    for case in ElementTree.parse(junit).iter("testcase"):
        if case.find("failure") is None and case.find("error") is None and case.find("skipped") is None:
            file = case.attrib["classname"].replace(".", "/")
            found[f"{file}.py::{case.attrib['name']}"] = float(case.attrib["time"])
    return found


def covering(mutant: int, hits: Path, passed: dict[str, float]) -> list[Test]:
    """The tests that ran a line, cheapest first; then, where another process ran it, the rest of those tests' files."""
    exact: set[str] = set()
    files: set[str] = set()
    for line in hits.read_text().splitlines():
        number, inside, test = line.split("\t")
        if int(number) == mutant and test != "?":
            exact.add(test)
            if inside == "0":
                files.add(test.split("::")[0])
    rest = {test for test in passed if test.split("::")[0] in files} - exact
    ordered = [
        sorted((Test(test, passed[test]) for test in some if test in passed), key=lambda test: test.seconds)
        for some in (exact, rest)
    ]
    kept, seconds = [], 0.0
    for test in (*ordered[0], *ordered[1]):
        seconds += test.seconds
        if seconds > BUDGET_SECONDS and kept:
            break
        kept.append(test)
    return kept


def run(mutants: list[dict[str, Any]], tree: Path, junit: Path, out: Path) -> None:
    """Try the mutants one after another; a line each, and the results as JSON lines in `out`."""
    passed = _passed(junit)
    done = {json.loads(line)["number"] for line in out.read_text().splitlines()} if out.is_file() else set()
    for mutant in mutants:
        if mutant["number"] in done:
            continue
        path, began = tree / mutant["path"], time.monotonic()
        source = path.read_text()
        tests = covering(mutant["number"], tree / "hits.tsv", passed)
        path.write_text(mutated(source, token_of(source, mutant)))
        try:
            result = _tried(tree, [test.id for test in tests]) if tests else "no test runs it"
        finally:
            path.write_text(source)
        row = {**mutant, "result": result, "tests": len(tests), "seconds": round(time.monotonic() - began)}
        with out.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(
            f"{mutant['number']:3d} {result:16s} {mutant['path']}:{mutant['row']}  {mutant['line']}  =>  {mutant['into']}",
            flush=True,
        )


def _tried(tree: Path, tests: list[str]) -> str:
    command = [
        str((tree / ".venv/bin/python").absolute()),
        "-m",
        "pytest",
        "-x",
        "-q",
        "-p",
        "no:cacheprovider",
        "--timeout",
        "150",
        *tests,
    ]
    process = subprocess.Popen(
        command,
        cwd=tree,
        env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        said, _ = process.communicate(timeout=4 * BUDGET_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return "killed (hangs)"
    return {0: "survived", 1: "killed", 2: "killed", 3: "killed"}.get(
        process.returncode, f"? {process.returncode} {said[-300:]}"
    )


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("draw", "probe", "run", "follow"))
    parser.add_argument("mutants", type=Path)
    parser.add_argument("rest", type=Path, nargs="*")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-n", type=int, default=60)
    parser.add_argument("--part", default="0/1", help="I/N: only mutants whose number leaves I when divided by N")
    given = parser.parse_args()
    if given.action == "draw":
        found = draw(Path(__file__).parents[1], given.n, given.seed)
        given.mutants.write_text(json.dumps(found, indent=1))
        return
    mutants = json.loads(given.mutants.read_text())
    if given.action == "probe":
        probe(mutants, given.rest[0])
    elif given.action == "follow":
        given.rest[1].write_text(json.dumps(follow(mutants, given.rest[0]), indent=1))
    else:
        which, parts = map(int, given.part.split("/"))
        chosen = [mutant for mutant in mutants if mutant["number"] % parts == which]
        run(chosen, given.rest[0], given.rest[1], given.mutants.with_suffix(f".{which}.results"))


if __name__ == "__main__":
    main()

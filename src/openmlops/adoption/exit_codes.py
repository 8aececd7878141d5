"""Defects 7 and 8: unchecked exit codes of programs and data pulls, in Python, shell, Makefiles, Dockerfiles and CI."""

import ast
import re
from collections.abc import Iterator

from openmlops.adoption.findings import Certainty, Hit, Rule
from openmlops.adoption.plain_texts import Command, dockerfile_instructions, logical_lines, nodes, recipe_lines, scalar
from openmlops.adoption.project import Project
from openmlops.adoption.python_code import Function, Module, argument, inside, keyword, last_name

PULL = re.compile(r"\bdvc\b[\s\"',\]]+(?:-\w+\s+)*(pull|fetch|update|import|get)\b")
TRAINER = re.compile(
    r"\b(train\w*|fit|finetune|yolo|dvc|zenml|repro|retrain\w*|evaluate|\w+\.py|sys\.executable|python3?)\b", re.I
)
HARMLESS = re.compile(
    r"^\W*(clear|cls|mkdir|echo|kill|pkill|killall|open|xdg-open|start|rm|tput|stty|git|docker|nvidia-smi)\b", re.I
)
FORGIVEN = r"\|\|\s*(true\b|:(?=\s|$)|echo\b|printf\b|exit\s+0\b)"
NO_TRAINER = re.compile(
    r"\b(pip|streamlit|uvicorn|gunicorn|jupyter|http\.server|(mlflow|dvc|zenml) (ui|server|up|login|init|stack))\b"
)
READS = {"returncode", "check_returncode", "wait", "poll", "communicate"}


def _starts(module: Module) -> Iterator[tuple[ast.Call, str]]:
    """Calls that start a program, with the kind of call."""
    for call in module.calls():
        name = module.name(call.func)
        if name in ("subprocess.run", "subprocess.call", "subprocess.Popen", "os.system"):
            yield call, name.split(".")[-1]


def _command(module: Module, call: ast.Call) -> str:
    """The started command as one text; the items of a list separated by spaces."""
    given = argument(call, 0, "args", "command")
    given = module.value(given) if given is not None else None
    if isinstance(given, ast.List | ast.Tuple):
        return " ".join(_word(module, part) for part in given.elts)
    return _word(module, given) if given is not None else ""


def _word(module: Module, node: ast.expr) -> str:
    found = module.constant(node)
    if isinstance(found, str):
        return found
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "x" for part in node.values)
    return ast.unparse(node)


def _unread(module: Module, call: ast.Call, kind: str) -> bool:
    """Whether the exit code of the program is not checked."""
    check = keyword(call, "check")
    if check is not None and not (isinstance(check, ast.Constant) and check.value is False):
        return False
    parent = module.parent(call)
    if isinstance(parent, ast.Expr):
        return True
    if not (isinstance(parent, ast.Assign) and isinstance(parent.targets[0], ast.Name)) or kind == "call":
        return False
    uses = [
        node
        for node in inside(module.scope(call), ast.Name)
        if node.id == parent.targets[0].id and isinstance(node.ctx, ast.Load)
    ]
    read = {up.attr for node in uses if isinstance(up := module.parent(node), ast.Attribute)}
    handed_on = any(not isinstance(module.parent(node), ast.Attribute) for node in uses)
    return not handed_on and not read & {*READS, "terminate", "kill", "send_signal", "pid"}


def unread(project: Project) -> Iterator[Hit]:
    """Started programs whose exit code is not checked, other than data pulls."""
    for module in project.modules:
        for call, kind in _starts(module):
            command = _command(module, call)
            if PULL.search(command) or HARMLESS.search(command) or not _unread(module, call, kind):
                continue
            dropped = isinstance(module.parent(call), ast.Expr) and keyword(call, "check") is None
            certainty: Certainty = (
                "sure" if dropped and TRAINER.search(command) and not NO_TRAINER.search(command) and kind != "Popen" else "look"
            )
            yield Hit(module.path, module.line(call), certainty, f"the exit code of '{command[:60]}' is not checked")
    yield from _forgiven_trainings(project)


def _forgiven_trainings(project: Project) -> Iterator[Hit]:
    """`train.py || true`, and `-` before it in a Makefile."""
    for path, command in _shell(project):
        named = re.search(r"\b(train|retrain|evaluate)", command.text)
        if named and (command.forgiven or re.search(rf"\b(train|retrain|evaluate)\w*\b[^|&;]*{FORGIVEN}", command.text)):
            yield Hit(path, command.line, "sure", f"'{command.text[:60]}' always counts as successful")


def ignored(project: Project) -> Iterator[Hit]:
    """Data pulls whose failure is ignored."""
    for module in project.modules:
        yield from _ignored_in_python(module)
        for line, text in module.shell.items():
            if PULL.search(text):
                yield Hit(module.path, line, "look", f"the notebook continues when '{text.strip()[:60]}' fails")
    for path, command in _shell(project):
        if PULL.search(command.text) and (command.forgiven or re.search(rf"{PULL.pattern}[^|&;]*{FORGIVEN}", command.text)):
            yield Hit(path, command.line, "sure", f"'{command.text[:60]}' always counts as successful")
    yield from _continues_after_pull(project)


def _ignored_in_python(module: Module) -> Iterator[Hit]:
    for call, kind in _starts(module):
        command = _command(module, call)
        if not PULL.search(command):
            continue
        if _unread(module, call, kind):
            certainty: Certainty = "look" if keyword(call, "check") is not None else "sure"
            yield Hit(module.path, module.line(call), certainty, f"the exit code of '{command[:60]}' is not checked")
        elif (handler := _forgiving(module, call)) is not None:
            yield Hit(module.path, module.line(handler), "sure", f"a failure of '{command[:60]}' is ignored")
    for call in module.calls("pull", "fetch"):
        made = module.value(call.func.value) if isinstance(call.func, ast.Attribute) else call
        if isinstance(made, ast.Call) and module.name(made.func).startswith("dvc.") and (handler := _forgiving(module, call)):
            yield Hit(module.path, module.line(handler), "sure", "a failure of the DVC pull is ignored")


def _forgiving(module: Module, call: ast.Call) -> ast.ExceptHandler | None:
    """The exception handler around a call, if it only passes or prints."""
    child: ast.AST = call
    for up in module.above(call):
        if isinstance(up, Function):
            return None
        if isinstance(up, ast.Try) and child in up.body:
            for handler in up.handlers:
                if all(isinstance(node, ast.Pass | ast.Continue) or _only_reports(node) for node in handler.body):
                    return handler
        child = up
    return None


def _only_reports(node: ast.stmt) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Call)
        and last_name(node.value.func) in ("print", "debug", "info", "warning", "warn", "error", "exception", "echo", "write")
    )


def _continues_after_pull(project: Project) -> Iterator[Hit]:
    """Pulls followed by other commands in a shell that does not stop on errors."""
    for text in project.named(".sh", ".bash"):
        lines = [command for command in logical_lines(text.lines) if command.text]
        if any(re.search(r"\bset\s+-\w*e|\bset\s+-o\s+errexit", line.text) for line in lines) or re.match(
            r"#!.*\s-\w*e", text.content
        ):
            continue
        for command in lines[:-1]:
            if re.match(PULL, command.text) and not re.search(r"\|\||&&|\bif\b", command.text):
                yield Hit(
                    text.path,
                    command.line,
                    "look",
                    f"the script continues when '{command.text[:60]}' fails: it has no `set -e`",
                )
    for path, command in _runs(project):
        if re.search(rf"{PULL.pattern}[^|&;]*;\s*\S", command.text) and not re.search(r"\bset\s+-\w*e", command.text):
            yield Hit(path, command.line, "sure", f"'{command.text[:60]}' continues even if the pull failed")


def _runs(project: Project) -> Iterator[tuple[str, Command]]:
    for text in project.named("dockerfile", "containerfile", ".dockerfile"):
        yield from (
            (text.path, command)
            for name, command in dockerfile_instructions(text.lines)
            if name in ("RUN", "CMD", "ENTRYPOINT")
        )


def _shell(project: Project) -> Iterator[tuple[str, Command]]:
    """All shell commands: in scripts, Makefiles, Dockerfiles, CI files and compose files."""
    yield from _runs(project)
    for text in project.named(".sh", ".bash"):
        yield from ((text.path, command) for command in logical_lines(text.lines))
    for text in project.named("makefile", ".mk"):
        yield from ((text.path, command) for command in recipe_lines(text.lines))
    for path, documents in project.yaml.items():
        for node in nodes(documents):
            if scalar(node) and ("dvc" in node.value or "train" in node.value):
                shift = node.start_mark.line + (1 if node.style in ("|", ">") else 0)
                for command in logical_lines(node.value.split("\n")):
                    yield path, Command(command.line + shift, command.text)


def _pulls(project: Project) -> bool:
    in_python = any("dvc" in module.source for module in project.modules)
    return in_python or any(re.search(r"\bdvc\b", command.text) for _, command in _shell(project))


UNREAD = Rule(
    name="unread-exit-code",
    defect=7,
    seen="`subprocess.run`, `call`, `Popen` or `os.system` whose result is ignored without `check=True`; `train.py || true`",
    means="A crashed training looks successful, and its leftovers are used",
    remedy="Pass check=True, or check the return code and raise",
    subject="no code that starts another program",
    applies=lambda project: (
        any(True for module in project.modules for _ in _starts(module)) or any(True for _ in _shell(project))
    ),
    look=unread,
)
IGNORED = Rule(
    name="ignored-pull",
    defect=8,
    seen="`dvc pull` with `|| true`, with `-` or `;` around it, under an `except` that passes, or with its exit code unchecked",
    means="Training continues with whatever data is present: stale, partial or none",
    remedy="Stop when the pull fails, and verify the pulled data against the recorded hashes",
    subject="no call of DVC",
    applies=_pulls,
    look=ignored,
)

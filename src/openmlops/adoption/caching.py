"""Defect 4: a cached ZenML step that reads changing data.

ZenML's cache key covers a step's own code and its inputs, not the registry, the clock or a bucket. A step without inputs is a
sure defect: it never runs again.
"""

import ast
import re
from collections.abc import Iterator

from openmlops.adoption.findings import Hit, Rule
from openmlops.adoption.plain_texts import mapped
from openmlops.adoption.project import Project
from openmlops.adoption.python_code import Function, Module, inside, keyword, last_name

LATEST = re.compile(r"latest|champion|get_model_version_by_alias|get_latest_versions", re.I)
LATEST_TEXT = re.compile(r"^(latest|production|champion)$|^models:/.*(@|/(latest|production|staging)$)", re.I)
OUTSIDE = {"now", "utcnow", "today"}
FETCHES = {
    "download_file",
    "list_objects",
    "list_objects_v2",
    "get_object",
    "read_sql",
    "read_sql_query",
    "urlretrieve",
    "fetchall",
}


def decorators(module: Module, kind: str) -> Iterator[tuple[Function, ast.expr]]:
    """Functions under ZenML's `@step` or `@pipeline`, with the decorator."""
    for function in module.every(ast.FunctionDef, ast.AsyncFunctionDef):
        for decorator in function.decorator_list:
            name = module.name(decorator.func if isinstance(decorator, ast.Call) else decorator)
            if name.startswith("zenml") and name.endswith(f".{kind}"):
                yield function, decorator


def look(project: Project) -> Iterator[Hit]:
    """Cached steps that read changing data."""
    uncached = _uncached(project)
    elsewhere = any(v.name == "enable_cache" and v.value.lower() == "false" for d in project.yaml.values() for v in mapped(d))
    for module in project.modules:
        for function, decorator in decorators(module, "step"):
            if function.name in uncached or _says_how(decorator):
                continue
            for node, what, changes in _reads(module, function):
                sure = changes and not function.args.args and not elsewhere
                yield Hit(
                    module.path, module.line(node), "sure" if sure else "look", f"the cached step '{function.name}' {what}"
                )
                break


def _says_how(decorator: ast.expr) -> bool:
    """Whether a decorator disables the cache itself; True enables it, which is the default."""
    if not isinstance(decorator, ast.Call):
        return False
    given = keyword(decorator, "enable_cache")
    decided = given is not None and not (isinstance(given, ast.Constant) and given.value in (True, None))
    return decided or keyword(decorator, "cache_policy", "cache_expiration", "cache_func") is not None


def _uncached(project: Project) -> set[str]:
    """Names of steps whose cache is disabled where they are used: individually, or by every pipeline that contains them."""
    off: set[str] = set()
    on: set[str] = set()
    configured = {name for module in project.modules for name in _configured(module)}
    for module in project.modules:
        for function, decorator in decorators(module, "pipeline"):
            steps = {last_name(call.func) for call in inside(function, ast.Call)}
            closed = _says_how(decorator) or function.name in configured
            (off if closed else on).update(steps)
    return (off - on) | configured


def _configured(module: Module) -> Iterator[str]:
    """Names in `name.with_options(enable_cache=False)` and `name.configure(...)`."""
    for call in module.calls("with_options", "configure"):
        if _says_how(call) and isinstance(call.func, ast.Attribute):
            whole = call.func.value
            yield last_name(whole.func if isinstance(whole, ast.Call) else whole)


def _reads(module: Module, function: Function) -> Iterator[tuple[ast.AST, str, bool]]:
    """(node, what it reads, whether that is certain to change)."""
    for call in inside(function, ast.Call):
        name = last_name(call.func)
        if LATEST.search(name) and not name.startswith(("set_", "update_", "delete_")):
            yield call, f"requests the latest model or data ({name})", True
        for part in [*call.args, *(given.value for given in call.keywords)]:
            text = _text(module, part)
            if LATEST_TEXT.search(text) and not name.startswith(("set_", "transition_", "update_", "delete_", "log", "print")):
                yield call, f"requests '{text}'", True
        if name in OUTSIDE and "date" in module.name(call.func).lower() and _counts(module, call):
            yield call, "reads the clock", False
        elif name in FETCHES or module.name(call.func) in ("requests.get", "httpx.get"):
            yield call, f"reads from an external service ({name})", False
        elif any(_text(module, inner) == "dvc" for inner in inside(call, ast.Constant)):
            yield call, "pulls data with DVC", False


def _counts(module: Module, call: ast.Call) -> bool:
    """Whether a value is computed from the time, rather than only stamped with it."""
    return isinstance(module.parent(call), ast.BinOp | ast.Compare | ast.keyword)


def _text(module: Module, node: ast.expr) -> str:
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "x" for part in node.values)
    found = module.constant(node)
    return found if isinstance(found, str) else ""


RULE = Rule(
    name="cached-step",
    defect=4,
    seen="a ZenML step, not set to `enable_cache=False`, that reads the latest model or data, the clock or another service",
    means="After its first run the step returns cached results: the old model and the old data are used forever",
    remedy="Set enable_cache=False on the step, or pass the version as an input",
    subject="no ZenML step",
    applies=lambda project: any(True for module in project.modules for _ in decorators(module, "step")),
    look=look,
)

"""Defects 2 and 13: a drift verdict set by a flag, or by an error."""

import ast
import re
from collections.abc import Iterator

from openmlops.adoption.findings import Certainty, Hit, Rule
from openmlops.adoption.project import Project
from openmlops.adoption.python_code import Function, Module, last_name, words

SWITCH = r"simulate[ds]?|simulation|force[ds]?|fake|demo|mock|pretend|always|override|inject(ed)?"
FLAG = re.compile(rf"(^|_)({SWITCH})(_|$)", re.I)
OTHER = r"level|strength|intensity|severity|magnitude|amount|kind|type|config|threshold|param|path|time|url|file|dir|name|seed"
VERDICT = re.compile(
    r"^((is|has|data|dataset|feature|concept|model|image|max|mean)_)*drift(ed)?"
    r"(_(detected|found|flag|verdict|result|share|score|ratio|alert|value))?$",
    re.I,
)
JUDGES = re.compile(r"drift", re.I)
NOT_JUDGES = re.compile(rf"simulat|inject|apply|add_|make_|generate|force|demo|fake|plot|log_|report|{OTHER}", re.I)


def is_verdict(name: str) -> bool:
    """Whether a name denotes a drift verdict or its measured value."""
    return bool(VERDICT.match(name))


def is_judge(name: str) -> bool:
    """Whether a function's name says that it returns a drift verdict."""
    return bool(JUDGES.search(name)) and not NOT_JUDGES.search(name)


def is_flag(node: ast.AST) -> bool:
    """Whether an expression tests only a flag: `args.force`, a variable SIMULATE_DRIFT compared with a constant."""
    if isinstance(node, ast.BoolOp):
        return all(is_flag(part) for part in node.values)
    if isinstance(node, ast.Compare) and not all(isinstance(part, ast.Constant) for part in node.comparators):
        return False
    return any(FLAG.search(word) for word in words(node).split())


def forced(project: Project) -> Iterator[Hit]:
    """Verdicts that a flag sets, or is or-ed into."""
    for module in project.modules:
        for node in module.every(ast.Assign, ast.AnnAssign, ast.Return, ast.Dict, ast.keyword):
            for name, value in _verdicts(module, node):
                if says := _forced(module, node, name, value):
                    sure = _is_measured_elsewhere(module, node, name)
                    yield Hit(module.path, module.line(node), "sure" if sure else "look", says)


def _verdicts(module: Module, node: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    """(name, value) of each verdict that a node assigns or returns."""
    if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
        for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
            if is_verdict(last_name(target)):
                yield last_name(target), node.value
    elif isinstance(node, ast.Return) and node.value is not None and is_judge(module.scope_name(node)):
        yield module.scope_name(node), node.value
    elif isinstance(node, ast.Dict):
        for key, value in zip(node.keys, node.values, strict=True):
            if isinstance(key, ast.Constant) and isinstance(key.value, str) and is_verdict(key.value):
                yield key.value, value
    elif isinstance(node, ast.keyword) and node.arg and is_verdict(node.arg) and not isinstance(node.value, ast.Constant):
        yield node.arg, node.value


def _forced(module: Module, node: ast.AST, name: str, value: ast.expr) -> str:
    if isinstance(value, ast.BoolOp) and isinstance(value.op, ast.Or):
        flags = [part for part in value.values if is_flag(part)]
        if flags and len(flags) < len(value.values):
            return f"'{name}' is true whenever {_shown(flags[0])} is"
    if isinstance(value, ast.IfExp) and is_flag(value.test) and _is_yes(value.body):
        return f"'{name}' is {_shown(value.body)} whenever {_shown(value.test)} is set"
    if _is_yes(value) and (test := _under_flag(module, node)) is not None:
        return f"'{name}' is {_shown(value)} whenever {_shown(test)} is set"
    return ""


def _is_yes(value: ast.expr) -> bool:
    """A constant that says drift: True, 1.0, "drift"."""
    return isinstance(value, ast.Constant) and bool(value.value)


def _under_flag(module: Module, node: ast.AST) -> ast.expr | None:
    """The condition of the `if` whose first branch contains a node, if it tests only a flag."""
    child = node
    for up in module.above(node):
        if isinstance(up, Function):
            return None
        if isinstance(up, ast.If) and child in up.body and is_flag(up.test):
            return up.test
        child = up
    return None


def _is_measured_elsewhere(module: Module, node: ast.AST, name: str) -> bool:
    """Whether the same verdict also has a non-constant value: then the flag overrides a measurement."""
    if isinstance(node, ast.Return):
        scope = module.scope(node)
        others = [one.value for one in module.every(ast.Return) if one.value is not None and module.scope(one) is scope]
    else:
        others = [binding.value for binding in module.bindings(name, node)]
    return any(not isinstance(value, ast.Constant) for value in others)


def _shown(node: ast.AST) -> str:
    text = ast.unparse(node)
    return text if len(text) <= 60 else f"{text[:57]}..."


# An error that becomes a verdict


def swallowed(project: Project) -> Iterator[Hit]:
    """An `except` that reports "no drift", or skips the drift check."""
    for module in project.modules:
        for handler in module.every(ast.ExceptHandler):
            if any(isinstance(node, ast.Raise) for node in ast.walk(handler)):
                continue
            yield from _said_no(module, handler)
            yield from _passed_over(module, handler)


def _said_no(module: Module, handler: ast.ExceptHandler) -> Iterator[Hit]:
    for node in ast.walk(handler):
        for name, value in _verdicts(module, node):
            if isinstance(value, ast.Constant) and value.value is not None and not value.value and value.value != "":
                certainty: Certainty = "sure" if _is_broad(handler) else "look"
                yield Hit(module.path, module.line(node), certainty, f"after an error '{name}' is {value.value}")


def _passed_over(module: Module, handler: ast.ExceptHandler) -> Iterator[Hit]:
    """A handler that does nothing around a verdict that was "no" before."""
    around = module.parent(handler)
    if not isinstance(around, ast.Try) or not all(_does_nothing(node) for node in handler.body):
        return
    for node in around.body:
        for name, value in _verdicts(module, node):
            before = [one for one in module.bindings(name, node) if one.settled < around.lineno]
            if not isinstance(value, ast.Constant) and before and _is_no(before[-1].value) and not isinstance(node, ast.Return):
                says = (
                    f"after an error '{name}' stays {_shown(before[-1].value)}, as line {module.line(before[-1].node)} set it"
                )
                yield Hit(module.path, module.line(handler), "sure" if _is_broad(handler) else "look", says)


def _is_no(value: ast.expr) -> bool:
    return isinstance(value, ast.Constant) and value.value is not None and not value.value


def _does_nothing(node: ast.stmt) -> bool:
    """`pass`, `continue`, or a call whose result is dropped, such as a line in a log."""
    return isinstance(node, ast.Pass | ast.Continue | ast.Expr)


def _is_broad(handler: ast.ExceptHandler) -> bool:
    return handler.type is None or any(last_name(node) in ("Exception", "BaseException") for node in ast.walk(handler.type))


def _judges(project: Project) -> bool:
    names = (name for module in project.modules for name in (*module.functions, *(n.id for n in module.every(ast.Name))))
    return any(is_verdict(name) or is_judge(name) for name in names)


FORCED = Rule(
    name="forced-verdict",
    defect=2,
    seen="a drift result that a simulation flag sets to true, or that is or-ed with one",
    means="The demonstration shows a flag, not a working check",
    remedy="Let the flag corrupt the images before the model receives them, and compute the result as usual",
    subject="no drift result",
    applies=_judges,
    look=forced,
)
SWALLOWED = Rule(
    name="error-as-no-drift",
    defect=13,
    seen="an `except` that sets or returns 'no drift' or 0, or that keeps an earlier 'no' result",
    means="A broken check looks like a healthy model",
    remedy="Raise, or return 'not measurable' as a third result that is reported",
    subject="no drift result",
    applies=_judges,
    look=swallowed,
)

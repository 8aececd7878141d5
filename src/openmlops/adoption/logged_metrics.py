"""Defects 9 and 14: metric names that MLflow refuses, and metric values that were not measured."""

import ast
import re
from collections.abc import Iterator

from openmlops.adoption.findings import Certainty, Hit, Rule
from openmlops.adoption.project import Project
from openmlops.adoption.python_code import Module, argument, inside, last_name, words

ALLOWED = re.compile(r"[\w\-. :/]*")
"""metric names that MLflow accepts; a test compares it with MLflow's own check"""
METRIC = re.compile(
    r"(^|[_/ ])(accuracy|acc|precision|recall|f1|f1score|auc|auroc|m_?ap|iou|miou|dice|loss|rmse|mae|mse|r2|bleu|wer|psnr|ssim)"
    r"(?=$|[_/@( \d-])",
    re.I,
)
CLEANS = re.compile(r"replace|sub|clean|sanit|safe|valid|normali|rename|strip|slug|translate", re.I)
BOUND = re.compile(r"best|min|max|last|prev|init", re.I)
RANDOM = re.compile(r"^(random|numpy\.random|secrets)\.|^(numpy|np)\.random|default_rng")
SETTINGS = re.compile(r"config|cfg|param|arg|setting|option|threshold|weight|target|kwargs|default|env", re.I)


def logged(module: Module) -> Iterator[tuple[ast.Call, ast.expr, ast.expr | None]]:
    """(call, name, value) of every metric logged to MLflow; the value is None if it is only known at run time."""
    if not module.uses("mlflow"):
        return
    for call in module.calls("log_metric"):
        shift = (
            0
            if module.name(call.func).startswith("mlflow.log")
            else int(len(call.args) >= 3 and not _is_text(module, call.args[0]))
        )
        name, value = argument(call, shift, "key"), argument(call, shift + 1, "value")
        if name is not None:
            yield call, name, value
    for call in module.calls("log_metrics"):
        given = argument(call, 0, "metrics")
        found = module.value(given) if given is not None else None
        if isinstance(found, ast.Dict):
            yield from ((call, key, value) for key, value in zip(found.keys, found.values, strict=True) if key is not None)


def _is_text(module: Module, node: ast.expr) -> bool:
    return isinstance(module.value(node), ast.JoinedStr) or isinstance(module.constant(node), str)


# Names


def refused(project: Project) -> Iterator[Hit]:
    """Metric names that MLflow refuses."""
    for module in project.modules:
        for call, name, _ in logged(module):
            if wrong := _wrong(module, name):
                yield Hit(module.path, module.line(name if wrong[1] else call), "sure", f"MLflow rejects '{wrong[0]}'")
        yield from _raw_ultralytics(module)


def _wrong(module: Module, name: ast.expr) -> tuple[str, bool] | None:
    """The part of a name that MLflow refuses, and whether the name is a literal in the call."""
    found = module.value(name)
    if isinstance(found, ast.Constant) and isinstance(found.value, str) and not ALLOWED.fullmatch(found.value):
        return found.value, True
    if isinstance(found, ast.JoinedStr):
        texts = [part.value for part in found.values if isinstance(part, ast.Constant) and isinstance(part.value, str)]
        return next(((text, True) for text in texts if not ALLOWED.fullmatch(text)), None)
    return None


def _raw_ultralytics(module: Module) -> Iterator[Hit]:
    """Ultralytics' `results_dict`, whose keys end in `(B)`, logged to MLflow unchanged."""
    for call in module.calls("log_metrics"):
        given = argument(call, 0, "metrics")
        if given is not None and "results_dict" in words(module.value(given)) and not CLEANS.search(words(module.value(given))):
            yield Hit(
                module.path,
                module.line(call),
                "sure",
                "MLflow rejects the keys of Ultralytics' results_dict, such as 'metrics/mAP50(B)'",
            )
    for loop in module.every(ast.For):
        if "results_dict" not in words(loop.iter) or CLEANS.search(" ".join(words(node) for node in loop.body)):
            continue
        for call in inside(loop, ast.Call):
            if last_name(call.func) == "log_metric" and call.args and _is_key(loop, call):
                yield Hit(
                    module.path,
                    module.line(call),
                    "sure",
                    "MLflow rejects the keys of Ultralytics' results_dict, such as 'metrics/mAP50(B)'",
                )


def _is_key(loop: ast.For, call: ast.Call) -> bool:
    """Whether a call logs the loop's own key, alone or in a text."""
    first = loop.target.elts[0] if isinstance(loop.target, ast.Tuple) and loop.target.elts else loop.target
    key = last_name(first)
    return any(isinstance(node, ast.Name) and node.id == key for given in call.args[:2] for node in ast.walk(given))


# Values


def made_up(project: Project) -> Iterator[Hit]:
    """Metrics from a random generator, a constant, or a default for a missing value."""
    for module in project.modules:
        yield from _logged_values(module)
        yield from _defaults(module)
        yield from _fallbacks(module)


def _logged_values(module: Module) -> Iterator[Hit]:
    for call, name, value in logged(module):
        if value is None:
            continue
        found, key = module.value(value), _shown(module, name)
        if isinstance(found, ast.Call) and _is_random(module, found):
            yield Hit(module.path, module.line(call), "sure", f"{key} is logged from a random number generator")
        elif isinstance(value, ast.Constant) and isinstance(value.value, float) and METRIC.search(key.strip("'")):
            yield Hit(module.path, module.line(value), "sure", f"{key} is logged as {value.value}, a constant")


def _is_random(module: Module, call: ast.Call) -> bool:
    """Whether a call, or what it rounds or converts, draws a random number."""
    while last_name(call.func) in ("round", "float", "abs", "min", "max") and call.args and isinstance(call.args[0], ast.Call):
        call = call.args[0]
    return bool(RANDOM.search(module.name(call.func)))


def _defaults(module: Module) -> Iterator[Hit]:
    """`metrics.get("accuracy", 0.9)`, `getattr(results, "map50", 0.5)`."""
    for call in module.calls("get", "getattr", "pop"):
        if isinstance(call.func, ast.Attribute):
            source: ast.expr | None = call.func.value
            key, default = argument(call, 0), argument(call, 1)
        else:
            source, key, default = argument(call, 0), argument(call, 1), argument(call, 2)
        number = module.number(default)
        if source is None or number is None:
            continue
        name = module.constant(key)
        if not isinstance(name, str) or not METRIC.search(name) or SETTINGS.search(f"{ast.unparse(source)} {name}"):
            continue
        if not number and not _counts(module, call):
            continue
        certainty: Certainty = "sure" if 0 < number < 1 else "look"
        yield Hit(module.path, module.line(call), certainty, f"'{name}' defaults to {number} if it is missing")


def _counts(module: Module, call: ast.Call) -> bool:
    """Whether a metric is directly recorded or compared, rather than displayed."""
    for up in module.above(call):
        if isinstance(up, ast.Compare):
            return True
        if isinstance(up, ast.Call) and last_name(up.func) in ("log_metric", "log_metrics"):
            return True
        if isinstance(up, ast.stmt):
            break
    return False


def _fallbacks(module: Module) -> Iterator[Hit]:
    """A metric set to a constant in an `except` or in a branch without a measured value, or set at random."""
    for node in module.every(ast.Assign, ast.Dict):
        for name, value in _metrics(node):
            random = isinstance(value, ast.Call) and _is_random(module, value)
            number = 0 < (module.number(value) or 0) < 1
            if not random and not number:
                continue
            where = _instead(module, node)
            if where or (random and isinstance(node, ast.Dict)):
                says = f"'{name}' becomes {ast.unparse(value)[:40]}{f' {where}' if where else ''}"
                yield Hit(module.path, module.line(value), "sure" if random or where == "after an error" else "look", says)


def _metrics(node: ast.Assign | ast.Dict) -> Iterator[tuple[str, ast.expr]]:
    if isinstance(node, ast.Assign):
        pairs = [(last_name(target), node.value) for target in node.targets]
    else:
        keys = [str(key.value) if isinstance(key, ast.Constant) else "" for key in node.keys]
        pairs = list(zip(keys, node.values, strict=True))
    for name, value in pairs:
        if METRIC.search(name) and not SETTINGS.search(name) and not BOUND.search(name):
            yield name, value


def _instead(module: Module, node: ast.AST) -> str:
    """What a value is a fallback for: an `except`, or a branch for a missing value."""
    child = node
    for up in module.above(node):
        if isinstance(up, ast.ExceptHandler):
            return "after an error"
        if isinstance(up, ast.If) and child is not up.test:
            missing = child in up.body and re.search(r"\bnot\b|is None|== 0", ast.unparse(up.test))
            if missing or (
                child in up.orelse
                and not isinstance(child, ast.If)
                and re.search(r" in |is not None|exists", ast.unparse(up.test))
            ):
                return "when it is missing"
        if isinstance(up, ast.FunctionDef | ast.AsyncFunctionDef):
            return ""
        child = up
    return ""


def _shown(module: Module, name: ast.expr) -> str:
    found = module.constant(name)
    return f"'{found}'" if isinstance(found, str) else ast.unparse(name)[:40]


def _logs(project: Project) -> bool:
    return any(module.uses("mlflow") and module.calls("log_metric", "log_metrics") for module in project.modules)


REFUSED = Rule(
    name="refused-metric-name",
    defect=9,
    seen="a name given to `log_metric` or `log_metrics` with characters other than letters, digits, `_ - . : /` and spaces; "
    "the keys of Ultralytics' `results_dict` unchanged",
    means="The call raises at the end of training, or, if the error is caught, the metric is lost",
    remedy="Use a name without them, such as mAP50 for mAP@0.5(B)",
    subject="no metric logged to MLflow",
    applies=_logs,
    look=refused,
)
MADE_UP = Rule(
    name="made-up-metric",
    defect=14,
    seen="a metric that is random, constant, or a default in place of a missing value: `metrics.get('accuracy', 0.9)`",
    means="A number that was never measured is recorded, compared and trusted",
    remedy="Treat a missing metric as an error, or omit it",
    subject="no metric",
    applies=lambda project: (
        any(METRIC.search(name.id) for module in project.modules for name in module.every(ast.Name)) or _logs(project)
    ),
    look=made_up,
)

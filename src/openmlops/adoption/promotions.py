"""Defects 5 and 6: a version that goes live without a comparison, and one registered without a metric.

The call graph is built from simple names over all files: enough to see a condition around a promotion in another function, and
biased towards fewer false alarms.
"""

import ast
import re
from collections.abc import Iterator

from openmlops.adoption.findings import Certainty, Hit, Rule
from openmlops.adoption.project import Project
from openmlops.adoption.python_code import Function, Module, argument, inside, keyword, last_name

LIVE = re.compile(r"^(prod|production|champion|live|serving|deployed?)$", re.I)
TRAINS = re.compile(r"^(fit|train\w*|register_model|fine_?tune\w*)$")
JUDGE = re.compile(r"gate|compar|verdict|approv|decide|decision|should_|is_better|validat|check|evaluat|judge", re.I)
COMPARES = re.compile(r"gate|compar|approv|decide|judge|^(max|min|sorted)$")
MEASURES = {"log_metric", "log_metrics", "autolog", "evaluate", "log_batch", "log_model_metrics"}
LOGGERS = re.compile(r"MLFlowLogger|MLflowCallback|MlflowCallback|MLflowLogger")


def promotions(module: Module) -> Iterator[tuple[ast.Call, str]]:
    """Calls that promote a version, with the alias or stage; `?` if it is only known at run time."""
    for call in module.calls("set_registered_model_alias"):
        yield call, _stage_text(module, argument(call, 1, "alias"))
    for call in module.calls("transition_model_version_stage"):
        yield call, _stage_text(module, argument(call, 2, "stage"))
    for call in module.calls("set_stage"):
        yield call, _stage_text(module, argument(call, 0, "stage"))
    for call in module.calls("update_model_version"):
        if (stage := keyword(call, "stage")) is not None:
            yield call, _stage_text(module, stage)


def _stage_text(module: Module, node: ast.expr | None) -> str:
    if isinstance(node, ast.Attribute) and node.attr.isupper():  # ModelStages.PRODUCTION
        return node.attr if node.attr in ("PRODUCTION", "STAGING", "ARCHIVED", "NONE", "LATEST") else "?"
    found = module.constant(node)
    return found if isinstance(found, str) else "?"


def ungated(project: Project) -> Iterator[Hit]:
    """Promotions without a condition."""
    for module in project.modules:
        for call, stage in promotions(module):
            scope = module.scope(call)
            if (stage != "?" and not LIVE.match(stage)) or _decided(module, call):
                continue
            name = "" if isinstance(scope, ast.Module) else scope.name
            if name and _callers_decide(project, name):
                continue
            sure = (
                stage != "?"
                and not module.is_notebook
                and _follows_training(project, module, scope)
                and not _compares(project, scope)
            )
            what = f"'{stage}'" if stage != "?" else "what a variable says"
            yield Hit(
                module.path,
                module.line(call),
                "sure" if sure else "look",
                f"a version is made {what} without a comparison",
            )


def _decided(module: Module, node: ast.AST) -> bool:
    """Whether a condition encloses a node, or returns from the function before it."""
    child = node
    for up in module.above(node):
        if isinstance(up, ast.ExceptHandler):  # the case of no version yet to compare with
            return True
        if isinstance(up, ast.If | ast.IfExp | ast.Match) and child is not getattr(up, "test", None) and not _is_main(up):
            return True
        if isinstance(up, Function | ast.Module):
            return any(_ends(one) for one in inside(up, ast.If) if one.lineno < getattr(node, "lineno", 0))
        child = up
    return False


def _is_main(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "__name__" in ast.unparse(node.test)


def _ends(node: ast.If) -> bool:
    """Whether a branch leaves the function after a comparison or an evaluating call: `if worse: return`."""
    leaves = any(isinstance(part, ast.Return | ast.Raise | ast.Continue) for part in node.body)
    return leaves and bool(inside(node.test, ast.Compare) or JUDGE.search(ast.unparse(node.test)))


def _callers(project: Project, name: str) -> Iterator[tuple[Module, ast.Call]]:
    for module in project.modules:
        for call in module.calls(name):
            yield module, call


def _callers_decide(project: Project, name: str) -> bool:
    return any(_decided(module, call) for module, call in _callers(project, name))


def _follows_training(project: Project, module: Module, scope: ast.AST) -> bool:
    """Whether the function or a caller also trains or registers: then no person selected the version."""
    if _trains(scope):
        return True
    name = getattr(scope, "name", "")
    return bool(name) and any(_trains(other.scope(call)) for other, call in _callers(project, name))


def _trains(scope: ast.AST) -> bool:
    return any(TRAINS.match(last_name(call.func)) or keyword(call, "registered_model_name") for call in inside(scope, ast.Call))


def _compares(project: Project, scope: ast.AST) -> bool:
    """Whether the function ranks something, or it or a caller calls a function named like an evaluation, which may raise."""
    if inside(scope, ast.Lt, ast.LtE, ast.Gt, ast.GtE):
        return True
    scopes = [scope, *(module.scope(call) for module, call in _callers(project, getattr(scope, "name", "")))]
    return any(COMPARES.search(last_name(call.func)) for one in scopes for call in inside(one, ast.Call))


# Registered without a metric


def registrations(module: Module) -> Iterator[ast.Call]:
    """Calls that make a version in MLflow's registry."""
    if not module.uses("mlflow"):
        return
    yield from (call for call in module.calls("register_model") if "mlflow" in module.name(call.func))
    for call in module.calls("log_model", "create_model_version"):
        named = keyword(call, "registered_model_name")
        if last_name(call.func) == "create_model_version" or (named is not None and module.constant(named) != ""):
            yield call


def unmeasured(project: Project) -> Iterator[Hit]:
    """Registrations in a project or a run that logs no metric."""
    measured = {name for module in project.modules for name in _measuring(module)}
    for module in project.modules:
        for call in registrations(module):
            if not measured:
                yield Hit(
                    module.path,
                    module.line(call),
                    _by_itself(project),
                    "a version is registered, but the project logs no metric",
                )
            elif _own_run(module, call) and not _measures(module.scope(call), measured):
                yield Hit(
                    module.path,
                    module.line(call),
                    "look",
                    "a version is registered in a separate run that logs no metric",
                )


def _by_itself(project: Project) -> Certainty:
    """`look` if a library is used that logs metrics itself when MLflow is installed, else `sure`."""
    libraries = ("ultralytics", "transformers", "lightning", "pytorch_lightning")
    return "look" if any(module.uses(name) for module in project.modules for name in libraries) else "sure"


def _measuring(module: Module) -> Iterator[str]:
    """Names of functions, and `<module>`, in which something logs metrics."""
    for call in module.calls():
        if (
            last_name(call.func) in MEASURES
            or LOGGERS.search(last_name(call.func))
            or module.constant(keyword(call, "report_to")) == "mlflow"
        ):
            yield module.scope_name(call) or "<module>"


def _own_run(module: Module, call: ast.Call) -> bool:
    started = [one for one in inside(module.scope(call), ast.Call) if last_name(one.func) == "start_run"]
    return any(argument(one, 0, "run_id") is None for one in started)


def _measures(scope: ast.AST, measured: set[str]) -> bool:
    called = {last_name(call.func) for call in inside(scope, ast.Call)}
    return bool(called & (MEASURES | measured)) or any(
        re.search(r"log|metric|report|fit|train", name)
        for name in called - {"log_model", "log_param", "log_params", "log_artifact", "log_artifacts"}
    )


UNGATED = Rule(
    name="ungated-promotion",
    defect=5,
    seen="an alias or stage such as `champion` or `Production` that is set unconditionally",
    means="The latest model goes live, whether it is better or not",
    remedy="Compare it with the live version on the same data, and promote it only if it is better",
    subject="no promotion by alias or stage",
    applies=lambda project: any(True for module in project.modules for _ in promotions(module)),
    look=ungated,
)
UNMEASURED = Rule(
    name="unmeasured-version",
    defect=6,
    seen="`register_model`, or `registered_model_name`, where the run, or the whole project, logs no metric",
    means="The quality of the version is unknown, and later versions cannot be compared with it",
    remedy="Log the evaluation metrics in the run of the version before registering it",
    subject="no registration of a model in MLflow",
    applies=lambda project: any(True for module in project.modules for _ in registrations(module)),
    look=unmeasured,
)

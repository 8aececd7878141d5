"""Defect 10: model selection on the test split, whose score is then reported.

A search is a loop over settings that trains in its body; its selection is a comparison or a maximum of scores. The split of a
score is inferred from the names in its expression.
"""

import ast
import re
from collections.abc import Iterator

from openmlops.adoption.findings import Hit, Rule
from openmlops.adoption.project import Project
from openmlops.adoption.python_code import Function, Module, inside, last_name, words

GRID = re.compile(
    r"grid|product|param|config|trial|candidate|combination|hyper|search|settings|learning_rates|lrs|depths|models", re.I
)
TRAINS = re.compile(r"^(fit|train\w*|fine_?tune\w*|run_training)$")
TEST = re.compile(r"(^|_)(test|holdout)(_|$|\d)|^x_?test|^y_?test", re.I)


def searches(module: Module) -> Iterator[ast.For]:
    """Loops over settings that train in their body."""
    for loop in module.every(ast.For):
        about = f"{words(loop.iter)} {words(loop.target)}"
        if GRID.search(about) and not _is_of_epochs(loop) and _trains(module, loop):
            yield loop


def objectives(module: Module) -> Iterator[Function]:
    """Functions that a hyperparameter search calls with its trial."""
    for function in module.functions.values():
        if any(argument.arg == "trial" for argument in function.args.args) and "suggest_" in words(function):
            yield function


def _is_of_epochs(loop: ast.For) -> bool:
    """`for epoch in range(10)`: the epochs of one training, not settings."""
    return isinstance(loop.target, ast.Name) and "epoch" in loop.target.id.lower() and isinstance(loop.iter, ast.Call)


def _trains(module: Module, loop: ast.For) -> bool:
    return any(TRAINS.match(last_name(call.func)) for call in inside(loop, ast.Call))


def look(project: Project) -> Iterator[Hit]:
    """Selections by a test score."""
    for module in project.modules:
        for loop in searches(module):
            if score := next(_chosen_by(module, loop), None):
                yield Hit(
                    module.path,
                    module.line(score),
                    "sure",
                    f"the best setting is chosen by '{ast.unparse(score)[:40]}', a test score",
                )
        for function in objectives(module):
            for node in inside(function, ast.Return):
                if node.value is not None and _of_test(module, node.value):
                    yield Hit(module.path, module.line(node), "sure", "the search maximises a test score")
        yield from _epochs(module)


def _epochs(module: Module) -> Iterator[Hit]:
    """The best epoch selected by a test score."""
    for loop in module.every(ast.For):
        if _is_of_epochs(loop) and (score := next(_chosen_by(module, loop), None)):
            yield Hit(
                module.path,
                module.line(score),
                "look",
                f"the best epoch is kept by '{ast.unparse(score)[:40]}', a test score",
            )


def _chosen_by(module: Module, loop: ast.For) -> Iterator[ast.expr]:
    """Test scores that decide which iteration of a loop is kept: `if score > best: best = ...`."""
    for node in inside(loop, ast.If):
        if not isinstance(node.test, ast.Compare) or not any("best" in words(part).lower() for part in inside(node, ast.Name)):
            continue
        for side in (node.test.left, *node.test.comparators):
            if "best" not in words(side).lower() and _of_test(module, side):
                yield side
    yield from _maximum(module, loop)


def _maximum(module: Module, loop: ast.For) -> Iterator[ast.expr]:
    """`results.append((score, setting))` in the loop and `max(results)` after it."""
    for call in inside(loop, ast.Call):
        if last_name(call.func) != "append" or not isinstance(call.func, ast.Attribute) or not call.args:
            continue
        kept = last_name(call.func.value)
        chosen = [one for one in module.calls("max", "min", "sorted") if one.args and last_name(one.args[0]) == kept]
        chosen = [one for one in chosen if module.scope(one) is module.scope(loop) and one.lineno > loop.lineno]
        test = next((part for part in _parts(call.args[0]) if _of_test(module, part)), None)
        if test is not None and any(_ranks_by(one, call.args[0], test) for one in chosen):
            yield test


def _parts(node: ast.expr) -> list[ast.expr]:
    if isinstance(node, ast.Tuple | ast.List):
        return list(node.elts)
    return list(node.values) if isinstance(node, ast.Dict) else [node]


def _ranks_by(chosen: ast.Call, kept: ast.expr, test: ast.expr) -> bool:
    """Whether a maximum ranks by the test score: by a dictionary key, or as the first item of a tuple."""
    key = next((given.value for given in chosen.keywords if given.arg == "key"), None)
    if isinstance(kept, ast.Dict):
        names = [
            part.value
            for part, value in zip(kept.keys, kept.values, strict=True)
            if value is test and isinstance(part, ast.Constant)
        ]
        return key is not None and any(str(name) in words(key).split() for name in names)
    if key is None:
        return _parts(kept)[0] is test
    index = next((part.value for part in inside(key, ast.Constant) if isinstance(part.value, int)), None)
    return index is not None and -len(_parts(kept)) <= index < len(_parts(kept)) and _parts(kept)[index] is test


def _of_test(module: Module, node: ast.expr, depth: int = 0) -> bool:
    """Whether an expression, or the assignment of its names, refers to the test split."""
    if any(TEST.search(word) for word in words(node).split()):
        return True
    if depth > 3:
        return False
    for name in inside(node, ast.Name):
        found = module.binding(name)
        if found is not None and isinstance(found.node, ast.Assign) and _of_test(module, found.value, depth + 1):
            return _is_score(found.value)
    return False


def _is_score(node: ast.expr) -> bool:
    """Whether an assigned value is a score and not data: `evaluate(model, test)`, not `train_test_split(x)`."""
    return not any("split" in last_name(call.func) for call in inside(node, ast.Call))


RULE = Rule(
    name="chosen-on-test",
    defect=10,
    seen="a loop over hyperparameters, or an Optuna objective, that selects the best by a test score",
    means="The reported score is optimistically biased: it belongs to the run that fits the test images best",
    remedy="Select on a validation split, and evaluate the selected model once on the test split",
    subject="no hyperparameter search",
    applies=lambda project: any(True for module in project.modules for _ in (*searches(module), *objectives(module))),
    look=look,
)

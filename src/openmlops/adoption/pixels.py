"""Defect 3: a model trained on normalised pixels but monitored or served on raw ones.

Collects all chains of image transforms and classifies their use by the surrounding names. Not detected: normalisation in the
model's first layer, or in a function of another file; the finding is then one for a person to check.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass

from openmlops.adoption.findings import Certainty, Hit, Rule
from openmlops.adoption.project import Project
from openmlops.adoption.python_code import Module, last_name

TO_TENSOR = {"ToTensor", "PILToTensor", "ToImage", "ToDtype", "ConvertImageDtype", "to_tensor", "ToTensorV2"}
WATCHING = re.compile(r"monitor|drift|infer|serv|predict|deploy|reference|current|prod|live|api|app|score", re.I)
JUDGING = re.compile(r"test|val|eval", re.I)
TRAINING = re.compile(r"train|fit", re.I)


@dataclass(frozen=True)
class Chain:
    """One chain of transforms: place, use, and the arguments of its Normalize, None without one."""

    module: Module
    node: ast.AST
    use: str
    normalize: str | None


def chains(project: Project) -> list[Chain]:
    """All chains in the project that convert images to tensors."""
    return [
        Chain(module, node, _use(module, node), _normalize(module, node))
        for module in project.modules
        for node in _composed(module)
    ]


def _composed(module: Module) -> Iterator[ast.Call]:
    for call in module.calls("Compose", "Sequential", *TO_TENSOR):
        name = last_name(call.func)
        if name in TO_TENSOR:
            if _stands_alone(module, call):
                yield call
        elif any(last_name(inner.func) in TO_TENSOR for inner in ast.walk(call) if isinstance(inner, ast.Call)):
            yield call


def _stands_alone(module: Module, call: ast.Call) -> bool:
    """`transform=ToTensor()`: not a part of a chain."""
    return not any(isinstance(up, ast.List | ast.Tuple) for up in module.above(call))


def _normalize(module: Module, chain: ast.Call) -> str | None:
    for call in ast.walk(chain):
        if isinstance(call, ast.Call) and last_name(call.func) == "Normalize":
            given = [*call.args, *(part.value for part in call.keywords)]
            return ", ".join(ast.unparse(module.value(part)) for part in given)
    return None


def _use(module: Module, node: ast.AST) -> str:
    """The use of a chain, by the nearest name that indicates it: variable, function or file."""
    for name in (*_names_around(module, node), module.path.rsplit("/", 1)[-1]):
        for use, pattern in (("watching", WATCHING), ("training", TRAINING), ("judging", JUDGING)):
            if pattern.search(name):
                return use
    return ""


def _names_around(module: Module, node: ast.AST) -> Iterator[str]:
    for up in module.above(node):
        if isinstance(up, ast.Assign):
            yield last_name(up.targets[0])
        elif isinstance(up, ast.FunctionDef | ast.ClassDef):
            yield up.name
        elif isinstance(up, ast.Call) and any(part.arg == "train" for part in up.keywords):
            flag = next(part.value for part in up.keywords if part.arg == "train")
            if isinstance(flag, ast.Constant):
                yield "train" if flag.value else "test"


def look(project: Project) -> Iterator[Hit]:
    """Chains for monitoring, serving or evaluation that do not normalise as training does."""
    found = chains(project)
    trained = [chain for chain in found if chain.use == "training"]
    normal = {chain.normalize for chain in trained if chain.normalize is not None}
    if not normal:
        return
    ambiguous = len(normal) > 1 or any(chain.normalize is None for chain in trained)
    elsewhere = _first_layer(project) or any(_normalizes_otherwise(module, found) for module in project.modules)
    for chain in found:
        if chain.use not in ("watching", "judging") or chain.normalize in normal:
            continue
        if chain.normalize is None and _normalizes_otherwise(chain.module, found):
            continue
        certainty: Certainty = "look" if ambiguous or chain.use == "judging" or elsewhere else "sure"
        first = next(one for one in trained if one.normalize is not None)
        where = f"{first.module.path}:{first.module.line(first.node)}"
        how = "not normalised" if chain.normalize is None else f"normalised by ({chain.normalize})"
        yield Hit(
            chain.module.path,
            chain.module.line(chain.node),
            certainty,
            f"pixels are {how} here, unlike in training ({where})",
        )


def _normalizes_otherwise(module: Module, found: list[Chain]) -> bool:
    """Whether the file normalises outside its chains: by a function of that name, or as (x - mean) / std."""
    chained = {id(node) for chain in found if chain.module is module for node in ast.walk(chain.node)}
    for node in module.every(ast.Name, ast.Attribute, ast.FunctionDef, ast.BinOp):
        if id(node) in chained:
            continue
        if isinstance(node, ast.BinOp):
            if isinstance(node.op, ast.Div) and isinstance(node.left, ast.BinOp) and isinstance(node.left.op, ast.Sub):
                return True
        elif re.search(r"normali[sz]", node.name if isinstance(node, ast.FunctionDef) else last_name(node), re.I):
            return True
    return False


def _first_layer(project: Project) -> bool:
    """Whether a model normalises in its first layer."""
    return any("register_buffer" in module.source and "mean" in module.source for module in project.modules)


RULE = Rule(
    name="other-pixels",
    defect=3,
    seen="`Normalize` in the training transforms, and none, or a different one, in those of monitoring, serving or evaluation",
    means="The model receives different pixels than in training: its accuracy and all its features are affected",
    remedy="Make normalisation the model's first layer, or import the same transform in both places",
    subject="no image transforms for both training and another use",
    applies=lambda project: len({chain.use for chain in chains(project)} - {""}) > 1,
    look=look,
)

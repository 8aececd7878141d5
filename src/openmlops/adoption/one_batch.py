"""Defect 1: a drift check whose reference and current data are from the same batch.

Traces both arguments of the check backwards, through functions applied to both, to where they were split: by position, by a
random split, or as two batches of one loader. Splits by a condition (a date, a split's name) are valid.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from openmlops.adoption.findings import Certainty, Hit, Rule
from openmlops.adoption.project import Project
from openmlops.adoption.python_code import Module, argument, inside, keyword, last_name, words

Cut = Literal["whole", "slice", "split", "draw"]

SPLITTERS = {"train_test_split", "random_split"}
REFERENCE = ("reference_data", "reference", "reference_dataset", "ref", "x_ref", "baseline", "reference_df", "ref_data")
CURRENT = ("current_data", "current", "current_dataset", "cur", "x_cur", "production", "current_df", "cur_data")
TESTS = {"ks_2samp", "wasserstein_distance", "mannwhitneyu", "anderson_ksamp", "jensenshannon", "population_stability_index"}
CUT_TEXTS = {
    "whole": "reference and current are the same data",
    "slice": "reference and current are slices of '{}'",
    "split": "reference and current are a random split of '{}'",
    "draw": "reference and current are both sampled from '{}'",
}


@dataclass(frozen=True)
class Piece:
    """The origin of one side: `root` (its text, and the line where it was assigned), how it was split, what followed."""

    root: tuple[str, int]
    cut: Cut
    after: tuple[str, ...] = ()
    one_batch: bool = False


def drift_checks(module: Module) -> Iterator[tuple[ast.Call, ast.expr, ast.expr]]:
    """All calls that compare two samples, with the reference and the current sample."""
    for call in module.calls():
        reference, current = keyword(call, *REFERENCE), keyword(call, *CURRENT)
        if reference is None and current is None:
            reference, current = _positional(module, call)
        if reference is not None and current is not None:
            yield call, reference, current


def _positional(module: Module, call: ast.Call) -> tuple[ast.expr | None, ast.expr | None]:
    name = last_name(call.func)
    if name in TESTS or "drift" in name.lower():
        return argument(call, 0), argument(call, 1)
    if name == "run" and isinstance(call.func, ast.Attribute) and _is_report(module, call.func.value):
        return argument(call, 1), argument(call, 0)
    return None, None


def _is_report(module: Module, node: ast.expr) -> bool:
    made = module.value(node)
    return isinstance(made, ast.Call) and module.name(made.func).startswith("evidently")


def look(project: Project) -> Iterator[Hit]:
    """Checks whose two sides have the same origin."""
    for module in project.modules:
        for call, reference, current in drift_checks(module):
            one, other = _piece(module, reference, ()), _piece(module, current, ())
            if certainty := _alike(one, other, _is_about_drift(module, call)):
                says = CUT_TEXTS[one.cut if one.cut != "whole" else other.cut].format(one.root[0])
                yield Hit(module.path, module.line(call), certainty, says)


def _is_about_drift(module: Module, call: ast.Call) -> bool:
    """Whether a check is about drift by its names; other reports may legitimately compare two parts of one data set."""
    whole = call.func.value if isinstance(call.func, ast.Attribute) else call.func
    return last_name(call.func) in TESTS or "drift" in f"{words(call.func)} {words(module.value(whole))}".lower()


def _alike(one: Piece, other: Piece, is_drift: bool) -> Certainty | None:
    if one.root != other.root or not one.root[0] or (one.cut == other.cut == "whole" and one.after):
        return None
    if "whole" in (one.cut, other.cut) and one.cut != other.cut:
        return None
    if one.after != other.after:  # one side was modified deliberately: perhaps a demonstration
        return "look"
    return "sure" if is_drift and (one.cut != "slice" or one.one_batch) else "look"


def _piece(module: Module, node: ast.expr, after: tuple[str, ...], depth: int = 0) -> Piece:
    """Trace an expression back to where it was split, or to its origin."""
    if depth > 12:
        return Piece(("", 0), "whole", after)
    if isinstance(node, ast.Constant):
        return Piece(("", 0), "whole", after)
    if isinstance(node, ast.Name):
        return _named(module, node, after, depth)
    if isinstance(node, ast.Subscript):
        return _subscript(module, node, after, depth)
    if isinstance(node, ast.Call):
        return _called(module, node, after, depth)
    return Piece(_root(module, node), "whole", after)


def _named(module: Module, node: ast.Name, after: tuple[str, ...], depth: int) -> Piece:
    found = module.binding(node)
    changed = ("changed",) if _changed(module, node) else ()
    if found is None or isinstance(found.node, ast.For):
        return Piece(_root(module, node), "whole", (*after, *changed))
    if found.part is None:
        return _piece(module, found.value, (*after, *changed), depth + 1)
    if isinstance(found.value, ast.Call) and last_name(found.value.func) in SPLITTERS:
        return Piece(_root(module, found.value.args[0] if found.value.args else found.value), "split", (*after, *changed))
    if isinstance(found.value, ast.Call) and last_name(found.value.func) == "next" and found.value.args:
        return Piece(_loader(module, found.value.args[0]), "draw", (*after, *changed))
    return Piece((f"{node.id}#{found.part}", found.settled), "whole", after)


def _subscript(module: Module, node: ast.Subscript, after: tuple[str, ...], depth: int) -> Piece:
    first = node.slice.elts[0] if isinstance(node.slice, ast.Tuple) and node.slice.elts else node.slice
    whole = node.value
    if isinstance(whole, ast.Attribute) and whole.attr in ("iloc", "loc"):
        if whole.attr == "loc":
            return Piece(_root(module, node), "whole", after)
        whole = whole.value
    if isinstance(first, ast.Slice):
        return Piece(_root(module, whole), "slice", after, _is_batch(module, whole))
    if isinstance(first, ast.Constant):  # one column of a table, or one part of a batch
        return _piece(module, whole, (*after, f"[{first.value!r}]"), depth + 1)
    return Piece(_root(module, node), "whole", after)


def _called(module: Module, call: ast.Call, after: tuple[str, ...], depth: int) -> Piece:
    name = last_name(call.func)
    if name == "next" and call.args:
        return Piece(_loader(module, call.args[0]), "draw", after)
    if name in ("head", "tail") and isinstance(call.func, ast.Attribute):
        return Piece(_root(module, call.func.value), "slice", after)
    if name == "sample" and isinstance(call.func, ast.Attribute) and isinstance(call.func.value, ast.Name):
        return Piece(_root(module, call.func.value), "split", after)
    inner = call.args[0] if call.args else call.func.value if isinstance(call.func, ast.Attribute) else None
    if inner is None or isinstance(inner, ast.Starred | ast.Constant) or not _is_plain(module, call):
        return Piece(_root(module, call), "whole", after)
    if name in ("copy", "deepcopy", "from_pandas", "DataFrame", "numpy", "array", "asarray", "cpu", "ravel", "flatten"):
        return _piece(module, inner, after, depth + 1)
    return _piece(module, inner, (*after, name), depth + 1)


def _is_plain(module: Module, call: ast.Call) -> bool:
    """Whether the call is a pure function of data: one that reads a file may read another file on each side."""
    return not any(
        word in last_name(call.func).lower() for word in ("read", "load", "fetch", "query", "get", "open", "download")
    )


def _loader(module: Module, node: ast.expr) -> tuple[str, int]:
    """The loader in `iter(loader)`, also if the iterator has a name."""
    made = module.value(node)
    if isinstance(made, ast.Call) and last_name(made.func) == "iter" and made.args:
        return _root(module, made.args[0])
    return _root(module, node)


def _root(module: Module, node: ast.expr) -> tuple[str, int]:
    """The identity of an origin: equal names or attributes are the same if assigned at one place; equal calls are different."""
    binding = module.binding(node) if isinstance(node, ast.Name) else None
    is_named = isinstance(node, ast.Name | ast.Attribute)
    return ast.unparse(node)[:80], binding.settled if binding else 0 if is_named else 1_000 * node.lineno + node.col_offset


def _is_batch(module: Module, node: ast.expr, depth: int = 0) -> bool:
    """Whether an expression is computed from one batch of a loader."""
    if depth > 3 or not isinstance(node, ast.Name):
        return depth <= 3 and any(_is_batch(module, name, depth + 1) for name in inside(node, ast.Name))
    found = module.binding(node)
    if "batch" in node.id.lower():
        return True
    if found is None or isinstance(found.node, ast.For):
        return found is not None and "loader" in ast.unparse(found.value).lower()
    return (isinstance(found.value, ast.Call) and last_name(found.value.func) == "next") or _is_batch(
        module, found.value, depth + 1
    )


def _changed(module: Module, name: ast.Name) -> bool:
    """Whether the value of a name is modified in place earlier in the same function."""
    return any(
        _writes_into(target, node, name.id) and module.scope(node) is module.scope(name)
        for node in module.every(ast.Assign, ast.AugAssign)
        if node.lineno < name.lineno
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
    )


def _writes_into(target: ast.expr, node: ast.stmt, name: str) -> bool:
    """`x[...] = `, `x.loc[...] = `, `x += `."""
    plain = target
    while isinstance(plain, ast.Subscript | ast.Attribute):
        plain = plain.value
    return last_name(plain) == name and (plain is not target or isinstance(node, ast.AugAssign))


RULE = Rule(
    name="one-batch",
    defect=1,
    seen="both sides of a drift check come from one frame, batch or loader: slices, a random split, two samples",
    means="A change affects both sides equally, so the check never detects drift",
    remedy="Store a reference of the validation data with each model version, and use production data as current",
    subject="no drift check that compares two samples",
    applies=lambda project: any(True for module in project.modules for _ in drift_checks(module)),
    look=look,
)

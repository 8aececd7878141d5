"""Static analysis of Python files: names resolved through imports, values traced backwards within a function.

Here: one parsed file or notebook, with queries shared by the rules. Not here: the rules.
"""

import ast
import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

Function = ast.FunctionDef | ast.AsyncFunctionDef
Scope = ast.Module | ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Binding:
    """One assignment of a name: the statement, the assigned value, and the index if it is unpacked from it."""

    node: ast.AST
    value: ast.expr
    part: int | None = None

    @property
    def settled(self) -> int:
        """The line after which the name has its value."""
        line: int = self.node.lineno if isinstance(self.node, ast.For) else self.node.end_lineno  # type: ignore[attr-defined]
        return line


@dataclass
class Module:
    """One Python file; for a notebook also its shell lines, and `places`, the line in the
    file of each line of `source`."""

    path: str
    source: str
    tree: ast.Module
    shell: dict[int, str] = field(default_factory=dict)
    places: Sequence[int] | None = None

    @property
    def is_notebook(self) -> bool:
        """Whether the module is from a notebook."""
        return self.path.endswith(".ipynb")

    def line(self, node: ast.AST) -> int:
        """The line number of a node in the file."""
        number = getattr(node, "lineno", 1)
        return self.places[number - 1] if self.places else number

    @cached_property
    def _walked(self) -> tuple[dict[type, list[Any]], dict[ast.AST, ast.AST]]:
        """Nodes by type in line order, and the parent of each, from one walk."""
        found, parents = defaultdict(list), {}
        waiting: list[ast.AST] = [self.tree]
        while waiting:
            node = waiting.pop()
            found[type(node)].append(node)
            for child in ast.iter_child_nodes(node):
                parents[child] = node
                waiting.append(child)
        return {kind: sorted(nodes, key=_place) for kind, nodes in found.items()}, parents

    def every(self, *types: type[ast.AST]) -> list[Any]:
        """All nodes of these types, in the order of their lines."""
        by_type, _ = self._walked
        if len(types) == 1:
            return by_type.get(types[0], [])
        return sorted((node for kind in types for node in by_type.get(kind, ())), key=_place)

    @cached_property
    def _parents(self) -> dict[ast.AST, ast.AST]:
        return self._walked[1]

    def above(self, node: ast.AST) -> Iterator[ast.AST]:
        """The ancestors of a node, nearest first."""
        while (parent := self._parents.get(node)) is not None:
            yield parent
            node = parent

    def parent(self, node: ast.AST) -> ast.AST | None:
        """The parent of a node."""
        return self._parents.get(node)

    def scope(self, node: ast.AST) -> Scope:
        """The enclosing function of a node, or the module."""
        return next((up for up in self.above(node) if isinstance(up, Function)), self.tree)

    def scope_name(self, node: ast.AST) -> str:
        """The name of the enclosing function; empty at module level."""
        scope = self.scope(node)
        return "" if isinstance(scope, ast.Module) else scope.name

    @cached_property
    def imports(self) -> dict[str, str]:
        """Name in this file -> what it was imported as: `mp` -> `mlflow.pytorch`."""
        found = {}
        for node in self.every(ast.Import, ast.ImportFrom):
            for name in node.names:
                if isinstance(node, ast.Import):
                    found[name.asname or name.name.split(".")[0]] = name.name if name.asname else name.name.split(".")[0]
                else:
                    found[name.asname or name.name] = f"{node.module or ''}.{name.name}"
        return found

    def uses(self, library: str) -> bool:
        """Whether anything of a library is imported."""
        return any(name.split(".")[0] == library for name in self.imports.values())

    def name(self, node: ast.AST) -> str:
        """The dotted name of an expression, its first part resolved: `mlflow.pytorch.log_model`; empty where it has none."""
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        if isinstance(node, ast.Call):
            return ".".join([f"{self.name(node.func)}()", *reversed(parts)])
        if not isinstance(node, ast.Name):
            return ".".join(["?", *reversed(parts)]) if parts else ""
        return ".".join([self.imports.get(node.id, node.id), *reversed(parts)])

    def calls(self, *last: str) -> list[ast.Call]:
        """Calls of anything whose last name is one of these; all where none is given."""
        if not last:
            return self.every(ast.Call)
        return sorted((call for name in last for call in self._calls_by_name.get(name, ())), key=_place)

    @cached_property
    def _calls_by_name(self) -> dict[str, list[ast.Call]]:
        found = defaultdict(list)
        for call in self.every(ast.Call):
            found[last_name(call.func)].append(call)
        return found

    @cached_property
    def functions(self) -> dict[str, Function]:
        """Functions by name; of duplicates the last."""
        return {node.name: node for node in self.every(ast.FunctionDef, ast.AsyncFunctionDef)}

    @cached_property
    def _bindings(self) -> dict[tuple[ast.AST, str], list[Binding]]:
        found: dict[tuple[ast.AST, str], list[Binding]] = defaultdict(list)
        for node in self.every(ast.Assign, ast.AnnAssign, ast.NamedExpr, ast.For):
            for name, binding in _bound(node):
                found[self.scope(node), name].append(binding)
        return found

    def bindings(self, name: str, near: ast.AST) -> list[Binding]:
        """All assignments of a name in the function that `near` stands in, else in the module."""
        return self._bindings.get((self.scope(near), name)) or self._bindings.get((self.tree, name), [])

    def binding(self, name: ast.Name) -> Binding | None:
        """The assignment that most likely gives a name its value: the nearest before it."""
        found = self.bindings(name.id, name)
        if found and self.scope(found[0].node) is not self.scope(name):
            return found[-1]
        return max((one for one in found if one.settled < name.lineno), key=lambda one: one.settled, default=None)

    def value(self, node: ast.expr) -> ast.expr:
        """The value assigned to a name, traced as far as unambiguous; otherwise the expression itself."""
        for _ in range(8):
            if not isinstance(node, ast.Name) or not (found := self.binding(node)) or found.part is not None:
                break
            node = found.value
        return node

    @staticmethod
    def number(node: ast.expr | None) -> float | None:
        """The value of a numeric literal; None for any other expression."""
        value = node.value if isinstance(node, ast.Constant) else None
        return value if isinstance(value, int | float) and not isinstance(value, bool) else None

    def constant(self, node: ast.expr | None) -> object:
        """The constant value of an expression or of the name's assignment; None if there is none."""
        found = self.value(node) if node is not None else None
        return found.value if isinstance(found, ast.Constant) else None


def read_module(path: str, content: str) -> Module:
    """Raises SyntaxError, ValueError, RecursionError, MemoryError."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Module(path, content, ast.parse(content))


def _bound(node: Any) -> Iterator[tuple[str, Binding]]:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    value = node.iter if isinstance(node, ast.For) else node.value
    if value is None:
        return
    for target in targets:
        if isinstance(target, ast.Name):
            yield target.id, Binding(node, value, 0 if isinstance(node, ast.For) else None)
        elif isinstance(target, ast.Tuple | ast.List):
            yield from _unpacked(node, target.elts, value)


def _unpacked(node: ast.AST, names: list[ast.expr], value: Any) -> Iterator[tuple[str, Binding]]:
    together = isinstance(value, ast.Tuple | ast.List) and len(value.elts) == len(names)
    for index, name in enumerate(names):
        if isinstance(name, ast.Name):
            yield name.id, Binding(node, value.elts[index]) if together else Binding(node, value, index)


def _place(node: ast.AST) -> tuple[int, int]:
    return getattr(node, "lineno", 0), getattr(node, "col_offset", 0)


def last_name(node: ast.AST) -> str:
    """`log_metric` of `self.client.log_metric`; empty where there is none."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def keyword(call: ast.Call, *names: str) -> ast.expr | None:
    """The first argument that was given by one of these names."""
    return next((given.value for given in call.keywords if given.arg in names), None)


def argument(call: ast.Call, position: int, *names: str) -> ast.expr | None:
    """The argument at a position, or by one of these names."""
    plain = call.args[position] if position < len(call.args) else None
    return keyword(call, *names) or (None if isinstance(plain, ast.Starred) else plain)


def inside(node: ast.AST, *types: type[ast.AST]) -> list[Any]:
    """All nodes of these types in a node."""
    return [found for found in ast.walk(node) if isinstance(found, types)]


def words(node: ast.AST) -> str:
    """All names, attributes, argument names and strings in a node, joined."""
    found = []
    for part in ast.walk(node):
        if isinstance(part, ast.Name):
            found.append(part.id)
        elif isinstance(part, ast.Attribute):
            found.append(part.attr)
        elif isinstance(part, ast.Constant) and isinstance(part.value, str):
            found.append(part.value)
        elif isinstance(part, ast.keyword | ast.arg) and part.arg:
            found.append(part.arg)
    return " ".join(found)

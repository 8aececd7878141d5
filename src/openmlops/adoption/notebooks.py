"""Notebooks parsed as one Python module: concatenated code cells with the line numbers of the notebook's file."""

import json
import re
from typing import Any

from openmlops.adoption.python_code import Module, read_module


def read_notebook(path: str, content: str) -> Module:
    """The code cells as one module, without shell lines and magics. Raises what `read_module` raises."""
    found = json.loads(content)
    if not isinstance(found, dict) or not isinstance(found.get("cells"), list):
        raise ValueError(f"{path} is not a notebook")
    lines = [line for cell in found["cells"] for line in _cell(cell)]
    places = _places(content, lines)
    bare = [re.sub(r"^(\s*)[!%?].*|^(\s*)(\w+ *= *)[!%].*", r"\1\2pass", line.rstrip("\n")) for line in lines]
    shell = {place: line.strip()[1:] for place, line in zip(places, lines, strict=True) if line.lstrip().startswith("!")}
    module = read_module(path, "\n".join(bare))
    return Module(path, module.source, module.tree, shell, places)


def _cell(cell: Any) -> list[str]:
    if not isinstance(cell, dict) or cell.get("cell_type") != "code":
        return []
    source = cell.get("source", "")
    lines = "".join(source).splitlines(keepends=True)
    return [] if lines and lines[0].startswith("%%") else lines


def _places(content: str, lines: list[str]) -> list[int]:
    """The line number in the notebook's file of each line of code; if not found, that of the previous line."""
    places, position, number = [], 0, 1
    for line in lines:
        written = [json.dumps(line, ensure_ascii=ascii)[1:-1] for ascii in (False, True)]
        at = min((found for text in written if (found := content.find(text, position)) >= 0), default=position)
        number += content.count("\n", position, at)
        position = at
        places.append(number)
    return places

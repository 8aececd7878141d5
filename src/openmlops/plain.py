"""Text from data (names of classes, reasons, settings) in documents that others render: shown as it is, never obeyed.

What is here: Markdown, and names for libraries that put them into HTML unescaped. What is not: our own HTML, which templates or
`html.escape` escape, and terminals (`errors.printable`).
"""

import html
import re
from collections.abc import Iterable

_ACTIVE = re.compile(r"([\\`*\[\]|!])")
_LOOK_ALIKES = str.maketrans({"<": "‹", ">": "›", "&": "＆", '"': "″", "'": "′", "`": "ˋ", "\\": "∖", "{": "❴", "}": "❵"})


def in_markdown(text: object) -> str:
    """One line of Markdown that shows `text`: no HTML, link, image, code or table cell of its own."""
    line = " ".join(str(text).split())
    return _ACTIVE.sub(r"\\\1", html.escape(line, quote=False))


def harmless(names: Iterable[str]) -> dict[str, str]:
    """For each name one without characters that mean something in HTML or scripts; different names stay different."""
    found: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        shown = base = " ".join(name.translate(_LOOK_ALIKES).split())
        number = 1
        while shown in taken:
            number += 1
            shown = f"{base} ({number})"
        taken.add(shown)
        found[name] = shown
    return found

"""Reads the text files of a project, with limits on number and size.

Symbolic links are not followed, so that the walk terminates and stays inside the project. Not here: parsing (`python_code`,
`notebooks`, `plain_texts`).
"""

import io
import os
import stat
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from openmlops.adoption.notebooks import read_notebook
from openmlops.adoption.plain_texts import yaml_documents
from openmlops.adoption.python_code import Module, read_module
from openmlops.errors import DataError

SKIPPED = {
    *(".git", ".hg", ".svn", ".dvc", ".zen", ".tox", ".nox", ".idea", ".vscode", ".ipynb_checkpoints", ".openmlops"),
    *(
        ".venv",
        "venv",
        "env",
        "node_modules",
        "site-packages",
        "__pycache__",
        "build",
        "dist",
        "mlruns",
        "mlartifacts",
        "wandb",
    ),
    *(".mypy_cache", ".ruff_cache", ".pytest_cache", ".cache", ".terraform", ".eggs"),
}
"""folders with generated files"""
MAX_FILES = 20_000
MAX_FOLDER_ENTRIES = 2_000
"""a folder with more entries is treated as data"""
MAX_BYTES = 1_000_000
MAX_NOTEBOOK_BYTES = 10_000_000
YAML = {".yml", ".yaml"}
PLAIN = {*YAML, ".py", ".ipynb", ".md", ".rst", ".sh", ".bash", ".toml", ".txt", ".cfg", ".env", ".mk"}


@dataclass(frozen=True)
class Text:
    """One file: its path relative to the project, and its content."""

    path: str
    content: str

    @cached_property
    def lines(self) -> list[str]:
        """Without their ends."""
        return self.content.split("\n")

    @property
    def name(self) -> str:
        """The last part of the path, in small letters."""
        return PurePosixPath(self.path).name.lower()

    @property
    def suffix(self) -> str:
        """`.yml`; empty where there is none."""
        return PurePosixPath(self.name).suffix

    @property
    def is_example(self) -> bool:
        """Whether the file is a template by its name, such as `.env.example`."""
        return any(word in self.name for word in ("example", "sample", "template", "dist"))


@dataclass
class Project:
    """All text files of a folder. `unreadable` could not be read, `left_out` are too large to be source."""

    root: Path
    texts: list[Text] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    @cached_property
    def modules(self) -> list[Module]:
        """Python files and notebooks except tests, which may contain a defect on purpose."""
        found: list[Module] = []
        for text in self.texts:
            if text.suffix in (".py", ".ipynb") and not is_test(text.path):
                found.extend(self._survived(text.path, read_module if text.suffix == ".py" else read_notebook, text.content))
        return found

    @cached_property
    def yaml(self) -> dict[str, list[Any]]:
        """Path of each YAML file -> the nodes of its documents."""
        found = {}
        for text in self.texts:
            if text.suffix in YAML:
                for documents in self._survived(text.path, yaml_documents, text.content):
                    found[text.path] = documents
        return found

    def _survived(self, path: str, read: Any, content: str) -> Iterator[Any]:
        try:
            yield read(path, content)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            self.unreadable.append(path)

    def named(self, *names: str) -> Iterator[Text]:
        """Texts with one of these names or suffixes, or with one of these names before a full stop: `Dockerfile.gpu`."""
        for text in self.texts:
            if text.name in names or text.suffix in names or text.name.split(".")[0] in names:
                yield text

    def mentions(self, *words: str) -> bool:
        """Whether any Python file holds one of these words."""
        return any(word in module.source for module in self.modules for word in words)


def is_test(path: str) -> bool:
    """Whether a file is a project's own test."""
    *folders, name = PurePosixPath(path).parts
    return (
        bool({"test", "tests"} & set(folders)) or name.startswith("test_") or name.endswith("_test.py") or name == "conftest.py"
    )


def read_project(root: Path) -> Project:
    """Read all text files in the folder `root`. Raises DataError if it is not a folder, or has more than MAX_FILES."""
    if not root.is_dir():
        raise DataError(f"There is no folder {root}", "Pass the folder of a project")
    project = Project(root)
    for path in _files(project, root):
        if len(project.texts) >= MAX_FILES:
            raise DataError(f"{root} has more than {MAX_FILES:,} files to read", "Pass a single project inside it")
        _read(project, path)
    return project


def _files(project: Project, root: Path) -> Iterator[Path]:
    """The regular files that may hold source, in a stable order."""
    for folder, folders, names in os.walk(root, onerror=lambda error: _unreadable(project, error)):
        here = Path(folder)
        if here != root and (len(names) + len(folders) > MAX_FOLDER_ENTRIES or "pyvenv.cfg" in names):
            project.left_out.append(f"{here.relative_to(root).as_posix()}/")
            folders.clear()
            continue
        folders[:] = sorted(name for name in folders if name not in SKIPPED and not (here / name).is_symlink())
        yield from (here / name for name in sorted(names) if _is_source(name) and not (here / name).is_symlink())


def _unreadable(project: Project, error: OSError) -> None:
    project.unreadable.append(os.path.relpath(error.filename, project.root))


def _is_source(name: str) -> bool:
    small = name.lower()
    stem = small.split(".")[0]
    return (
        PurePosixPath(small).suffix in PLAIN or stem in ("dockerfile", "makefile", "containerfile") or small.startswith(".env")
    )


def _read(project: Project, path: Path) -> None:
    name = path.relative_to(project.root).as_posix()
    try:
        found = path.lstat()
        if not stat.S_ISREG(found.st_mode):
            return
        if found.st_size > (MAX_NOTEBOOK_BYTES if path.suffix == ".ipynb" else MAX_BYTES):
            project.left_out.append(name)
            return
        project.texts.append(Text(name, _decoded(path)))
    except (OSError, UnicodeError, SyntaxError):
        project.unreadable.append(name)


def _decoded(path: Path) -> str:
    """Decode as UTF-8, or as a Python file declares. Raises UnicodeError, and SyntaxError for an unknown encoding."""
    content = path.read_bytes()
    if b"\0" in content:
        raise UnicodeError("binary")
    encoding = tokenize.detect_encoding(io.BytesIO(content).readline)[0] if path.suffix == ".py" else "utf-8-sig"
    return content.decode(encoding).replace("\r\n", "\n").replace("\r", "\n")

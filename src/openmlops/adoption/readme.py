"""Defect 11: versions, ports, databases and make targets in a README that contradict the project's files."""

import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name

from openmlops.adoption.compose_files import services
from openmlops.adoption.findings import Hit, Rule
from openmlops.adoption.plain_texts import make_targets
from openmlops.adoption.project import Project, Text

DATABASES = {
    "PostgreSQL": re.compile(r"postgres|psycopg|asyncpg", re.I),
    "MySQL": re.compile(r"mysql|mariadb", re.I),
    "MongoDB": re.compile(r"mongo", re.I),
}
SERVER = re.compile(r"(?:localhost|127\.0\.0\.1|0\.0\.0\.0):(\d{2,5})\b")
NEGATION = re.compile(
    r"\b(no|not|without|instead|or|optional|if|can|could|any|alternative|e\.g|such as|unlike|planned|todo)\b", re.I
)


def readmes(project: Project) -> list[Text]:
    """The README files at the root; those in subfolders document parts."""
    return [
        text for text in project.texts if text.name in ("readme.md", "readme.rst") and len(PurePosixPath(text.path).parts) == 1
    ]


def look(project: Project) -> Iterator[Hit]:
    """Contradictions between README and files."""
    for text in readmes(project):
        yield from _versions(project, text)
        yield from _ports(project, text)
        yield from _databases(project, text)
        yield from _targets(project, text)


# Versions


def pins(project: Project) -> dict[str, tuple[SpecifierSet, str]]:
    """Package -> allowed versions by the requirements at the root, and the file; of several the first."""
    found: dict[str, tuple[SpecifierSet, str]] = {}
    for text in project.texts:
        if "/" in text.path or not re.fullmatch(r"requirements\w*\.(txt|in)|pyproject\.toml", text.name):
            continue
        lines = text.lines if text.suffix != ".toml" else re.findall(r"[\"']([A-Za-z][^\"'\n]*)[\"']", text.content)
        for line in lines:
            requirement = _requirement(line)
            if requirement and str(requirement.specifier):
                found.setdefault(canonicalize_name(requirement.name), (requirement.specifier, text.path))
        if python := re.search(r"requires-python\s*=\s*[\"']([^\"']+)", text.content):
            found.setdefault("python", (_specifiers(python[1]), text.path))
    return found


def _requirement(line: str) -> Requirement | None:
    try:
        return Requirement(line.split(" #")[0].strip())
    except InvalidRequirement:
        return None


def _specifiers(text: str) -> SpecifierSet:
    try:
        return SpecifierSet(text)
    except InvalidSpecifier:
        return SpecifierSet()


def _versions(project: Project, readme: Text) -> Iterator[Hit]:
    allowed = pins(project)
    for number, line in enumerate(readme.lines, 1):
        for name, mark, version, more in re.findall(
            r"([A-Za-z][\w.-]*\w)(\s*==\s*|[ -]v?|\s*[=:]\s*v?)(\d+\.\d+(?:\.\d+)*)(\+?)", line
        ):
            package = canonicalize_name(name)
            if package not in allowed or more:
                continue
            specifier, path = allowed[package]
            if not _can_be(specifier, version):
                exact = "==" in mark or package == "python"
                says = f"{name} {version} is stated here, but {path} requires {name}{specifier}"
                yield Hit(readme.path, number, "sure" if exact and not NEGATION.search(line) else "look", says)


def _can_be(specifier: SpecifierSet, version: str) -> bool:
    """Whether a version, or any version with this prefix, is allowed."""
    return any(specifier.contains(f"{version}{rest}", prereleases=True) for rest in ("", ".1", ".5", ".9", ".99")) or any(
        one.operator in ("==", "===", "~=") and one.version.startswith(f"{version}.") for one in specifier
    )


# Ports


def _ports(project: Project, readme: Text) -> Iterator[Hit]:
    published = {port.port: service for service in services(project) for port in service.ports}
    if not published:
        return
    elsewhere = "\n".join(text.content for text in project.texts if text.suffix not in (".md", ".rst"))
    for number, line in enumerate(readme.lines, 1):
        for port in SERVER.findall(line):
            if port in published or re.search(rf"\b{port}\b", elsewhere):
                continue
            meant = next(
                (service for service in published.values() if re.search(rf"\b{re.escape(service.name)}\b", line, re.I)), None
            )
            others = ", ".join(sorted(one for one, service in published.items() if meant in (None, service)))
            says = f"port {port} is stated here, but {next(iter(published.values())).path} publishes {others}"
            yield Hit(readme.path, number, "sure" if meant else "look", says)


# Databases


def _databases(project: Project, readme: Text) -> Iterator[Hit]:
    """A database in the README that no file mentions, while the compose file has another one."""
    images = {name for name, pattern in DATABASES.items() if any(pattern.search(one.image) for one in services(project))}
    files = "\n".join(text.content for text in project.texts if text.suffix not in (".md", ".rst"))
    for name, pattern in DATABASES.items():
        if name in images or not images or pattern.search(files):
            continue
        for number, line in enumerate(readme.lines, 1):
            if pattern.search(line):
                says = f"{name} is stated here, but the compose file runs {', '.join(sorted(images))}"
                yield Hit(readme.path, number, "look" if NEGATION.search(line) else "sure", says)
                break


# Targets of make


def _targets(project: Project, readme: Text) -> Iterator[Hit]:
    makefile = next((text for text in project.texts if text.path.lower() in ("makefile", "gnumakefile")), None)
    if makefile is None or re.search(r"^-?include\b", makefile.content, re.MULTILINE) or "%" in makefile.content:
        return
    targets = make_targets(makefile.content)
    for number, command in _commands(readme):
        for target in re.findall(r"^(?:\$ )?make ([a-z][\w-]*)\b(?!=)", command):
            if target not in targets:
                yield Hit(
                    readme.path, number, "sure", f"`make {target}` is stated here, but {makefile.path} has no such target"
                )


def _commands(readme: Text) -> Iterator[tuple[int, str]]:
    """Lines of code blocks and inline code, with line numbers."""
    fenced = False
    for number, line in enumerate(readme.lines, 1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif fenced:
            yield number, line.strip()
        else:
            yield from ((number, code) for code in re.findall(r"`([^`]+)`", line))


RULE = Rule(
    name="readme-contradicted",
    defect=11,
    seen="a version, port, database or make target in the README that contradicts the requirements, compose file or Makefile",
    means="Following the README gives a different result, or an error",
    remedy="Correct whichever is wrong, and test the README",
    subject="no README next to requirements, a compose file or a Makefile",
    applies=lambda project: (
        bool(readmes(project)) and bool(pins(project) or any(True for _ in services(project)) or any(project.named("makefile")))
    ),
    look=look,
)

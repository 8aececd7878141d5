"""The configuration of a DVC repository: which cache and which remote it uses, written so that the `dvc` command uses them too.

Credentials are never written. What is not here: the objects (dvc_repository.py), and versions (data_versions.py).
"""

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import SecretStr

from openmlops.core.types import Value
from openmlops.errors import SettingsError
from openmlops.files import write_text
from openmlops.names import is_showable

OURS = "openmlops"
"""Name of the remote that openmlops adds to a repository."""
_SECTION = f'remote "{OURS}"'
IGNORED = ".dvcignore"
LINKS = "hardlink,reflink,copy"
"""How DVC puts files from the folder into the cache: with hard links allowed it tries reflinks first all the same, but takes a
copy for a reflink if that is named first."""

_SCHEME = re.compile(r"(s3|gs|azure|oss|gdrive|ssh|https?|webdavs?|hdfs|webhdfs)://[^/\\@]")
_GIT_IGNORED = "/config.local\n/tmp\n/cache\n"


class Remote(Value):
    """Where versions are pushed to and pulled from: the URL of a DVC remote, or the name of one in the repository.

    `is_default`: this URL is a default, so a default remote of the user's own repository takes precedence.
    """

    url: str
    is_default: bool
    endpoint_url: str = ""
    access_key: SecretStr = SecretStr("")
    secret_key: SecretStr = SecretStr("")

    def options(self) -> dict[str, str]:
        """DVC's options for this remote, with credentials: never write them. Raises SettingsError for an invalid address."""
        options = {"url": _address(self.url), "verify": "true"}
        if self.url.startswith("s3://"):
            options |= {"connect_timeout": "5", "read_timeout": "60"}
            options |= {"endpointurl": self.endpoint_url} if self.endpoint_url else {}
            if key := self.access_key.get_secret_value():
                options |= {"access_key_id": key, "secret_access_key": self.secret_key.get_secret_value()}
        return options


def find(folder: Path) -> Path | None:
    """The nearest of `folder` and its parents that is a DVC repository, or None."""
    return next((root for root in (folder, *folder.parents) if (root / ".dvc" / "config").is_file()), None)


def is_ours(folder: Path) -> bool:
    """Whether the repository that contains the folder uses the cache and the remote that `initialise` names."""
    root = find(folder)
    config = root / ".dvc" / "config.local" if root else None
    return bool(config and config.is_file() and _SECTION in config.read_text(encoding="utf-8", errors="replace"))


def initialise(root: Path, remote: Remote, cache: Path, skipped: Iterable[Path] = ()) -> Path:
    """Make `root` a DVC repository like `dvc init --no-scm`, so that the `dvc` command uses the same cache and remote.

    `skipped`: folders in which DVC need not look for its files, which it does at each `dvc add`; those outside `root` are none.
    No credentials are written: for an S3 remote the `dvc` command reads them from AWS's own variables. Raises SettingsError for
    a path that the format of DVC's configuration cannot express.
    """
    write_text(root / ".dvc" / ".gitignore", _GIT_IGNORED)
    if not (root / IGNORED).exists():
        inside = [path.relative_to(root).as_posix() for path in skipped if root in path.parents]
        write_text(root / IGNORED, "".join(f"/{path}/\n" for path in inside))
    write_text(root / ".dvc" / "config", "[core]\n    no_scm = True\n    analytics = false\n")
    public = {name: _public(value) for name, value in remote.options().items() if name in ("url", "endpointurl", "verify")}
    if public["url"].startswith("/"):
        public["url"] = _stored(Path(public["url"]), root)
    _write_local(root, {"core": {"remote": OURS}, "cache": {"dir": _stored(cache, root), "type": LINKS}, _SECTION: public})
    return root


def relocate(folder: Path, old: Path, home: Path) -> bool:
    """Make the repository that contains `folder` use the cache and the remote of openmlops below `home` instead of `old`.

    Returns whether it did. A repository that stayed beside an `old` that is still there belongs to the origin of a copy.
    """
    from configobj import ConfigObj

    root = find(folder)
    config = root / ".dvc" / "config.local" if root else None
    if not (root and config and config.is_file()) or (old.is_relative_to(root) and old.exists()):
        return False
    local = ConfigObj(config.read_text(encoding="utf-8").splitlines(), interpolation=False)
    places = [(local.get("cache", {}), "dir"), (local.get(_SECTION, {}), "url")]
    stale = [(part, name) for part, name in places if Path(part.get(name, "")).is_relative_to(old)]
    for part, name in stale:
        part[name] = _stored(home / Path(part[name]).relative_to(old), root)
    if stale:
        _write_local(root, local)
    return bool(stale)


def _write_local(root: Path, sections: Mapping[str, Any]) -> None:
    """Write the local configuration as UTF-8, as DVC reads it; DVC itself writes ASCII and fails for other paths."""
    from configobj import ConfigObj, ConfigObjError

    try:
        lines = ConfigObj(dict(sections), interpolation=False).write()
        ConfigObj(lines).dict()  # as DVC reads it, `%(name)s` replaced
    except ConfigObjError:
        places = f"{sections['cache']['dir']} or {sections[_SECTION]['url']}"
        problem = f"DVC's configuration cannot express the path {places}"
        raise SettingsError(problem, "Use a folder without '%(' and quotation marks, or set OPENMLOPS_HOME to one") from None
    write_text(root / ".dvc" / "config.local", "\n".join(lines) + "\n")


def _stored(path: Path, root: Path) -> str:
    """A path for DVC's configuration: relative to it if it is inside the repository, so that both can be moved."""
    return os.path.relpath(path, root / ".dvc") if path.is_relative_to(root) else str(path)


def _public(url: str) -> str:
    """A URL without credentials; SSH keeps its user name, which is needed and not secret."""
    return re.sub(r"(?<=://)([^\s/@:]*)(:\S*)?@", r"\1@" if url.startswith("ssh:") else "", url)


def chosen(stored: Any, remote: Remote) -> tuple[str, dict[str, str]]:
    """Name of the remote to use in a repository with this stored configuration, and options to add to it."""
    default = stored["core"].get("remote")
    if remote.is_default and default and default != OURS:
        return default, {"verify": "true"}
    if remote.url in stored["remote"]:
        return remote.url, {"verify": "true"}
    return OURS, remote.options()


def _address(url: str) -> str:
    """`url`, if it does not depend on the current folder. Raises SettingsError."""
    is_folder = url.startswith("/") and ".." not in PurePosixPath(url).parts
    if not (is_showable(url) and (is_folder or _SCHEME.match(url))):
        problem = f"DVC_REMOTE has the value '{url[:80]}', which is neither a remote of the repository nor a remote URL"
        raise SettingsError(problem, "Use the name of a remote, an absolute path, or a URL such as s3://bucket/path")
    return url

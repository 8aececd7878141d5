"""Settings: every environment variable of openmlops, typed, immutable and documented.

Besides `telemetry`, this is the only module that reads `os.environ`. A value comes from the environment, else from `.env` in
the current folder, else from the default; `openmlops settings` shows which. Training options are not here (a use case's
`TrainConfig`).
"""

import codecs
import hashlib
import os
import pwd
import sys
from collections.abc import Mapping
from contextlib import suppress
from io import StringIO
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel, ByteSize, ConfigDict, Field, SecretStr, ValidationError

from openmlops.core.types import SOUNDS_SECRET
from openmlops.errors import SettingsError, hide_passwords
from openmlops.files import absolute, content_of
from openmlops.spelling import unknown_variable


class Settings(BaseModel):
    """Effective settings. The defaults need no server: SQLite and folders under `OPENMLOPS_HOME`."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), str_strip_whitespace=True)

    openmlops_home: Path = Field(Path(".openmlops"), description="folder of all local state when no servers are configured")
    use_case: str = Field("cifar10", description="name of a built-in use case, or `package.module:USE_CASE`")
    model_name: str = Field("", description="name of the registered model; empty: the default of the use case (`cifar10_cnn`)")
    data_raw_dir: Path = Field(Path("data/raw"), description="folder of the raw data sets, tracked by DVC")
    data_memory: ByteSize = Field(
        ByteSize(0),
        ge=0,
        description="decoded images that a training keeps for its next epoch, as in `4GB`, in a temporary file that the system "
        "holds in memory while there is room; 0: a quarter of the memory",
    )
    max_megapixels: float = Field(
        64.0, gt=0, le=1000, description="largest image that is read, in millions of pixels; checked before it is decoded"
    )
    artifacts_dir: Path = Field(Path("artifacts"), description="folder of the latest run's reports and models")
    monitoring_dir: Path = Field(Path("monitoring"), description="folder of the latest monitoring runs")
    database_url: SecretStr = Field(SecretStr(""), description="SQLAlchemy URL; empty: SQLite under OPENMLOPS_HOME")
    mlflow_tracking_uri: SecretStr = Field(
        SecretStr(""), description="URL of the MLflow server; empty: SQLite under OPENMLOPS_HOME"
    )
    mlflow_experiment_name: str = Field("openmlops", description="MLflow experiment for the runs")
    mlflow_tracking_username: str = Field("", description="user name for an MLflow server with basic auth")
    mlflow_tracking_password: SecretStr = Field(SecretStr(""), description="password of that user")
    zenml_store_url: str = Field("", description="URL of the ZenML server; empty: SQLite under OPENMLOPS_HOME")
    zenml_store_username: str = Field("", description="user name for the ZenML server, with ZENML_STORE_PASSWORD")
    zenml_store_password: SecretStr = Field(SecretStr(""), description="password of that user")
    zenml_store_api_key: SecretStr = Field(
        SecretStr(""), description="API key of a ZenML service account, instead of a user name"
    )
    zenml_stack_name: str = Field(
        "openmlops", description="ZenML stack that `openmlops stack register` creates and `stack check` checks"
    )
    dvc_remote: str = Field(
        "",
        description="DVC remote, by name or URL; empty: the repository's default, else the object store, else a folder",
    )
    minio_endpoint_url: str = Field("", description="S3 endpoint; empty: a folder under OPENMLOPS_HOME")
    minio_access_key: SecretStr = Field(SecretStr(""), description="S3 access key")
    minio_secret_key: SecretStr = Field(SecretStr(""), description="S3 secret key")
    minio_bucket: str = Field("openmlops", description="S3 bucket")
    minio_data_prefix: str = Field("data", description="key prefix of uploaded data sets")
    service_patience_seconds: float = Field(
        600.0,
        ge=0,
        description="seconds that a pipeline waits for an unavailable database, MLflow server or object store",
    )
    simulate_drift: bool = Field(False, description="1: monitoring corrupts the images before the model sees them")
    api_token: SecretStr = Field(SecretStr(""), description="token for the HTTP API; required when listening beyond 127.0.0.1")
    api_read_token: SecretStr = Field(
        SecretStr(""), description="read-only token; if set, reading requires either token; if empty, reading requires none"
    )
    http_idle_seconds: float = Field(
        75.0,
        ge=1,
        le=3600,
        description="seconds after which an unused connection to the server is closed; proxies use 60",
    )
    cors_origins: str = Field(
        "", description="comma-separated origins whose pages may call the HTTP API, as in `https://app.example`; empty: none"
    )
    trusted_proxies: str = Field(
        "", description="comma-separated addresses or networks of proxies whose X-Forwarded-For, -Proto and -Host are believed"
    )
    policy_alarmed_windows: int = Field(2, ge=1, description="alarmed windows required before the policy acts")
    policy_of_windows: int = Field(3, ge=1, description="number of latest windows in which they are counted")
    policy_drifted_columns: float = Field(
        0.5, ge=0, le=1, description="share of drifted columns in Evidently's report that raises an alarm; 0: not used"
    )
    policy_accuracy_drop: float = Field(
        0.05, gt=0, le=1, description="drop below the champion's test accuracy that raises an alarm (0.05: five points)"
    )
    policy_minimum_new_labels: int = Field(500, ge=1, description="new labelled images required for retraining")
    policy_cooldown_hours: float = Field(
        6.0, ge=0, description="hours between one retraining, rollback or label request and the next"
    )
    policy_retrainings_a_day: int = Field(2, ge=0, description="maximum number of retrainings in any 24 hours")
    policy_breaker: int = Field(
        3, ge=1, description="consecutive rejected or failed challengers after which retraining stops until a manual review"
    )
    policy_probation_hours: float = Field(
        48.0, ge=0, description="hours after a promotion during which a rollback is considered"
    )
    policy_labels_to_request: int = Field(200, ge=2, description="number of images in a label request")
    watch_mode: Literal["manual", "suggest", "auto"] = Field(
        "suggest", description="`manual` only reports, `suggest` also notifies, `auto` acts"
    )
    inputs_store: Literal["files", "objects"] = Field(
        "files",
        description="where the server keeps the images sent for prediction: `files` under OPENMLOPS_HOME, or `objects`, packed "
        "in the object store, so that monitoring, labelling and retraining run on other machines too",
    )
    retention_predictions_days: float = Field(
        90.0, ge=0, description="days after which single predictions become hourly totals; 0: never"
    )
    retention_inputs_days: float = Field(
        30.0, ge=0, description="days after which images sent for prediction are deleted; 0: never"
    )
    retention_inputs_gib: float = Field(
        2.0, ge=0, description="GiB of such images above which the oldest are deleted; 0: no limit"
    )
    retention_reports_days: float = Field(
        2.0, ge=0, description="days after which the files of a monitoring run are deleted from MLflow; 0: never"
    )
    retention_unused_days: float = Field(
        90.0, ge=0, description="days after which versions, runs and data that nothing needs any more are deleted; 0: never"
    )
    retention_records_days: float = Field(
        180.0,
        ge=0,
        description="days after which decisions that led to nothing, and ZenML's records of pipeline runs, are deleted; "
        "0: never",
    )
    retention_versions: int = Field(
        10, ge=1, description="number of a model's latest versions that are kept whatever the gate decided"
    )
    ledger_signing_key: str = Field(
        "", description="file of a private key (`openmlops ledger key FILE`) that signs each new row of the ledger; empty: none"
    )
    notify_webhook_url: SecretStr = Field(SecretStr(""), description="webhook URL for decisions; empty: log only")
    notify_allowed_hosts: str = Field("", description="comma-separated hosts allowed in NOTIFY_WEBHOOK_URL")
    notify_format: Literal["json", "slack", "discord", "mattermost", "teams", "alertmanager"] = Field(
        "json",
        description="what the webhook expects: our JSON, or a message for Slack, Discord, Mattermost, Teams or Alertmanager",
    )
    notify_console_url: str = Field("", description="URL at which people open the console; messages link to the model's page")
    notify_webhook_secret: SecretStr = Field(
        SecretStr(""), description="signs what is sent there, as Standard Webhooks does: `whsec_` and base64; empty: not signed"
    )

    @property
    def home(self) -> Path:
        """`OPENMLOPS_HOME`, absolute. Raises SettingsError for a path that an SQLite URL cannot express."""
        found = absolute(self.openmlops_home)
        if "?" in str(found):
            problem = f"OPENMLOPS_HOME is {found}, whose '?' would end the path in an SQLite URL"
            raise SettingsError(problem, "Use a folder without '?', or set OPENMLOPS_HOME to one")
        return found

    @property
    def decoded_bytes(self) -> int:
        """DATA_MEMORY, by default a quarter of the memory that this process may use."""
        return int(self.data_memory) or _memory() // 4

    @property
    def max_pixels(self) -> int:
        """MAX_MEGAPIXELS in pixels."""
        return round(self.max_megapixels * 1_000_000)

    @property
    def database(self) -> str:
        """The SQLAlchemy URL of our database, or the embedded default."""
        return self.database_url.get_secret_value() or f"sqlite:///{self.home / 'openmlops.db'}"

    @property
    def tracking_uri(self) -> str:
        """MLflow's tracking URI, or the embedded default."""
        return self.mlflow_tracking_uri.get_secret_value() or f"sqlite:///{self.home / 'mlflow.db'}"

    def hand_over(self) -> None:
        """Export the server settings of `.env` to the environment, from which MLflow and ZenML read them.

        Caches of libraries go under OPENMLOPS_HOME instead of the user's home folder, unless the user has set their place. A
        user without a name gets the user id as one. Proxies are not used for this machine.
        """
        for name in _OF_LIBRARIES:
            value = getattr(self, name)
            if text := value.get_secret_value() if isinstance(value, SecretStr) else value:
                os.environ[name.upper()] = text
        _name_the_user(self.home)
        _reach_loopback_directly()
        for name, folder in _CACHES.items():
            os.environ.setdefault(name, str(self.home / "cache" / folder))

    @classmethod
    def load(cls, environment: Mapping[str, str] | None = None, dotenv: Path = Path(".env")) -> "Settings":
        """Read the environment (default: the process's) over `.env`. Raises SettingsError that names variable and value."""
        found = _given(environment, dotenv)
        given = {name: value for name, (value, _) in found.items()}

        def is_from_file(name: str) -> bool:
            return name in found and found[name][1] == ".env"

        try:
            return cls(**given)  # type: ignore[arg-type]
        except ValidationError as error:
            first = error.errors()[0]
            name = str(first["loc"][0])
            shown = "(hidden)" if _is_secret(name) else repr(given.get(name, ""))
            place = f", in {dotenv.name} on line {_lines(dotenv)[name.upper()]}," if is_from_file(name) else ""
            problem = f"{name.upper()}{place} has the value {shown}: {_fault(first)}"
            raise SettingsError(problem, f"Set {name.upper()} to {_kind(name)}") from None

    @classmethod
    def sources(cls, environment: Mapping[str, str] | None = None, dotenv: Path = Path(".env")) -> dict[str, str]:
        """The source of each effective value by field name: `environment`, `.env` or `default`."""
        given = _given(environment, dotenv)
        return {name: given[name][1] if name in given else "default" for name in cls.model_fields}

    @classmethod
    def unknown(cls, environment: Mapping[str, str] | None = None, dotenv: Path = Path(".env")) -> tuple[str, ...]:
        """A sentence for each variable that was probably meant as a setting and is none, with place and nearest name."""
        known = [name.upper() for name in cls.model_fields]
        env = os.environ if environment is None else environment
        places = [(name, f"{dotenv}, line {line}") for name, line in _lines(dotenv).items()]
        places += [(name, "environment") for name in env]
        return tuple(f"{place}: {said}" for name, place in places if (said := unknown_variable(name, known)))

    def masked(self) -> dict[str, str]:
        """Every value as text by variable name, with secrets masked."""
        return {name.upper(): _show(name, getattr(self, name)) for name in type(self).model_fields}


_OF_LIBRARIES = (
    "mlflow_tracking_username",
    "mlflow_tracking_password",
    "zenml_store_url",
    "zenml_store_username",
    "zenml_store_password",
    "zenml_store_api_key",
)
_MEMORY_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_CACHES = {
    "MPLCONFIGDIR": "matplotlib",
    "TORCHINDUCTOR_CACHE_DIR": "torchinductor",
    "UV_CACHE_DIR": "uv",  # with which ZenML lists the installed packages
}


def _name_the_user(home: Path) -> None:
    """For a user id without an entry in the system's list of users, as containers have: MLflow, PyTorch and DVC ask for a name,
    and several libraries for a home folder, and fail without them. Containers may have empty variables, and `/` as home."""
    try:
        pwd.getpwuid(os.getuid())
    except KeyError:
        for name, value in (("USER", str(os.getuid())), ("HOME", str(home))):
            if os.environ.get(name, "") in ("", "/"):
                os.environ[name] = value


def _reach_loopback_directly() -> None:
    """Except this machine from the proxies of the environment, which cannot reach our own processes on it."""
    if not any(os.environ.get(name) for kind in ("http_proxy", "https_proxy", "all_proxy") for name in (kind, kind.upper())):
        return
    before = {name: os.environ.get(name, "") for name in ("no_proxy", "NO_PROXY")}
    either = before["no_proxy"] or before["NO_PROXY"]
    for name, value in before.items():
        hosts = [host.strip() for host in (value or either).split(",") if host.strip()]
        if "*" not in hosts:
            os.environ[name] = ",".join([*hosts, *(host for host in _LOOPBACK if host not in hosts)])


def _memory() -> int:
    """Bytes of memory that this process may use: the machine's, or less where a control group limits it."""
    found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limit in _MEMORY_LIMITS:
        with suppress(OSError, ValueError):  # no such file, or "max"
            found = min(found, int(Path(limit).read_text()))
    return found


def _given(environment: Mapping[str, str] | None, dotenv: Path) -> dict[str, tuple[str, str]]:
    """Field name -> (text, source). An empty value counts as unset, as in Compose files."""
    env = os.environ if environment is None else environment
    merged: dict[str, tuple[str, str]] = {}
    for source, values in ((".env", _in_file(dotenv)), ("environment", env)):
        for name in Settings.model_fields:
            if value := values.get(name.upper()):
                merged[name] = (value, source)
    return merged


def _in_file(dotenv: Path) -> Mapping[str, str | None]:
    if not dotenv.is_file():
        return {}
    from dotenv import dotenv_values
    from dotenv.parser import parse_stream

    text = dotenv_text(dotenv)
    for found in parse_stream(StringIO(text)):
        if found.error:  # dotenv would leave it out, and what follows an open quotation mark
            problem = f"{dotenv.absolute()} is not readable from line {found.original.line} on"
            raise SettingsError(problem, "Write NAME=value there, with matching quotation marks, or remove it")
    return dotenv_values(stream=StringIO(text))


def _lines(dotenv: Path) -> dict[str, int]:
    """Name -> number of the line that sets it in a `.env` file; the last one counts."""
    if not dotenv.is_file():
        return {}
    from dotenv.parser import parse_stream

    parts = parse_stream(StringIO(dotenv_text(dotenv)))
    return {part.key: _first_line(part.original.string, part.original.line) for part in parts if part.key is not None}


def _first_line(text: str, line: int) -> int:
    """The line of the assignment itself, after empty ones that the parser counts to it."""
    return line + text[: len(text) - len(text.lstrip())].count("\n")


def secrets_in(dotenv: Path) -> list[str]:
    """Names of the variables in a `.env` file that are secrets: settings, and those of the servers' Compose file."""
    given = [name for name, value in _in_file(dotenv).items() if value]
    known = {name.upper() for name in Settings.model_fields if _is_secret(name)}
    return [name for name in given if name in known or SOUNDS_SECRET.search(name)]


def dotenv_text(path: Path) -> str:
    """The text of a `.env` file, without a byte-order mark. Raises SettingsError that names the file and the fault."""
    try:
        content = content_of(path)
    except OSError as error:
        raise SettingsError(f"{path.absolute()} cannot be read ({error.strerror})", "Make it readable") from error
    try:
        if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in content:
            raise SettingsError(f"{path.absolute()} is UTF-16, not UTF-8", "Save it as UTF-8")
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        problem = f"{path.absolute()} is not UTF-8: line {line} has the byte 0x{content[error.start]:02x}"
        raise SettingsError(problem, "Save it as UTF-8") from None


def _is_secret(name: str) -> bool:
    return Settings.model_fields[name].annotation is SecretStr


def _show(name: str, value: Any) -> str:
    if _is_secret(name):
        return "********" if value.get_secret_value() else ""
    return hide_passwords(str(value))


def _kind(name: str) -> str:
    annotation = Settings.model_fields[name].annotation
    if values := get_args(annotation):
        return f"{', '.join(values[:-1])} or {values[-1]}"
    kinds = {bool: "1 or 0", int: "a whole number", float: "a number", Path: "a folder", ByteSize: "a size such as 4GB"}
    return kinds.get(annotation, "a text")  # type: ignore[arg-type]


def _fault(error: Any) -> str:
    """What is wrong with a value, of pydantic's description."""
    return "it is no size in bytes" if error["type"].startswith("byte_size") else error["msg"].lower()


def restart_in_utf8() -> None:
    """Replace this process by the same in Python's UTF-8 mode, for a locale with another encoding: paths, our files and those
    of libraries are UTF-8 then. Child processes inherit the mode."""
    os.environ["PYTHONUTF8"] = "1"
    os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])


def forces_terminal() -> bool:
    """Does the environment say that standard output is a terminal, whatever the system says? As rich reads it."""
    return bool(os.environ.get("FORCE_COLOR") or os.environ.get("TTY_COMPATIBLE"))


def quiet_libraries() -> None:
    """Disable log noise and risky defaults of libraries, before they are imported. The user's own settings are kept."""
    for name, value in {
        "ZENML_LOGGING_VERBOSITY": "CRITICAL",  # a failure is reported once, by the command line
        "ZENML_ENABLE_RICH_TRACEBACK": "false",
        "ZENML_ENABLE_REPO_INIT_WARNINGS": "false",
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # standard output is for results only
        "MLFLOW_LOGGING_LEVEL": "WARNING",
        "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD": "false",  # else clients are redirected to the object store's internal address
        "MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD": "false",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",  # 12 s; the default of 7 waits four minutes for an unavailable server
        "ALEMBIC_LOG_LEVEL": "WARNING",
        "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
        "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
        "GIT_PYTHON_REFRESH": "quiet",
    }.items():
        os.environ.setdefault(name, value)


def embed_zenml(home: Path) -> None:
    """Keep ZenML's configuration and embedded store under `home`, unless the user has their own. Call before importing zenml.

    The user's own is ZENML_CONFIG_PATH in the environment, or a global configuration (only read, never written) that is
    connected to a server. A server in ZENML_STORE_URL gets a separate configuration here, which stores the active stack. With
    credentials in the environment each process logs in by itself, because ZenML would otherwise share a token through a file
    that one process reads while another writes it.
    """
    if os.environ.get("ZENML_STORE_PASSWORD") or os.environ.get("ZENML_STORE_API_KEY"):
        os.environ.setdefault("DISABLE_CREDENTIALS_DISK_CACHING", "true")
    if "ZENML_CONFIG_PATH" in os.environ:
        return
    if server := os.environ.get("ZENML_STORE_URL", ""):
        name = f"zenml-{hashlib.sha256(server.encode()).hexdigest()[:8]}"
    elif _connected_to_zenml_server():
        return
    else:
        name = "zenml"
    os.environ["ZENML_CONFIG_PATH"] = str(home / name)
    with suppress(OSError):  # a home that is not writable is reported by the first write to it
        (home / name).mkdir(parents=True, exist_ok=True)
        (home / name).chmod(0o700)  # ZenML may store credentials there, in a world-readable file


def zenml_folder() -> Path | None:
    """The folder of ZenML's configuration, after `embed_zenml`; None if it is the user's global one."""
    found = os.environ.get("ZENML_CONFIG_PATH")
    return Path(found) if found else None


def _connected_to_zenml_server() -> bool:
    """Whether the user's global ZenML configuration has a server (a store that is not local)."""
    base = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    candidates = (base / "zenml", Path.home() / "Library/Application Support/zenml")
    files = [folder / "config.yaml" for folder in candidates]
    texts = [file.read_text("utf-8", "replace") for file in files if file.is_file()]
    return any(line.strip().startswith("url: http") for text in texts for line in text.splitlines())


def choose_use_case(name: str) -> None:
    """Set USE_CASE to `name` for this process and its children, overriding the environment."""
    os.environ["USE_CASE"] = name


def move_into(folder: Path, **ours: str) -> None:
    """Change to `folder` with default settings and `ours`; the user's variables and ZenML configuration are ignored."""
    for name in list(os.environ):
        if name.lower() in Settings.model_fields or name in ("ZENML_CONFIG_PATH", *_CACHES) or name.startswith("ZENML_STORE_"):
            del os.environ[name]
    os.chdir(folder)
    os.environ.update(ours, ZENML_CONFIG_PATH=str(Settings.load().home / "zenml"))

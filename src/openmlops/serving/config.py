"""What the server is told: where things are and how much it takes on. Plain values, so that they travel to worker processes.

What is not here: the environment. `openmlops serve` turns Settings into a `ServingConfig`; nothing else does.
"""

from pathlib import Path

from pydantic import Field, SecretStr

from openmlops.core.types import Value
from openmlops.operations.workspace import Workspace
from openmlops.settings import Settings
from openmlops.web.access import Tokens


class Limits(Value):
    """What one worker process takes on. Beyond it, it says so at once instead of slowing down for everybody.

    The limit on an image's pixels is that of `core.decoding`, judged on the header.
    """

    body_bytes: int = 16 * 1024 * 1024
    """largest request body"""
    body_seconds: float = 30.0
    """how long a client may take to send its body"""
    images: int = 256
    """most images of one request"""
    in_flight: int = 256
    """most requests at once; the next one gets 503 with Retry-After"""
    connections: int = 1024
    """most open connections"""
    batch: int = 64
    """most images that go through the model at once"""
    wait_seconds: float = 0.001
    """how long a batch that is not full waits for more, when others are being answered"""
    log_seconds: float = 5.0
    """how long an answer waits for its entry in the log before it becomes a 503"""
    divert_seconds: float = 1.0
    """how long entries wait for a database that is a server before they go to the local spool"""


class Retention(Value):
    """How much of the inputs is kept, whichever ends first; the oldest go."""

    bytes: int = 2 * 1024**3
    days: float = 30.0


class ServingConfig(Value):
    """One server. `threads` are ONNX Runtime's per worker; `workers` are processes that share the database."""

    model: str
    use_case: str
    home: Path
    database_url: SecretStr
    tracking_uri: SecretStr
    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    workers: int = Field(1, ge=1)
    threads: int = Field(1, ge=1)
    api_token: SecretStr = SecretStr("")
    api_read_token: SecretStr = SecretStr("")
    """may read and nothing else; without it reading is free"""
    poll_seconds: float = Field(1.0, gt=0)
    limits: Limits = Limits()
    retention: Retention = Retention()
    settings: Settings = Settings()
    """what only the console needs: where data and reports are, and the policy"""

    @property
    def models(self) -> Path:
        """The folder of verified local copies that the registry keeps."""
        return self.home / "models"

    @property
    def inputs(self) -> Path:
        """The folder of the kept inputs."""
        return self.home / "inputs"

    @property
    def spool(self) -> Path:
        """The folder of what a server needs while its database is away."""
        return self.home / "spool"

    @property
    def metrics_folder(self) -> Path | None:
        """Where several workers add up their metrics; None for one."""
        return self.home / "metrics" / str(self.port) if self.workers > 1 else None

    @property
    def workspace(self) -> Workspace:
        """What the console shows: the same home, database and registry."""
        places = {"openmlops_home": self.home, "database_url": self.database_url, "mlflow_tracking_uri": self.tracking_uri}
        names = {"use_case": self.use_case, "model_name": self.model}
        tokens = {"api_token": self.api_token, "api_read_token": self.api_read_token}
        return Workspace(self.settings.model_copy(update={**places, **names, **tokens}))

    @property
    def tokens(self) -> Tokens:
        """Who may do what."""
        return Tokens(acting=self.api_token, reading=self.api_read_token)

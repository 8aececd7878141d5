"""Configuration of the server: locations and limits, as plain values that can be passed to worker processes.

Does not read the environment: `openmlops serve` builds a `ServingConfig` from Settings.
"""

from pathlib import Path

from pydantic import Field, SecretStr

from openmlops.core.types import Value
from openmlops.operations.workspace import Workspace
from openmlops.settings import Settings
from openmlops.web.access import Tokens


class Limits(Value):
    """Limits of one worker process. Beyond them, requests are rejected immediately instead of slowing down all others.

    The limit on an image's pixels is the setting MAX_MEGAPIXELS, checked on the header.
    """

    body_bytes: int = 32 * 1024 * 1024
    """largest request body"""
    body_seconds: float = 30.0
    """how long a client may take to send its body"""
    images: int = 256
    """most images of one request"""
    in_flight: int = 256
    """most requests at once whose bodies have arrived; the next one gets 503 with Retry-After"""
    address_share: float = 0.75
    """share of these, and of the bytes of bodies, that one address may take"""
    bodies_bytes: int = 256 * 1024 * 1024
    """most bytes of bodies of all requests, also while they arrive; beyond them, requests get 503"""
    connections: int = 1024
    """most open connections; beyond them, those that wait for their client longest are closed"""
    batch: int = 64
    """largest batch in images"""
    batch_pixels: int = 512 * 1024
    """most pixels of one call of the model, as at 32 images of 128x128: at larger inputs, larger batches save no time"""
    wait_seconds: float = 0.001
    """how long a partial batch waits for more while other requests are processed"""
    log_seconds: float = 5.0
    """how long a prediction waits for its log entry before the response is 503; a request of many images takes longer"""
    most_seconds: float = 30.0
    """how long a request may take that needs several calls of the model"""
    divert_seconds: float = 1.0
    """how long entries wait for a database server before they go to the local spool"""

    def at_once(self, height: int, width: int) -> int:
        """Most images of this model input in one call of the model."""
        return max(1, min(self.batch, self.batch_pixels // (height * width)))

    def patience(self, images: int, height: int, width: int) -> float:
        """Seconds after which a request of so many images gets 503: `log_seconds` for each call of the model that it needs."""
        calls = images / self.at_once(height, width)
        return max(self.log_seconds, min(self.log_seconds * calls, self.most_seconds))


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
    """token for read-only access; without it reading needs no token"""
    poll_seconds: float = Field(1.0, gt=0)
    limits: Limits = Limits()
    settings: Settings = Settings()
    """locations of data and reports and the policy, used by the console only; and the limits of stored inputs"""

    @property
    def models(self) -> Path:
        """The folder of the registry's verified local copies."""
        return self.home / "models"

    @property
    def inputs(self) -> Path:
        """The folder of stored inputs."""
        return self.home / "inputs"

    @property
    def spool(self) -> Path:
        """The folder of the spool, for database outages."""
        return self.home / "spool"

    @property
    def metrics_folder(self) -> Path | None:
        """The folder in which several workers aggregate metrics; None for one worker."""
        return self.home / "metrics" / str(self.port) if self.workers > 1 else None

    @property
    def workspace(self) -> Workspace:
        """The console's workspace, with the same home, database and registry."""
        places = {"openmlops_home": self.home, "database_url": self.database_url, "mlflow_tracking_uri": self.tracking_uri}
        names = {"use_case": self.use_case, "model_name": self.model}
        tokens = {"api_token": self.api_token, "api_read_token": self.api_read_token}
        return Workspace(self.settings.model_copy(update={**places, **names, **tokens}))

    @property
    def tokens(self) -> Tokens:
        """The access tokens."""
        return Tokens(acting=self.api_token, reading=self.api_read_token)

"""The workspace: adapters built from Settings, created once at an entry point and passed down.

Everything is imported and built on first use, so that a command loads only the libraries it needs, and `--help` none.
"""

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from openmlops.adapters.activity import Activity
    from openmlops.adapters.contents import Contents
    from openmlops.adapters.data_versions import DataVersions
    from openmlops.adapters.decisions import Decisions
    from openmlops.adapters.inference_hours import InferenceHours
    from openmlops.adapters.inference_log import InferenceLog
    from openmlops.adapters.input_store import InputStore
    from openmlops.adapters.known_hashes import KnownHashes
    from openmlops.adapters.label_draws import LabelDraws
    from openmlops.adapters.labelled_inputs import LabelledInputs
    from openmlops.adapters.leases import Leases
    from openmlops.adapters.ledger import Ledger
    from openmlops.adapters.mlflow_disposal import Disposal
    from openmlops.adapters.mlflow_tables import Tables
    from openmlops.adapters.object_store import ObjectStore
    from openmlops.adapters.outbox import Outbox
    from openmlops.adapters.packed_inputs import PackedInputs
    from openmlops.adapters.progress import Progress
    from openmlops.adapters.registry import Registry
    from openmlops.adapters.tracking import Tracking
    from openmlops.settings import Settings
    from openmlops.usecases.base import UseCase


class Workspace:
    """The effective settings, the use case they name, and one adapter per external system."""

    def __init__(self, settings: "Settings") -> None:
        self.settings = settings

    @classmethod
    def open(cls, use_case: str | None = None) -> "Workspace":
        """The workspace of this process, with settings from the environment that are also passed to MLflow and ZenML. Raises
        SettingsError. Stores of a home that was moved or copied are made to point to it, with one line on standard error."""
        from openmlops.settings import Settings, quiet_libraries

        quiet_libraries()
        settings = Settings.load()
        settings.hand_over()
        _follow(settings)
        return cls(settings.model_copy(update={"use_case": use_case}) if use_case else settings)

    @cached_property
    def use_case(self) -> "UseCase":
        """The use case that USE_CASE names. Images of up to MAX_MEGAPIXELS are decoded from then on."""
        from openmlops.core.images.decoding import allow
        from openmlops.usecases.base import load_use_case

        allow(self.settings.max_pixels)
        return load_use_case(self.settings.use_case)

    @property
    def model_name(self) -> str:
        """The registered model: MODEL_NAME, by default the use case's name. Raises SettingsError for an invalid name."""
        from openmlops.core.types import model_name
        from openmlops.usecases import BUILT_IN

        return model_name(self.settings.model_name or BUILT_IN.get(self.settings.use_case) or self.use_case.model_name)

    @property
    def home(self) -> Path:
        """OPENMLOPS_HOME, absolute."""
        return self.settings.home

    @property
    def data_folder(self) -> Path:
        """The folder of the use case's raw data."""
        return _absolute(self.settings.data_raw_dir) / self.use_case.folder

    @property
    def artifacts(self) -> Path:
        """ARTIFACTS_DIR, absolute: the last run's reports and models."""
        return _absolute(self.settings.artifacts_dir)

    @property
    def monitoring(self) -> Path:
        """MONITORING_DIR, absolute: a folder for each of the latest monitoring runs, and links to the files of the last."""
        return _absolute(self.settings.monitoring_dir)

    @cached_property
    def data_versions(self) -> "DataVersions":
        """DVC over the raw data, with the remote of the settings."""
        from openmlops.adapters.data_versions import DataVersions, Remote
        from openmlops.adapters.s3_store import bucket_name

        s = self.settings
        url, s3 = s.dvc_remote, bool(s.minio_endpoint_url)
        if not url:
            url = f"s3://{bucket_name(s.minio_bucket)}/dvc" if s3 else str(self.home / "dvc-remote")
        remote = Remote(
            url=url,
            is_default=not s.dvc_remote,
            endpoint_url=s.minio_endpoint_url,
            access_key=s.minio_access_key,
            secret_key=s.minio_secret_key,
        )
        return DataVersions(remote, cache=self.home / "dvc-cache", known=self.known_hashes)

    @cached_property
    def known_hashes(self) -> "KnownHashes":
        """Hashes of the data sets' files, so that unchanged ones are not read again."""
        from openmlops.adapters.known_hashes import KnownHashes

        return KnownHashes(self.home / "known-hashes")

    @cached_property
    def object_store(self) -> "ObjectStore":
        """The S3 bucket of MINIO_*, or a folder with the same interface."""
        from openmlops.adapters.object_store import FolderStore
        from openmlops.adapters.s3_store import S3Store

        s = self.settings
        if not s.minio_endpoint_url:
            return FolderStore(self.home / "object-store", self.known_hashes)
        return S3Store(s.minio_endpoint_url, s.minio_access_key, s.minio_secret_key, s.minio_bucket, self.known_hashes)

    @cached_property
    def contents(self) -> "Contents":
        """What steps hand on, by its SHA-256, in the object store."""
        from openmlops.adapters.contents import Contents

        return Contents(self.object_store)

    @cached_property
    def tracking(self) -> "Tracking":
        """MLflow's runs, in our experiment."""
        from openmlops.adapters.tracking import Tracking

        return Tracking(self.settings.tracking_uri, self.settings.mlflow_experiment_name, self.home / "mlflow-artifacts")

    @cached_property
    def registry(self) -> "Registry":
        """MLflow's model registry, with a verified local copy of the versions used."""
        from openmlops.adapters.registry import Registry

        return Registry(self.settings.tracking_uri, self.home / "models")

    @cached_property
    def disposal(self) -> "Disposal":
        """Deletion from MLflow."""
        from openmlops.adapters.mlflow_disposal import Disposal

        return Disposal(self.settings.tracking_uri, self.settings.mlflow_experiment_name)

    @property
    def registered(self) -> "Registry | Tables":
        """The registered models, read-only: the tables of an embedded MLflow, if they can be read without importing it."""
        from openmlops.adapters.mlflow_tables import tables

        return tables(self.settings.tracking_uri) or self.registry

    @cached_property
    def ledger(self) -> "Ledger":
        """The append-only ledger of champions."""
        from openmlops.adapters.ledger import Ledger

        return Ledger(self.engine)

    def upgrade(self) -> None:
        """Upgrade an older schema of an embedded database, and say so. Raises ServiceRefused if something else has it open."""
        from openmlops.adapters.database import is_embedded

        if not is_embedded(self.settings.database):
            return
        from openmlops.adapters.schema_upgrade import upgrade
        from openmlops.terminal import say

        done = upgrade(self.settings.database, only_alone=True)
        if done.copy_of_before:
            say(f"Upgraded the database from schema {done.before} to {done.after}. A copy of before is {done.copy_of_before}.")

    @cached_property
    def engine(self) -> "Engine":
        """The database engine. Raises ServiceRefused for a database of an older or newer schema."""
        from openmlops.adapters.database import connect

        return connect(self.settings.database)

    @cached_property
    def inference_log(self) -> "InferenceLog":
        """The log of production predictions and their labels."""
        from openmlops.adapters.inference_log import InferenceLog

        return InferenceLog(self.engine)

    @cached_property
    def inference_hours(self) -> "InferenceHours":
        """The totals of predictions that are no longer kept one by one."""
        from openmlops.adapters.inference_hours import InferenceHours

        return InferenceHours(self.engine)

    @cached_property
    def labelled_inputs(self) -> "LabelledInputs":
        """The labelled production inputs, and which labels a data version has used."""
        from openmlops.adapters.labelled_inputs import LabelledInputs

        return LabelledInputs(self.engine)

    @cached_property
    def label_draws(self) -> "LabelDraws":
        """How the answers were drawn whose labels were asked for."""
        from openmlops.adapters.label_draws import LabelDraws

        return LabelDraws(self.engine)

    @cached_property
    def outbox(self) -> "Outbox":
        """Messages that the webhook has not acknowledged."""
        from openmlops.adapters.outbox import Outbox

        return Outbox(self.engine)

    @cached_property
    def inputs(self) -> "InputStore | PackedInputs":
        """The images that the server received, by their SHA-256: files of this home, or packed in the object store."""
        from openmlops.adapters.input_store import InputStore

        return self.packed_inputs if self.settings.inputs_store == "objects" else InputStore(self.home / "inputs")

    @cached_property
    def packed_inputs(self) -> "PackedInputs":
        """The received images in the object store and, from before they went there, in this home."""
        from openmlops.adapters.input_places import InputPlaces
        from openmlops.adapters.input_store import InputStore
        from openmlops.adapters.packed_inputs import PackedInputs

        return PackedInputs(self.object_store, InputPlaces(self.engine), InputStore(self.home / "inputs"))

    @cached_property
    def decisions(self) -> "Decisions":
        """The decisions, with their evidence and outcomes."""
        from openmlops.adapters.decisions import Decisions

        return Decisions(self.engine)

    @cached_property
    def activity(self) -> "Activity":
        """Change markers of the tables, and the latest predictions."""
        from openmlops.adapters.activity import Activity

        return Activity(self.engine)

    @cached_property
    def progress(self) -> "Progress":
        """How far what is done once has come."""
        from openmlops.adapters.progress import Progress

        return Progress(self.engine)

    @cached_property
    def leases(self) -> "Leases":
        """The leases that serialize cycles and MLflow runs."""
        from openmlops.adapters.leases import Leases

        return Leases(self.engine)


def _absolute(folder: Path) -> Path:
    from openmlops.files import absolute

    return absolute(folder)


def _follow(settings: "Settings") -> None:
    from openmlops.adapters.moved_home import repair

    home, embedded = settings.home, "sqlite:///"
    database = settings.tracking_uri.removeprefix(embedded)
    beside = Path(database).absolute() if settings.tracking_uri.startswith(embedded) and not database.startswith("/") else None
    if left := repair(home, beside, (Path.cwd(), _absolute(settings.data_raw_dir))):
        from openmlops.terminal import say

        origin = ", ".join(map(str, left))
        say(f"This project was moved or copied from {origin}: the paths in its stores were updated.")

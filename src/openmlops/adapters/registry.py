"""MLflow's model registry with three additional guarantees: a version's files are verified against their recorded hashes, its
run has metrics of the test split, and registration is atomic and happens once.

What is not here: which version is champion. The ledger decides that; the aliases only mirror it.
"""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType

import mlflow.artifacts
from filelock import FileLock
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, RESOURCE_ALREADY_EXISTS, RESOURCE_DOES_NOT_EXIST, ErrorCode

from openmlops.adapters.mlflow_client import connect, translating_errors
from openmlops.adapters.mlflow_tables import DATASET_TAG, SHA256_TAG, no_version
from openmlops.core.types import ModelRef, Value
from openmlops.errors import DataCorrupt, ModelCorrupt, ModelNotFound, OpenMLOpsError, RegistryError
from openmlops.files import MANIFEST, Manifest, damage
from openmlops.temporary import temporary_folder

TEST_METRIC = "test_"

_ABSENT = {ErrorCode.Name(RESOURCE_DOES_NOT_EXIST), ErrorCode.Name(INVALID_PARAMETER_VALUE)}
_NUMBER = re.compile(r"[0-9]{1,9}")
_PASSED_ON = "mlflow-artifacts:"
_PRESENT = ErrorCode.Name(RESOURCE_ALREADY_EXISTS)


class VersionDetails(Value):
    """One version in a listing. `metrics` are the last values of its run; `created` is in UTC."""

    ref: ModelRef
    created: datetime
    aliases: tuple[str, ...]
    metrics: dict[str, float]
    tags: dict[str, str]


class Registry:
    """The registered models of one MLflow store or server. `cache` is a folder of verified copies, one per manifest."""

    def __init__(self, uri: str, cache: Path) -> None:
        self._uri = uri
        self._cache = cache

    @property
    def _client(self) -> MlflowClient:
        return connect(self._uri)

    # Versions

    def register(
        self,
        name: str,
        run_id: str,
        folder: Path,
        tags: Mapping[str, str],
        about: str = "",
        about_all: str = "",
        taken: Mapping[int, str] = MappingProxyType({}),
    ) -> ModelRef:
        """Register the sealed MLflow model in `folder` as a version of `name`, with its run. Idempotent per run.

        `tags` must contain the data set's fingerprint under DATASET_TAG; `about` (Markdown) describes the version in MLflow's
        UI, `about_all` the model if it is new. The version is created last, after the uploaded files were read back and
        verified, so that a killed registration leaves no version. It gets no number that another model had, by `taken` (number
        -> SHA-256): MLflow counts from 1 again if the model was deleted and made anew. Raises RegistryError for a run without a
        metric of the test split, ModelCorrupt for a folder that does not match its manifest.
        """
        sha256 = _sealed(folder)
        self._require_test_metrics(run_id)
        with translating_errors(self._uri):
            _create_model(self._client, name, about_all)
            if registered := self._only_version(name, run_id, sha256, taken):
                return _ref(registered)
            self._client.log_artifacts(run_id, str(folder), _folder(sha256))
        self._copy(_files(run_id, sha256), sha256)
        source = self._source(run_id, sha256, _no_run(run_id))
        with translating_errors(self._uri):
            labels = {**tags, SHA256_TAG: sha256}
            while True:
                made = self._client.create_model_version(name, source, run_id, tags=labels, description=about)
                if found := self._only_version(name, run_id, sha256, taken):
                    return _ref(found)
                if taken.get(int(made.version), sha256) == sha256:
                    raise RegistryError(f"{name}/{made.version} was deleted from MLflow while it was registered", "Train again")

    def version(self, name: str, version: int) -> ModelRef:
        """One version by number. Raises ModelNotFound."""
        return _ref(self._version(name, version))

    def resolve(self, name: str, which: str) -> ModelRef:
        """The version with this number or alias (`champion`, `staging`). Raises ModelNotFound."""
        if _NUMBER.fullmatch(which):
            return self.version(name, int(which))
        aliases = self._aliases(name)
        if which not in aliases:
            known = ", ".join(aliases) or "none"
            remedy = f"Use a version number or an existing alias ({known}); `openmlops models` lists them"
            raise ModelNotFound(f"The model '{name}' has no alias '{which[:80]}'", remedy)
        return self.version(name, aliases[which])

    def versions(self, name: str) -> tuple[ModelRef, ...]:
        """All versions of a model, oldest first; empty if there is no such model."""
        with translating_errors(self._uri):
            return tuple(sorted(map(_ref, _pages(self._client, name)), key=lambda ref: ref.version))

    def models(self) -> tuple[str, ...]:
        """Names of the registered models, in alphabetical order."""
        with translating_errors(self._uri):
            return tuple(sorted(model.name for model in self._client.search_registered_models(max_results=1000)))

    def details(self, ref: ModelRef) -> VersionDetails:
        """Details of one version. Raises ModelNotFound."""
        found = self._version(ref.name, ref.version)
        return VersionDetails(
            ref=_ref(found),
            created=datetime.fromtimestamp(found.creation_timestamp / 1000, UTC),
            aliases=tuple(sorted(alias for alias, number in self._aliases(ref.name).items() if number == ref.version)),
            metrics=self.run_metrics(ref.run_id),
            tags=dict(found.tags),
        )

    def run_metrics(self, run_id: str) -> dict[str, float]:
        """Last value of each metric of a run. Raises RegistryError if there is no such run."""
        with translating_errors(self._uri), _absent_as(_no_run(run_id)):
            return dict(self._client.get_run(run_id).data.metrics)

    def has_run(self, run_id: str) -> bool:
        """Is there a run with this id that was not deleted?"""
        try:
            with translating_errors(self._uri), _absent_as(_no_run(run_id)):
                return bool(self._client.get_run(run_id).info.lifecycle_stage == "active")
        except RegistryError:
            return False

    def experiment_of(self, run_id: str) -> str:
        """The id of the MLflow experiment that a run belongs to. Raises RegistryError if there is no such run."""
        with translating_errors(self._uri), _absent_as(_no_run(run_id)):
            return str(self._client.get_run(run_id).info.experiment_id)

    # Files

    def fetch(self, ref: ModelRef) -> Path:
        """A local copy of the version's files, each verified against the registered manifest.

        A corrupt copy is downloaded again. An intact one is enough if the version was deleted from MLflow, or its run or files;
        without one, raises ModelNotFound. Raises ModelCorrupt that names the file if the stored files are corrupt,
        RegistryError if the registry's source is not the folder that the run registered.
        """
        if not ref.sha256:
            raise ModelCorrupt(
                f"{ref.uri} has no tag {SHA256_TAG}, so its files cannot be verified", "Register it with openmlops"
            )
        try:
            return self._copy(self._stored(ref), ref.sha256)
        except ModelNotFound as gone:
            copy = self._cache / ref.sha256
            if damage(copy, ref.sha256):
                remedy = (
                    f"Run `openmlops rollback {ref.name}`, or promote another version with `openmlops promote` and --reason"
                )
                raise ModelNotFound(f"{gone.problem}, and there is no intact local copy of its files", remedy) from None
            return copy

    def _stored(self, ref: ModelRef) -> str:
        """The location of the version's files. Raises ModelNotFound, RegistryError if the registry's entry names another."""
        source = str(self._version(ref.name, ref.version).source)
        files = _files(ref.run_id, ref.sha256)
        if source != files and source != self._source(ref.run_id, ref.sha256, _no_files(files)):
            problem = f"The registry entry of {ref.uri} points to {source[-200:]}, not to the files of run {ref.run_id}"
            raise RegistryError(problem, "Restore MLflow's database from a backup; until then this version is not used")
        return files

    def _copy(self, source: str, sha256: str) -> Path:
        copy = self._cache / sha256
        self._cache.mkdir(parents=True, exist_ok=True)
        with FileLock(self._cache / f".{sha256}.lock"):
            if not damage(copy, sha256):
                return copy
            with _beside(copy) as fresh:
                self._download(source, fresh)
                if found := damage(fresh, sha256):
                    raise ModelCorrupt(f"{source} is damaged in the artifact store: {found}", "Restore it, or train again")
        return copy

    def _source(self, run_id: str, sha256: str, no_run: OpenMLOpsError) -> str:
        """The source as MLflow's UI needs it: a server that proxies artifacts does not resolve `runs:/` itself."""
        with translating_errors(self._uri), _absent_as(no_run):
            root = str(self._client.get_run(run_id).info.artifact_uri)
        return f"{root}/{_folder(sha256)}" if root.startswith(_PASSED_ON) else _files(run_id, sha256)

    def _download(self, source: str, folder: Path) -> None:
        with translating_errors(self._uri), temporary_folder(self._cache, ".download.") as scratch:
            place = {"tracking_uri": self._uri, "registry_uri": self._uri}
            with _absent_as(_no_files(source)):
                _, run_id, files = source.split("/")
                if not self._client.list_artifacts(run_id, files):
                    raise _no_files(source)
            found = mlflow.artifacts.download_artifacts(artifact_uri=source, dst_path=str(scratch), **place)
            for path in Path(found).iterdir():
                os.replace(path, folder / path.name)

    # Aliases

    def alias(self, name: str, alias: str) -> int | None:
        """The version with an alias, or None."""
        return self._aliases(name).get(alias)

    def set_alias(self, name: str, alias: str, version: int) -> None:
        """Set `alias` to a version, moving it from any other. Raises ModelNotFound."""
        self._version(name, version)
        with translating_errors(self._uri):
            self._client.set_registered_model_alias(name, alias, str(version))

    def delete_alias(self, name: str, alias: str) -> None:
        """Delete an alias; does nothing if no version has it."""
        if self.alias(name, alias) is not None:
            with translating_errors(self._uri):
                self._client.delete_registered_model_alias(name, alias)

    # Tags

    def tag(self, name: str, key: str) -> str:
        """A tag of a model, empty if there is none."""
        with translating_errors(self._uri):
            found = self._client.search_registered_models(_named(name))
        return next((model.tags.get(key, "") for model in found), "")

    def set_tag(self, name: str, key: str, value: str) -> None:
        """Set a tag of a model; with an empty value, delete it. Does nothing for a model that MLflow does not have."""
        with translating_errors(self._uri):
            found = self._client.search_registered_models(_named(name))
            if found and value:
                self._client.set_registered_model_tag(name, key, value)
            elif found and key in found[0].tags:
                self._client.delete_registered_model_tag(name, key)

    def version_tags(self, name: str, key: str) -> dict[int, str]:
        """A tag of each version of a model, empty where there is none."""
        with translating_errors(self._uri):
            return {int(version.version): version.tags.get(key, "") for version in _pages(self._client, name)}

    def tag_version(self, name: str, version: int, key: str, value: str) -> None:
        """Set a tag of a version. Raises ModelNotFound."""
        with translating_errors(self._uri), _absent_as(no_version(name, version)):
            self._client.set_model_version_tag(name, str(version), key, value)

    def _aliases(self, name: str) -> dict[str, int]:
        with translating_errors(self._uri):
            found = self._client.search_registered_models(_named(name))
        return {alias: int(number) for model in found for alias, number in model.aliases.items()}

    def _version(self, name: str, version: int) -> ModelVersion:
        with translating_errors(self._uri), _absent_as(no_version(name, version)):
            return self._client.get_model_version(name, str(version))

    def _only_version(self, name: str, run_id: str, sha256: str, taken: Mapping[int, str]) -> ModelVersion | None:
        """The first version of a run whose number is free. The others are deleted: those with a number that another model had,
        and duplicates, which MLflow's client creates when it retries a request whose response was lost.
        """
        found = self._client.search_model_versions(f"{_named(name)} and run_id='{run_id}'")
        versions = sorted(found, key=lambda version: int(version.version))
        first = next((version for version in versions if taken.get(int(version.version), sha256) == sha256), None)
        for other in versions:
            if other is not first:
                self._client.delete_model_version(name, other.version)
        return first

    def _require_test_metrics(self, run_id: str) -> None:
        if not any(metric.startswith(TEST_METRIC) for metric in self.run_metrics(run_id)):
            problem = f"The run '{run_id}' has no test metric ({TEST_METRIC}...)"
            raise RegistryError(problem, "Evaluate the model before registering it")


def _files(run_id: str, sha256: str) -> str:
    """The location of a version's files among the artifacts of its run."""
    return f"runs:/{run_id}/{_folder(sha256)}"


def _folder(sha256: str) -> str:
    return f"model-{sha256[:12]}"


def _no_files(source: str) -> ModelNotFound:
    return ModelNotFound(f"The files {source} were deleted from MLflow", "Restore them, or train again")


def _no_run(run_id: str) -> RegistryError:
    return RegistryError(f"There is no MLflow run '{run_id}'", "Train first")


def _named(name: str) -> str:
    """MLflow's filter for a name, quoted for names registered by other tools."""
    quote = '"' if "'" in name else "'"
    return f"name={quote}{name}{quote}"


def _ref(found: ModelVersion) -> ModelRef:
    return ModelRef(
        name=found.name,
        version=int(found.version),
        uri=f"models:/{found.name}/{found.version}",
        run_id=found.run_id or "",
        dataset=found.tags.get(DATASET_TAG, ""),
        sha256=found.tags.get(SHA256_TAG, ""),
    )


def _pages(client: MlflowClient, name: str) -> Iterator[ModelVersion]:
    page = client.search_model_versions(_named(name))
    yield from page
    while page.token:
        page = client.search_model_versions(_named(name), page_token=page.token)
        yield from page


def _create_model(client: MlflowClient, name: str, about: str) -> None:
    try:
        client.create_registered_model(name, description=about)
    except MlflowException as error:
        if error.error_code != _PRESENT:
            raise


@contextmanager
def _absent_as(absent: Exception) -> Iterator[None]:
    try:
        yield
    except MlflowException as error:
        raise (absent if error.error_code in _ABSENT else error) from None


def _sealed(folder: Path) -> str:
    """SHA-256 of a folder's manifest, after verifying the folder against it."""
    try:
        sha256 = Manifest.read(folder / MANIFEST).fingerprint
    except DataCorrupt as error:
        raise ModelCorrupt(error.problem, "Export the model again") from error
    if found := damage(folder, sha256):
        raise ModelCorrupt(f"{folder} does not match its manifest: {found}", "Export the model again")
    return sha256


@contextmanager
def _beside(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder that replaces `folder` if the block succeeds."""
    with temporary_folder(folder.parent, ".fresh.") as scratch:
        fresh = scratch / "files"
        fresh.mkdir()
        yield fresh
        if folder.exists():
            os.replace(folder, scratch / "replaced")
        os.replace(fresh, folder)

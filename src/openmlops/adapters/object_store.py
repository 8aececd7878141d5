"""An object store: files under keys. An S3 bucket, or a folder with the same interface.

Uploads are idempotent by content: an object with the same SHA-256 is not uploaded again. A folder shares the bytes of the
files that are put into it, if the file system can. What is not here: the layout of keys (operations), and DVC's remote, which
accesses S3 itself.
"""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pydantic import SecretStr

from openmlops import disk
from openmlops.adapters.known_hashes import KnownHashes
from openmlops.errors import DataCorrupt, DataError, DiskFull, ServiceRefused, ServiceUnavailable, SettingsError
from openmlops.files import MOST_NAME_BYTES, replacing, sha256_of, share_file, why_not_storable

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

MULTIPART_BYTES = 32 * 2**20
"""Part size of multipart uploads, used for files above it."""

_SEAL = ".sha256"
MOST_KEY_CHARACTERS = 800
"""S3's limit is 1024 bytes"""
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


def bucket_name(text: str) -> str:
    """`text`, if it is a valid bucket name. Raises SettingsError, also for an ARN, which boto3 would send to another server."""
    if not _BUCKET.fullmatch(text):
        remedy = "Set MINIO_BUCKET to 3 to 63 lower-case letters, digits, dots and hyphens"
        raise SettingsError(f"MINIO_BUCKET has the value '{text[:80]}', which is not a valid bucket name", remedy)
    return text


class ObjectStore(Protocol):
    """The interface of both stores. Keys are relative, parts separated by '/', none of them '.' or '..'; else DataError."""

    def ready(self) -> None:
        """Ensure that the store responds and can hold objects; creates the bucket if that is allowed."""

    def is_made(self) -> bool:
        """Whether the bucket or folder exists. Creates nothing. Raises ServiceUnavailable as `ready` does."""

    def put_file(self, key: str, path: Path, sha256: str) -> bool:
        """Upload `path` unless its content exists already; returns whether it did. Raises DataCorrupt if it is not `sha256`."""

    def get_file(self, key: str, path: Path) -> Path:
        """Download an object to `path` atomically. Raises DataError if there is none, DataCorrupt if its hash differs."""

    def size(self, key: str) -> int | None:
        """Size of an object in bytes, None if there is none."""

    def exists(self, key: str) -> bool:
        """Whether the object exists."""

    def list(self, prefix: str) -> list[str]:
        """Keys with this prefix, sorted."""

    def delete(self, key: str) -> None:
        """Delete an object; does nothing if there is none."""

    def uri(self, key: str) -> str:
        """The object's URI, for display and for other tools."""


def _checked(key: str) -> str:
    parts = key.split("/")
    if not {"", ".", ".."} & set(parts) and len(key) <= MOST_KEY_CHARACTERS and not any(map(why_not_storable, parts)):
        return key
    remedy = f"Use relative names separated by '/', without '..', each of at most {MOST_NAME_BYTES} bytes"
    raise DataError(f"The object key '{key[:MOST_KEY_CHARACTERS]}' is not allowed", remedy)


def _seal(path: Path, found: str, sha256: str) -> None:
    if found != sha256:
        raise DataCorrupt(f"{path} differs from its recorded content (SHA-256)", "Pull the data set again")


def _absent(uri: str) -> DataError:
    return DataError(f"There is no object {uri}", "Upload the data set first")


class FolderStore:
    """Objects as files below a folder. `known`: hashes of files that need not be read again; whoever puts files lets it follow
    them, because they may have become links."""

    def __init__(self, folder: Path, known: KnownHashes | None = None) -> None:
        self.folder = folder
        self._known = known or KnownHashes()

    def ready(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)

    def is_made(self) -> bool:
        return self.folder.is_dir()

    def put_file(self, key: str, path: Path, sha256: str) -> bool:
        target = self._path(key)
        _seal(path, self._known.of([path])[0].sha256, sha256)
        held = target.is_file() and self._known.of([target])[0].sha256 == sha256
        if held and (os.path.samefile(path, target) or not _is_shared(path)):
            return False
        try:
            share_file(path, target)
        except OSError as error:
            kind = DiskFull if disk.is_full(error) else ServiceUnavailable
            raise kind(f"The object {target} cannot be stored ({error.strerror})", "Free disk space") from error
        return not held

    def get_file(self, key: str, path: Path) -> Path:
        if not self.exists(key):
            raise _absent(self.uri(key))
        with replacing(path) as beside:
            shutil.copyfile(self._path(key), beside)
        return path

    def size(self, key: str) -> int | None:
        return self._path(key).stat().st_size if self.exists(key) else None

    def exists(self, key: str) -> bool:
        return self._path(key).is_file()

    def list(self, prefix: str) -> list[str]:
        keys = (path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*") if path.is_file())
        return sorted(key for key in keys if key.startswith(prefix) and not Path(key).name.startswith("."))

    def delete(self, key: str) -> None:
        path = self._path(key)
        path.unlink(missing_ok=True)
        with suppress(OSError):  # not empty
            while (path := path.parent) != self.folder:
                path.rmdir()

    def uri(self, key: str) -> str:
        return self._path(key).resolve().as_uri()

    def _path(self, key: str) -> Path:
        return self.folder / _checked(key)


def _is_shared(path: Path) -> bool:
    """Whether a file is a hard link to DVC's cache, as data sets are unless the file system has reflinks or no links."""
    return path.stat().st_nlink > 1


class S3Store:
    """Objects in one bucket of an S3-compatible server.

    The SHA-256 of an object `k` is stored as the object `k.sha256`, written after it, because not every server keeps object
    metadata. `known`: hashes of files that need not be read again if the server has their objects.
    """

    def __init__(
        self, endpoint: str, access_key: SecretStr, secret_key: SecretStr, bucket: str, known: KnownHashes | None = None
    ) -> None:
        self.endpoint = endpoint
        self.bucket = bucket_name(bucket)
        self._access_key = access_key
        self._secret_key = secret_key
        self._known = known or KnownHashes()
        self._client: S3Client | None = None

    def ready(self) -> None:
        self._connected()

    def is_made(self) -> bool:
        client = self._connect()
        with self._explained():
            return _has_bucket(client, self.bucket)

    def put_file(self, key: str, path: Path, sha256: str) -> bool:
        from boto3.s3.transfer import TransferConfig

        if self.size(key) == path.stat().st_size and self._recorded(key) == sha256 == self._known.of([path])[0].sha256:
            return False
        _seal(path, self._known.read([path])[0].sha256, sha256)
        parts = TransferConfig(multipart_threshold=MULTIPART_BYTES, multipart_chunksize=MULTIPART_BYTES, max_concurrency=4)
        with self._speaking() as client:
            client.upload_file(str(path), self.bucket, key, Config=parts)
            client.put_object(Bucket=self.bucket, Key=key + _SEAL, Body=sha256.encode())
        return True

    def get_file(self, key: str, path: Path) -> Path:
        if not self.exists(key):
            raise _absent(self.uri(key))
        with replacing(path) as beside:
            with self._speaking() as client:
                client.download_file(self.bucket, key, str(beside))
            if sha256_of(beside) != self._recorded(key):
                raise DataCorrupt(f"{self.uri(key)} differs from what was sent (SHA-256)", "Upload the data set again")
        return path

    def size(self, key: str) -> int | None:
        from botocore.exceptions import ClientError

        with self._speaking() as client:
            try:
                return client.head_object(Bucket=self.bucket, Key=_checked(key))["ContentLength"]
            except ClientError as error:
                if _status(error) == 404:
                    return None
                raise

    def exists(self, key: str) -> bool:
        return self.size(key) is not None

    def list(self, prefix: str) -> list[str]:
        with self._speaking() as client:
            pages = client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
            keys = sorted(found["Key"] for page in pages for found in page.get("Contents", ()))
        return [key for key in keys if not key.endswith(_SEAL)]

    def delete(self, key: str) -> None:
        with self._speaking() as client:
            for name in (_checked(key), key + _SEAL):
                client.delete_object(Bucket=self.bucket, Key=name)

    def uri(self, key: str) -> str:
        return f"s3://{self.bucket}/{_checked(key)}"

    def _recorded(self, key: str) -> str:
        """The recorded SHA-256 of an object, '' if there is none."""
        if not self.exists(key + _SEAL):
            return ""
        with self._speaking() as client:
            return client.get_object(Bucket=self.bucket, Key=key + _SEAL)["Body"].read(64).decode("ascii", "replace")

    def _connected(self) -> "S3Client":
        """The client; on first use it checks for the bucket and creates it if there is none."""
        if self._client is None:
            client = self._connect()
            with self._explained():
                _make_bucket(client, self.bucket)
            self._client = client
        return self._client

    def _connect(self) -> "S3Client":
        import boto3
        from botocore.config import Config

        config = Config(
            signature_version="s3v4",
            connect_timeout=5,
            read_timeout=60,
            retries={"max_attempts": 4, "mode": "standard"},
            s3={"addressing_style": "path"},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        with self._explained():
            return boto3.client(
                "s3",
                endpoint_url=self.endpoint,
                aws_access_key_id=self._access_key.get_secret_value(),
                aws_secret_access_key=self._secret_key.get_secret_value(),
                region_name="us-east-1",
                config=config,
            )

    @contextmanager
    def _speaking(self) -> Iterator["S3Client"]:
        client = self._connected()
        with self._explained():
            yield client

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Translate exceptions of boto3 into one line that names endpoint and bucket, and never a key."""
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError

        where = f"The object store {self.endpoint}, bucket '{self.bucket}',"
        try:
            yield
        except ClientError as error:
            raise self._refused(where, _status(error), error.response.get("Error", {}).get("Code", "?")) from None
        except (BotoCoreError, Boto3Error, ValueError) as error:
            remedy = "Start it, or correct MINIO_ENDPOINT_URL (http://host:port)"
            raise ServiceUnavailable(f"{where} did not respond ({type(error).__name__})", remedy) from None

    def _refused(self, where: str, status: int, code: str) -> ServiceUnavailable:
        if status in (401, 403):
            return ServiceRefused(f"{where} refused the access ({code})", "Correct MINIO_ACCESS_KEY and MINIO_SECRET_KEY")
        remedy = "See the server's log, or correct MINIO_ENDPOINT_URL and MINIO_BUCKET"
        return ServiceUnavailable(f"{where} returned the error {status} ({code})", remedy)


def _has_bucket(client: "S3Client", bucket: str) -> bool:
    from botocore.exceptions import ClientError

    try:
        client.head_bucket(Bucket=bucket)
    except ClientError as error:
        if _status(error) != 404:
            raise
        return False
    return True


def _make_bucket(client: "S3Client", bucket: str) -> None:
    """Create the bucket unless it exists; does not fail if another process creates it meanwhile."""
    if not _has_bucket(client, bucket):
        try:
            client.create_bucket(Bucket=bucket)
        except client.exceptions.BucketAlreadyOwnedByYou:
            return


def _status(error: Exception) -> int:
    return int(getattr(error, "response", {}).get("ResponseMetadata", {}).get("HTTPStatusCode", 0))

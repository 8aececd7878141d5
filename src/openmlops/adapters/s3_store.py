"""An S3 bucket as an object store.

What is not here: the interface (object_store.py), and DVC's remote, which accesses S3 itself.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import SecretStr

from openmlops.adapters.known_hashes import KnownHashes
from openmlops.adapters.object_store import Put, Stored, absent, checked, require
from openmlops.errors import DataCorrupt, ServiceRefused, ServiceUnavailable, SettingsError
from openmlops.files import replacing, sha256_of

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

MULTIPART_BYTES = 32 * 2**20
"""Part size of multipart uploads, used for files above it."""
_SEAL = ".sha256"
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


def bucket_name(text: str) -> str:
    """`text`, if it is a valid bucket name. Raises SettingsError, also for an ARN, which boto3 would send to another server."""
    if not _BUCKET.fullmatch(text):
        remedy = "Set MINIO_BUCKET to 3 to 63 lower-case letters, digits, dots and hyphens"
        raise SettingsError(f"MINIO_BUCKET has the value '{text[:80]}', which is not a valid bucket name", remedy)
    return text


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

    def put_file(self, key: str, path: Path, sha256: str, again: bool = False) -> bool:
        return self._put(key, Put(path, sha256), self.size(key) if not again else None)

    def put_files(self, prefix: str, files: Mapping[str, Put]) -> int:
        sizes = {found.key: found.size for found in self.stored(prefix)}
        return sum([self._put(key, file, sizes.get(key)) for key, file in files.items()])

    def _put(self, key: str, file: Put, stored: int | None) -> bool:
        """Upload a file unless the object, of which `stored` bytes are there, has its content."""
        path, sha256 = file
        if stored == path.stat().st_size and self._recorded(key) == sha256 == self._known.of([path])[0].sha256:
            return False
        require(path, self._known.read([path])[0].sha256, sha256)
        self._send(key, path, sha256)
        return True

    def _send(self, key: str, path: Path, sha256: str) -> None:
        from boto3.s3.transfer import TransferConfig

        parts = TransferConfig(multipart_threshold=MULTIPART_BYTES, multipart_chunksize=MULTIPART_BYTES, max_concurrency=4)
        with self._speaking() as client:
            client.upload_file(str(path), self.bucket, checked(key), Config=parts)
            client.put_object(Bucket=self.bucket, Key=key + _SEAL, Body=sha256.encode())

    def put_bytes(self, key: str, content: bytes, private: bool = False) -> None:
        with self._speaking() as client:
            client.put_object(Bucket=self.bucket, Key=checked(key), Body=content)

    def get_bytes(self, key: str, start: int = 0, size: int | None = None) -> bytes:
        found = self._read(key, f"bytes={start}-{'' if size is None else start + size - 1}" if start or size else "")
        if found is None:
            raise absent(self.uri(key))
        return found

    def _read(self, key: str, part: str = "") -> bytes | None:
        """The content of an object, or a `part` of it as an HTTP range, empty if it ends before; None if there is none."""
        from botocore.exceptions import ClientError

        with self._speaking() as client:
            try:
                if part:
                    found = client.get_object(Bucket=self.bucket, Key=checked(key), Range=part)
                else:
                    found = client.get_object(Bucket=self.bucket, Key=checked(key))
                return found["Body"].read()
            except ClientError as error:
                if _status(error) in (404, 416):
                    return None if _status(error) == 404 else b""
                raise

    def get_file(self, key: str, path: Path) -> Path:
        if not self.exists(key):
            raise absent(self.uri(key))
        with replacing(path) as beside:
            with self._speaking() as client:
                client.download_file(self.bucket, key, str(beside))
            if sha256_of(beside) != self._recorded(key):
                raise DataCorrupt(f"{self.uri(key)} differs from what was sent (SHA-256)", "Upload the data set again")
        return path

    def size(self, key: str) -> int | None:
        return found[0] if (found := self._head(key)) else None

    def written(self, key: str) -> datetime | None:
        return found[1] if (found := self._head(key)) else None

    def _head(self, key: str) -> tuple[int, datetime] | None:
        """Size of an object in bytes and when it was stored; None if there is none."""
        from botocore.exceptions import ClientError

        with self._speaking() as client:
            try:
                found = client.head_object(Bucket=self.bucket, Key=checked(key))
                return found["ContentLength"], found["LastModified"]
            except ClientError as error:
                if _status(error) == 404:
                    return None
                raise

    def exists(self, key: str) -> bool:
        return self.size(key) is not None

    def list(self, prefix: str) -> list[str]:
        return [found.key for found in self.stored(prefix)]

    def stored(self, prefix: str) -> tuple[Stored, ...]:
        with self._speaking() as client:
            pages = client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
            found = [each for page in pages for each in page.get("Contents", ())]
        every = (Stored(each["Key"], each["Size"], each["LastModified"]) for each in found)
        return tuple(sorted(each for each in every if not each.key.endswith(_SEAL)))

    def delete(self, key: str) -> None:
        with self._speaking() as client:
            for name in (checked(key), key + _SEAL):
                client.delete_object(Bucket=self.bucket, Key=name)

    def uri(self, key: str) -> str:
        return f"s3://{self.bucket}/{checked(key)}"

    def _recorded(self, key: str) -> str:
        """The recorded SHA-256 of an object, '' if there is none."""
        return (self._read(key + _SEAL) or b"")[:64].decode("ascii", "replace")

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

"""Every object of the bucket as one tar stream: `dump` writes it to standard output, `load` reads it from standard input.

For deploy/backup.sh, run in the train image. It speaks S3, so a backup of one object store can be loaded into another.
"""

import os
import sys
import tarfile

import boto3
from botocore.config import Config


class Stream:
    """What boto3 can send without seeking in it, which a tar stream cannot do and does not say."""

    def __init__(self, file):
        self.read = file.read


def client():
    return boto3.client(
        "s3",
        endpoint_url=os.environ["MINIO_ENDPOINT_URL"],
        aws_access_key_id=os.environ["MINIO_ACCESS_KEY"],
        aws_secret_access_key=os.environ["MINIO_SECRET_KEY"],
        region_name="us-east-1",
        config=Config(
            s3={"addressing_style": "path"},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )


def dump(s3, bucket: str) -> int:
    count = 0
    with tarfile.open(fileobj=sys.stdout.buffer, mode="w|") as tar:
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
            for found in page.get("Contents", ()):
                answer = s3.get_object(Bucket=bucket, Key=found["Key"])
                member = tarfile.TarInfo(found["Key"])
                member.size, member.mtime = answer["ContentLength"], found["LastModified"].timestamp()
                tar.addfile(member, answer["Body"])
                count += 1
    return count


def load(s3, bucket: str) -> int:
    count = 0
    with tarfile.open(fileobj=sys.stdin.buffer, mode="r|") as tar:
        for member in tar:
            content = tar.extractfile(member)
            if content is not None:
                s3.upload_fileobj(Stream(content), bucket, member.name)
                count += 1
    return count


if __name__ == "__main__":
    done = {"dump": dump, "load": load}[sys.argv[1]](client(), os.environ["MINIO_BUCKET"])
    print(f"{done} objects", file=sys.stderr)

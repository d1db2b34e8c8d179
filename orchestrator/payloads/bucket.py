"""A payload store in a bucket of S3, or of what speaks its language."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from orchestrator.core.payload import StoreUrl
from orchestrator.errors import PayloadUnavailable

try:
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError
except ImportError as exc:
    raise PayloadUnavailable(
        "A payload store in a bucket needs boto3. Fix: pip install 'flow-orchestrator[s3]' on every host."
    ) from exc

_MISSING = frozenset({"NoSuchKey", "404", "NotFound"})


class Bucket:
    """See `Store`. Credentials, region and profile are found as by every AWS tool, unless the URL names them."""

    def __init__(self, url: StoreUrl) -> None:
        self._url = url
        self._lock = threading.Lock()
        self._client: Any = None

    def write(self, name: str, data: bytes) -> None:
        with self._asked("written") as client:
            client.put_object(Bucket=self._url.bucket, Key=self._key(name), Body=data, ContentType="application/json")

    def read(self, name: str) -> bytes | None:
        with self._asked("read") as client:
            try:
                body = client.get_object(Bucket=self._url.bucket, Key=self._key(name))["Body"]
            except ClientError as exc:
                if exc.response.get("Error", {}).get("Code") in _MISSING:
                    return None
                raise
            with body:
                data: bytes = body.read()
                return data

    def remove(self, folder: str) -> None:
        with self._asked("removed") as client:
            pages = client.get_paginator("list_objects_v2").paginate(
                Bucket=self._url.bucket, Prefix=self._key(folder) + "/"
            )
            for page in pages:
                for one in page.get("Contents", ()):
                    client.delete_object(Bucket=self._url.bucket, Key=one["Key"])

    def after_fork(self) -> None:
        self._lock = threading.Lock()
        self._client = None

    def _key(self, name: str) -> str:
        return f"{self._url.path}/{name}" if self._url.path else name

    def _connected(self) -> Any:
        """Clients may be shared between threads, but not made by two at once, nor taken through a fork."""
        with self._lock:
            if self._client is None:
                options = self._url.options
                self._client = boto3.session.Session().client(
                    "s3",
                    endpoint_url=options.get("endpoint"),
                    region_name=options.get("region"),
                    config=Config(
                        connect_timeout=5,
                        read_timeout=30,
                        retries={"mode": "standard", "max_attempts": 4},
                        max_pool_connections=50,
                        # Not every server that speaks S3 knows the newer checksums.
                        request_checksum_calculation="when_required",
                        response_checksum_validation="when_required",
                    ),
                )
            return self._client

    @contextmanager
    def _asked(self, what: str) -> Iterator[Any]:
        try:
            yield self._connected()
        except (BotoCoreError, ClientError, OSError) as exc:
            raise PayloadUnavailable(
                f"Nothing can be {what} in the payload store {self._url.text}: {exc}. Fix: see to it that the bucket "
                "is there and can be reached from this host, and that its credentials allow it to get, put, list and "
                "delete objects."
            ) from exc

"""Payload stores for tests: a folder, and a bucket of a server that speaks S3."""

from collections.abc import Iterator
from contextlib import contextmanager

import boto3
from moto.server import ThreadedMotoServer

from orchestrator.core.payload import StoreUrl
from orchestrator.payloads import Payloads

SMALL = 1024
"""The threshold of tests, in bytes."""
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_EC2_METADATA_DISABLED": "true",
}


def payloads_of(url: str, cap: int = 1_000_000) -> Payloads:
    """As a process with these settings has them."""
    return Payloads(StoreUrl.read(url), SMALL, cap)


@contextmanager
def bucket_server() -> Iterator[str]:
    """Its address; there is an empty bucket, `flows`."""
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        endpoint = f"http://{host}:{port}"
        client = boto3.client(
            "s3", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="test", aws_secret_access_key="test"
        )
        client.create_bucket(Bucket="flows")
        yield endpoint
    finally:
        server.stop()

"""Amazon's protocol over a socket: a store with buckets in it, for whoever tests what is kept there."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
from moto.server import ThreadedMotoServer

REGION, KEY, SECRET = "eu-central-1", "AKIDEXAMPLE", "not/a+secret"


@contextmanager
def store_with(*buckets: str, versions: bool = False) -> Iterator[tuple[str, int]]:
    """Host and port; with `versions` the buckets keep every one. Each test file names its own: all servers of a process
    have one world of buckets."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        client = client_of(f"http://{host}:{port}")
        for name in buckets:
            client.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
            if versions:
                client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
        yield host, port
    finally:
        server.stop()


def client_of(address: str) -> Any:
    """Amazon's own library, to look with."""
    return boto3.client(
        "s3", endpoint_url=address, aws_access_key_id=KEY, aws_secret_access_key=SECRET, region_name=REGION
    )

"""A customer's generator makes a client of our contract without a complaint, and a whole journey works with it."""

from __future__ import annotations

import os
import sys
from asyncio import create_subprocess_exec
from asyncio.subprocess import PIPE, STDOUT
from pathlib import Path

import httpx
import pytest

from service.guardrails.permissions import Role
from tests.support.factories import Factory

JOURNEY = """
import sys
from datetime import UTC, datetime, timedelta
from io import BytesIO
from time import sleep
from urllib.request import urlopen

from ballast_client import AuthenticatedClient
from ballast_client.api.files import delete_file, get_download_link, get_file, list_files, upload_file
from ballast_client.api.indicators import (
    aggregate_readings, append_batch, create_indicator, get_indicator, list_readings, update_indicator,
)
from ballast_client.models import (
    BatchReading, IndicatorCreate, IndicatorUpdate, Mode, Problem, ReadingBatch, Step, UploadFileBody,
)
from ballast_client.types import File

address, key = sys.argv[1:]
start = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=1)
with AuthenticatedClient(base_url=address, token=key) as client:
    made = create_indicator.sync(client=client, idempotency_key="made", body=IndicatorCreate(name="Revenue"))
    again = create_indicator.sync(client=client, idempotency_key="made", body=IndicatorCreate(name="Revenue"))
    assert again == made

    readings = [BatchReading(at=start + timedelta(seconds=n), value=float(n)) for n in range(500)]
    sent = ReadingBatch(readings=[*readings, readings[0]], mode=Mode.SKIP_BAD)
    verdict = append_batch.sync(made.id, client=client, idempotency_key="sent", body=sent)
    assert (verdict.added, verdict.refused, verdict.refused_indexes) == (500, 1, [500]), verdict
    assert verdict.refusals[0].field == "at"

    found = aggregate_readings.sync(
        made.id, client=client, since=start, until=start + timedelta(days=1), step=Step.DAY
    )
    assert [(bucket.count, bucket.mean) for bucket in found.buckets] == [(500, 249.5)]

    seen, page = [], list_readings.sync(made.id, client=client, limit=200)
    while True:
        seen += [reading.value for reading in page.items]
        if not page.has_more:
            break
        page = list_readings.sync(made.id, client=client, limit=200, cursor=page.next_cursor)
    assert seen == [float(n) for n in reversed(range(500))]

    version = get_indicator.sync_detailed(made.id, client=client).headers["etag"]
    changed = update_indicator.sync(made.id, client=client, if_match=version, body=IndicatorUpdate(unit="EUR"))
    assert changed.unit == "EUR"
    lost = update_indicator.sync(made.id, client=client, if_match=version, body=IndicatorUpdate(unit="USD"))
    assert isinstance(lost, Problem)
    assert (lost.status, lost.code) == (412, "precondition-failed")

    broken = ReadingBatch(readings=[readings[0], BatchReading(at=start, value=1e300)])
    refused = append_batch.sync(made.id, client=client, idempotency_key="broken", body=broken)
    assert [error.field for error in refused.errors] == ["readings.1.value"], refused
    print(refused.type_)

    form = UploadFileBody(file=File(payload=BytesIO(b"notes"), file_name="notes.txt", mime_type="text/plain"))
    kept = upload_file.sync(client=client, idempotency_key="notes", body=form)
    assert (kept.name, kept.size, kept.state) == ("notes.txt", 5, "pending"), kept
    assert [file.id for file in list_files.sync(client=client).items] == [kept.id]
    while get_file.sync(kept.id, client=client).state == "pending":
        sleep(0.1)
    link = get_download_link.sync(kept.id, client=client)
    with urlopen(link.url) as download:
        assert download.read() == b"notes"
    assert delete_file.sync_detailed(kept.id, client=client).status_code == 204
"""


async def run(*command: str | Path, place: Path) -> str:
    environment = {"PATH": os.environ["PATH"], "HOME": str(place), "PYTHONPATH": str(place), "NO_PROXY": "127.0.0.1"}
    process = await create_subprocess_exec(*command, cwd=place, env=environment, stdout=PIPE, stderr=STDOUT)
    said = (await process.communicate())[0].decode()
    assert process.returncode == 0, said
    return said


@pytest.mark.usefixtures("worker")
async def test_a_generated_client_goes_the_whole_way(factory: Factory, tmp_path: Path) -> None:
    organization = await factory.organization()
    await factory.plan(organization)
    key = await factory.key(
        organization, Role.ADMIN, ["indicators:read", "indicators:write", "files:read", "files:write"]
    )
    async with httpx.AsyncClient() as anybody:
        (tmp_path / "openapi.json").write_bytes((await anybody.get(f"{factory.url}/openapi.json")).content)
    (tmp_path / "config.yaml").write_text("post_hooks: []\n")
    generator = Path(sys.executable).with_name("openapi-python-client")
    options = ["--path", "openapi.json", "--config", "config.yaml", "--meta", "none", "--output-path", "ballast_client"]
    said = await run(generator, "generate", *options, place=tmp_path)
    assert "warning" not in said.lower(), f"the generator left something out:\n{said}"
    page = (await run(sys.executable, "-c", JOURNEY, factory.url, key, place=tmp_path)).strip()
    async with httpx.AsyncClient() as anybody:
        answer = await anybody.get(page, headers={"accept": "text/html"})
    assert (answer.status_code, page) == (200, f"{factory.url}/problems/invalid")

"""The files of the demo organization."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import UUID

from sqlalchemy import select

from service.core import clock
from service.core.database import Database
from service.core.ids import new_id
from service.core.regions import in_region
from service.core.settings import Settings
from service.features.files.models import File, FileFinding, FileState, new_path
from service.integrations.http import HttpClient
from service.integrations.storage import Storage

SENT = {
    "Sign-ups by country.csv": "country,sign-ups\nAustria,412\nBelgium,387\nCôte d'Ivoire,95\n".encode(),
    "Budget.xlsx": b"PK\x03\x04 half of a workbook",
    "Meeting notes.txt": b"Revenue is up, churn is down; look at open tickets again on Friday.\n",
}


def finding_in(organization_id: UUID) -> FileFinding:
    """What the scanner recognized in a file that its organization has deleted since."""
    return FileFinding(
        organization_id=organization_id, file_id=new_id(), signature="Eicar-Test-Signature",
        found_at=clock.now() - timedelta(days=3),
    )  # fmt: skip


async def plant_files(database: Database, settings: Settings, organization_id: UUID) -> None:
    """Plant them once. The worker looks at them as at anybody's, and refuses the half workbook."""
    http = HttpClient(settings)
    storage = Storage(settings, http)
    try:
        async with database.unit_of_work(tenant=organization_id) as work:
            if (await work.session.scalars(select(File).limit(1))).first() is not None:
                return
            for name, content in SENT.items():
                kind, key = name.rpartition(".")[2], in_region(settings.home_region, new_path(organization_id))

                async def parts(content: bytes = content) -> AsyncIterator[bytes]:
                    yield content

                size = await storage.put(key, parts())
                work.session.add(File(name=name, kind=kind, key=key, size=size, state=FileState.PENDING))
    finally:
        await http.aclose()

"""What we connect to proves who it is, under an authority that the settings name; a stranger's certificate ends it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from sqlalchemy.exc import DBAPIError

from infra.compose import certificates
from service.core.database import LOST, Database, split_tls
from service.core.errors import Unavailable
from service.core.settings import Settings
from service.doctor import examine


@asynccontextmanager
async def postgres_with_tls(folder: Path, address: str) -> AsyncIterator[tuple[int, list[bytes]]]:
    """Speaks PostgreSQL as far as the handshake; keeps what a client says once it trusts us."""
    heard: list[bytes] = []
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "postgres.crt", folder / "postgres.key")

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            await reader.readexactly(8)  # SSLRequest
            writer.write(b"S")
            await writer.drain()
            await writer.start_tls(context)
            heard.append(await reader.read(200))
        writer.close()

    server = await asyncio.start_server(talk, address, 0)
    try:
        yield server.sockets[0].getsockname()[1], heard
    finally:
        server.close()


@pytest.mark.parametrize(
    ("authority", "host", "trusted"),
    [("ours", "localhost", True), ("theirs", "localhost", False), ("ours", "127.0.0.2", False)],
    ids=["our authority", "another authority", "another name"],
)
async def test_the_database_is_believed_under_its_authority_and_name_only(
    authority: str, host: str, trusted: bool, settings: Settings, tmp_path: Path
) -> None:
    for name in ("ours", "theirs"):
        certificates.main(tmp_path / name)
    where = "127.0.0.1" if host == "localhost" else host
    async with postgres_with_tls(tmp_path / "ours", where) as (port, heard):
        address = f"postgresql://ballast_app:a-password@{host}:{port}/ballast"
        database = Database(f"{address}?sslmode=verify-full&sslrootcert={tmp_path / authority / 'ca.crt'}", settings)
        with pytest.raises((Unavailable, DBAPIError, *LOST)):
            async with database.connection():
                pass
        await database.dispose()
    assert any(b"ballast_app" in said for said in heard) is trusted, "the name is told to whom we trust, and no other"


def test_an_address_without_an_authority_is_as_before() -> None:
    assert split_tls("postgresql://h/d?sslmode=verify-full") == ("postgresql+asyncpg://h/d", "verify-full")
    assert split_tls("postgresql://h/d") == ("postgresql+asyncpg://h/d", None)


async def test_the_doctor_says_what_is_in_clear(settings: Settings) -> None:
    [finding] = [finding for finding in await examine(settings) if finding.what == "encryption"]
    assert finding.ok
    assert "Redis: in clear" in finding.detail
    assert "mail of eu: in clear" in finding.detail

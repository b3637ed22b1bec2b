"""Throw-away tables under the real guard rails, in a database of their own: a clone of the migrated template.

The models have a registry and metadata of their own, so that no scan of the service's tables ever sees them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import asyncpg
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import Connection, ForeignKeyConstraint, Index, MetaData, UniqueConstraint, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import Mapped, mapped_column, registry, relationship

from migrations import ddl
from service.core import clock
from service.core.context import Actor, ActorKind, Caller, Context, Resources
from service.core.database import NAMING, Base, Database, split_tls
from service.core.ids import new_id
from service.guardrails.entitlements import Plans
from service.guardrails.permissions import Role
from service.guardrails.personal_data import content, internal
from service.guardrails.retention import after_deletion, with_parent
from service.guardrails.soft_delete import SoftDeletable
from service.guardrails.tenancy import TenantScoped


class Play(Base):
    __abstract__ = True
    registry = registry(
        metadata=MetaData(naming_convention=NAMING), type_annotation_map=Base.registry.type_annotation_map
    )
    metadata = registry.metadata
    _sa_registry = registry  # what mapping really uses


class PlayOrganization(SoftDeletable, Play):
    """The service's own table, as far as a test needs it."""

    __tablename__ = "organizations"
    __retention__ = after_deletion(days=30, reason="as in the service")
    id: Mapped[UUID] = mapped_column(primary_key=True)


class Box(TenantScoped, SoftDeletable, Play):
    __tablename__ = "boxes"
    __retention__ = after_deletion(days=30, reason="can be restored for a month")
    __table_args__ = (
        UniqueConstraint("organization_id", "id"),
        Index(
            "uq_boxes_live_name", "organization_id", "name", unique=True, postgresql_where=text("deleted_at IS NULL")
        ),
        Index(None, "organization_id", "rank", "id"),
    )
    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id, info=internal())
    name: Mapped[str] = mapped_column(info=content())
    rank: Mapped[int] = mapped_column(default=0, info=internal())
    created_at: Mapped[datetime] = mapped_column(default=clock.now, info=internal())
    # Joined by id alone, so that only the filter can keep out what row-level security and the keys would refuse.
    items: Mapped[list[Item]] = relationship(primaryjoin="foreign(Item.box_id) == Box.id", viewonly=True)


class Item(TenantScoped, SoftDeletable, Play):
    __tablename__ = "items"
    __retention__ = after_deletion(days=30, reason="goes with its box, or alone", part_of="boxes")
    __table_args__ = (
        UniqueConstraint("organization_id", "id"),
        ForeignKeyConstraint(["organization_id", "box_id"], ["boxes.organization_id", "boxes.id"]),
        Index(None, "organization_id", "box_id"),
    )
    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id, info=internal())
    box_id: Mapped[UUID] = mapped_column(info=internal())
    name: Mapped[str] = mapped_column(default="", info=content())
    box: Mapped[Box | None] = relationship(primaryjoin="foreign(Item.box_id) == Box.id", viewonly=True)


class Label(TenantScoped, SoftDeletable, Play):
    """A grandchild of the box."""

    __tablename__ = "labels"
    __retention__ = after_deletion(days=30, reason="goes with its item", part_of="items")
    __table_args__ = (
        ForeignKeyConstraint(["organization_id", "item_id"], ["items.organization_id", "items.id"]),
        Index(None, "organization_id", "item_id"),
    )
    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id, info=internal())
    item_id: Mapped[UUID] = mapped_column(info=internal())


class Mark(TenantScoped, Play):
    """Many small rows that are never deleted one by one, like readings: keyed by the moment."""

    __tablename__ = "marks"
    __retention__ = with_parent("boxes", reason="lives and dies with its box")
    __table_args__ = (ForeignKeyConstraint(["organization_id", "box_id"], ["boxes.organization_id", "boxes.id"]),)
    organization_id: Mapped[UUID] = mapped_column(primary_key=True, info=internal("tenant"))
    box_id: Mapped[UUID] = mapped_column(primary_key=True, info=internal())
    at: Mapped[datetime] = mapped_column(primary_key=True, info=internal())


TABLES = ("boxes", "items", "labels", "marks")


class Playground:
    """One database as the application, the maintenance role and the superuser see it."""

    def __init__(self, resources: Resources, superuser: asyncpg.Connection[Any]) -> None:
        self.resources, self.superuser = resources, superuser
        self.database = resources.database

    @asynccontextmanager
    async def context(
        self, tenant: UUID | None, *, user: UUID | None = None, role: Role | None = Role.MEMBER, read_only: bool = False
    ) -> AsyncIterator[Context]:
        """One transaction of a person in an organization; commits when the block ends, rolls back when it raises."""
        user = user or uuid4()
        async with self.database.unit_of_work(tenant=tenant, user=user, read_only=read_only) as work:
            yield Context(work, self.resources, Actor(ActorKind.USER, user), Caller("test"), tenant, role)

    async def organization(self) -> UUID:
        identifier = new_id()
        await self.superuser.execute(
            "INSERT INTO organizations (id, name, region, created_at) VALUES ($1, $2, 'eu', now())",
            identifier, identifier.hex,
        )  # fmt: skip
        return identifier

    async def count(self, table: str, where: str = "true", *values: Any) -> int:
        """Rows as they are, whoever may see them."""
        found: int = await self.superuser.fetchval(f"SELECT count(*) FROM {table} WHERE {where}", *values)
        return found

    async def until_somebody_waits(self) -> None:
        """For a lock, in this database."""
        waiting = (
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        async with asyncio.timeout(60):
            while not await self.superuser.fetchval(waiting):
                await asyncio.sleep(0.01)


async def create_tables(owner_url: str) -> None:
    """As a migration would: by the owner, with the helpers that migrations use."""

    def create(connection: Connection) -> None:
        Play.metadata.create_all(connection)
        with Operations.context(MigrationContext.configure(connection)):
            for table in TABLES:
                ddl.tenant_table(table)

    engine = create_async_engine(split_tls(owner_url)[0])
    async with engine.begin() as connection:
        await connection.run_sync(create)
    await engine.dispose()


async def open_playground(urls: dict[str, str], resources: Resources) -> Playground:
    """`urls` by role. Two connections only: tenants that take turns on them would meet each other's leftovers."""
    settings = resources.settings
    app = Database(urls["ballast_app"], settings, name="playground", size=2)
    maintenance = Database(urls["ballast_maintenance"], settings, name="playground-maintenance", size=2)
    made = Resources(settings, app, resources.redis, maintenance)
    made.provide(Plans, resources.get(Plans))
    return Playground(made, await asyncpg.connect(urls["postgres"]))

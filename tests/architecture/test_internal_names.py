"""A column whose name speaks of people is not taken for the service's own without a word of why."""

from __future__ import annotations

import re

from sqlalchemy import Column, MetaData, String, Table

from service.core.database import Base
from service.guardrails.personal_data import CATEGORIES, Protection, internal, personal, privacy_of, protection_of
from tests.architecture.reviewed import INTERNAL_NAMES

SPEAKS = re.compile(
    r"(?:^|_)(?:e?mail|name|nick|phone|tel|fax|address|street|city|zip|birth\w*|born|gender|avatar|photo|ip|agent|"
    r"device|author|contact|person|message|words|text|note|comment|remark|reason|title|subject|locale|about)(?:$|_)"
)
LEAST = 170


def spoken(metadata: MetaData) -> set[str]:
    """Columns of text that are declared internal and about nobody, and whose name says otherwise."""
    seen, found = 0, set()
    for column in (one for table in metadata.sorted_tables for one in table.columns):
        privacy = privacy_of(column)
        if protection_of(column) is not Protection.INTERNAL or privacy is None:
            continue
        seen += 1
        if (
            SPEAKS.search(column.name)
            and not CATEGORIES[privacy.category].is_personal
            and isinstance(column.type, String)
        ):
            found.add(str(column))
    assert seen >= LEAST or metadata is not Base.metadata, f"the scan saw only {seen} internal columns"
    return found


def test_a_name_that_speaks_of_people_is_explained(metadata: MetaData) -> None:
    found = spoken(metadata) ^ INTERNAL_NAMES.keys()
    assert not found, (
        f"{sorted(found)}: internal() means about nobody, so it is in no copy, erasures pass it by and logs show it. "
        "Is it personal() or content()? Otherwise say why not in INTERNAL_NAMES (tests/architecture/reviewed.py)"
    )


def test_it_bites() -> None:
    metadata = MetaData()
    Table(
        "people", metadata, Column("phone", String, info=internal()), Column("state", String, info=internal()),
        Column("reply_email", String, info=personal("name")), Column("user_agent", String, info=internal("device")),
    )  # fmt: skip
    assert spoken(metadata) == {"people.phone"}

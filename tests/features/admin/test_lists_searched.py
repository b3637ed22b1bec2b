"""Each list of staff finds what is looked for, also the short ones and the one that no table holds."""

from __future__ import annotations

import asyncpg
import pytest

from service.core.errors import Invalid
from service.core.ids import new_id
from service.features.admin.schemas import DeclaredFlag
from service.guardrails.pagination import Position
from service.web.staff_lists import InCode
from tests.support.client import Client
from tests.support.factories import Factory

FINDING = """
    INSERT INTO file_findings (id, organization_id, file_id, signature, found_at) VALUES ($1, $2, $3, $4, now())
"""


async def test_staff_find_news_by_words_findings_by_their_file_and_flags_by_what_they_do(
    factory: Factory, staff: Client, superuser: asyncpg.Connection[object]
) -> None:
    mine, theirs, file = await factory.organization(), await factory.organization(), new_id()
    words = {number: f"Word{new_id().hex[-12:]}" for number in range(4)}
    for owner, of, word in ((mine, file, words[0]), (mine, new_id(), words[1]), (theirs, new_id(), words[2])):
        await superuser.execute(FINDING, new_id(), owner, of, word)
    for word in (words[0], words[3]):
        subject = f"Charts: 100% {word}, and more"
        await superuser.execute("INSERT INTO news VALUES ($1, $2, 'A text of news.', now())", new_id(), subject)

    async def shown(path: str) -> set[int]:
        page, taken = await staff.page(path), (await staff.get(path.replace("?", "/csv?", 1))).text
        found = {number for number, word in words.items() if word in page}
        assert found == {number for number, word in words.items() if word in taken}, (
            "the file holds what the page shows"
        )
        return found

    assert await shown(f"/staff/quarantine?organization_id={mine}") == {0, 1}
    assert await shown(f"/staff/quarantine?file_id={file}") == {0}
    assert await shown(f"/staff/quarantine?file_id={file}&organization_id={theirs}") == set()
    assert await shown("/staff/news?q=charts") == {0, 3}
    assert await shown(f"/staff/news?q=100%25 {words[3].upper()}") == {3}
    assert await shown("/staff/news?q=100_") == set(), "what somebody types is words, no pattern"
    assert "tile_range" in await staff.page("/staff/flags/declared?q=DASHBOARD")
    assert "No such flag" in await staff.page("/staff/flags/declared?q=nowhere")


def test_what_the_code_declares_is_read_page_by_page_forth_and_back() -> None:
    names = sorted(f"flag_{number:02}" for number in range(7))
    rows = [DeclaredFlag(flag=name, description="", decides="", default="off", ends="") for name in reversed(names)]
    lists, seen = InCode[DeclaredFlag]("flags", lambda row: row.flag), []
    page = lists.page(rows, Position(3))
    assert page.previous_cursor is None
    while True:
        seen.append([row.flag for row in page.items])
        assert page.has_more is bool(page.next_cursor)
        if page.next_cursor is None:
            break
        page = lists.page(rows, Position(3, page.next_cursor))
    assert seen == [names[:3], names[3:6], names[6:]]
    page = lists.page(rows, Position(3, page.previous_cursor))
    assert [row.flag for row in page.items] == names[3:6]
    # A row goes while somebody reads: the next page begins with what follows it.
    assert page.next_cursor is not None
    assert [row.flag for row in lists.page(rows[1:], Position(3, page.next_cursor)).items] == []
    for strange in ("nothing", InCode[DeclaredFlag]("other", lambda row: row.flag).page(rows, Position(3)).next_cursor):
        with pytest.raises(Invalid, match="does not belong to this list"):
            lists.page(rows, Position(3, strange))

"""The staff panel: a feature declares what staff see and do, in its admin.py; the engine makes routes and pages.

    STAFF = (
        Listing(
            "/staff/people", "People", queries.list_people, wanted=PeopleWanted,
            columns=(
                Column("Account", "id", link="/staff/people/{id}"),
                Column("E-mail", "email", personal=True),
                Column("State", "state", badges={"deleted": "warning"}),
                Column("Since", "created_at"),
            ),
            item="person_id",
            empty=("Nobody", "No account begins like this. Try a shorter beginning of the address."),
        ),
        Detail("/staff/people", "Account", queries.get_person, "accounts/staff/person.html", account=True),
        Act("/staff/people", "lock", "Lock", actions.lock, hint="Nobody can log in.", done="Locked.", danger=True),
    )

Pages written by hand are `STAFF_PAGES` (service/web/staff_home.py), with `{{ ui.staff_crumbs(page) }}` as their crumbs.

**Listing**: `query(ctx, wanted, page) -> Page[Row]`, a @query that requires Who.STAFF and paginates a Keyset; `wanted`
is an Input, each of whose fields becomes a filter and must have a default, and one of which at least is typed (`q` is
the usual search). Gets a page, a pager, and a CSV of what the filters show at `<path>/csv`. A column's value is the
attribute `name` of the row; `link` is filled from the row; what is `personal` stays hidden until the reader has said
why (guardrails.staff_reasons), and until then a list with personal columns is searched by id alone: what a search finds
tells whose it is.

What organizations have is `of_organizations(path, title, query, columns...)`: its query is one of staff_lists.Across.
What the code itself declares is paged by staff_lists.InCode.

**Detail**: `query(ctx, id) -> view`; raises NotFound. The template extends "staff/detail.html", fills the block
`detail`, and reads `view`, `reason` (empty: show no personal data), `acts` (links, drawn by the base) and `row_id`.
`account(view)` says whose account it is about: looks at it then stand among what was done to that one.

**Act**: `verb(ctx, id, **fields)`, an @action that requires Who.STAFF; `form` is an Input with its fields, `Why` (only
`reason`) unless given. Stands at `<of>/<id>/<name>`: GET explains and asks, POST does it. Any feature may add acts to
another one's listing. `applies(view)` says for which rows it is offered, and is asked again before it is done: of the
Detail's view, or of the one row that the listing shows for the filter called like its `item`. `whole=True`: without an
id, for the list as a whole, at `<of>/<name>`; what its filters say fills the fields of the same names.
`answer(request, ctx, result)` makes another answer than going back with `done`.

Every route takes StaffCtx, which proves, audits and shows all organizations' rows (policies `<table>_staff`, made by
`migrations.ddl.staff_reads` and `staff_walks`): a Keyset over a tenant's table says `across_tenants=True`.
"""

from service.web.staff.declared import ORGANIZATION as ORGANIZATION
from service.web.staff.declared import Act as Act
from service.web.staff.declared import Column as Column
from service.web.staff.declared import Declared as Declared
from service.web.staff.declared import Detail as Detail
from service.web.staff.declared import Listing as Listing
from service.web.staff.declared import Why as Why
from service.web.staff.declared import of_organizations as of_organizations
from service.web.staff.panel import Panel as Panel

__all__ = [
    "ORGANIZATION",
    "Act",
    "Column",
    "Declared",
    "Detail",
    "Listing",
    "Panel",
    "Why",
    "of_organizations",
]

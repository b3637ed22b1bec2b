"""The map as tables that people read: the whole of it, the record of processing (GDPR Art. 30), the privacy notice."""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date

from sqlalchemy import MetaData, Table

from service.core.settings import Settings
from service.guardrails.data_map.processors import PROCESSORS, agreements
from service.guardrails.data_map.stores import STORES
from service.guardrails.personal_data import CATEGORIES, PURPOSES, Erasure, privacy_of, residency_of
from service.guardrails.purposes import PURPOSES as CHOICES
from service.guardrails.purposes import Basis as Choice
from service.guardrails.retention import retention_of
from service.guardrails.subjects import personal_tables, subject_of

HEAD = (
    "place", "holds", "categories", "protection", "purpose", "basis", "retention", "residency", "erasure", "because",
    "export", "processors",
)  # fmt: skip
HOST = "nobody besides our host"
COPIES = ("backups", "exports")
"""Hold what other places hold, for a while longer; the notice names those."""
PARENTS = {"users": "account", "organizations": "organization"}
SINCE = {"expires_at": "it expired", "seen_at": "it was last seen", "ends_at": "it ended", "cycle_ends_at": "it ended"}
UNTIL = {Choice.CONSENT: "used until you take your consent back", Choice.INTEREST: "used until you object"}
"""What people say yes or no to uses what is held for other purposes anyway."""
MADE = "<!-- Made by `python -m service privacy record`; a test keeps it equal to the code. -->"


def rows(metadata: MetaData) -> Iterator[tuple[str, ...]]:
    """Every place where data is, in the order of HEAD: columns by table, then everything else."""
    for table in metadata.sorted_tables:
        for column in table.columns:
            if (held := privacy_of(column)) is None:
                continue
            yield (
                str(column), CATEGORIES[held.category].meaning, held.key, held.protection, held.purpose, held.basis,
                retention_text(table), residency_of(column), held.erasure, held.because,
                f"no: {held.withheld}" if held.withheld else "yes", receivers([held.category]),
            )  # fmt: skip
    for store in STORES.values():
        yield (
            f"{store.kind}: {store.name}", store.holds, " ".join(CATEGORIES[one].key for one in store.categories), "",
            store.purpose, store.basis, store.retention, store.residency, store.erasure, store.how,
            f"no: {store.withheld}" if store.withheld else "yes", receivers(store.categories),
        )  # fmt: skip


def receivers(categories: Iterable[str]) -> str:
    """Which processors may be sent one of these."""
    wanted = set(categories)
    return " ".join(name for name, one in PROCESSORS.items() if wanted & set(one.receives))


def retention_text(table: Table) -> str:
    rule = retention_of(table)
    if rule is None:
        return ""
    if rule.days is not None:
        longer = f" ({rule.hipaa_days} under the hipaa profile)" if rule.hipaa_days else ""
        return f"{rule.days} days{longer} after {rule.after}: {rule.reason}"
    return f"with {rule.parent}: {rule.reason}" if rule.parent else f"for ever: {rule.reason}"


def as_csv(metadata: MetaData) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(HEAD)
    writer.writerows(rows(metadata))
    return out.getvalue()


def as_markdown(metadata: MetaData) -> str:
    return table_of(HEAD, rows(metadata))


def table_of(head: Iterable[str], lines: Iterable[Iterable[str]]) -> str:
    titles = list(head)
    made = [titles, ["---"] * len(titles), *([str(cell).replace("|", "\\|") for cell in line] for line in lines)]
    return "\n".join(f"| {' | '.join(line)} |" for line in made) + "\n"


@dataclass(frozen=True, slots=True)
class Held:
    """One line of the notice: a kind of personal data, what we have it for, on which basis, how long, where."""

    meaning: str
    purpose: str
    basis: str
    retention: tuple[str, ...]
    receivers: tuple[str, ...]


def notice(metadata: MetaData) -> list[Held]:
    """What we hold about a person, by kind and purpose: one line however many columns and stores it is in."""
    periods: dict[tuple[str, str], set[tuple[int, str]]] = defaultdict(set)
    for table in personal_tables(metadata):
        for column in table.columns:
            held = privacy_of(column)
            if held is not None and CATEGORIES[held.category].is_personal:
                periods[held.category, held.purpose].add(_period(table))
    for store in STORES.values():
        for one in store.categories:
            if CATEGORIES[one].is_personal and store.name not in COPIES:
                periods[one, store.purpose].add((0, store.retention))
    return [
        Held(
            _sentence(CATEGORIES[category].meaning),
            _sentence(PURPOSES[purpose].sentence),
            _sentence(PURPOSES[purpose].basis.replace("_", " ")),
            tuple(_in_words(found)),
            tuple(PROCESSORS[name].title for name in receivers([category]).split()),
        )
        for (category, purpose), found in periods.items()
    ] + [
        Held(
            _sentence(CATEGORIES[category].meaning),
            one.title,
            _sentence(one.basis),
            (UNTIL[one.basis],),
            tuple(PROCESSORS[name].title for name in one.through),
        )
        for one in CHOICES.values()
        for category in one.uses
    ]


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _period(table: Table) -> tuple[int, str]:
    """Days and since when; or no days, and how long in words."""
    rule = retention_of(table)
    if rule is None:
        return 0, ""
    if rule.days is not None:
        return rule.days, SINCE.get(rule.after, f"it was {rule.after.removesuffix('_at').replace('_', ' ')}")
    if rule.parent and rule.parent not in PARENTS:
        return _period(table.metadata.tables[rule.parent])
    return 0, f"as long as the {PARENTS[rule.parent] if rule.parent else 'service'}"


def _in_words(periods: Iterable[tuple[int, str]]) -> Iterator[str]:
    """What lives with something else first; then the longest, with all that it begins with in one."""
    since: dict[int, list[str]] = defaultdict(list)
    for days, words in sorted(periods, key=lambda one: (-one[0], one[1])):
        since[days].append(words)
    yield from filter(None, since.pop(0, ()))
    for days, moments in since.items():
        many, word = (days // 365, "year") if days % 365 == 0 else (days, "day")
        yield f"{many} {word}{'s' * (many > 1)} after {' or '.join(moments)}"


def record(metadata: MetaData, settings: Settings) -> str:
    """The record of processing activities, as a document."""
    signed, baas = agreements(settings.processor_agreements), agreements(settings.processor_baas)
    activities = [
        (one.sentence, one.basis.replace("_", " "), ", ".join(_categories(metadata, name)), _receivers(name))
        for name, one in PURPOSES.items()
    ] + [
        (
            one.title, str(one.basis), ", ".join(CATEGORIES[each].key for each in one.uses),
            ", ".join(PROCESSORS[each].title for each in one.through) or HOST,
        )
        for one in CHOICES.values()
    ]  # fmt: skip
    firms = [
        (
            name, one.title, one.role, one.purpose, ", ".join(CATEGORIES[each].key for each in one.receives),
            one.region, one.transfer, _signed(name, signed) if one.needs_agreement else "not needed",
            "yes" if name in baas else "no",
        )
        for name, one in PROCESSORS.items()
    ]  # fmt: skip
    kept = [row for row in rows(metadata) if row[8] == Erasure.KEEP and "user." in row[2]]
    return "\n".join(
        [
            MADE,
            "# Record of processing activities (GDPR Art. 30)",
            "",
            f"Controller: {settings.controller_name}. Contact for personal data: {settings.privacy_contact}.",
            "For what people write into their organization's workspace the organization is the controller and we are "
            "its processor; everything about accounts is ours.",
            "",
            "## Purposes",
            "",
            table_of(("purpose", "lawful basis", "personal data", "recipients"), activities),
            "## Recipients",
            "",
            "The day of an agreement comes from PROCESSOR_AGREEMENTS. What is not used can be left out of the notice.",
            "",
            table_of(("name", "who", "role", "purpose", "receives", "region", "transfer", "agreement", "BAA"), firms),
            "## What outlives its person, and why",
            "",
            table_of(("place", "holds", "kept because"), [(row[0], row[1], row[9]) for row in kept]),
            "## Security measures (Art. 32)",
            "",
            "Encryption in transit and of secrets at rest, row-level security by organization, roles and a second "
            "factor, an audit log that shows tampering, limits on every route, backups, alerts with runbooks. "
            "The README leads to each of them.",
            "",
            "## Where personal data is, and for how long",
            "",
            "Each column, with its purpose, basis and erasure: `python -m service privacy map`.",
            "",
            table_of(("place", "personal data", "how it reaches its person", "period"), _places(metadata)),
        ]
    )


def _places(metadata: MetaData) -> Iterator[tuple[str, str, str, str]]:
    for table in personal_tables(metadata):
        held = {
            one.key: None for column in table.columns if (one := privacy_of(column)) and one.key.startswith("user.")
        }
        subject = subject_of(table)
        path = f"{subject.column} ({subject.by})" if subject else "through what it is part of"
        yield table.name, ", ".join(sorted(held)), path, retention_text(table)
    for store in STORES.values():
        if store.is_personal:
            held = {CATEGORIES[one].key: None for one in store.categories if CATEGORIES[one].is_personal}
            yield f"{store.kind}: {store.name}", ", ".join(held), "", store.retention


def _categories(metadata: MetaData, purpose: str) -> list[str]:
    found = {
        held.key: None
        for table in metadata.sorted_tables
        for column in table.columns
        if (held := privacy_of(column)) and held.purpose == purpose and CATEGORIES[held.category].is_personal
    }
    found |= {
        CATEGORIES[one].key: None
        for store in STORES.values()
        for one in store.categories
        if store.purpose == purpose and CATEGORIES[one].is_personal and store.name != "backups"
    }
    return sorted(found)


def _receivers(purpose: str) -> str:
    return ", ".join(one.title for one in PROCESSORS.values() if one.purpose == purpose) or HOST


def _signed(name: str, signed: Mapping[str, date]) -> str:
    return f"signed {signed[name]}" if name in signed else "to be entered"

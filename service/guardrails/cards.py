"""Card numbers are refused wherever something can be sent to us, and masked wherever something of ours is written.

Protects from: the customer who types a card into a name, a note or a reading, which would bring database, logs, audit
trail and backups into the scope of PCI DSS (3.3 to 3.5). How to use: nothing. Every JSON body is looked at before any
handler (strict_json), every form field in web.forms, every address and idempotency key in browser.Shield, every row of
a CSV import, every word of a command line (cli._running). What no person types here is masked where it arrives, with
`without_cards`: the answers of other systems (integrations), messages under a signature once they are believed (inbox),
jobs' arguments; and `core.masking` hides the rest in logs, errors, audit rows, spans and mails.

A number counts when it has an issuer's beginning and length, the right check digit (ISO/IEC 7812-1, annex B), and
stands as one, in any script's digits: in one piece, in a card's usual groups, or in groups of any length between which
always the same stands; gaps may be wide or invisible. Ids, times, phone numbers (+, up to 15 digits), fractions and
what is inside a valid IBAN (ISO 13616) do not. One number in neighbouring fields of a form or a JSON object counts when
they hold digits and gaps alone and part where cards have their gaps (four boxes of four). Limits: of random 16-digit
numbers one in fifty passes for a card; whoever spells a card out in words, writes on without a gap (4111...0123),
breaks the line within it or spreads it over fields in any other way gets through: a postal code beside a phone number
must not be refused. The content of uploaded files (pictures, PDFs) is not read, an import's file lies in the store
until it is done with. Visa's 13 digits, not issued any more, are left alone: they are article numbers (EAN).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any
from urllib.parse import unquote_plus

import orjson
from starlette.types import Scope

from service.core.errors import Invalid
from service.core.masking import maskers

SENTENCE = "This looks like a card number; never send it here."
MEND = "Take the number out. Cards are typed on the payment provider's own pages only."
MASK = "[card number]"

SIGNS = "_/\u00a0\u2000-\u200a\u202f\u3000\u2010-\u2015\u2212\u00ad\u200b-\u200d\u2060\ufeff -"
"""What people put between digits, and what nobody sees there."""
GAP, WIDE, NO_POINT = f"[.{SIGNS}]", f"[.{SIGNS}]{{1,3}}", f"[{SIGNS}]{{1,3}}"
# Where each digit is a 0 and each gap a -, found in a megabyte within milliseconds: only what it finds is judged.
NEEDLE = re.compile(rb"0[0-]{13,}")
FLAT = bytes(
    ord("0") if chr(code) in "0123456789" else ord("-") if chr(code) in " ._/-?" else ord(" ") for code in range(256)
)
"""The question mark is what encoding makes of a gap that is not ASCII."""
DIGITS = {code: str(unicodedata.decimal(chr(code))) for code in range(0x660, 0x1FC00) if chr(code).isdecimal()}
"""Digits of other scripts, and those as wide as a letter that some keyboards type, with ours."""
NEAR, EXPONENT = 64, 5
SHAPES = (
    re.compile(r"(?<![0-9])([0-9]{14,19})(?![0-9])"),
    re.compile(rf"(?<![0-9])(?=([0-9]{{4}}({WIDE})[0-9]{{4}}\2[0-9]{{4}}\2[0-9]{{4}}(?:\2[0-9]{{3}})?)(?![0-9]))"),
    re.compile(rf"(?<![0-9])(?=([0-9]{{4}}(?:{NO_POINT}[0-9]{{4}}){{3}})(?![0-9]))"),
    re.compile(rf"(?<![0-9])(?=([0-9]{{4}}({WIDE})[0-9]{{6}}\2[0-9]{{4,5}})(?![0-9]))"),
    re.compile(rf"(?<![0-9])([0-9]+({WIDE})[0-9]+(?:\2[0-9]+)*)"),
    re.compile(r"(?<![0-9.])([0-9]+(?:\.[0-9]+)?[eE][+-]?[0-9]{1,2})(?![0-9A-Za-z])"),
)
WORD = re.compile(r"[0-9A-Za-z]+")
IDENTIFIER = re.compile(r"[0-9a-f]{20,}|[0-9A-F]{20,}")
UUID = re.compile(r"[0-9A-Fa-f]{8}-(?:[0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}")
FRACTION, MEASURED, FRACTION_BEFORE, FRACTION_AFTER = (
    re.compile(r"[0-9]+\.[0-9]+"),
    re.compile(r"[0-9]{1,13}\.[0-9]+"),
    re.compile(r"(?<![0-9])[0-9]{1,13}\.$"),
    re.compile(r"\.(?!0+(?![0-9]))[0-9]{1,13}(?![0-9])"),
)
IBAN_LENGTHS = (
    "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27 DK18 DO28"
    " EE20 EG29 ES24 FI18 FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HN28 HR21 HU28 IE22 IL23 IQ23 IS26"
    " IT27 JO30 KW30 KZ20 LB28 LC32 LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 MN20 MR27 MT31 MU30 NI28"
    " NL18 NO15 OM23 PK24 PL28 PS29 PT25 QA29 RO24 RS22 RU33 SA24 SC31 SD18 SE24 SI19 SK24 SM27 SO23 ST25"
    " SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20 YE30"
)
"""The registry of ISO 13616: how many characters an account number has in each country."""
IBAN = re.compile(
    "(?<![0-9A-Za-z])(?:"
    + "|".join(f"{one[:2]}[0-9]{{2}}(?:{GAP}?[0-9A-Z]){{{int(one[2:]) - 4}}}" for one in IBAN_LENGTHS.split())
    + ")(?![0-9A-Za-z])"
)
ESCAPED = re.compile(r"\\[u/]")  # how JSON may write a digit or a gap otherwise
FLAT_QUOTED = FLAT[:34] + b'"' + FLAT[35:]
NEIGHBOURS = re.compile(rb'"[0-]+"[ -]*"[^"]*"[ -]*(?:""[ -]*"[^"]*"[ -]*)*"[0-]+"')
DIGITS_ALONE = re.compile(rf"[0-9]+(?:{WIDE}[0-9]+)*")
QUADS, AMEX = {0, 4, 8, 12, 16}, {0, 4, 10}
"""After how many digits a card has its gaps: fours, and 4-6-5 (4-6-4) of the shorter ones."""
SHORTEST, LONGEST = 14, 19
LONGEST_PHONE = 15  # ITU-T E.164
DOUBLED = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)

ISSUERS: tuple[tuple[str, range | tuple[int, ...]], ...] = (
    (r"4", (16, 19)),  # Visa
    (r"5[1-5]|222[1-9]|22[3-9]|2[3-6]|27[01]|2720", (16,)),  # Mastercard
    (r"3[47]", (15,)),  # American Express
    (r"6011|64[4-9]|65", (16, 19)),  # Discover
    (r"35(?:2[89]|[3-8])", range(16, 20)),  # JCB
    (r"62", range(16, 20)),  # UnionPay
    (r"3(?:0[0-59]|[689])", (14,)),  # Diners Club
    (r"220[0-4]", range(16, 20)),  # Mir
    (r"50(?:18|20|38)|5893|6304|6759|676[1-3]", range(16, 20)),  # Maestro
)
BEGINNINGS = tuple((re.compile(beginning), tuple(lengths)) for beginning, lengths in ISSUERS)


def is_card(digits: str) -> bool:
    """Whether these digits, without anything between them, have the shape of a card number."""
    if not any(len(digits) in lengths and beginning.match(digits) for beginning, lengths in BEGINNINGS):
        return False
    values = [int(digit) for digit in reversed(digits)]
    return (sum(values[::2]) + sum(DOUBLED[value] for value in values[1::2])) % 10 == 0


def places(text: str) -> list[tuple[int, int]]:
    """Where card numbers begin and end in a text, in order and none inside another."""
    found = list(_cards(text))
    found.sort(key=lambda place: (place[0], -place[1]))
    apart: list[tuple[int, int]] = []
    for place in found:
        if not apart or place[0] >= apart[-1][1]:
            apart.append(place)
    return apart


def _cards(text: str) -> Iterator[tuple[int, int]]:
    """As they are found: whoever asks only whether there is one need not wait for all."""
    text = text if text.isascii() else text.translate(DIGITS)
    for first, last in _near(text):
        for shape in SHAPES:
            for match in shape.finditer(text, first, last):
                start, end = match.span(1)
                cut = end == last < len(text)
                if not cut and is_card(_digits(match[1])) and not _is_something_else(text, start, end):
                    yield start, end


def _digits(written: str) -> str:
    """Without what stands between them; of a number with an exponent those of its value, when it is whole."""
    if "e" not in written.lower():
        return "".join(filter(str.isdecimal, written))
    value = Decimal(written)
    return f"{value:.0f}" if value == value.to_integral_value() else ""


def _near(text: str) -> list[tuple[int, int]]:
    """The stretches of a text in which a card number could stand: many digits, and what may be between them."""
    if len(text) < SHORTEST:
        return []
    runs = (hit.span() for hit in NEEDLE.finditer(text.encode("ascii", "replace").translate(FLAT)))
    return [
        (start, end + EXPONENT) for start, end in runs
        if not MEASURED.fullmatch(text, start, end) or text[end : end + 1] in ("e", "E")
    ]  # fmt: skip


def _is_something_else(text: str, start: int, end: int) -> bool:
    """A phone number, a number with a fraction, or a part of an identifier or of a bank account's number."""
    before, after = text[max(0, start - NEAR) : start], text[end : end + NEAR]
    if before.endswith("+"):
        return sum(map(str.isdecimal, text[start:end])) <= LONGEST_PHONE
    written = text[start:end]
    if FRACTION.fullmatch(written) or (
        written.isdecimal() and (FRACTION_BEFORE.search(before) or FRACTION_AFTER.match(after))
    ):
        return True
    around, here = before + written + after, len(before)
    ids = [word for word in WORD.finditer(around) if IDENTIFIER.fullmatch(word[0]) and not word[0].isdecimal()]
    ids += [*UUID.finditer(around), *filter(_is_iban, IBAN.finditer(around))]
    return any(one.start() <= here and here + end - start <= one.end() for one in ids)


def _is_iban(found: re.Match[str]) -> bool:
    """Whether the check digits are right: without them, two letters before a card would hide it."""
    written = "".join(filter(str.isalnum, found[0]))
    return int("".join(str(int(each, 36)) for each in written[4:] + written[:4])) % 97 == 1


def contains_card(text: str) -> bool:
    return next(_cards(text), None) is not None


def mask(text: str) -> str:
    """The text without its card numbers."""
    for start, end in reversed(places(text)):
        text = text[:start] + MASK + text[end:]
    return text


def spread(fields: Sequence[tuple[str, str]]) -> list[str]:
    """The names of neighbours that hold one number between them: each nothing but digits and gaps, cut as cards are."""
    waiting: list[tuple[str, list[str]]] = []
    for name, value in (*fields, ("", "end")):
        text = value.strip()
        if text[:1].isdecimal() and text[-1].isdecimal() and DIGITS_ALONE.fullmatch(text := text.translate(DIGITS)):
            waiting.append((name, re.findall("[0-9]+", text)))
        elif text:
            for first in range(len(waiting) - 1):
                if last := _end_of_card([runs for _, runs in waiting[first : first + LONGEST]]):
                    return [one for one, _ in waiting[first : first + last]]
            waiting = []
    return []


def _end_of_card(fields: list[list[str]]) -> int:
    """How many of the fields, two at least, are one card with its usual gaps; 0 when they are none."""
    whole, gaps = "", set[int]()
    for count, runs in enumerate(fields, 1):
        for run in runs:
            gaps.add(len(whole))
            whole += run
        if len(whole) > LONGEST:
            break
        if count > 1 and gaps <= (QUADS if len(whole) >= 16 else AMEX) and is_card(whole):
            return count
    return 0


def may_be_spread(text: str) -> bool:
    """Whether two texts of an object in this JSON are digits alone, one after the other; cheap, also for a megabyte."""
    return NEIGHBOURS.search(text.encode("ascii", "replace").translate(FLAT_QUOTED)) is not None


def fields_with_cards(value: Any, path: str = "") -> Iterator[str]:
    """The names, down through a JSON value, of what holds a card number; a name that is one itself is not repeated."""
    waiting = [(path, value)]
    while waiting:
        path, value = waiting.pop()
        if isinstance(value, Mapping):
            texts = [(name, inner if isinstance(inner, str) else "-") for name, inner in value.items()]
            yield from (f"{path}.{name}" if path else name for name in spread(texts))
            for name, inner in value.items():
                if contains_card(str(name)):
                    yield path or "body"
                else:
                    waiting.append((f"{path}.{name}" if path else str(name), inner))
        elif isinstance(value, list | tuple):
            waiting += [(f"{path}.{place}" if path else str(place), inner) for place, inner in enumerate(value)]
        elif isinstance(value, str):
            if contains_card(value):
                yield path or "body"
        elif _is_number_of_card(value):
            yield path or "body"


def without_cards(body: bytes) -> bytes:
    """Another system's JSON without its card numbers; as it came when it has none. For what nobody types here, so that
    nobody could be told to take it out."""
    text = body.decode("utf-8", "replace")
    if not (ESCAPED.search(text) or contains_card(text)):
        return body
    try:
        value = orjson.loads(body)
        cleaned = _cleaned(value)
    except (orjson.JSONDecodeError, RecursionError):
        return mask(text).encode()
    return body if cleaned == value else orjson.dumps(cleaned)


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, dict):
        return {mask(name): _cleaned(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_cleaned(inner) for inner in value]
    return MASK if _is_number_of_card(value) else value


def _is_number_of_card(value: Any) -> bool:
    return isinstance(value, int | float) and float(value).is_integer() and is_card(str(int(value)))


def refuse(value: Any) -> None:
    """Raise Invalid, naming the fields, when a JSON value holds a card number anywhere."""
    if found := dict.fromkeys(fields_with_cards(value), SENTENCE):
        raise Invalid("A value looks like a card number. Nothing was stored.", mend=MEND, fields=found)


def refuse_text(name: str, text: str) -> None:
    """Raise Invalid for a text that stands in the field of this name."""
    if contains_card(text):
        raise Invalid("A value looks like a card number. Nothing was stored.", mend=MEND, fields={name: SENTENCE})


def refuse_address(scope: Scope) -> None:
    """What is asked for ends in browsers' histories and in proxies' logs, so it is refused rather than answered; a
    retry's key is stored."""
    query = scope["query_string"].decode("latin-1")
    for part in query.split("&") if sum(map(str.isdecimal, query)) >= SHORTEST else ():
        name, _, value = (unquote_plus(one) for one in part.partition("="))
        refuse_text("address", name)
        refuse_text(name or "address", value)
    if sum(map(str.isdecimal, scope["path"])) >= SHORTEST:
        refuse_text("address", scope["path"])
    for name, value in scope["headers"]:
        if name == b"idempotency-key":
            refuse_text("Idempotency-Key", value.decode("latin-1"))


maskers.append(mask)

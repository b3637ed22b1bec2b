"""What people called a file, made harmless: it is shown and offered for downloads, and nothing is stored under it."""

from __future__ import annotations

import re
import unicodedata

from service.guardrails.cards import mask

LONGEST = 120
FALLBACK = "file"
INVISIBLE = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
"""Controls, bidirectional and zero-width characters and the like: "cod\u202excl.exe" looks like a spreadsheet."""
RUNNABLE = re.compile(
    r"\.(?=(?:php\d?|phtml|phar|exe|com|scr|bat|cmd|ps1|vbs|js|jse|wsf|hta|jar|sh|py|pl|cgi|aspx?|jspx?|html?|svg|lnk)\.)",
    re.IGNORECASE,
)


def display_name(given: str) -> str:
    """At most 120 characters, without a path; a runnable extension in front of the last one loses its dot."""
    name = unicodedata.normalize("NFC", given).replace("\\", "/").rpartition("/")[2]
    name = "".join(" " if character.isspace() else character for character in name if not _is_invisible(character))
    name = mask(RUNNABLE.sub("_", re.sub(r" +", " ", name).strip(" .")))
    if len(name) > LONGEST:
        stem, dot, extension = name.rpartition(".")
        tail = f"{dot}{extension}" if stem and len(extension) <= 8 else ""
        name = name[: LONGEST - len(tail)].rstrip(" .") + tail
    return name or FALLBACK


def _is_invisible(character: str) -> bool:
    return unicodedata.category(character) in INVISIBLE or character == "\ufffd"

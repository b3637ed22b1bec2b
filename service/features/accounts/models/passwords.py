"""What a password must be, and how it is kept: argon2id, a few at a time, off the event loop.

Policy (NIST SP 800-63B, ASVS 6.2): 10 to 200 characters of any kind, no composition rules, no rotation; refused are
what attackers try first, and what they know about the person. Parameters: OWASP's minimum for argon2id (19 MiB, 2
passes, 1 lane); a hash with other parameters is renewed at the next login.
"""

from __future__ import annotations

import asyncio
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher

from service.core.errors import Unavailable
from service.core.settings import get_settings

T = TypeVar("T")

SHORTEST, LONGEST = 10, 200
OWN_SHARE = 8
"""Characters that must remain when name, address and product are taken out."""
WAITING_PER_LANE = 8

_hasher = PasswordHash((Argon2Hasher(time_cost=2, memory_cost=19 * 1024, parallelism=1),))


class _Lanes:
    """Runs hashes in threads, so many at once, and refuses more than a bounded queue.

    A flood of logins must take neither the memory (19 MiB each) nor, since a waiting login holds a database connection,
    the whole pool.
    """

    def __init__(self, count: int, pool_size: int) -> None:
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="argon2")
        self._most = max(count, min(count * WAITING_PER_LANE, pool_size - 2))
        self._pending = 0

    async def run(self, work: Callable[[], T]) -> T:
        if self._pending >= self._most:
            raise Unavailable("Too many people are logging in at this moment.", retry_after=2)
        self._pending += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._pending -= 1


@lru_cache(maxsize=1)
def _lanes() -> _Lanes:
    settings = get_settings()
    return _Lanes(settings.password_hash_concurrency, settings.database_pool_size)


@lru_cache(maxsize=1)
def _dummy() -> str:
    """What an unknown account's password is compared with, so that knowing takes no less time than not knowing."""
    return _hasher.hash("nobody has this password")


def normalized(password: str) -> str:
    """NFKC: the same keys give the same password on every device (RFC 8265 section 4 recommends the like)."""
    return unicodedata.normalize("NFKC", password)


async def hash_password(password: str) -> str:
    """Raises Unavailable when too many are waiting."""
    return await _lanes().run(lambda: _hasher.hash(normalized(password)))


async def check_password(password: str, stored: str | None) -> tuple[bool, str | None]:
    """Whether it matches, and a new hash where the stored one is out of date. Nothing stored: no, after as long."""

    def check() -> tuple[bool, str | None]:
        dummy = _dummy()
        matches, renewed = _hasher.verify_and_update(normalized(password), stored or dummy)
        return (matches, renewed) if stored else (False, None)

    return await _lanes().run(check)


def weakness(password: str, *, about: tuple[str, ...] = ()) -> str | None:
    """What is wrong with a new password, as a sentence, or None. `about`: address and name of its owner."""
    password = normalized(password)
    if len(password) < SHORTEST:
        return f"Use at least {SHORTEST} characters; a few words in a row are easy to remember."
    if len(password) > LONGEST:
        return f"Use at most {LONGEST} characters."
    plain = password.casefold()
    bare = plain.strip("0123456789 !\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")
    if plain in _common() or bare in _common() or len(set(plain)) < 5 or _is_pattern(plain):
        return "This is among the passwords that attackers try first. Use something of your own."
    rest = plain
    for word in _words(about):
        rest = rest.replace(word, "")
    if len(rest) < OWN_SHARE:
        return "This is too close to your name, your address or ours. Add words that have nothing to do with them."
    return None


def _is_pattern(text: str) -> bool:
    """`abcdefghij`, `9876543210`, `monday1monday1`."""
    if (text + text).find(text, 1) < len(text):
        return True
    steps = {ord(after) - ord(before) for before, after in pairwise(text)}
    return steps <= {1, -9} or steps <= {-1, 9}


def _words(about: tuple[str, ...]) -> list[str]:
    text = " ".join(("ballast", *about)).casefold()
    words = "".join(character if character.isalnum() else " " for character in text).split()
    return sorted({word for word in words if len(word) >= 3}, key=len, reverse=True)


@lru_cache(maxsize=1)
def _common() -> frozenset[str]:
    lines = Path(__file__).with_name("common_passwords.txt").read_text("utf-8").splitlines()
    return frozenset(line for line in lines if not line.startswith("#"))

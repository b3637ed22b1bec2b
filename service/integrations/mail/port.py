"""What sending a mail means, whoever carries it: one message, one person, and an answer that can be trusted."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

DEADLINE_SECONDS = 8.0
"""Shorter than the database's idle-in-transaction timeout: a job keeps its transaction open while it sends."""


class MailFailed(Exception):
    """The provider could not take the message now; trying again later can help.

    `doubtful`: it may have taken the message and the answer was lost.
    """

    def __init__(self, why: str, *, doubtful: bool = False) -> None:
        super().__init__(why)
        self.doubtful = doubtful


class MailRefused(MailFailed):
    """The provider said no for good to this message or recipient; trying again cannot help."""


@dataclass(frozen=True, slots=True)
class Mail:
    """One message for one person. `reference` is the same for each attempt to send it, and holds nothing personal:
    providers keep it for ever."""

    to: str
    subject: str
    text: str
    html: str
    reference: str
    category: str = ""
    """Which template it was made from, for the provider's statistics."""
    unsubscribe: str = ""
    """Address that takes a one-click unsubscription (RFC 8058)."""
    asked_for: bool = False
    """The person waits for it: the provider's own list of addresses to spare does not hold it back."""

    @property
    def headers(self) -> dict[str, str]:
        """Beside sender, recipient and subject."""
        # RFC 3834: out-of-office robots must not answer.
        found = {"Auto-Submitted": "auto-generated"}
        if self.unsubscribe:
            found |= {
                "List-Unsubscribe": f"<{self.unsubscribe}>",
                "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
            }
        return found


@dataclass(frozen=True, slots=True)
class Mailer:
    """A resource: the provider that carries our mail."""

    send: Callable[[Mail], Awaitable[None]]
    """Raises MailFailed when it may work later, MailRefused when it never will."""
    check: Callable[[], Awaitable[str]]
    """One sentence when it answers us and accepts who we are; raises MailFailed."""
    forget: Callable[[str], Awaitable[None]]
    """Take an address off the provider's own list of those it spares, if it has one; raises MailFailed."""
    erase: Callable[[str], Awaitable[str]]
    """Have the provider erase what it keeps about an address; answers what it said. Raises MailFailed."""
    tells_later: bool
    """Whether it reports what became of a message, so that a lost answer can be found out."""

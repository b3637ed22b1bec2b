"""What one upload may cost, and which kinds it may be of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from service.core.errors import UnsupportedMedia

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Kind:
    """`begins` are the first bytes (any of them); none for text, which is recognized by having no NUL."""

    label: str
    media_type: str
    begins: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class UploadPolicy:
    """`seconds` is for the whole body, `slowest` in bytes a second; `at_once` uploads share one process's memory, of
    which `each` may be of one person or key."""

    name: str
    kinds: Mapping[str, Kind]
    """By extension; what the worker can inspect."""
    most_bytes: int
    seconds: float = 60.0
    slowest: int = 1_024
    patience: float = 5.0
    """A network may stall this long before its speed counts."""
    at_once: int = 8
    each: int = 3

    def kind_of(self, name: str) -> str:
        """The allow-listed extension of a display name; raises UnsupportedMedia."""
        extension = name.rpartition(".")[2].lower()
        if extension not in self.kinds:
            raise self.refusal("Files of this kind are not taken.")
        return extension

    def check_beginning(self, extension: str, beginning: bytes) -> None:
        """Raises UnsupportedMedia when the first bytes are not those of the kind: at once, before anything is kept."""
        kind = self.kinds[extension]
        fits = beginning.startswith(kind.begins) if kind.begins else b"\0" not in beginning
        if not fits:
            raise self.refusal(f"The content is not that of a {extension} file.")

    def refusal(self, detail: str) -> UnsupportedMedia:
        return UnsupportedMedia(detail, mend=f"Send one of these, unchanged: {', '.join(self.kinds)}.")


def accept_upload(policy: UploadPolicy) -> Callable[[F], F]:
    """Give a route the bounds of this policy instead of those of ordinary bodies."""

    def decorate(endpoint: F) -> F:
        endpoint.upload_policy = policy  # type: ignore[attr-defined]
        return endpoint

    return decorate


def upload_policy_of(endpoint: Any) -> UploadPolicy | None:
    found: UploadPolicy | None = getattr(endpoint, "upload_policy", None)
    return found

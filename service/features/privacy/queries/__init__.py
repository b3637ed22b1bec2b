"""Reads: only ever the acting person's own."""

from service.features.privacy.queries.exports import (
    get_download,
    get_organization_exports,
    list_exports,
)

__all__ = ["get_download", "get_organization_exports", "list_exports"]

"""Writes: asking for a copy, and what the worker makes of it."""

from service.features.privacy.actions.exports import (
    fail_export,
    finish_export,
    request_export,
    request_organization_export,
)

__all__ = ["fail_export", "finish_export", "request_export", "request_organization_export"]

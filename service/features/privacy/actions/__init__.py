"""Writes: asking for a copy, and what the worker makes of it."""

from service.features.privacy.actions.exports import (
    copy_by_letter,
    fail_export,
    finish_export,
    request_export,
    request_organization_export,
)

__all__ = ["copy_by_letter", "fail_export", "finish_export", "request_export", "request_organization_export"]

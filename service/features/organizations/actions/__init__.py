"""Writes: how organizations begin and end, and how people come, rise, fall and go.

Whatever changes who belongs locks the organization's row first. So two owners who leave at once take turns, and the
second one finds that they are the last.
"""

from service.features.organizations.actions.invitations import (
    accept_invitation,
    invite,
    resend_invitation,
    revoke_invitation,
)
from service.features.organizations.actions.members import before_removal as before_removal
from service.features.organizations.actions.members import (
    change_role,
    leave_organization,
    remove_member,
    transfer_ownership,
)
from service.features.organizations.actions.organization import MOST_OWNED as MOST_OWNED
from service.features.organizations.actions.organization import (
    create_organization,
    delete_organization,
    rename_organization,
    restore_organization,
    switch_organization,
)

__all__ = [
    "MOST_OWNED", "accept_invitation", "before_removal", "change_role", "create_organization", "delete_organization",
    "invite", "leave_organization", "remove_member", "rename_organization", "resend_invitation", "restore_organization",
    "revoke_invitation", "switch_organization", "transfer_ownership",
]  # fmt: skip

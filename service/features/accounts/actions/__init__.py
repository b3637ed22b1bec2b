"""Writes: how people come in, prove who they are, change what proves it, and go."""

from service.features.accounts.actions._shared import Browser, Entrance
from service.features.accounts.actions.deletion import before_deletion, delete_account, request_recovery, undo_deletion
from service.features.accounts.actions.entry import (
    confirm_address,
    log_in,
    log_in_with_code,
    log_out,
    request_link,
    sign_up,
)
from service.features.accounts.actions.passwords import change_password, request_reset, reset_password
from service.features.accounts.actions.profile import change_name, confirm_new_email, request_new_email
from service.features.accounts.actions.provider import connect_identity, disconnect_identity, log_in_with_identity
from service.features.accounts.actions.second_factor import confirm_totp, offer_totp, remove_totp, renew_recovery_codes
from service.features.accounts.actions.sessions import (
    confirm_identity,
    confirm_with_provider,
    end_device,
    end_other_sessions,
)

__all__ = [
    "Browser",
    "Entrance",
    "before_deletion",
    "change_name",
    "change_password",
    "confirm_address",
    "confirm_identity",
    "confirm_new_email",
    "confirm_totp",
    "confirm_with_provider",
    "connect_identity",
    "delete_account",
    "disconnect_identity",
    "end_device",
    "end_other_sessions",
    "log_in",
    "log_in_with_code",
    "log_in_with_identity",
    "log_out",
    "offer_totp",
    "remove_totp",
    "renew_recovery_codes",
    "request_link",
    "request_new_email",
    "request_recovery",
    "request_reset",
    "reset_password",
    "sign_up",
    "undo_deletion",
]

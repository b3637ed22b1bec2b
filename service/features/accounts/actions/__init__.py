"""Writes: how people come in, prove who they are, change what proves it, and go."""

from service.features.accounts.actions._shared import Browser as Browser
from service.features.accounts.actions._shared import Entrance as Entrance
from service.features.accounts.actions.account import before_deletion as before_deletion
from service.features.accounts.actions.account import before_restore as before_restore
from service.features.accounts.actions.account import (
    change_name,
    confirm_new_email,
    delete_account,
    request_new_email,
    undo_deletion,
)
from service.features.accounts.actions.account import obstacles as obstacles
from service.features.accounts.actions.entry import (
    confirm_address,
    log_in,
    log_in_with_code,
    log_out,
    request_link,
    reset_password,
    sign_up,
)
from service.features.accounts.actions.help import (
    confirm_address_of,
    end_session_of,
    end_sessions_of,
    lock,
    recover,
    reset_totp_of,
    send_reset_link,
    unlock,
)
from service.features.accounts.actions.provider import connect_identity, disconnect_identity, log_in_with_identity
from service.features.accounts.actions.security import (
    change_password,
    confirm_identity,
    confirm_totp,
    confirm_with_provider,
    end_device,
    end_other_sessions,
    offer_totp,
    remove_totp,
    renew_recovery_codes,
)
from service.features.accounts.actions.staff import add_staff, remove_staff

__all__ = [
    "Browser", "Entrance", "add_staff", "before_deletion", "before_restore", "change_name", "change_password",
    "confirm_address",
    "confirm_address_of", "confirm_identity", "confirm_new_email", "confirm_totp", "confirm_with_provider",
    "connect_identity", "delete_account", "disconnect_identity", "end_device", "end_other_sessions", "end_session_of",
    "end_sessions_of", "lock", "log_in", "log_in_with_code", "log_in_with_identity", "log_out", "obstacles",
    "offer_totp", "recover", "remove_staff", "remove_totp", "renew_recovery_codes", "request_link",
    "request_new_email", "reset_password", "reset_totp_of", "send_reset_link", "sign_up", "undo_deletion", "unlock",
]  # fmt: skip

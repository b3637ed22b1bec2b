"""The pages of an account; the modules put their routes on one flat router."""

from service.features.accounts.pages import account, deletion, entry, passwords, provider, second_factor, sessions
from service.features.accounts.pages._shared import router

__all__ = ["account", "deletion", "entry", "passwords", "provider", "router", "second_factor", "sessions"]

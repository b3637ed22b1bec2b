"""The pages of an account; the modules put their routes on one flat router."""

from service.features.accounts.pages import account, entry, links, provider, security
from service.features.accounts.pages._shared import router

__all__ = ["account", "entry", "links", "provider", "router", "security"]

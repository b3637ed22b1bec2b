"""The pages about a person's data; the modules put their routes on one flat router."""

from service.features.privacy.pages import exports, overview
from service.features.privacy.pages._shared import router

__all__ = ["exports", "overview", "router"]

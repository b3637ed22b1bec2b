"""News, wishes about it, and what comes in from outside without a login; the routes are on one flat router."""

from service.features.notifications.pages import mail, news
from service.features.notifications.pages._shared import router
from service.features.notifications.pages.news import NAV
from service.features.notifications.pages.webhook import webhooks

infrastructure = [*webhooks, mail.one_click]

__all__ = ["NAV", "infrastructure", "mail", "news", "router"]

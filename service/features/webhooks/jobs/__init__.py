"""What runs beside the requests: what is told, how it is sent, and the mail about an endpoint that was switched off."""

from service.features.webhooks.jobs import events, loops, mails

__all__ = ["events", "loops", "mails"]

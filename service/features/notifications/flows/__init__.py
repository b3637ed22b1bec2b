"""`notify`: the one way to tell people something, for every feature.

    IMPORT_FINISHED = Kind("import_finished", "An import of yours is done")     # once, in models.py or jobs.py
    await notify(ctx, IMPORT_FINISHED, "412 readings were imported.", href=f"/files/{file.id}", user_ids=[file.owner])

Call it in a job, or in an action: it writes in the caller's transaction and is taken back with it. Only members of the
acting organization are told, and nobody who switched the kind off. Who wants it by mail gets one, unless it was read.
"""

from service.features.notifications.flows.tell import notify

__all__ = ["notify"]

"""The dashboard's tiles as HTML, by the product's own template: what the floor and the ORM route answer with."""

from __future__ import annotations

from typing import Any

from service.web.templating import environment


def tiles_html(board: Any, total: int, etag: str) -> str:
    """The block that the poll gets when something changed."""
    template = environment().get_template("indicators/dashboard.html")
    context = template.new_context(
        {"page": None, "board": board, "total": total, "etag": etag, "can": True, "ranges": False}
    )
    return "".join(template.blocks["tiles"](context))

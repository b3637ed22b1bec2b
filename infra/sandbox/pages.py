"""Pages of the stand-ins: autoescaped templates under a policy that allows no script at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles
from starlette.templating import Jinja2Templates

HERE = Path(__file__).parent
TEMPLATES = Jinja2Templates(HERE / "templates")

# Somebody else's HTML: no script, no form, no request to anywhere; links open outside the frame.
FRAME_POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; "
    "sandbox allow-popups allow-popups-to-escape-sandbox"
)


def page(
    request: Request, template: str, *, status_code: int = 200, form_action: str = "'self'", **values: Any
) -> Response:
    """Render a template; `form_action` widens where its forms may lead (browsers apply it to redirects too)."""
    policy = (
        f"default-src 'none'; style-src 'self'; frame-src 'self'; img-src 'self' data:; form-action {form_action}; "
        "base-uri 'none'; frame-ancestors 'none'"
    )
    return TEMPLATES.TemplateResponse(
        request,
        template,
        values,
        status_code=status_code,
        headers={"Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"},
    )


def static_files() -> Mount:
    return Mount("/static", StaticFiles(directory=HERE / "static"), name="static")

"""What templates write that is not plain text: attributes, and the icons."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from markupsafe import Markup

from service.web import formats
from service.web.assets import STATIC, assets

ATTRIBUTE: Final = re.compile(r"[a-z][a-z0-9:-]*")
ADDRESSES: Final = frozenset(
    {"href", "action", "formaction", "src"} | {f"hx-{m}" for m in ("get", "post", "put", "patch", "delete")}
)


def attributes(values: Mapping[str, object]) -> Markup:
    """HTML attributes: True is a bare attribute, None and False leave it out, `_` in a name becomes `-`."""
    out = Markup("")
    for name, value in values.items():
        if value is None or value is False:
            continue
        key = name.replace("_", "-")
        if not ATTRIBUTE.fullmatch(key) or key.startswith(("on", "hx-on")) or key == "style":
            raise ValueError(f"{key!r} is no attribute that a template may set: no handlers, no inline style")
        if key in ADDRESSES:
            # htmx runs `hx-get="javascript:..."`, as browsers do with href.
            value = formats.safe_url(str(value))
        out += Markup(" {}").format(key) if value is True else Markup(' {}="{}"').format(key, value)
    return out


@lru_cache(maxsize=512)
def icon(name: str, label: str = "") -> Markup:
    """One symbol of static/icons.svg; decoration unless labelled. Raises LookupError for a name that is not drawn."""
    if name not in icon_names():
        raise LookupError(f"no icon {name!r} in static/icons.svg; there are: {sorted(icon_names())}")
    role = Markup('role="img" aria-label="{}"').format(label) if label else Markup('aria-hidden="true"')
    return Markup('<svg class="icon" {}><use href="{}#{}"/></svg>').format(role, assets().url("icons.svg"), name)


@lru_cache(maxsize=1)
def icon_names() -> frozenset[str]:
    return frozenset(re.findall(r'<symbol id="([a-z0-9-]+)"', (STATIC / "icons.svg").read_text("utf-8")))

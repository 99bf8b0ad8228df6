"""Whether the site works without a network: what its pages load from elsewhere."""

import re
from pathlib import Path

_FETCHED = re.compile(r"<(?:script|img|iframe|link)\b[^>]*\b(?:src|href)=\"?(?:https?:)?//[^>]*>")


def fetched(site: Path) -> list[str]:
    """The tags that load something from elsewhere, each with its page; links are none."""
    pages = ((path, path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html")))
    return [f"{path.relative_to(site)}: {m}" for path, t in pages for m in _FETCHED.findall(t)]

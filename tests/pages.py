"""What the tests of several kinds of pages read of them."""

import re

FENCE = re.compile(r"^(`{3,})([^\n]*)\n(.*?)^\1[ ]*$", re.DOTALL | re.MULTILINE)


def blocks(text):
    """Return the kind and the text of each fenced block of a page."""
    return [(kind.strip(), body) for _, kind, body in FENCE.findall(text)]


def sentences(text):
    """Return a page without blocks, mathematics, code and the addresses of links."""
    text = re.sub(r"\$\$.*?\$\$|\$[^$\n]+\$|`[^`\n]*`", " ", FENCE.sub("", text), flags=re.DOTALL)
    return re.sub(r"\]\([^)]*\)", "]", text)

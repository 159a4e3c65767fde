"""The hooks and their promises as reStructuredText, from `viommu.hookspecs`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tools.docs.reference import directive, is_hook, qualified
from tools.docs.source import Function, module

if TYPE_CHECKING:
    from collections.abc import Iterator

PART = re.compile(r"^(When|Given|Owes|Returns|Raises|Kernel): +", re.MULTILINE)


def hooks(name: str) -> Iterator[Function]:
    """Give the hooks that a module declares, in its order."""
    found = [item for item in module(name).items if isinstance(item, Function) and is_hook(item)]
    yield from found


def parts(hook: Function) -> tuple[str, dict[str, str]]:
    """Cut a hook's docstring: what it is, and its promises by name."""
    first, *rest = PART.split(hook.doc)
    named = zip(rest[::2], rest[1::2], strict=True)
    return first.strip(), {part: " ".join(text.split()) for part, text in named}


def page(name: str) -> str:
    """Give the text of all hooks of a module."""
    lines: list[str] = []
    for hook in hooks(name):
        what, promises = parts(hook)
        body = [what, "", *(f":{part}: {text}" for part, text in promises.items())]
        signature = qualified(hook.signature, name)
        lines += [*directive(f"py:function:: {name}.{hook.name}{signature}", [], "\n".join(body)), ""]
    return "\n".join(lines)

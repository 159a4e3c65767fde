"""The Python reference as reStructuredText: each public name once, on the page of the module that defines it."""

from __future__ import annotations

import builtins
import re
from functools import cache
from textwrap import indent
from typing import TYPE_CHECKING

from tools.docs.source import Class, Function, Value, meant_by, module, public_modules

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tools.docs.source import Item, Parameter

NAME = re.compile(r"(?<![.\w\"'])[A-Z]\w*(?!\s*=|:|\.)")
LONGEST_VALUE = 60
"""Letters of a value that are shown."""


def page(name: str, *, hooks: bool = False) -> str:
    """Give the text of one module; without ``hooks``, those are left to a page of their own."""
    found = module(name)
    lines = [f"``{name}``", "-" * (len(name) + 4), "", f".. py:module:: {name}", "", found.doc, ""]
    elsewhere: list[str] = []
    seen: set[str] = set()
    for item in found.items:
        home = home_of(item)
        if home != name:
            elsewhere.append(f":py:obj:`{item.name} <{home}.{item.name}>`")
        elif hooks or not is_hook(item):
            lines += [*_described(item, again=item.name in seen), ""]
            seen.add(item.name)
    if elsewhere:
        lines += [f"Also here: {', '.join(elsewhere)}.", ""]
    return "\n".join(lines)


def home_of(item: Item) -> str:
    """Say on which module's page an item stands: of those that promise it, the one that defines it, or the first."""
    promising = [name for name in public_modules() if item in module(name).items]
    return item.home if item.home in promising else promising[0]


def is_hook(item: Item) -> bool:
    """Say whether a public name is a hook."""
    return isinstance(item, Function) and {"hookspec", "modelspec"} & set(item.decorators) != set()


def qualified(text: str, home: str) -> str:
    """Write types by their full names, so that a link leads to the one that is meant."""
    meant, places = meant_by(home), _places()

    def full(name: re.Match[str]) -> str:
        found = meant.get(name[0], name[0])
        return places.get(found, found)

    return NAME.sub(full, text)


@cache
def _places() -> dict[str, str]:
    """Say of what public modules promise, by where it is defined, on which module's page it stands."""
    return {
        f"{item.home}.{item.name}": f"{home_of(item)}.{item.name}"
        for found in map(module, public_modules())
        for item in found.items
    }


def _described(item: Item, *, again: bool) -> list[str]:
    if isinstance(item, Function):
        return function("function", item, item.home, again=again)
    return _class(item) if isinstance(item, Class) else _value("data", item, item.home)


def function(kind: str, item: Function, home: str, *, again: bool = False) -> list[str]:
    """Describe a function, or a method; ``again``: one more overload of it."""
    options = ["no-index"] if again else []
    options += [option for option in ("classmethod", "staticmethod") if option in item.decorators and kind == "method"]
    return directive(f"py:{kind}:: {item.name}{qualified(item.signature, home)}", options, item.doc)


def _property(item: Function, home: str) -> list[str]:
    options = [f"type: {qualified(item.returns, home)}", *_unlisted(item.name)]
    return directive(f"py:property:: {item.name}", options, item.doc)


def _unlisted(name: str) -> list[str]:
    """Keep an attribute that is named as a builtin type out of the index: annotations would lead to it."""
    return ["no-index"] if hasattr(builtins, name) else []


def _value(kind: str, item: Value, home: str) -> list[str]:
    typed = item.annotation and "TypeAlias" not in item.annotation
    options = [f"type: {qualified(item.annotation, home)}"] if typed else []
    options += _unlisted(item.name)
    value = " ".join(item.value.split())
    if 0 < len(value) <= LONGEST_VALUE and not value.startswith("field("):
        options.append(f"value: {value}")
    return directive(f"py:{kind}:: {item.name}", options, item.doc)


def _class(item: Class) -> list[str]:
    makes = "" if item.makes is None else qualified(f"({', '.join(map(str, item.makes))})", item.home)
    body = [item.doc, "", item.makes_doc, "", *_bases(item), *_field_docs(item.makes or ())]
    for value in item.values:
        body += ["", *_value("attribute", value, item.home)]
    seen: set[str] = set()
    for member in item.members:
        if "setter" in member.decorators:
            continue
        again = member.name in seen
        is_property = member.is_property
        made = _property(member, item.home) if is_property else function("method", member, item.home, again=again)
        body += ["", *made]
        seen.add(member.name)
    return directive(f"py:class:: {item.name}{makes}", [], "\n".join(body))


def _bases(item: Class) -> Iterator[str]:
    shown = [base for base in item.bases if base not in {"Protocol", "Object"} and not base.startswith("_")]
    if shown:
        yield f"A kind of {', '.join(f'`{base} <{qualified(base, item.home)}>`' for base in shown)}."
        yield ""


def _field_docs(parameters: Iterable[Parameter]) -> Iterator[str]:
    for each in parameters:
        if each.doc:
            yield f"- ``{each.name}``: {' '.join(each.doc.split())}"


def directive(head: str, options: Iterable[str], body: str) -> list[str]:
    """Give a directive, its options (``name`` or ``name: value``), and what it holds."""
    written = [f"   :{name}:{value}" for name, _, value in (option.partition(":") for option in options)]
    return [f".. {head}", *written, "", indent(body, "   "), ""]

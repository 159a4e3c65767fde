"""What every public name owes its reader: a docstring, types, and a unit wherever it measures something.

**Units.** A number (``int``, ``float``) whose name says that it measures (``address``, ``length`` and so on, see
`MEASURES`) needs one. It has one where its type is one of `viommu.addresses`, where its name ends in one
(``input_bits``, ``page_lg2``), or where a docstring names one that belongs to it: its own, its function's, its class's,
or that of the module which defines or promises it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tools.docs.source import Class, Function, Parameter, doc_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tools.docs.source import Item, Module

PLACES = ("address", "addr", "pa", "iova", "ipa", "start", "last", "end", "base", "offset")
MEASURES = frozenset((*PLACES, "length", "size", "span", "timeout"))
NUMBER = re.compile(r"\b(int|float)\b")
TYPED_UNIT = re.compile(r"\b(Iova|Ipa|Pa|Pasid|RequesterId|Tag|Literal)\b")
NAMED_UNIT = frozenset({"bits", "lg2", "bytes", "pages", "seconds"})
TOLD_UNIT = re.compile(r"\b(bytes?|bits?|pages?|words?|seconds?|log2|units?)\b")


def complaints(module: Module) -> Iterator[str]:
    """Say what a module's public names lack, each in a line."""
    if not module.doc:
        yield f"{module.name}: no docstring"
    for item in module.items:
        yield from _of_item(f"{module.name}.{item.name}", item, f"{doc_of(item.home)}\n{module.doc}")


def _of_item(place: str, item: Item, around: str) -> Iterator[str]:
    if isinstance(item, Function):
        yield from _of_function(place, item, around)
    elif isinstance(item, Class):
        yield from _of_class(place, item, around)
    elif not item.doc:
        yield f"{place}: no docstring after it"


def _of_function(place: str, function: Function, around: str) -> Iterator[str]:
    overloaded = "overload" in function.decorators
    if not function.doc and not overloaded:
        yield f"{place}: no docstring"
    if not function.returns:
        yield f"{place}: no type of what it returns"
    yield from _of_parameters(place, function.parameters, f"{function.doc}\n{around}")
    if function.is_property and _lacks_unit(function.name, function.returns, f"{function.doc}\n{around}"):
        yield f"{place}: no unit"


def _of_class(place: str, item: Class, around: str) -> Iterator[str]:
    if not item.doc:
        yield f"{place}: no docstring"
    told = f"{item.doc}\n{item.makes_doc}\n{around}"
    yield from _of_parameters(place, item.makes or (), told)
    made_of = {parameter.name for parameter in item.makes or ()}
    for value in item.values:
        if _lacks_unit(value.name, value.annotation, f"{value.doc}\n{told}"):
            yield f"{place}.{value.name}: no unit"
    for member in item.members:
        told_by_its_class = member.name in made_of or f"``{member.name}``" in item.doc
        if not told_by_its_class and "setter" not in member.decorators:
            yield from _of_function(f"{place}.{member.name}", member, told)


def _of_parameters(place: str, parameters: tuple[Parameter, ...], told: str) -> Iterator[str]:
    for each in parameters:
        if not each.name:
            continue
        if not each.annotation:
            yield f"{place}({each.name}): no type"
        if _lacks_unit(each.name, each.annotation, f"{each.doc}\n{told}"):
            yield f"{place}({each.name}): no unit"


def _lacks_unit(name: str, annotation: str, told: str) -> bool:
    parts = set(name.lower().split("_"))
    if not parts & MEASURES or parts & NAMED_UNIT or not NUMBER.search(annotation):
        return False
    return not TYPED_UNIT.search(annotation) and not TOLD_UNIT.search(told)

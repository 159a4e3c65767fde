"""The stub says what the compiled engine has: the same names, parameters and defaults, and no more."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
import pytest
from attrs import frozen

from viommu import _engine
from viommu.faults import Access, FaultClass, FaultKind, Stage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

STUB = ast.parse((Path(__file__).parents[2] / "core" / "viommu" / "_engine.pyi").read_text())
CLASSES = {node.name: node for node in STUB.body if isinstance(node, ast.ClassDef)}
FUNCTIONS = {node.name: node for node in STUB.body if isinstance(node, ast.FunctionDef)}
CONSTANTS = {
    node.target.id: node for node in STUB.body if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
}
ALIASES = {name for name, node in CONSTANTS.items() if ast.unparse(node.annotation) == "TypeAlias"}
DUNDERS = {"__init__", "__len__"}
"""Those special methods that the stub has to name."""
BASES = {"Batch", "Front"}
"""What the core has heirs of; all else is final."""


@frozen
class Parameter:
    name: str
    keyword_only: bool
    default: str | None
    """As Python writes it; None where there is none."""


def parameters_of(function: ast.FunctionDef) -> list[Parameter]:
    """Whatever an annotation says, these are compared; ``self`` is not."""
    arguments = function.args
    given = arguments.posonlyargs + arguments.args
    defaults: list[ast.expr | None] = [None] * (len(given) - len(arguments.defaults)) + list(arguments.defaults)
    pairs = [(a, d, False) for a, d in zip(given, defaults, strict=True)]
    pairs += [(a, d, True) for a, d in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)]
    return [
        Parameter(a.arg, keyword_only, None if default is None else written(default))
        for a, default, keyword_only in pairs
        if a.arg != "self"
    ]


def written(default: ast.expr) -> str:
    """One way to write a default: constants by value, ``[]`` and ``()`` alike."""
    if isinstance(default, ast.Name):
        return repr(getattr(_engine, default.id))
    value = ast.literal_eval(default)
    return "()" if value in ([], ()) else repr(value)


def told(documentation: str | None) -> ast.FunctionDef:
    """The signature in the first line of a compiled function's docstring."""
    assert documentation
    line = re.sub(r"<[^<>]* object at 0x[0-9a-f]+>", "...", documentation.splitlines()[0])
    (function,) = ast.parse(f"def {line}: ...").body
    assert isinstance(function, ast.FunctionDef)
    return function


def public(names: Iterable[str]) -> set[str]:
    return {name for name in names if not name.startswith("_")}


def members(stub: ast.ClassDef) -> Iterator[tuple[str, ast.FunctionDef | None]]:
    """Names of a class: methods with their definition, attributes and properties with None."""
    for node in stub.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id, None
        elif isinstance(node, ast.FunctionDef) and node.name not in {"__new__", "__buffer__"}:  # which has no function
            is_property = any(ast.unparse(d) == "property" for d in node.decorator_list)
            yield node.name, None if is_property else node


def _has_constructor(stub: ast.ClassDef) -> bool:
    return any(isinstance(node, ast.FunctionDef) and node.name in {"__init__", "__new__"} for node in stub.body)


METHODS = [
    pytest.param(owner, name, node, id=f"{owner}.{name}")
    for owner, stub in CLASSES.items()
    for name, node in members(stub)
    if node is not None
]


def test_the_module_has_the_names_of_the_stub_and_no_others() -> None:
    imported = {name for name, value in vars(_engine).items() if isinstance(value, ModuleType)}
    assert public(vars(_engine)) - imported == public({*CLASSES, *FUNCTIONS, *CONSTANTS} - ALIASES)


@pytest.mark.parametrize("name", CLASSES)
def test_a_class_has_the_members_of_its_stub_and_no_others(name: str) -> None:
    compiled = getattr(_engine, name)
    own = {member for member in vars(compiled) if member in DUNDERS or not member.startswith("_")}
    if compiled.__init__ is object.__init__ or "__init__" not in dict(members(CLASSES[name])):
        own.discard("__init__")  # the engine makes these; nobody else does
    assert own == dict(members(CLASSES[name])).keys()


@pytest.mark.parametrize(("owner", "name", "stub"), METHODS)
def test_a_method_takes_what_its_stub_says(owner: str, name: str, stub: ast.FunctionDef) -> None:
    compiled = getattr(getattr(_engine, owner), name)
    if name == "__len__":
        assert callable(compiled)
        return
    assert parameters_of(told(inspect.getdoc(compiled))) == parameters_of(stub)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_takes_what_its_stub_says(name: str) -> None:
    assert parameters_of(told(inspect.getdoc(getattr(_engine, name)))) == parameters_of(FUNCTIONS[name])


@pytest.mark.parametrize("name", sorted(CONSTANTS.keys() - ALIASES))
def test_a_constant_has_the_value_of_its_stub(name: str) -> None:
    stub = CONSTANTS[name].value
    if stub is not None:
        assert getattr(_engine, name) == ast.literal_eval(stub)


MADE_BY_THE_ENGINE = [name for name, stub in CLASSES.items() if name not in BASES and not _has_constructor(stub)]


@pytest.mark.parametrize("name", MADE_BY_THE_ENGINE)
def test_what_only_the_engine_makes_nobody_else_can(name: str) -> None:
    with pytest.raises(TypeError):
        getattr(_engine, name)()


@pytest.mark.parametrize("name", sorted(CLASSES.keys() - BASES))
def test_classes_are_final_as_their_stubs_say(name: str) -> None:
    assert "final" in [ast.unparse(d) for d in CLASSES[name].decorator_list]
    with pytest.raises(TypeError):
        type("Heir", (getattr(_engine, name),), {})


def test_fault_kinds_are_the_cores() -> None:
    assert [kind.name.lower() for kind in FaultKind] == list(_engine.FAULT_KINDS)
    assert [kind.value for kind in FaultKind] == list(range(len(_engine.FAULT_KINDS)))


def test_accesses_stages_and_classes_are_the_cores() -> None:
    assert {name: getattr(_engine, name) for name in ("READ", "WRITE", "EXECUTE", "PRIVILEGED")} == {
        access.name: access.value for access in Access
    }
    assert (list(Stage), list(FaultClass)) == ([0, 1, 2, 3], [0, 1, 2])


def test_fault_records_have_the_fields_that_are_documented() -> None:
    dtype = _engine.FAULT_DTYPE
    assert dtype.itemsize == 56
    names = list(dtype.names or ())
    assert names.pop(names.index("unused")) == "unused"
    fields = set(dict(members(CLASSES["Result"]))) | {"row"}
    assert set(names) <= fields
    wide = {"row", "iova", "ipa", "entry_address", "entry_value"}
    for name in names:
        assert dtype[name] == (np.uint64 if name in wide else np.uint32 if name == "driver_bits" else np.uint8), name

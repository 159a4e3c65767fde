"""The public API as the source states it: names, signatures, docstrings. Nothing is imported; stubs are read too."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from typing import TypeAlias

from attrs import evolve, frozen

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "core" / "viommu"
POLICY = ROOT / "docs" / "api-policy.md"
FIELD_MAKERS = ("define", "frozen")
Assigned = ast.Assign | ast.AnnAssign


@frozen
class Parameter:
    """One parameter of a function, or field of a class; ``prefix`` is ``*`` or ``**``, or "/" where it ends a list."""

    name: str
    annotation: str = ""
    default: str | None = None
    prefix: str = ""
    doc: str = ""

    def __str__(self) -> str:
        annotation = f": {self.annotation}" if self.annotation else ""
        spaces = " " if annotation else ""
        default = "" if self.default is None else f"{spaces}={spaces}{self.default}"
        return f"{self.prefix}{self.name}{annotation}{default}"


@frozen
class Function:
    """A function, method or property; ``decorators`` by their last names."""

    name: str
    parameters: tuple[Parameter, ...]
    returns: str
    doc: str
    decorators: tuple[str, ...] = ()
    home: str = ""
    """The module in which it is defined."""

    @property
    def is_property(self) -> bool:
        """Whether it is read like an attribute."""
        return bool({"property", "cached_property"} & set(self.decorators))

    @property
    def signature(self) -> str:
        """As Python writes it."""
        returns = f" -> {self.returns}" if self.returns else ""
        return f"({', '.join(map(str, self.parameters))}){returns}"


@frozen
class Value:
    """A constant, a type alias, a member of an enum."""

    name: str
    annotation: str
    value: str
    doc: str
    home: str = ""


@frozen
class Class:
    """A class: what makes one, and what it has. ``makes`` None: nobody outside is meant to call it."""

    name: str
    bases: tuple[str, ...]
    doc: str
    makes: tuple[Parameter, ...] | None
    makes_doc: str
    values: tuple[Value, ...]
    members: tuple[Function, ...]
    is_enum: bool
    home: str = ""


Item: TypeAlias = Function | Value | Class


@frozen
class Module:
    """A public module: its docstring and its promised names."""

    name: str
    doc: str
    items: tuple[Item, ...]


def public_modules() -> tuple[str, ...]:
    """Give the modules that the policy's table lists, in its order."""
    return tuple(re.findall(r"^\| `(viommu[a-z_.]*)` \|", POLICY.read_text(), re.MULTILINE))


@cache
def module(name: str) -> Module:
    """Read a public module. ValueError where it promises nothing."""
    tree = _tree(name)
    names = _promised(name, tree)
    return Module(name, doc_of(name), tuple(found for each in names for found in _items(name, each)))


def doc_of(name: str) -> str:
    """Give the docstring of a module."""
    return ast.get_docstring(_tree(name)) or ""


def _promised(name: str, tree: ast.Module) -> list[str]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and _target(node) == "__all__":
            promised: list[str] = ast.literal_eval(node.value)
            return promised
    raise ValueError(f"{name} has no __all__, although docs/api-policy.md lists it")


@cache
def _tree(name: str) -> ast.Module:
    return ast.parse(_file(name).read_text())


def _file(name: str) -> Path:
    path = PACKAGE.joinpath(*name.split(".")[1:])
    for file in (path / "__init__.py", path.with_suffix(".pyi"), path.with_suffix(".py")):
        if file.exists():
            return file
    raise ValueError(f"there is no module {name}")


def _items(home: str, name: str) -> list[Item]:
    """Find what a name of a module stands for; overloads are one item each."""
    body = _tree(home).body
    found = [item for index, node in enumerate(body) if (item := _item(node, name, body, index)) is not None]
    if found:
        return [evolve(item, home=home) for item in found]
    source = _imported_from(home, name)
    if source is None:
        raise ValueError(f"{home}.{name} is promised, but not there")
    return _items(*source)


def _item(node: ast.stmt, name: str, body: list[ast.stmt], index: int) -> Item | None:
    if isinstance(node, ast.ClassDef) and node.name == name:
        return _class(node)
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name:
        return function(node)
    if isinstance(node, Assigned) and _target(node) == name:
        return _value(node, _doc_after(body, index))
    return None


def _imported_from(home: str, name: str) -> tuple[str, str] | None:
    for node in ast.walk(_tree(home)):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return node.module, alias.name
    return None


@cache
def meant_by(home: str) -> dict[str, str]:
    """Say what a module's names mean elsewhere: of its own and of those that it imports from viommu, the full name."""
    tree = _tree(home)
    own = {each.name: f"{home}.{each.name}" for each in tree.body if isinstance(each, ast.ClassDef)}
    imported = {
        alias.asname or alias.name: f"{node.module}.{alias.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("viommu")
        for alias in node.names
    }
    return imported | own


def _target(node: Assigned) -> str:
    target = node.targets[0] if isinstance(node, ast.Assign) else node.target
    return target.id if isinstance(target, ast.Name) else ""


def _doc_after(body: list[ast.stmt], index: int) -> str:
    """Give the string that stands after an assignment, as documentation of it."""
    after = body[index + 1] if index + 1 < len(body) else None
    if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) and isinstance(after.value.value, str):
        return _dedented(after.value.value)
    return ""


def _dedented(text: str) -> str:
    first, *others = text.strip().split("\n")
    return "\n".join([first, *(line.removeprefix("    ") for line in others)])


def _value(node: Assigned, doc: str) -> Value:
    annotation = ast.unparse(node.annotation) if isinstance(node, ast.AnnAssign) else ""
    value = "" if node.value is None else ast.unparse(node.value)
    return Value(_target(node), annotation, value, doc)


def function(node: ast.FunctionDef | ast.AsyncFunctionDef, *, method: bool = False) -> Function:
    """Read a function; of a method, without ``self``."""
    decorators = tuple(ast.unparse(each).split("(")[0].split(".")[-1] for each in node.decorator_list)
    parameters = _parameters(node.args)
    if method and "staticmethod" not in decorators:
        parameters = parameters[1:]
        if parameters and parameters[0].prefix == "/":
            parameters = parameters[1:]
    returns = ast.unparse(node.returns) if node.returns else ""
    return Function(node.name, parameters, returns, ast.get_docstring(node) or "", decorators)


def _parameters(args: ast.arguments) -> tuple[Parameter, ...]:
    ordered = [*args.posonlyargs, *args.args]
    defaults = [None] * (len(ordered) - len(args.defaults)) + [ast.unparse(each) for each in args.defaults]
    made = [_parameter(arg, default) for arg, default in zip(ordered, defaults, strict=True)]
    if args.posonlyargs:
        made.insert(len(args.posonlyargs), Parameter("", prefix="/"))
    if args.vararg:
        made.append(_parameter(args.vararg, None, "*"))
    elif args.kwonlyargs:
        made.append(Parameter("", prefix="*"))
    for arg, given in zip(args.kwonlyargs, args.kw_defaults, strict=True):
        made.append(_parameter(arg, None if given is None else ast.unparse(given)))
    if args.kwarg:
        made.append(_parameter(args.kwarg, None, "**"))
    return tuple(made)


def _parameter(arg: ast.arg, default: str | None, prefix: str = "") -> Parameter:
    return Parameter(arg.arg, ast.unparse(arg.annotation) if arg.annotation else "", default, prefix)


def _class(node: ast.ClassDef) -> Class:
    bases = tuple(ast.unparse(base) for base in node.bases)
    is_enum = any("Enum" in base or "IntFlag" in base for base in bases)
    functions = [each for each in node.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)]
    made_by = next((each for each in functions if each.name in {"__init__", "__new__"}), None)
    fields, values = _fields(node)
    makes: tuple[Parameter, ...] | None = fields if _is_attrs(node) and not is_enum else None
    makes_doc = ""
    if made_by is not None:
        made = function(made_by, method=True)
        makes, makes_doc = made.parameters, made.doc
    members = tuple(function(each, method=True) for each in functions if not each.name.startswith("_"))
    return Class(node.name, bases, ast.get_docstring(node) or "", makes, makes_doc, values, members, is_enum)


def _is_attrs(node: ast.ClassDef) -> bool:
    return any(ast.unparse(each).split("(")[0].split(".")[-1] in FIELD_MAKERS for each in node.decorator_list)


def _fields(node: ast.ClassDef) -> tuple[tuple[Parameter, ...], tuple[Value, ...]]:
    """Tell what the constructor takes from what else stands in the class's body."""
    fields: list[Parameter] = []
    values: list[Value] = []
    for index, each in enumerate(node.body):
        if not isinstance(each, Assigned) or not _target(each):
            continue
        doc = _doc_after(node.body, index)
        given = _field(each, doc) if _is_attrs(node) else None
        if given is not None:
            fields.append(given)
        elif not _target(each).startswith("_"):
            values.append(_value(each, doc))
    return tuple(fields), tuple(values)


def _field(node: Assigned, doc: str) -> Parameter | None:
    if not isinstance(node, ast.AnnAssign) or ast.unparse(node.annotation).startswith("ClassVar"):
        return None
    default = None if node.value is None else ast.unparse(node.value)
    if default and default.startswith("field("):
        if "init=False" in default:
            return None
        default = "..." if re.search(r"\b(default|factory)=", default) else None
    return Parameter(_target(node).lstrip("_"), ast.unparse(node.annotation), default, doc=doc)

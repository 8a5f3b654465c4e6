"""docs/reference/errors.md: the classes of errors, and every message that the code raises with them.

The messages are read from the source: the texts of each call that makes an error, also where a variable of the function
or a function of the project gives them. A value that is filled in is shown by the name of its variable in braces, or as
{...} where it is computed in place.
"""

from __future__ import annotations

import ast
import importlib
import inspect
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mondrian_core.errors import BadPhotograph, MondrianError
from mondrian_core.markdown import Markdown, markdown_table
from mondrian_core.serving.http.problem_details import InvalidParameter, http_status, problem_type
from tests.architecture.reference.prose_markup import escaped_prose
from tests.git_files import ROOT

PAGE = "docs/reference/errors.md"
PACKAGES = ("mondrian_core", "tasks", "flows", "deployments", "mondrian")
GROUPED_FROM = 16  # messages of a class, from which they are listed by the part of the code
_START = """# Errors

This page is generated from the code. An error says what happened and what to do next. The command line prints both as
one paragraph and ends with the exit status; the service answers with the HTTP status and problem details (RFC 9457) of
the type `urn:mondrian:problem:TYPE`; a flow run fails with the same two sentences.

To find a message, search this page for its fixed words: names in braces stand for values. The step after the arrow is
what to do next; it is missing where the code chooses it by the situation."""


Variables = Mapping[str, Sequence[ast.expr]]
NO_VARIABLES: Variables = {}


@dataclass(frozen=True, order=True)
class ErrorMessage:
    """One message: the part of the code, what happened, and what to do next ("" where the code computes it)."""

    area: str
    problem: str
    next_step: str


class SourceTexts:
    """The modules of the project, parsed, with the values of their constants."""

    def __init__(self, files: Iterable[Path]) -> None:
        modules = [file for file in files if file.suffix == ".py" and file.parts[0] in PACKAGES]
        self.trees = {file: ast.parse((ROOT / file).read_text(encoding="utf-8")) for file in modules}
        self._functions = {
            statement.name: statement
            for tree in self.trees.values()
            for statement in tree.body
            if isinstance(statement, ast.FunctionDef)
        }
        self._constants: dict[str, str] = {}
        for tree in self.trees.values():
            for statement in tree.body:
                match statement:
                    case ast.Assign(targets=[ast.Name(id=name)], value=value) if text := self.text(value):
                        self._constants[name] = text

    def messages(self) -> dict[str, set[ErrorMessage]]:
        """By name of the called class, the messages that it is called with."""
        found: dict[str, set[ErrorMessage]] = defaultdict(set)
        constructors = {file: _calls_of_base_constructors(tree) for file, tree in self.trees.items()}
        makes_its_text = {name for own in constructors.values() for name in own.values()}
        for file, tree in self.trees.items():
            area = file.parts[1].removesuffix(".py") if file.parts[0] == "mondrian_core" else file.parts[0]
            for call, local in _calls_with_variables(tree):
                own, called = constructors[file].get(call), _last_name(call.func)
                name = own or called
                arguments = call.args[2:] if called == BadPhotograph.__name__ else call.args
                problem, step = [*(self.text(each, local) for each in arguments[:2]), "", ""][:2]
                if problem and (own or name not in makes_its_text or name == BadPhotograph.__name__):
                    found[name].add(ErrorMessage(area, problem, step))
        return found

    def text(self, node: ast.expr, local: Variables = NO_VARIABLES) -> str:
        """The fixed words of a text with {names}; "" for anything else.

        Args:
            node: the text's expression.
            local: the variables that are known at its place.
        """
        match node:
            case ast.Constant(value=str(text)):
                return text
            case ast.JoinedStr(values=parts):
                return "".join(map(self._part, parts))
            case ast.IfExp(body=first, orelse=second) | ast.BoolOp(values=[first, second]):
                return _alternatives(self.text(each, local) for each in (first, second))
            case ast.Call(func=ast.Name(id="quoted_command"), args=words):
                return f"`mondrian {' '.join(map(self._part, words))}`"
            case _:
                return self._named_text(node, local)

    def _named_text(self, node: ast.expr, local: Variables) -> str:
        """The text of a variable, a constant or a function of the project, or of such texts one after another."""
        match node:
            case ast.Name(id=name) if name in local:
                return _alternatives(self.text(each) for each in local[name])
            case ast.Name(id=name):
                return self._constants.get(name, "")
            case ast.Call(func=ast.Name(id=name)) if name in self._functions:
                return self._returned(self._functions[name])
            case ast.BinOp(left=first, op=ast.Add(), right=second) if text := self.text(first, local):
                return text + (self.text(second, local) or "{...}")
            case _:
                return ""

    def _returned(self, function: ast.FunctionDef) -> str:
        """The texts that a function returns."""
        returned = [node.value for node in ast.walk(function) if isinstance(node, ast.Return) and node.value]
        return _alternatives(self.text(each) for each in returned if not isinstance(each, ast.Call))

    def _part(self, node: ast.expr) -> str:
        value = node.value if isinstance(node, ast.FormattedValue) else node
        if isinstance(value, ast.Call) and _last_name(value.func) != "quoted_command":
            return "{...}"
        if text := self.text(value):
            return text if not isinstance(value, ast.IfExp | ast.BoolOp) else "{...}"
        match value:
            case ast.Constant():
                return ""
            case ast.Name(id=name) | ast.Attribute(attr=name):
                return f"{{{name.strip('_').lower()}}}"
            case _:
                return "{...}"


def error_page(files: Iterable[Path]) -> str:
    """The page as Markdown, from the modules among these files."""
    sources = SourceTexts(files)
    messages = sources.messages()
    classes = sorted(_error_classes(sources.trees), key=_order)
    rows = [
        (_link(kind), kind.exit_status, _http(kind), Markdown(escaped_prose(_summary(kind).rstrip("."))))
        for kind in classes
    ]
    parts = [_START, markdown_table(("error", "exit status", "HTTP status", "when"), rows)]
    parts += [_section(kind, sorted(messages[kind.__name__])) for kind in classes]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def _order(kind: type[MondrianError]) -> tuple[int, int, str]:
    return kind.exit_status, len(kind.__mro__), kind.__name__


def _error_classes(trees: Mapping[Path, ast.Module]) -> set[type[MondrianError]]:
    """All subclasses of MondrianError; only the modules that define one are imported."""
    definitions = [
        (file, node.name, {_last_name(base) for base in node.bases})
        for file, tree in trees.items()
        for node in tree.body
        if isinstance(node, ast.ClassDef)
    ]
    known: set[str] = {MondrianError.__name__}
    found: dict[str, Path] = {}
    while added := {name: file for file, name, bases in definitions if name not in found and bases & known}:
        found |= added
        known |= added.keys()
    names = {name: ".".join(file.with_suffix("").parts).removesuffix(".__init__") for name, file in found.items()}
    return {getattr(importlib.import_module(module), name) for name, module in names.items()}


def _section(kind: type[MondrianError], messages: list[ErrorMessage]) -> str:
    facts = f"Exit status {kind.exit_status}; HTTP {_http(kind)}, type `{problem_type(kind.__new__(kind))}`."
    if kind is BadPhotograph:
        facts += " {detail} is one of the lines that follow the first."
    if (base := kind.__mro__[1]) is not MondrianError:
        facts += f" A kind of {_link(base)}."
    parts = [f"## {kind.__name__}", escaped_prose(_summary(kind)), facts]
    if len(messages) < GROUPED_FROM:
        return "\n\n".join([*parts, _listed(messages)])
    for area in sorted({message.area for message in messages}):
        parts += [f"**{area}**", _listed([message for message in messages if message.area == area])]
    return "\n\n".join(parts)


def _listed(messages: list[ErrorMessage]) -> str:
    lines = []
    for message in messages:
        step = f"\n  → {escaped_prose(message.next_step)}" if message.next_step else ""
        lines.append(f"- {escaped_prose(message.problem)}{step}")
    return "\n".join(dict.fromkeys(lines))


def _link(kind: type[MondrianError]) -> Markdown:
    return Markdown(f"[{kind.__name__}](#{kind.__name__.lower()})")


def _summary(kind: type[MondrianError]) -> str:
    return " ".join((inspect.getdoc(kind) or "").split("\n\n")[0].split())


def _http(kind: type[MondrianError]) -> str:
    if issubclass(kind, BadPhotograph):
        return "404, 413, 415 or 422, by its reason"
    return "by its field" if issubclass(kind, InvalidParameter) else str(http_status(kind.__new__(kind)))


def _last_name(node: ast.expr) -> str:
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case _:
            return ""


def _alternatives(texts: Iterable[str]) -> str:
    return " / ".join(dict.fromkeys(filter(None, texts)))


def _calls_with_variables(tree: ast.Module) -> Iterator[tuple[ast.Call, Variables]]:
    """All calls, each with the values that its function assigns to variables."""
    local: dict[ast.Call, dict[str, list[ast.expr]]] = {
        node: {} for node in ast.walk(tree) if isinstance(node, ast.Call)
    }
    for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)):
        assigned: dict[str, list[ast.expr]] = defaultdict(list)
        for node in ast.walk(function):
            match node:
                case ast.Assign(targets=[ast.Name(id=name)], value=value):
                    assigned[name].append(value)
                case ast.Assign(targets=[ast.Tuple(elts=names)], value=ast.Tuple(elts=values)):
                    for each, value in zip(names, values, strict=True):
                        assigned[_last_name(each)].append(value)
        for node in ast.walk(function):
            if isinstance(node, ast.Call):
                local[node] |= assigned
    yield from local.items()


def _calls_of_base_constructors(tree: ast.Module) -> dict[ast.Call, str]:
    """The calls of `super().__init__`, each with the name of its class."""
    found = {}
    for definition in (node for node in tree.body if isinstance(node, ast.ClassDef)):
        for node in ast.walk(definition):
            match node:
                case ast.Call(func=ast.Attribute(value=ast.Call(func=ast.Name(id="super")), attr="__init__")):
                    found[node] = definition.name
    return found

"""The Python reference: signatures and docstrings as Markdown, read from the source and never imported.

Nothing is imported, so the reference of the host side needs no torch, and the same source gives the same page with
every version of Python.
"""

import ast
import re
import textwrap
from pathlib import Path

from ecotta_rt import _HOMES, errors, student

PACKAGE = Path(errors.__file__).parent
_SECTION = re.compile(r"^(Args|Attributes|Returns|Raises|Source|Yields|Note):$", re.MULTILINE)
_Definition = ast.ClassDef | ast.FunctionDef | ast.Assign | ast.AnnAssign


def described(name: str) -> str:
    """A public name: `ecotta_rt.Runtime`, or a full place such as `ecotta_rt.method.attach.attach`."""
    module, _, short = name.rpartition(".")
    homes = {"ecotta_rt": _HOMES, "ecotta_rt.student": student._HOMES}.get(module)
    home = module if homes is None else homes.get(short, "ecotta_rt.errors")
    body = ast.parse(_source(home)).body
    node = next((node for node in body if _named(node) == short), None)
    if node is None:
        return described(f"{_origin(body, short)}.{short}")
    if isinstance(node, ast.ClassDef):
        return _class(node)
    if isinstance(node, ast.FunctionDef):
        return _function(node, short)
    value = body[body.index(node) + 1]
    shown = ast.unparse(node).replace("'", '"')  # as the formatter has it, which reads Markdown too
    return "\n".join([_code(shown), "", _prose(ast.literal_eval(value.value)), ""])


def _source(module: str) -> str:
    path = PACKAGE.joinpath(*module.split(".")[1:])
    return (path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text(encoding="utf-8")


def _origin(body: list[ast.stmt], name: str) -> str:
    """The module that a name is imported from."""
    for node in body:
        if isinstance(node, ast.ImportFrom) and node.module and name in {alias.name for alias in node.names}:
            return node.module
    raise LookupError(f"no {name} there; was it renamed?")


def _named(node: ast.stmt) -> str | None:
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
        return node.targets[0].id
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        return node.target.id
    return getattr(node, "name", None)


def _class(node: ast.ClassDef) -> str:
    lines = [_code(_constructor(node)), "", _prose(ast.get_docstring(node) or ""), ""]
    for member in node.body:
        if isinstance(member, ast.FunctionDef) and _is_public(member) and ast.get_docstring(member):
            lines += [_function(member, f"{node.name}.{member.name}")]
    return "\n".join(lines)


def _constructor(node: ast.ClassDef) -> str:
    bases = ", ".join(ast.unparse(base) for base in node.bases)
    fields = [ast.unparse(field) for field in node.body if isinstance(field, ast.AnnAssign)]
    if any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list):
        return _call(f"class {node.name}", fields, "")
    if bases == "IntEnum":
        members = (ast.unparse(member) for member in node.body if isinstance(member, ast.Assign))
        return "\n    ".join([f"class {node.name}(IntEnum):", *members])
    for member in node.body:
        if isinstance(member, ast.FunctionDef) and member.name == "__init__":
            return _call(f"class {node.name}", _arguments(member.args)[1:], "")
    return f"class {node.name}({bases})" if bases else f"class {node.name}"


def _function(node: ast.FunctionDef, shown: str) -> str:
    decorators = {ast.unparse(decorator) for decorator in node.decorator_list}
    returns = " -> " + ast.unparse(node.returns).strip("'") if node.returns else ""
    if "property" in decorators:
        signature = f"{shown}{returns.replace(' ->', ':')}"
    else:
        arguments = [part for part in _arguments(node.args) if part not in ("self", "cls")]
        signature = _call(shown, arguments, returns)
    return "\n".join([_code(signature), "", _prose(ast.get_docstring(node) or ""), ""])


def _arguments(arguments: ast.arguments) -> list[str]:
    positional = [*arguments.posonlyargs, *arguments.args]
    required = len(positional) - len(arguments.defaults)
    defaults: list[ast.expr | None] = [*[None] * required, *arguments.defaults]
    parts = [_argument(*pair) for pair in zip(positional, defaults, strict=True)]
    if arguments.vararg:
        parts.append(f"*{ast.unparse(arguments.vararg)}")
    elif arguments.kwonlyargs:
        parts.append("*")
    parts += [_argument(*pair) for pair in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)]
    return [*parts, *([f"**{ast.unparse(arguments.kwarg)}"] if arguments.kwarg else [])]


def _argument(argument: ast.arg, default: ast.expr | None) -> str:
    return ast.unparse(argument) if default is None else f"{ast.unparse(argument)} = {ast.unparse(default)}"


def _call(name: str, arguments: list[str], returns: str) -> str:
    line = f"{name}({', '.join(arguments)}){returns}"
    if len(line) <= 100:
        return line
    return "\n".join([f"{name}(", *(f"    {argument}," for argument in arguments), f"){returns}"])


def _is_public(node: ast.FunctionDef) -> bool:
    return not node.name.startswith("_") or node.name in ("__call__", "__enter__")


def _code(text: str) -> str:
    return f"```python\n{text}\n```"


def _prose(docstring: str) -> str:
    """A docstring in Google's style: sections become lists, examples become code."""
    before, *sections = _SECTION.split(docstring)
    parts = [_examples(before.strip())]
    for title, body in zip(sections[::2], sections[1::2], strict=True):
        inside, after = _indented(body)
        items = title in ("Args", "Attributes", "Raises")
        parts.append(f"**{title}**\n\n{_items(inside) if items else inside}")
        parts.append(_examples(after))
    return "\n\n".join(part for part in parts if part)


def _indented(body: str) -> tuple[str, str]:
    """The section itself, and what follows it at the margin."""
    lines = body.strip("\n").splitlines()
    end = next((i for i, line in enumerate(lines) if line and not line.startswith(" ")), len(lines))
    return textwrap.dedent("\n".join(lines[:end])).strip(), "\n".join(lines[end:]).strip()


def _items(text: str) -> str:
    """`name: what it is`, each with the lines that go on under it."""
    items = re.sub(r"^([\w*][\w*., ]*): ", r"- `\1`: ", text, flags=re.MULTILINE)
    return re.sub(r"\n +", "\n  ", items)


def _examples(text: str) -> str:
    """Doctests and indented blocks as code."""
    shown = []
    for paragraph in re.split(r"\n\n", text):
        code = paragraph.startswith(">>>") or (paragraph and all(line[:4] == "    " for line in paragraph.splitlines()))
        language = "python" if ">>>" in paragraph else "text"
        shown.append(f"```{language}\n{textwrap.dedent(paragraph)}\n```" if code else paragraph)
    return "\n\n".join(shown)

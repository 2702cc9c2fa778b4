"""What stands in a page: blocks of code, commands, options, links and headings. Tests read pages by it."""

import re
import shlex
from pathlib import Path
from typing import NamedTuple

_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"(?:\n\n)((?: {4}.*\n|\n(?= {4}))+)")
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")


class Block(NamedTuple):
    """A block of code.

    Attributes:
        language: What stands behind the fence; empty for an indented block.
        text: Its lines.
        follows: Whether nothing but blank lines parts it from the block before.
    """

    language: str
    text: str
    follows: bool


def blocks(text: str) -> list[Block]:
    """The fenced blocks of a page, in order."""
    found, end = [], -1
    for match in _FENCE.finditer(text):
        lines = re.sub(rf"^{match[1]}", "", match[3], flags=re.MULTILINE)
        found.append(Block(match[2], lines, end >= 0 and not text[end : match.start()].strip()))
        end = match.end()
    return found


def commands(text: str) -> list[list[str]]:
    """Every `ecotta ...` line of the page's fenced bash blocks and indented blocks, as words."""
    prose = _FENCE.sub("", text)
    shown = [block.text for block in blocks(text) if block.language == "bash"] + _INDENTED.findall(prose)
    lines = "\n".join(shown).replace("\\\n", " ").splitlines()
    found = (re.sub(r" {3,}\S.*| #.*| >+ .*", "", line.strip()) for line in lines)
    return [shlex.split(line) for line in found if re.match(r"ecotta(-bench)? ", line)]


def inline_code(text: str) -> list[str]:
    """What stands between single backticks, blocks of code and written parts left out."""
    return re.findall(r"`([^`\n]+)`", _FENCE.sub("", _COMMENT.sub("", text)))


def links(text: str) -> list[str]:
    """Targets of links into this repository."""
    return [target for target in _LINK.findall(_FENCE.sub("", text)) if not re.match(r"[a-z]+:", target)]


def anchors(text: str) -> set[str]:
    """What a link can point to in a page: its headings, as repository browsers name them."""
    headings = re.findall(r"^#+ (.+)$", _FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def leads_somewhere(page: Path, target: str) -> bool:
    """Whether file and heading of a link are there."""
    file, _, anchor = target.partition("#")
    path = page.parent / file if file else page
    return path.exists() and (not anchor or anchor in anchors(path.read_text(encoding="utf-8")))

"""Say anew how a bundle's device is to follow its stream; graphs, weights and tables stay byte for byte."""

import copy
from collections.abc import Mapping
from dataclasses import replace

from ecotta_rt.bundle.graph_check import WEIGHTS
from ecotta_rt.bundle.manifest import Manifest
from ecotta_rt.bundle.reading import Bundle
from ecotta_rt.bundle.writing import MANIFEST, PAGE_BYTES
from ecotta_rt.files.atomic import open_atomic
from ecotta_rt.files.stored_zip import NewMember, checksum, write_stored_zip

__all__ = ["followed_otherwise", "rewrite_adaptation"]

Setting = str | float | int | bool


def followed_otherwise(bundle: Bundle, adaptation: Mapping[str, Setting]) -> Bundle:
    """The same file with another `adaptation` in its manifest, in memory alone.

    Args:
        bundle: It.
        adaptation: Names and values, all of them.
    """
    other = copy.copy(bundle)
    other.manifest = replace(bundle.manifest, adaptation=dict(adaptation))
    return other


def rewrite_adaptation(
    bundle: Bundle, adaptation: Mapping[str, Setting], metadata: Mapping[str, str] | None = None
) -> Manifest:
    """Replace a bundle's file by one that follows its stream otherwise, whole or not at all.

    Args:
        bundle: From `read_bundle`; it goes on reading the file as it was.
        adaptation: Names and values, all of them.
        metadata: Free text to be added, by name.

    Returns:
        The manifest that was written.

    Raises:
        InputFileError: The file is another one by now, or its reader would refuse such a manifest; it stays.
        TransferError: The file cannot be written; it is as it was before.
    """
    bundle.require_unreplaced()
    told = {**bundle.manifest.metadata, **(metadata or {})}
    manifest = replace(bundle.manifest, adaptation=dict(adaptation), metadata=told)
    content = manifest.to_json().encode()
    Manifest.from_json(content, MANIFEST)  # the reader's checks are the writer's
    members = [NewMember(MANIFEST, len(content), checksum([content]), lambda: [content])]
    members += [_as_it_is(bundle, name) for name in bundle.members if name != MANIFEST]
    with open_atomic(bundle.path) as file:
        write_stored_zip(file, members)
    return manifest


def _as_it_is(bundle: Bundle, name: str) -> NewMember:
    member, alignment = bundle.members[name], PAGE_BYTES if name == WEIGHTS else 1
    return NewMember(name, member.size, member.crc32, lambda: [bundle.mapped(name)], alignment)

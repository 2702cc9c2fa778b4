"""From the configuration that holds to one that was read again: what changes, and what would need a restart.

What can be refused is refused before anything is touched. Cameras and outputs that are as they were go on untouched.
"""

from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from ecotta_rt.daemon.feeds import Feeds
from ecotta_rt.daemon.outlets import Outlets
from ecotta_rt.daemon.saving.states import States

if TYPE_CHECKING:
    from ecotta_rt.daemon.configuration.config import Config

__all__ = ["change", "differences"]

_AT_START = ("network", "state", "http", "signs")
_OF_THE_SOURCE = {"source", "wait"}


def differences(before: "Config", after: "Config") -> tuple[str, ...]:
    """What is different, in the words of the file; what needs a restart says so."""
    return (
        *_of_tables(before, after),
        *_of_entries("camera", _by_name(before.cameras), _by_name(after.cameras)),
        *_of_entries("sink", _by_name(before.sinks), _by_name(after.sinks)),
        *_of_entries("alert", _by_name(before.alert_rules), _by_name(after.alert_rules)),
    )


def change(before: "Config", after: "Config", feeds: Feeds, states: States, outlets: Outlets) -> "Config":
    """Have cameras and outputs as `after` says.

    Returns:
        What holds now: what needs a restart is as it was.

    Raises:
        EcottaError: A camera cannot be opened, or an output cannot be meant; then nothing has changed.
    """
    old, new = _by_name(before.cameras), _by_name(after.cameras)
    outlets.check(after.sinks)
    opened = {
        name: feeds.open(camera)
        for name, camera in new.items()
        if name not in old or _OF_THE_SOURCE & {*_different(old[name], camera)}
    }
    for name in old.keys() - new.keys():
        states.leave(name)
        feeds.remove(name)
    for name, camera in new.items():
        feed = feeds.get(name)
        if feed is None:
            feed = feeds.add(camera)
            states.take_up(feed)
        elif camera != old[name]:
            feed.go_on_with(camera)
        if name in opened:
            feeds.begin(feed, opened[name])
    outlets.exchange(after.sinks)
    return replace(after, **{name: getattr(before, name) for name in _AT_START})


def _of_tables(before: "Config", after: "Config") -> Iterator[str]:
    for name in (*_AT_START, "log"):
        for field in _different(getattr(before, name), getattr(after, name)):
            yield f"{name}.{field}" + (" needs a restart" if name in _AT_START else "")


def _of_entries(table: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    for name in {**old, **new}:
        if name not in new:
            yield f"{table} {name} is gone"
        elif name not in old:
            yield f"{table} {name} is new"
        elif old[name] != new[name]:
            yield f"{table} {name}: {', '.join(_different(old[name], new[name]))}"


def _different(old: Any, new: Any) -> list[str]:
    """Names of the fields that are; values are not told, since some are secret."""
    if type(old) is not type(new):
        return ["kind"]
    names = [field.name for field in fields(old) if getattr(old, field.name) != getattr(new, field.name)]
    return _different(old.options, new.options) if names == ["options"] else names


def _by_name(entries: Any) -> dict[str, Any]:
    return {entry.name: entry for entry in entries}

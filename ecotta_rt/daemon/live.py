"""Cameras answered in the background of somebody's program: what `ecotta serve` does, without files and signals.

    with Live("net.ecotta", {"door": "rtsp://192.168.1.20/live", "yard": "/dev/video0"}) as live:
        for stamped in live:
            print(stamped.camera, stamped.event)

Importing it loads no network, and starts no thread.
"""

import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import fields, replace
from pathlib import Path
from threading import Thread, current_thread
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ecotta_rt.daemon.configuration.config import Config
from ecotta_rt.daemon.configuration.tables import CameraOptions, LogOptions, NetworkOptions, StateOptions
from ecotta_rt.daemon.daemon import PRESS_S, Daemon
from ecotta_rt.daemon.inbox import Inbox
from ecotta_rt.errors import TransferError, UsageError
from ecotta_rt.events import Stamped
from ecotta_rt.files.fields import Document, nearest, path_text
from ecotta_rt.sources.opening import Opened
from ecotta_rt.sources.pushed import Pushed
from ecotta_rt.sources.source import Source

__all__ = ["Live"]

_CLOSE_S = 5.0


class Live:
    """Answers cameras in a thread of its own, from `start` (or `with`) to `close`; once.

    Everything may be called from any thread. Events are read by one reader: a loop over this object, an asynchronous
    one, or `on_event`, which is called in a thread of its own, event by event. Where the reader is slow the oldest
    events are dropped, and an `EventsDropped` says how many; the cameras wait for nobody, unless `waits`.

    Args:
        bundle: An exported network (.ecotta).
        cameras: By name a source as `open_source` takes it, or a `Source` of your own, or None: pictures that `put`
            brings.
        on_event: Is given each event; what it raises ends everything, and `close` raises it.
        state: Folder where what was learned is kept and taken up again; None: nothing is kept.
        waits: Let the cameras wait until their events are read: for folders, of which each answer counts.
        most_waiting: Events that may wait for the reader.
        network: Fields of the table `[network]` of a configuration beside the bundle, such as `device` and `learning`.

    Raises:
        UsageError: An option that is unknown or cannot be meant, or a `state` that is no folder. A camera that cannot
            be opened is raised by the loop or `close`.
    """

    def __init__(
        self,
        bundle: str | Path,
        cameras: Mapping[str, str | Source | None],
        *,
        on_event: Callable[[Stamped], None] | None = None,
        state: str | Path | None = None,
        waits: bool = False,
        most_waiting: int = 256,
        **network: Any,
    ) -> None:
        if not cameras:
            raise UsageError("no camera: give at least one, as {'door': '/dev/video0'}")
        options = replace(_network_options(network), bundle=str(bundle))
        self._pushed = {name: Pushed() for name, source in cameras.items() if source is None}
        own = self._pushed | {name: source for name, source in cameras.items() if not isinstance(source, str | None)}
        sources = {name: Opened(source, live=not waits or name in self._pushed) for name, source in own.items()}
        named = tuple(
            CameraOptions(name, source if isinstance(source, str) else "-") for name, source in cameras.items()
        )
        config = Config(options, named, log=LogOptions("error"))
        if state is not None:
            _require_folder(Path(state))
            config = replace(config, state=StateOptions(str(state)))
        self._inbox = Inbox(most_waiting, waits=waits)
        self._daemon = Daemon(config, [self._inbox], sources=sources, keeps_states=state is not None)
        self._on_event = on_event
        self._error: BaseException | None = None
        self._begun = False
        self._threads = [Thread(target=self._run, name="live", daemon=True)]
        if on_event is not None:
            self._threads.append(Thread(target=self._call, name="live: on_event", daemon=True))

    def start(self) -> Self:
        """Begin; the network is loaded in the background. Returns itself.

        Raises:
            UsageError: It was started before, by `with` too, or closed.
        """
        if self._begun:
            raise UsageError("this Live was started or closed before, and runs once; make another one")
        self._begun = True
        for thread in self._threads:
            thread.start()
        return self

    def close(self) -> None:
        """End after the frame in progress, with all states saved, within 5 seconds; may be called twice.

        A step that takes long is given up: learning after 0.6 seconds, whose frames are answered all the same, and
        an answer after 1.8. What hangs is left behind in a thread that does not keep the program alive: a source that
        blocks or a disk, of which an event tells what was not saved; and where even that is of no use, as in a source
        whose own `close` blocks, a network that is still being loaded or `on_event`, an error does.

        Raises:
            EcottaError: What ended it before; once.
            TransferError: Something hangs, and was left behind.
        """
        begun_s = time.monotonic()
        self._begun = True
        self._daemon.stop()
        self._inbox.let_go()
        while (hanging := self._hanging()) and (waited_s := time.monotonic() - begun_s) < _CLOSE_S:
            self._daemon.press(waited_s)
            hanging[0].join(min(PRESS_S, _CLOSE_S - waited_s))
        if hanging:
            self._inbox.close()  # who reads the events waits for nobody
            self._error = self._error or TransferError(
                f"not done within {_CLOSE_S:g} s of the end: {' and '.join(thread.name for thread in hanging)} hangs, "
                "and is left behind; what was learned since the last save may be lost"
            )
        self._raise()

    def _hanging(self) -> list[Thread]:
        """The threads that have not ended, but for the one that asks."""
        return [thread for thread in self._threads if thread.is_alive() and thread is not current_thread()]

    def put(self, camera: str, picture: NDArray[np.uint8], name: str = "") -> None:
        """Hand over a picture of a camera whose source is None; the newest is answered, and nobody waits.

        Args:
            camera: Its name.
            picture: uint8 `[H, W, 3]` RGB, or grey `[H, W]`, of any size; not to be written to afterwards.
            name: What the answer calls it.

        Raises:
            UsageError: No camera of that name takes pictures.
        """
        if camera not in self._pushed:
            raise UsageError(f"{camera!r} is no camera that pictures are put into: give it None as its source")
        self._pushed[camera].put(picture, name)

    def finish(self) -> None:
        """No more pictures will be `put`: when the last ones are answered these cameras have ended."""
        for source in self._pushed.values():
            source.close()

    @property
    def cameras(self) -> tuple[str, ...]:
        """Their names."""
        return self._daemon.cameras

    def adapting(self, camera: str) -> bool:
        """Whether a camera adapts; raises UsageError for an unknown one."""
        return self._daemon.adapting(camera)

    def set_adapting(self, camera: str, on: bool) -> None:
        """Switch the adaptation of a camera on or off; answers go on. Raises as `adapting`."""
        self._daemon.set_adapting(camera, on)

    def reset(self, camera: str) -> None:
        """Let a camera begin anew from the bundle's own state. Raises as `adapting`."""
        self._daemon.reset(camera)

    def status(self) -> dict[str, Any]:
        """Counts and newest values of all cameras, memory, and the last events; made of JSON's kinds."""
        return self._daemon.board.snapshot()

    def __iter__(self) -> Iterator[Stamped]:
        """Events as they come, until all cameras have ended or somebody calls `close`; raises what ended it."""
        yield from self._inbox.events()
        self._raise()

    async def __aiter__(self) -> AsyncIterator[Stamped]:
        """The same for asyncio: nothing of the program waits."""
        async for stamped in self._inbox.events_async():
            yield stamped
        self._raise()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except Exception:
            if error is None:
                raise

    async def __aenter__(self) -> Self:
        return self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        import asyncio

        await asyncio.to_thread(self.__exit__, kind, error, trace)

    def _run(self) -> None:
        try:
            self._daemon.run()
        except BaseException as error:
            self._error = self._error or error
        finally:
            self._inbox.close()

    def _call(self) -> None:
        assert self._on_event is not None
        try:
            for stamped in self._inbox.events():
                self._on_event(stamped)
        except BaseException as error:
            self._error = self._error or error
            self._daemon.stop()
            self._inbox.let_go()

    def _raise(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise error


def _network_options(given: Mapping[str, Any]) -> NetworkOptions:
    """Held to what a configuration may say, without a bundle; raises UsageError. None is as if it was left out."""
    known = [field.name for field in fields(NetworkOptions) if field.name != "bundle"]
    own = ("on_event", "state", "waits", "most_waiting")
    for name in given:
        if name not in known:
            hint = nearest(name, (*own, *known))
            raise UsageError(f"unknown option {name!a}; {hint}known: {', '.join((*own, *known))}")
    values = {name: value for name, value in given.items() if value is not None}
    return Document(
        {"bundle": "-", **values}, lambda path, problem: UsageError(f"option {path_text(path)}: {problem}")
    ).read(NetworkOptions)


def _require_folder(path: Path) -> None:
    """Raise UsageError where a file is in the place of a folder, or of one above it."""
    there = next((each for each in (path, *path.parents) if each.exists()), path)
    if there.exists() and not there.is_dir():
        raise UsageError(f"state={str(path)!r}: {there} is a file; name a folder, which is made where it is missing")

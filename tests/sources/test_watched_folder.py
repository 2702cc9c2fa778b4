import itertools
import os
import shutil

import numpy as np
import pytest

from ecotta_rt.errors import InputFileError, UsageError
from ecotta_rt.events import Refusal, SourceLost
from ecotta_rt.machine.clock import ManualClock
from ecotta_rt.records import Frame
from ecotta_rt.sources.opening import open_source
from ecotta_rt.sources.patience import unending
from ecotta_rt.sources.watched_folder import WatchedFolder, WatchOptions

PPM = b"P6 2 1 255 abcdef"


class Acting(ManualClock):
    """A clock that does something, once each, when somebody waits; and ends a source that waits too long."""

    def __init__(self, *acts):
        super().__init__()
        self.acts = list(acts)
        self.source = None

    def sleep_s(self, seconds):
        super().sleep_s(seconds)
        if self.acts:
            self.acts.pop(0)()
        elif self.now_s() > 100:
            self.source.close()


def nothing():
    pass


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    return folder


def put(path, content=PPM, at_ns=None):
    def act():
        path.write_bytes(content)
        if at_ns is not None:
            os.utime(path, ns=(at_ns, at_ns))

    return act


def seen(folder, *acts, patience=None, **options):
    clock = Acting(*acts)
    extra = {} if patience is None else {"patience": patience}
    clock.source = WatchedFolder(folder, WatchOptions(**options), clock, **extra)
    return list(clock.source)


def names(items):
    return [item.name for item in items]


def test_each_new_picture_is_a_frame_once(folder):
    put(folder / "old.ppm")()

    items = seen(folder, nothing, put(folder / "a.ppm"), nothing, put(folder / "b.PPM"))

    assert names(items) == ["a.ppm", "b.PPM"]
    assert [item.index for item in items] == [0, 1]
    assert items[0].pixels.shape == (1, 2, 3)


def test_pictures_that_are_there_count_where_they_are_asked_for(folder):
    put(folder / "frame-10.ppm", at_ns=1)()
    put(folder / "frame-9.ppm", at_ns=1)()
    put(folder / "first.ppm", at_ns=0)()

    assert names(seen(folder, old=True)) == ["first.ppm", "frame-9.ppm", "frame-10.ppm"]


def test_a_picture_that_is_still_written_is_waited_for(folder):
    path = folder / "a.ppm"

    items = seen(folder, put(path, PPM[:5]), put(path, PPM[:9]), put(path, PPM[:14]), put(path, PPM))

    assert [type(item) for item in items] == [Frame]


def test_a_picture_that_is_written_anew_is_a_new_one(folder):
    path = folder / "latest.ppm"

    items = seen(folder, put(path, at_ns=1), nothing, put(path, PPM[:-1] + b"z", at_ns=2))

    assert [item.pixels[0, 1, 2] for item in items] == [ord("f"), ord("z")]


def test_what_is_no_picture_or_hidden_is_left_alone_and_a_damaged_one_is_refused(folder):
    (folder / "folder.ppm").mkdir()
    bad, good = put(folder / "bad.ppm", PPM[:-1]), put(folder / "good.ppm")

    items = seen(folder, put(folder / ".a.ppm"), put(folder / "a.tmp"), bad, good)

    assert [(item.name, type(item)) for item in items] == [("bad.ppm", Refusal), ("good.ppm", Frame)]


def test_a_picture_may_be_deleted_or_moved_when_the_next_one_is_asked_for(folder):
    put(folder / "a.ppm")()
    seen(folder, old=True)
    assert (folder / "a.ppm").exists(), "never by itself"

    seen(folder, old=True, after="move")
    assert (folder / "done" / "a.ppm").read_bytes() == PPM

    put(folder / "b.ppm")()
    seen(folder, old=True, after="delete")
    assert [path.name for path in folder.iterdir()] == ["done"]


def test_a_folder_that_pictures_cannot_be_taken_out_of_is_told_at_once(folder, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK)  # to root all is open

    WatchedFolder(folder)
    with pytest.raises(InputFileError, match="nothing can be taken out of it; after=move needs write access"):
        WatchedFolder(folder, WatchOptions(after="move"))


def test_a_picture_that_is_being_answered_is_still_there(folder):
    put(folder / "a.ppm")()
    items = iter(WatchedFolder(folder, WatchOptions(old=True, after="delete"), ManualClock()))

    next(items)

    assert (folder / "a.ppm").exists()
    items.close()


def test_a_folder_that_is_not_there_is_an_error_or_waited_for(folder):
    gone = folder / "gone"
    with pytest.raises(InputFileError, match=r"gone: cannot be read \(No such file or directory\)"):
        WatchedFolder(gone)

    items = seen(gone, nothing, gone.mkdir, put(gone / "a.ppm"), patience=unending())

    assert [type(item) for item in items] == [SourceLost, Frame]


def test_a_folder_that_goes_away_ends_a_run_and_a_daemon_waits_for_it(folder):
    away = folder.parent / "away"

    def lose():
        folder.rename(away)

    def bring():
        away.rename(folder)

    items = seen(folder, lose, nothing, bring, put(folder / "a.ppm"), patience=unending())
    assert [type(item) for item in items] == [SourceLost, Frame]
    with pytest.raises(InputFileError, match="cannot be read"):
        seen(folder, lose)


def test_a_mount_point_that_is_empty_for_a_while_plays_no_picture_again(folder):
    disk = folder.parent / "disk"

    def unmount():
        folder.rename(disk)
        folder.mkdir()

    def mount():
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
        disk.rename(folder)

    put(folder / "old.ppm")()
    put(folder / "gone.ppm", at_ns=1)()
    acts = [unmount, nothing, put(folder / "beside.ppm"), nothing, nothing, mount, put(folder / "b.ppm")]
    items = seen(folder, put(folder / "a.ppm"), nothing, *acts, nothing, unmount, nothing, mount, patience=unending())

    assert names(items) == ["a.ppm", "beside.ppm", "b.ppm"]


def test_a_picture_that_was_taken_away_and_comes_again_is_a_new_one(folder):
    path = folder / "a.ppm"

    items = seen(folder, put(path, at_ns=1), nothing, path.unlink, put(path, at_ns=1))

    assert names(items) == ["a.ppm", "a.ppm"]


def test_pictures_of_a_folder_that_comes_late_are_old_ones(folder):
    late, disk = folder / "late", folder.parent / "disk"

    def come():
        disk.rename(late)

    def mounted():
        late.rmdir()
        come()

    for there, act in ((False, come), (True, mounted)):
        disk.mkdir()
        put(disk / "old.ppm")()
        if there:
            late.mkdir()

        items = seen(late, nothing, act, nothing, put(late / "new.ppm"), patience=unending())

        assert [type(item) for item in items] == ([Frame] if there else [SourceLost, Frame])
        assert items[-1].name == "new.ppm"
        shutil.rmtree(late)


def test_what_is_remembered_of_folders_that_are_gone_has_an_end(folder):
    def anew(at):
        def act():
            shutil.rmtree(folder)
            folder.mkdir()
            keep.append(os.open(folder, os.O_RDONLY))  # no other folder gets its number
            put(folder / f"{at}.ppm")()

        return act

    keep = []
    clock = Acting(*(act for at in range(8) for act in (anew(at), nothing)))
    clock.source = WatchedFolder(folder, WatchOptions(old=True), clock)
    try:
        items = list(clock.source)
    finally:
        for descriptor in keep:
            os.close(descriptor)

    assert names(items) == [f"{at}.ppm" for at in range(8)]
    assert len(clock.source._taken) == 2


def test_it_says_that_nothing_came_for_a_loop_that_has_a_guard_to_ask(folder):
    watched = WatchedFolder(folder, clock=ManualClock())

    assert list(itertools.islice(watched.ticking(1.0), 3)) == [None, None, None]


def test_a_user_opens_it_by_its_name(folder):
    np.save(folder / "a.npy", np.zeros((2, 2, 3), np.uint8))

    assert next(iter(open_source(f"watch:{folder}?old=yes&every=0.05"))).name == "a.npy"
    with pytest.raises(UsageError, match="write watch:FOLDER"):
        open_source("watch:")
    with pytest.raises(UsageError, match="after: expected one of keep, delete, move"):
        open_source(f"watch:{folder}?after=eat")

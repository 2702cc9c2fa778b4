"""Is the stream alive, and is it ready? Judged from a snapshot of the board alone."""

from collections.abc import Mapping
from typing import Any

__all__ = ["STUCK_S", "health", "readiness"]

STUCK_S = 60.0
"""A work loop that has not moved for so long does not move; a step on a small board takes some seconds."""

_LOADING_S = 600.0
"""Before its first turn the network is loaded and tried, which may take minutes on a small board."""

_GIVES_NOTHING = ("lost", "silent")


def health(snapshot: Mapping[str, Any], camera: str | None = None) -> tuple[bool, dict[str, Any]]:
    """Whether the work loop moves, and frames come from at least one of the cameras that are expected to give them.

    One lost camera of several is told, and is no reason to start the process anew.

    Args:
        snapshot: From `Board.snapshot`.
        camera: Ask for this one instead: it has to give frames.

    Returns:
        Whether it is healthy, and a report for JSON; its `why` is empty where all is well.
    """
    cameras = {one["name"]: one for one in snapshot["cameras"]}
    why = _of_the_loop(snapshot["loop"])
    why += _of_all(cameras) if camera is None else _of_one(cameras, camera)
    report = {
        "healthy": not why,
        "why": why,
        "last_beat_s": snapshot["loop"]["last_beat_s"],
        "up_s": snapshot["up_s"],
        "cameras": {
            name: {key: one[key] for key in ("state", "why", "last_frame_s", "expects_frames")}
            for name, one in cameras.items()
        },
    }
    return not why, report


def readiness(snapshot: Mapping[str, Any]) -> tuple[bool, dict[str, Any]]:
    """Whether the network is loaded and has answered a frame; and a report for JSON."""
    why = []
    if snapshot["network"] is None:
        why.append("the network is not loaded yet")
    elif not any(one["counts"]["frames"] for one in snapshot["cameras"]):
        why.append("no frame has been answered yet")
    return not why, {"ready": not why, "why": why}


def _of_the_loop(loop: Mapping[str, Any]) -> list[str]:
    beat_s, most_s = loop["last_beat_s"], STUCK_S if loop["beats"] else _LOADING_S
    return [f"the work loop has not moved for {beat_s:.0f} s, more than {most_s:.0f} s"] if beat_s > most_s else []


def _of_all(cameras: Mapping[str, Any]) -> list[str]:
    expected = [one for one in cameras.values() if one["expects_frames"]]
    missing = [one for one in expected if one["state"] in _GIVES_NOTHING]
    if not expected or len(missing) < len(expected):
        return []
    return [f"no camera gives frames: {', '.join(_told(one) for one in missing)}"]


def _of_one(cameras: Mapping[str, Any], name: str) -> list[str]:
    if name not in cameras:
        return [f"no such camera; there are: {', '.join(cameras) or 'none'}"]
    one = cameras[name]
    return [] if one["state"] in ("live", "waiting") else [_told(one)]


def _told(one: Mapping[str, Any]) -> str:
    return f"{one['name']} is {one['state']} ({one['why']})" if one["why"] else f"{one['name']} is {one['state']}"

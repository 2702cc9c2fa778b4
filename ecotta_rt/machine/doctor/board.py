"""Check this machine against the profile of the board it is said to be."""

from collections.abc import Mapping

from ecotta_rt.machine.device import DeviceProfile
from ecotta_rt.machine.doctor.finding import Finding, ok, warning

__all__ = ["check_board"]

_MIB = 1 << 20


def check_board(profile: DeviceProfile, meminfo: Mapping[str, int], features: tuple[str, ...], cores: int) -> Finding:
    """Whether plans made for `profile` hold here.

    Args:
        profile: The board.
        meminfo: Name -> bytes, as in /proc/meminfo.
        features: Instruction set extensions, as `this_machine.cpu_features` names them.
        cores: Cores that this process may run on.
    """
    about = profile.id
    if profile.host != "python":
        return warning(
            about, "the profile of a phone's app, which has no Python", "examine the phone with the app that you build"
        )
    differences = _differences(profile, meminfo, features, cores)
    if differences:
        advice = "plans for that board do not hold here: take the right profile, or this-machine"
        return warning(about, f"this machine differs: {'; '.join(differences)}", advice)
    return ok(about, f"its {profile.default_limit_bytes // _MIB} MiB limit, cores and instructions are there")


def _differences(
    profile: DeviceProfile, meminfo: Mapping[str, int], features: tuple[str, ...], cores: int
) -> list[str]:
    found = []
    available = meminfo.get("MemAvailable")
    if available is not None and available < profile.default_limit_bytes:
        limit = profile.default_limit_bytes // _MIB
        found.append(f"{available // _MIB} MiB are available, its default limit is {limit}")
    if cores < profile.cores:
        found.append(f"{cores} usable cores, not {profile.cores}")
    missing = [feature for feature in profile.isa if feature not in features]
    if missing:
        found.append(f"its processor lacks {' '.join(missing)}")
    return found

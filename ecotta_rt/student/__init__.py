"""A network that fits the device: distilled from teachers over the domains it will see, slimmed, picked by the plan.

    from ecotta_rt import student

    student.rank(...)  student.distil(...)  student.slim(...)  student.pick(...)        as the commands of these names

Host only, with torch. The methods are those of papers, each under its own name, and each of them is steps for the one
loop in `training`.

| to | see |
| --- | --- |
| open the pictures of a source and of targets | `domains` |
| distil over them: KD-STDA, KD-MTDA, MT-MTDA, and their peers | `progressive.distil`, `methods.DistilOptions` |
| align domains: DANN, MMD, SymNet | `alignment` |
| rank foreign networks, and learn from the nearest or all | `ranking`, `weighted` |
| run a network at any width | `slimmable` |
| adapt all its widths at once (SlimDA), search them for a device, pick one | `slimda` |
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ecotta_rt.student.methods import DistilOptions
    from ecotta_rt.student.slimda.training import SlimOptions
    from ecotta_rt.student.tasks.distil import Student, distil
    from ecotta_rt.student.tasks.pick import pick
    from ecotta_rt.student.tasks.pictures import Pictures
    from ecotta_rt.student.tasks.rank import rank
    from ecotta_rt.student.tasks.slim import Slimmed, slim
    from ecotta_rt.student.teachers import RankedOptions
    from ecotta_rt.student.training import TrainingOptions

__all__ = [
    "DistilOptions",
    "Pictures",
    "RankedOptions",
    "SlimOptions",
    "Slimmed",
    "Student",
    "TrainingOptions",
    "distil",
    "pick",
    "rank",
    "slim",
]

_HOMES = {
    "DistilOptions": "ecotta_rt.student.methods",
    "Pictures": "ecotta_rt.student.tasks.pictures",
    "RankedOptions": "ecotta_rt.student.teachers",
    "SlimOptions": "ecotta_rt.student.slimda.training",
    "Slimmed": "ecotta_rt.student.tasks.slim",
    "Student": "ecotta_rt.student.tasks.distil",
    "TrainingOptions": "ecotta_rt.student.training",
    "distil": "ecotta_rt.student.tasks.distil",
    "pick": "ecotta_rt.student.tasks.pick",
    "rank": "ecotta_rt.student.tasks.rank",
    "slim": "ecotta_rt.student.tasks.slim",
}


def __getattr__(name: str) -> Any:
    """Fetched when first used: `ecotta --help` and a device need no torch."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        value = getattr(import_module(_HOMES[name]), name)
    except ModuleNotFoundError as error:
        from ecotta_rt.extras import missing_package

        raise missing_package(error) or error from error
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)

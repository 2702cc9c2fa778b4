"""What can be set, what else there is for a bundle, and what an alternative changes."""

from dataclasses import dataclass, replace
from typing import Any

from ecotta_rt.adapt.channels import Channels
from ecotta_rt.adapt.places import Key
from ecotta_rt.bundle import Bundle
from ecotta_rt.errors import UsageError
from ecotta_rt.options import ANSWERS, AdaptationOptions
from ecotta_rt.runtime.choosing import has_graph
from ecotta_rt.runtime.learning import learning_pays
from ecotta_rt.runtime.recipe import HELD, adaptation_options

__all__ = ["Alternative", "alternatives", "least_batch", "passes", "present_options"]

_USUAL = AdaptationOptions()
_STEP_PASSES = 3.0  # what a step takes, in forward passes


@dataclass(frozen=True)
class Alternative:
    """Another value of one setting.

    Attributes:
        name: `statistics`, `answer`, `places`, `views` or `learning`.
        value: The other value.
        saves: Whether it saves forward passes: then it need not be better, only no worse.
    """

    name: str
    value: str | int
    saves: bool = False

    def __str__(self) -> str:
        return f"{self.name} {self.value}"

    def of(self, options: AdaptationOptions) -> AdaptationOptions:
        """The options with this value, all else as it is."""
        if self.name != "statistics":
            changed: dict[str, Any] = {self.name: self.value}
            return replace(options, **changed)
        if self.value == HELD:
            return replace(options, momentum=0.0)
        rule: Any = self.value
        return replace(options, statistics=rule, momentum=options.momentum or _USUAL.momentum)


def present_options(bundle: Bundle) -> AdaptationOptions:
    """How a bundle follows its stream now; learning is `on` or `off`, whatever decided it.

    Raises:
        UsageError: Its format is one of before there was a choice.
        InputFileError: It says what cannot be meant.
    """
    manifest = bundle.manifest
    if manifest.layout.statistics and manifest.normalisation == "running" and not manifest.ports.observes:
        raise UsageError(
            f"{bundle.path} is of an older format, in which graphs move the statistics: prepare it anew, with --data"
        )
    options = adaptation_options(manifest)
    learns = learning_pays(options.learning, manifest.metadata) and has_graph(bundle, "step", least_batch(bundle))
    return replace(options, learning="on" if learns else "off")


def least_batch(bundle: Bundle) -> int:
    """The fewest frames that the bundle answers at once.

    Raises:
        UsageError: It answers none.
    """
    sizes = [graph.batch for graph in bundle.manifest.graphs if graph.kind == "predict"]
    if not sizes:
        raise UsageError(f"{bundle.path} has no graph that answers; prepare it anew")
    return min(sizes)


def alternatives(bundle: Bundle, now: AdaptationOptions, mirror: bool) -> tuple[list[Alternative], list[str]]:
    """What else there is, one setting changed at a time, and what there is not, in words with what to do.

    Args:
        bundle: Says what it can do.
        now: From `present_options`.
        mirror: Whether mirroring a frame keeps its class.
    """
    found = [Alternative("answer", kind) for kind in ANSWERS if kind != now.answer]
    following, missing = _following(bundle, now)
    if now.views > 1 or mirror:
        found.append(Alternative("views", 1, saves=True) if now.views > 1 else Alternative("views", 2))
    else:
        missing.append("views 2 was not tried: give --mirror where mirroring keeps the class")
    if now.learning == "on":
        found.append(Alternative("learning", "off", saves=True))
    elif has_graph(bundle, "step", least_batch(bundle)):
        found.append(Alternative("learning", "on"))
    else:
        missing.append("learning on was not tried: the bundle has no step for as many frames as it answers at once")
    return following + found, missing


def _following(bundle: Bundle, now: AdaptationOptions) -> tuple[list[Alternative], list[str]]:
    manifest = bundle.manifest
    if not manifest.ports.observes or not manifest.layout.statistics:
        return [], [f"statistics follow nothing in {manifest.normalisation} normalisation: nothing to choose"]
    stored, missing = bundle.tables(), []
    rules = ["de-classed", "plain", HELD]
    if not any(name in stored for name in ("offset_mix", "spread_mix")):
        rules.remove("de-classed")
        missing.append("statistics de-classed was not tried: no class tables; prepare the bundle anew, with --data")
    is_now = HELD if now.momentum == 0 else now.statistics
    found = [Alternative("statistics", rule) for rule in rules if rule != is_now]
    channels = Channels.of([(array.name, array.count) for array in manifest.layout.statistics])
    if Key.from_arrays(stored, channels) is None:
        missing.append("places was not tried: no key that tells them apart; prepare the bundle anew, with --data")
    elif is_now != HELD:
        found.append(Alternative("places", 0 if now.places else _USUAL.places))
    return found, missing


def passes(options: AdaptationOptions) -> float:
    """About how many forward passes a frame takes, for an estimate of the time."""
    return (options.views - 1) + (_STEP_PASSES if options.learning == "on" else 1.0)

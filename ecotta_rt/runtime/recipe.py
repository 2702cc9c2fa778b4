"""From what a bundle says of following its stream to a recipe for `ecotta_rt.adapt`."""

import json
from dataclasses import replace
from typing import Any

from ecotta_rt.adapt.adaptation import Recipe
from ecotta_rt.adapt.channels import Channels
from ecotta_rt.adapt.class_tables import ClassTables
from ecotta_rt.adapt.follower import Followed
from ecotta_rt.adapt.places import Key
from ecotta_rt.adapt.signs import SignsRecipe, Source, usable_gate
from ecotta_rt.bundle import Bundle, Manifest
from ecotta_rt.errors import InputFileError, UsageError
from ecotta_rt.options import ON_DEVICE, TRACKED, AdaptationOptions
from ecotta_rt.runtime.learning import learning_pays

__all__ = [
    "HELD",
    "TEMPERATURE",
    "adaptation_options",
    "described",
    "described_bundle",
    "learns",
    "recipe_of",
    "signs_recipe_of",
]

HELD = "held"
"""Of statistics: they stay those of the source."""

TEMPERATURE = "answer_temperature"
"""In a manifest's metadata: see `ecotta_rt.adapt.temperature`."""


def adaptation_options(manifest: Manifest, **changes: Any) -> AdaptationOptions:
    """How a bundle wants its stream to be followed.

    One that says nothing of it was made before there was a choice, or by somebody who wants none: it learns from each
    batch, its statistics follow by the plain rule, and the answer is the network's own.

    Args:
        manifest: Of the bundle.
        changes: Options to have other values; those that are None change nothing.

    Raises:
        InputFileError: The manifest has something else than options.
        UsageError: `changes` cannot be meant.
    """
    try:
        options = AdaptationOptions.of(manifest.adaptation) if manifest.adaptation else _before(manifest)
    except UsageError as error:
        raise InputFileError(f"the bundle's adaptation cannot be used: {error}") from error
    return replace(options, **{name: value for name, value in changes.items() if value is not None})


def _before(manifest: Manifest) -> AdaptationOptions:
    momentum = manifest.options.get("statistics_momentum", ON_DEVICE.statistics_momentum)
    said = {"statistics": "plain", "momentum": momentum, "leak": 0.0, "answer": "unfiltered", "learning": "on"}
    return AdaptationOptions.of(said)


def learns(manifest: Manifest) -> bool:
    """Whether a bundle learns by gradients unless asked otherwise; raises as `adaptation_options`."""
    return learning_pays(adaptation_options(manifest).learning, manifest.metadata)


def described(options: AdaptationOptions) -> str:
    """All settings in one line.

    >>> described(AdaptationOptions())
    'statistics de-classed, answer filtered, places 8, views 1, learning off'
    """
    return _in_a_line(options, HELD if options.momentum == 0 else options.statistics, options.places)


def described_bundle(bundle: Bundle, options: AdaptationOptions | None = None, learning: bool | None = None) -> str:
    """What a bundle does with a stream, in one line.

    Args:
        bundle: Says what it can do.
        options: How it is run; None: as it says itself.
        learning: Whether it learns by gradients; None: as it says itself.

    Raises:
        InputFileError: As `adaptation_options`.
    """
    manifest = bundle.manifest
    options = options or adaptation_options(manifest)
    learning = learns(manifest) if learning is None else learning
    options = replace(options, learning="on" if learning else "off")
    if manifest.normalisation not in TRACKED:
        return _in_a_line(options, "of each batch" if manifest.normalisation == "batch" else HELD, 0)
    tells_places = manifest.ports.observes and any(name.startswith("key_") for name in bundle.tables())
    return described(options if tells_places else replace(options, places=0))


def _in_a_line(options: AdaptationOptions, statistics: str, places: int) -> str:
    parts = (f"statistics {statistics}", f"answer {options.answer}", f"places {places}", f"views {options.views}")
    return ", ".join([*parts, f"learning {options.learning}"])


def recipe_of(bundle: Bundle, options: AdaptationOptions) -> Recipe:
    """What the adaptations of all cameras of a bundle have in common.

    Args:
        bundle: Has the tables, and the statistics at the source.
        options: See `adaptation_options`.

    Raises:
        InputFileError: Tables or momenta that do not fit the network.
    """
    manifest = bundle.manifest
    classes = len(manifest.classes)
    if not manifest.ports.observes or not manifest.layout.statistics:
        return Recipe(options, classes)
    channels = Channels.of([(array.name, array.count) for array in manifest.layout.statistics])
    source = manifest.layout.pack(bundle.initial_state())[2]
    own = _momenta(manifest)
    momentum = channels.each(own.get(norm, options.momentum) if options.momentum else 0.0 for norm in channels.norms)
    stored = bundle.tables()
    try:
        tables = ClassTables.from_arrays(stored, classes, channels.count) if stored else None
        key = Key.from_arrays(stored, channels)
        recipe = Recipe(options, classes, Followed(channels, source, momentum, tables, key))
        recipe.check()
    except UsageError as error:
        raise InputFileError(f"{bundle.path}: {error}") from error
    return recipe


def signs_recipe_of(manifest: Manifest, recipe: Recipe) -> SignsRecipe:
    """By what the signs of all cameras of a bundle are read.

    Args:
        manifest: Of the bundle: the gate of its step, and its temperature where that was measured.
        recipe: Of its adaptations.

    Raises:
        InputFileError: The temperature is none.
    """
    text = manifest.metadata.get(TEMPERATURE)
    try:
        temperature = None if text is None else float(text)
        margin = float(manifest.options.get("entropy_margin", ON_DEVICE.entropy_margin))
        source, answer = Source.of(recipe.followed), recipe.options.answer
        return SignsRecipe(recipe.classes, usable_gate(margin), source, temperature, answer)
    except (TypeError, ValueError, UsageError) as error:
        raise InputFileError(f"the bundle's {TEMPERATURE} {text!r} cannot be used: give a number above 0") from error


def _momenta(manifest: Manifest) -> dict[str, float]:
    """Of norms that have one of their own."""
    try:
        momenta: dict[str, float] = json.loads(manifest.metadata.get("momenta", "{}"))
        if not all(type(u) in (int, float) and 0 <= u <= 1 for u in momenta.values()):
            raise ValueError("not all of them numbers in [0, 1]")
    except (ValueError, AttributeError, RecursionError) as error:
        raise InputFileError(f"the bundle's momenta of the statistics cannot be used: {error}") from error
    return momenta

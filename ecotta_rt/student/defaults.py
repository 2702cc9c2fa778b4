"""What methods begin with and commands say in their help, which loads no torch."""

__all__ = ["LABEL_SHARE", "MEASURE", "PICTURES", "POWER"]

MEASURE = "logme"
"""Ranks and weighs networks: with few labels the steadiest."""

POWER = 12.0
"""p of the weights, as published (arXiv 2304.12314): large enough that sources far from the best weigh nothing."""

LABEL_SHARE = 0.8
"""lambda, the published share of the labels' term beside the sources'."""

PICTURES = 500
"""Labelled ones that networks are ranked by, at most."""

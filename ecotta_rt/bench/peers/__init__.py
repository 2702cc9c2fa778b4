"""The methods that EcoTTA is measured against, one file each, written from their papers.

Reading the list imports no torch; building a method does.
"""

from ecotta_rt.bench.peers.registry import DEFAULT_METHODS, METHODS, MethodEntry, build_method, expand

__all__ = ["DEFAULT_METHODS", "METHODS", "MethodEntry", "build_method", "expand"]

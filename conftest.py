"""Doctests are looked for in every module of the package, and those of Flower's apps cannot be imported without it."""

from importlib.util import find_spec

_APPS = ("client", "payload", "server", "strategy")
collect_ignore = [] if find_spec("flwr") else [f"ecotta_rt/flower/{name}.py" for name in _APPS]

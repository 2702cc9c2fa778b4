"""Streams as papers define them, played to methods: `ecotta-bench --stream`.

    protocol, labels, seed -> FramePlan -> recording -> a process a case -> answers -> figures -> one JSON file

A plan is made without a picture and without torch: which image comes when, under what, and where something changes.
"""

from ecotta_rt.bench.streams.frame_plan import CLEAN, FramePlan, Kind, Span
from ecotta_rt.bench.streams.protocols import PROTOCOLS, Protocol, plan_stream

__all__ = ["CLEAN", "PROTOCOLS", "FramePlan", "Kind", "Protocol", "Span", "plan_stream"]

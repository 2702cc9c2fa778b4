"""Flower for a fleet: boards send what they have learned, a server merges it and sends it to those that asked.

There is no server of ours: rounds, drop-outs and late boards are Flower's, and so are its secure channel and who may
join. Nothing here adapts. A board's ClientApp reads the newest state that its daemon has saved, and what comes back is
a file beside it, which an owner adopts.

    board      which states a node gives, and where it wants merged ones
    payload    states as Flower's records carry them
    client     the ClientApp
    strategy   the Strategy: what merge refuses is left out and named
    server     the ServerApp

An app names `ecotta_rt.flower.client:app` and `ecotta_rt.flower.server:app`, see examples/fleet/. Extra `fleet`.
"""

__all__: list[str] = []

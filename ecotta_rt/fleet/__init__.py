"""What a fleet has learned: adapted states merged without data, in plain numpy.

A thousand boards adapt, each to its own place. Networks that come from the same weights lie in one basin, so their
parameters merge linearly, and the statistics of their norms are pooled as moments of Gaussians (training-free model
merging, ECCV 2024, arXiv 2407.13771).

    from ecotta_rt.fleet.merge import merge
    merged = merge([Path("door.state.safetensors"), Path("yard.state.safetensors")])
    merged.groups[0].state.save("all.state.safetensors")

    sources   states in files or in memory, read again whenever they are needed
    flat      a state's content as one vector, checked
    survey    which of them can be used, and which are of one kind
    pooling   weighted means and pooled moments, one state after the other
    robust    medians, trimmed means and states that are far from all others
    clipping  the mean of states that are drawn in to the usual distance from the median
    bundle_state  where all states began, and what of it no board moves
    shrinkage     a merged state drawn towards that
    clusters  states of one kind of place
    options   how they are to be merged
    merge     all of it
    folder    where the states of boards lie, one file a board
    drop      how they get there from boards that are too small for more
"""

__all__: list[str] = []

"""A Flower App of `ecotta_rt.flower`."""

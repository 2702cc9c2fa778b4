"""A network that adapts to a stream, both shipped: the first success without a data set.

    shipped  ->  ladder  ->  text, picture

`shipped` opens the bundle and the frames in this folder, `ladder` plays the frames to the network in four ways, each
with one thing more than the last, and `text` and `picture` show what came of it. A device's four packages are enough.
"""

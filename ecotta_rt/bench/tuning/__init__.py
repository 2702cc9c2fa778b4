"""What pays for one network: settings of a bundle, measured on its source pictures under corruptions.

labelled pictures -> two streams -> each setting plays both -> errors and their differences -> what to change
"""

from ecotta_rt.bench.tuning.streams import Played, make_streams
from ecotta_rt.bench.tuning.tuning import Report, Row, Tuning

__all__ = ["Played", "Report", "Row", "Tuning", "make_streams"]

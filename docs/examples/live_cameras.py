"""Cameras inside a program: each answered as its frames come, and what they teach is kept.

python docs/examples/live_cameras.py net.ecotta door=rtsp://192.168.1.20/live yard=/dev/video0
"""

import sys

from ecotta_rt import Live
from ecotta_rt.events import Answer, SourceLost

bundle, *cameras = sys.argv[1:]
with Live(bundle, dict(camera.split("=", 1) for camera in cameras), state="states") as live:
    for stamped in live:  # until the cameras end, or somebody calls live.close()
        match stamped.event:
            case Answer(label=label, probability=probability):
                print(f"{stamped.camera}: {label}, {100 * probability:.0f} %")
            case SourceLost(why=why):
                print(f"{stamped.camera}: {why}")

"""Pictures that the program has itself, from OpenCV or picamera2 for example; answers come to a function.

python docs/examples/live_pictures.py net.ecotta
"""

import sys
import threading

import numpy as np

from ecotta_rt import Live
from ecotta_rt.events import Answer, Stamped

answered = threading.Event()


def on_event(stamped: Stamped) -> None:
    """Called in a thread of its own, event by event."""
    if isinstance(stamped.event, Answer):
        print(f"{stamped.event.name}: {stamped.event.label}")
        answered.set()


with Live(sys.argv[1], {"door": None}, on_event=on_event) as live:
    for number in range(3):
        picture = np.full((480, 640, 3), 80 * number, np.uint8)  # RGB; OpenCV's are BGR: picture[..., ::-1]
        live.put("door", picture, f"picture {number}")
        answered.wait(10)
        answered.clear()
    live.set_adapting("door", False)  # answered from now on, and nothing learned
    print(live.status()["cameras"][0]["counts"]["frames"], "pictures answered")

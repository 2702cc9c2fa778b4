"""The same in an asyncio program, which does other things meanwhile.

python docs/examples/live_asyncio.py net.ecotta door=rtsp://192.168.1.20/live
"""

import asyncio
import sys

from ecotta_rt import Live
from ecotta_rt.events import Answer


async def answers(live: Live) -> None:
    """Print them as they come."""
    async for stamped in live:
        if isinstance(stamped.event, Answer):
            print(f"{stamped.camera}: {stamped.event.label}")


async def program(bundle: str, cameras: dict[str, str]) -> None:
    """Cameras beside whatever else there is to do."""
    async with Live(bundle, cameras) as live:
        await asyncio.gather(answers(live), asyncio.sleep(0.1))  # your own work goes here


asyncio.run(program(sys.argv[1], dict(camera.split("=", 1) for camera in sys.argv[2:])))

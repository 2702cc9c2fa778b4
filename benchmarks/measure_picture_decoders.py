"""What it costs a device to open pictures: memory of the import and a first picture, and time, by decoder.

Each decoder runs in a process of its own that has numpy already, as a device has. It says, in MiB of PSS, what the
import adds and what the import and one small picture add, and the least time of several to decode a JPEG of 1920 x 1080
and one of 160 x 120 from memory into RGB. The pictures are made here, with Pillow.

    python benchmarks/measure_picture_decoders.py
"""

import io
import subprocess
import sys

DECODERS = {
    "Pillow": """
import PIL.Image as module
import io
def decode(content):
    return np.asarray(module.open(io.BytesIO(content), formats=("JPEG",)).convert("RGB"))
""",
    "simplejpeg": """
import simplejpeg as module
decode = module.decode_jpeg
""",
    "PyAV": """
import av as module
import io
def decode(content):
    with module.open(io.BytesIO(content), format="jpeg_pipe") as file:
        return next(file.decode(video=0)).to_ndarray(format="rgb24")
""",
    "opencv-python-headless": """
import cv2 as module
module.setNumThreads(1)
def decode(content):
    return module.imdecode(np.frombuffer(content, np.uint8), module.IMREAD_COLOR)[:, :, ::-1]
""",
}

_MEASURE = """
import sys, time
import numpy as np

def pss_mib():
    return next(int(line.split()[1]) for line in open("/proc/self/smaps_rollup") if line.startswith("Pss:")) / 1024

def least_ms(content, rounds):
    times = []
    for _ in range(rounds):
        begin = time.perf_counter()
        decode(content)
        times.append(time.perf_counter() - begin)
    return 1000 * min(times)

large_bytes = int(sys.argv[1])
content = sys.stdin.buffer.read()
large, small = content[:large_bytes], content[large_bytes:]
before = pss_mib()
{decoder}
imported = pss_mib() - before
decode(small)
used = pss_mib() - before
print(f"{{imported:6.1f}} {{used:6.1f}} {{least_ms(large, 15):8.2f}} {{least_ms(small, 100):8.3f}}")
"""


def _jpeg(width: int, height: int) -> bytes:
    import numpy as np
    from PIL import Image

    rows, columns = np.mgrid[:height, :width]
    waves = np.stack([127 + 60 * np.sin(rows / 9 + columns / (5 + i)) + rows % 60 for i in range(3)], axis=2)
    file = io.BytesIO()
    Image.fromarray(waves.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=85)
    return file.getvalue()


def main() -> None:
    large, small = _jpeg(1920, 1080), _jpeg(160, 120)
    print(f"{'decoder':<24}import   used  1080p ms   160 ms")
    for name, decoder in DECODERS.items():
        done = subprocess.run(
            [sys.executable, "-c", _MEASURE.format(decoder=decoder), str(len(large))],
            input=large + small,
            capture_output=True,
        )
        said = done.stdout.decode().strip() if done.returncode == 0 else done.stderr.decode().splitlines()[-1]
        print(f"{name:<24}{said}")


if __name__ == "__main__":
    main()

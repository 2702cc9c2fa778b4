import subprocess
import sys

import pytest

HEAVY = (
    *("asyncio", "ssl", "http.server", "urllib.request", "multiprocessing", "concurrent.futures", "email", "xml"),
    *("_hashlib", "numpy.random", "numpy.ma", "numpy.fft", "numpy.polynomial", "unittest", "av", "PIL", "paho"),
)
"""What costs a small board megabytes; OpenSSL (`_hashlib`) comes with numpy.random, secrets and hmac."""


@pytest.mark.parametrize("module", ["ecotta_rt.daemon.daemon", "ecotta_rt.cli.serve"])
def test_a_daemon_that_starts_loads_nothing_heavy_that_it_may_never_need(module):
    script = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert set(done.stdout.split()) & {*HEAVY, "torch", "onnx"} == set()

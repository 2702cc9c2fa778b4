"""SHA-256 that loads no OpenSSL."""

import hashlib
import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from ecotta_rt.files.digest import sha256


def test_the_digest_of_a_known_text():
    """Source: FIPS 180-4, the example of one block."""
    assert sha256(b"abc").hexdigest() == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@given(st.lists(st.binary(max_size=200), max_size=5))
def test_it_is_that_of_the_standard_library_piece_by_piece_too(pieces):
    digest = sha256()
    for piece in pieces:
        digest.update(memoryview(piece))

    assert digest.digest() == hashlib.sha256(b"".join(pieces)).digest()


def test_openssl_stays_outside():
    code = "import sys; from ecotta_rt.files.digest import sha256; sha256(b''); print('_hashlib' in sys.modules)"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "False"

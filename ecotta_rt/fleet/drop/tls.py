"""Whom a drop trusts, and how it shows who we are."""

from typing import TYPE_CHECKING, NoReturn

from ecotta_rt.errors import InputFileError

if TYPE_CHECKING:  # the module takes megabytes, for those who send
    from ssl import SSLContext

__all__ = ["is_lasting", "tls_context"]


def tls_context(ca_file: str | None, cert_file: str | None, key_file: str | None) -> "SSLContext":
    """A context that trusts `ca_file`, else the system's certificates, and shows our own one where there is one.

    Raises:
        InputFileError: A file is no certificate or no key of it, or the key is encrypted: nobody is there to type.
    """
    from ssl import SSLError, create_default_context

    def refuse() -> NoReturn:
        raise InputFileError(f"{key_file}: the key is encrypted; keep it unencrypted, readable by its owner alone")

    try:
        context = create_default_context(cafile=ca_file)
    except (SSLError, OSError) as error:
        raise InputFileError(f"{ca_file}: expected certificates to trust, as PEM ({error})") from error
    if cert_file is not None:
        try:
            context.load_cert_chain(cert_file, key_file, password=refuse)
        except (SSLError, OSError) as error:
            raise InputFileError(
                f"{cert_file}, {key_file}: expected a certificate and its key, as PEM ({error})"
            ) from error
    return context


def is_lasting(error: Exception) -> bool:
    """Whether a connection has failed by a certificate, ours or theirs, which no later try would mend."""
    from ssl import SSLCertVerificationError, SSLError

    return isinstance(error, SSLCertVerificationError) or (
        isinstance(error, SSLError) and "ALERT" in (error.reason or "")
    )

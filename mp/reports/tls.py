"""TLS between the points that carry reports: each proves itself by a certificate of an authority of their own."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from mp.private_file import private_directory, read_private
from mp.reports.settings import ReportTls
from schemas.errors import ConfigurationError

_MOST_PEM_BYTES = 1 << 18
_PASSPHRASE_WANTED = b""


@dataclass(frozen=True, slots=True)
class ReportContexts:
    """Both ends of a connection; None where reports travel in the clear."""

    server: ssl.SSLContext | None = None
    """Takes reports from points with a certificate of the authority, and from nobody else."""
    client: ssl.SSLContext | None = None
    """Brings reports to the point whose certificate names the address that is called (RFC 9525 section 6.5)."""


def report_contexts(files: ReportTls | None) -> ReportContexts:
    """Read the files.

    Raises:
        ConfigurationError: naming the key of the file that is not fit, and why.
        HostError: the file of the private key cannot be read.
    """
    if files is None:
        return ReportContexts()
    _check_private(files.key)
    server = _context(ssl.PROTOCOL_TLS_SERVER, files)
    server.num_tickets = 0  # a connection brings one report: nobody comes back to go on with an old session
    return ReportContexts(server, _context(ssl.PROTOCOL_TLS_CLIENT, files))


def _context(protocol: ssl._SSLMethod, files: ReportTls) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3  # all points are of this program: no older one to be kind to
    context.verify_mode = ssl.CERT_REQUIRED
    try:
        context.load_verify_locations(files.ca)
    except OSError as error:
        raise _unfit("ca", files.ca, "a file of certificates in PEM form", error) from error
    try:
        context.load_cert_chain(files.certificate, files.key, password=lambda: _PASSPHRASE_WANTED)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise _unfit("key", files.key, f"the key of {files.certificate}", error) from error
        expected = f"a certificate in PEM form, and in {files.key} its key, without a passphrase"
        raise _unfit("certificate", files.certificate, expected, error) from error
    except OSError as error:
        raise _unfit("certificate", files.certificate, "a certificate in PEM form", error) from error
    return context


def _check_private(key: Path) -> None:
    what = "reports.key"
    read_private(
        key, what, most_bytes=_MOST_PEM_BYTES, directory=private_directory(key.parent, what), is_secret=True
    )


def _unfit(name: str, path: Path, expected: str, error: OSError) -> ConfigurationError:
    reason = getattr(error, "reason", None) or error.strerror or "unreadable"
    return ConfigurationError(f"reports.{name}", str(path), f"{expected} ({reason})")

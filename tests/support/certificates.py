"""A certificate for tests, signed by a CA that only one file knows."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import trustme


class Certificate(NamedTuple):
    """Files in PEM: the CA, the certificate that it signed, and its key."""

    ca: Path
    certificate: Path
    key: Path


def make_certificate(directory: Path, *names: str) -> Certificate:
    """Make a certificate for those names, or for this machine."""
    files = Certificate(directory / "ca.pem", directory / "certificate.pem", directory / "key.pem")
    ca = trustme.CA()
    issued = ca.issue_cert(*(names or ("127.0.0.1", "localhost")))
    ca.cert_pem.write_to_path(files.ca)
    issued.cert_chain_pems[0].write_to_path(files.certificate)
    issued.private_key_pem.write_to_path(files.key)
    return files

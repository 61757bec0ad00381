"""The certificate authority of the emulated AWS. Only clients that are given its certificate trust it."""

from __future__ import annotations

import datetime as dt
import os
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_VALID = dt.timedelta(days=395)


@dataclass(frozen=True)
class Issued:
    """A certificate and the one that signed it, in PEM."""

    certificate: str
    chain: str


class Authority:
    """Issues certificates, and keeps their keys in files of `directory` that only root can read."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def bundle(self, arn: str) -> Path:
        """The file with a certificate, its chain and its key, as HAProxy reads it."""
        return self._directory / f"{arn.rpartition('/')[2]}.pem"

    def issue(self, arn: str, names: list[str]) -> Issued:
        """Issue a certificate for these DNS names."""
        subject = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
        ca_certificate, ca_key = self._ca()
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = (
            _builder(names[0], key)
            .issuer_name(ca_certificate.subject)
            .add_extension(subject, critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False
            )
            .sign(ca_key, SHA256())
        )
        issued = Issued(_pem(certificate), _pem(ca_certificate))
        self._write(self.bundle(arn), issued.certificate + issued.chain + _key_pem(key))
        return issued

    def forget(self, arn: str) -> None:
        self.bundle(arn).unlink(missing_ok=True)

    def _ca(self) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
        path = self._directory / "authority.pem"
        if path.exists():
            saved = path.read_bytes()
            key = load_pem_private_key(saved, None)
            assert isinstance(key, ec.EllipticCurvePrivateKey)
            return x509.load_pem_x509_certificate(saved), key
        key = ec.generate_private_key(ec.SECP256R1())
        usage = x509.KeyUsage(
            key_cert_sign=True,
            crl_sign=True,
            digital_signature=False,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            encipher_only=False,
            decipher_only=False,
        )
        builder = _builder("CA of the emulated AWS", key)
        certificate = (
            builder.issuer_name(_name("CA of the emulated AWS"))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, SHA256())
        )
        self._write(path, _pem(certificate) + _key_pem(key))
        return certificate, key

    def _write(self, path: Path, text: str) -> None:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        new = path.with_suffix(".new")
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(text)
        new.replace(path)


def _builder(name: str, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + _VALID)
    )


def _name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()


def _key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()

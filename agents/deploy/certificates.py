"""Make a certificate authority for a deployment and sign its servers, or check the operator's own certificates.

A browser or a camera has to trust one file, ``ca.pem``. Keys are ECDSA on P-256, which every MQTT library supports. The
authority is valid for ten years, server certificates for 800 days; `tierwise init` renews them in their last month
(RFC 5280)::

    authority = Authority.make("tierwise home", now)
    server = authority.sign(("localhost", "mosquitto", "192.168.1.5"), now)
"""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from pipeline.errors import Stop

AUTHORITY_DAYS: Final = 3650
SERVER_DAYS: Final = 800
"""Apple's systems refuse server certificates that are valid for more than 825 days."""
RENEW_BEFORE: Final = dt.timedelta(days=30)
BACKDATED: Final = dt.timedelta(hours=1)
"""Validity begins earlier, for clients whose clock is behind."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate with its chain, and its key, both PEM."""

    certificate: bytes
    key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Authority:
    """The certificate authority of one deployment."""

    pair: Pair

    @classmethod
    def make(cls, name: str, now: dt.datetime) -> Authority:
        """Make a new authority with a new key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        usage = x509.KeyUsage(
            digital_signature=True,
            key_cert_sign=True,
            crl_sign=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            encipher_only=False,
            decipher_only=False,
        )
        certificate = (
            _draft(subject, subject, key.public_key(), now, AUTHORITY_DAYS)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .sign(key, hashes.SHA256())
        )
        return cls(Pair(_pem(certificate), _key_pem(key)))

    def sign(self, names: Sequence[str], now: dt.datetime) -> Pair:
        """Return a certificate and key for a server with these host names and addresses."""
        issuer = x509.load_pem_x509_certificate(self.pair.certificate)
        signer = serialization.load_pem_private_key(self.pair.key, None)
        assert isinstance(signer, ec.EllipticCurvePrivateKey)
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])])
        certificate = (
            _draft(subject, issuer.subject, key.public_key(), now, SERVER_DAYS)
            .add_extension(x509.SubjectAlternativeName([_general(name) for name in names]), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .sign(signer, hashes.SHA256())
        )
        return Pair(_pem(certificate) + self.pair.certificate, _key_pem(key))


def is_current(pair: Pair, names: Sequence[str], now: dt.datetime) -> bool:
    """Return whether a server's certificate has exactly these names and is not in its last month."""
    certificate = x509.load_pem_x509_certificate(pair.certificate)
    names_in_it = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return (
        set(names_in_it) == {_general(name) for name in names} and certificate.not_valid_after_utc - now > RENEW_BEFORE
    )


def check(pair: Pair, where: str, now: dt.datetime) -> None:
    """Check the operator's own certificate and key.

    Raises
    ------
    Stop
        A file is not in PEM form, the key does not belong to the certificate, or the certificate is not valid now.
    """
    try:
        certificate = x509.load_pem_x509_certificate(pair.certificate)
    except ValueError:
        raise Stop(f"{where}: server.pem holds no certificate in PEM form") from None
    try:
        key = serialization.load_pem_private_key(pair.key, None)
    except (ValueError, TypeError):
        raise Stop(f"{where}: server-key.pem holds no unencrypted private key in PEM form") from None
    if _public(certificate.public_key()) != _public(key.public_key()):
        raise Stop(f"{where}: server-key.pem is not the key of the certificate in server.pem")
    if not certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc:
        raise Stop(
            f"{where}: the certificate in server.pem is valid from {certificate.not_valid_before_utc:%Y-%m-%d} to "
            f"{certificate.not_valid_after_utc:%Y-%m-%d}: put a valid one there"
        )


def _draft(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: dt.datetime, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + dt.timedelta(days=days))
    )


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _public(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)

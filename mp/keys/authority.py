"""An authority of one's own: certificates by which points know each other on TCP (TLS with both ends proven).

EC P-256 with SHA-256, which every TLS library has; a point is named by its address (RFC 5280 section 4.2.1.6).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from schemas.errors import ConfigurationError

CLOCK_TOLERANCE = timedelta(minutes=5)
"""Certificates are valid from a little before they are made: clocks of points differ."""
_CURVE = ec.SECP256R1


@dataclass(frozen=True, slots=True)
class Certified:
    """A certificate and its private key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    def __repr__(self) -> str:
        return f"Certified({self.certificate.subject.rfc4514_string()})"

    @property
    def certificate_pem(self) -> bytes:
        """For everybody."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        """For its owner alone."""
        return self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )


def certified_from_pem(certificate: bytes, key: bytes, origin: str) -> Certified:
    """What was written before.

    Raises:
        ConfigurationError: no such pair; what stands there is not repeated.
    """
    try:
        found = x509.load_pem_x509_certificate(certificate)
        private = serialization.load_pem_private_key(key, None)
    except (ValueError, TypeError):
        raise ConfigurationError("certificate", origin, "what `inpath keys ca` wrote (PEM)") from None
    if not isinstance(private, ec.EllipticCurvePrivateKey) or private.public_key() != found.public_key():
        raise ConfigurationError("certificate", origin, "a certificate and the EC key that belongs to it")
    return Certified(found, private)


def new_authority(name: str, *, now_ms: int, days: int) -> Certified:
    """An authority that can name points, but no further authorities.

    Args:
        name: for people.
        now_ms: milliseconds since the Unix epoch.
        days: how long it is valid.
    """
    key = ec.generate_private_key(_CURVE())
    subject = _name(name)
    usage = _usage(key_cert_sign=True, crl_sign=True)
    certificate = (
        _builder(subject, subject, key.public_key(), now_ms, timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .sign(key, hashes.SHA256())
    )
    return Certified(certificate, key)


def issued(
    authority: Certified,
    address: str,
    *,
    now_ms: int,
    days: int,
    key: ec.EllipticCurvePrivateKey | None = None,
) -> Certified:
    """A certificate with which the point at the address proves itself, as server and as client.

    Args:
        now_ms: milliseconds since the Unix epoch.
        days: how long it is valid, at most as long as the authority.
        key: that of the certificate before; None makes one.

    Raises:
        ConfigurationError: the authority's time is over.
    """
    end = authority.certificate.not_valid_after_utc
    left = end - _moment(now_ms)
    if left <= timedelta(0):
        raise ConfigurationError(
            "authority", f"valid until {end:%Y-%m-%d}", "one that is valid still: make another"
        )
    key = key or ec.generate_private_key(_CURVE())
    issuer = authority.key.public_key()
    certificate = (
        _builder(
            _name(address),
            authority.certificate.subject,
            key.public_key(),
            now_ms,
            min(timedelta(days=days), left),
        )
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(digital_signature=True), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
            critical=False,
        )
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address(address))]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer), critical=False)
        .sign(authority.key, hashes.SHA256())
    )
    return Certified(certificate, key)


def is_issued_by(certificate: x509.Certificate, authority: Certified) -> bool:
    """Whether the authority made the certificate."""
    try:
        certificate.verify_directly_issued_by(authority.certificate)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public: ec.EllipticCurvePublicKey,
    now_ms: int,
    lifetime: timedelta,
) -> x509.CertificateBuilder:
    now = _moment(now_ms)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_TOLERANCE)
        .not_valid_after(now + lifetime)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _usage(
    *, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _moment(now_ms: int) -> datetime:
    """Whole seconds: a certificate tells no smaller ones."""
    return datetime.fromtimestamp(now_ms // 1000, UTC)

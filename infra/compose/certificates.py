"""A private certificate authority for one machine, so that production's demand for TLS holds inside compose too.

Writes `ca.crt`, and a certificate and key for each server, into one directory. Run it as often as you like: what is
valid for another 60 days stays. A renewed certificate is signed by the same authority, so clients need no restart;
servers read it when they start.

Limits: keys live on this machine's disk. With a managed PostgreSQL or Redis, use the provider's certificates instead.
"""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

SERVERS = ("postgres", "redis")
SERVER_UID = 999
"""The official PostgreSQL and Valkey images both run their server as this user."""
AUTHORITY_DAYS, SERVER_DAYS, RENEW_BEFORE_DAYS = 3650, 397, 60


def main(directory: Path, owner: int | None = None) -> list[str]:
    """Make what is missing or expires soon; answers the names it made. `owner`: uid that may read the servers' keys."""
    directory.mkdir(parents=True, exist_ok=True)
    made: list[str] = []
    if not _fresh(directory / "ca.crt"):
        # A new authority makes every old certificate worthless, so they go with it.
        for name in SERVERS:
            (directory / f"{name}.crt").unlink(missing_ok=True)
        _write(directory, "ca", *_authority())
        made.append("ca")
    authority = x509.load_pem_x509_certificate((directory / "ca.crt").read_bytes())
    for name in SERVERS:
        if not _fresh(directory / f"{name}.crt"):
            key = serialization.load_pem_private_key((directory / "ca.key").read_bytes(), password=None)
            assert isinstance(key, ec.EllipticCurvePrivateKey)  # noqa: S101 - narrows the type
            _write(directory, name, *_server(name, authority, key), owner=owner)
            made.append(name)
    return made


def _authority() -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Ballast compose authority")])
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
    builder = (
        _builder(name, name, key, AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
    )
    return builder.sign(key, hashes.SHA256()), key


def _server(
    name: str, authority: x509.Certificate, signer: ec.EllipticCurvePrivateKey
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    # localhost is for the health check that runs inside the server's own container.
    names = [x509.DNSName(name), x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        _builder(subject, authority.subject, key, SERVER_DAYS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        # Python 3.13 verifies strictly and refuses a certificate that does not name its signer's key (RFC 5280).
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )
    return builder.sign(signer, hashes.SHA256()), key


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _fresh(path: Path) -> bool:
    if not path.exists():
        return False
    left = x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc - datetime.now(UTC)
    return left > timedelta(days=RENEW_BEFORE_DAYS)


def _write(
    directory: Path,
    name: str,
    certificate: x509.Certificate,
    key: ec.EllipticCurvePrivateKey,
    owner: int | None = None,
) -> None:
    secret = directory / f"{name}.key"
    # Key first, and gone before it is written anew: PostgreSQL refuses a key that others can read, even for a moment.
    secret.unlink(missing_ok=True)
    with os.fdopen(os.open(secret, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
    if owner is not None:
        os.chown(secret, owner, owner)
    public = directory / f"{name}.crt"
    public.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    public.chmod(0o644)


if __name__ == "__main__":
    fresh = main(Path(sys.argv[1]), owner=SERVER_UID)
    print(f"certificates: made {', '.join(fresh)}" if fresh else "certificates: all valid")

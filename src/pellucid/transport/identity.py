"""The run's secret, and what is derived from it: who knows it is a box of the run, and nobody else.

From the secret come two keys. One keys the proofs of the session. The other *is* the private key of
a certificate, the same one on every box, which is the only one that any of them trusts: a TLS
connection between two boxes stands only if both know the secret. docs/design/0005-secure-boxes.md
says against whom this protects, and against whom not.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import secrets
import ssl
import stat
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from pellucid.errors import SettingsError
from pellucid.wire.session import KEY_BYTES

__all__ = ["Identity", "generate_secret", "read_secret"]

SECRET_BYTES: Final = 32  # of a generated secret
SHORTEST: Final = 20  # characters; a chosen secret may be guessed offline, see 0005
LONGEST: Final = 4096
# One try at guessing costs 16 MiB and some 50 ms. Without a salt: the secret is all that two boxes
# share before they talk.
_SCRYPT: Final = {"n": 1 << 14, "r": 8, "p": 1, "maxmem": 1 << 26}
NAME: Final = "pellucid"


def generate_secret() -> str:
    """A secret to print once and paste on the other boxes: letters and digits, without breaks."""
    text = base64.b32encode(secrets.token_bytes(SECRET_BYTES)).decode()
    return text.rstrip("=").lower()


def read_secret(path: str) -> str:
    """The secret in a file, without the white space around it.

    A pipe or terminal (``/dev/stdin``, ``<(pass show cluster)``) does as well.

    Raises:
        SettingsError: there is none, others may read it, or it is too short.
    """
    where = f"secret_file = {path!r}"
    try:
        with Path(path).open("rb") as file:
            facts = os.fstat(file.fileno())
            text = file.read(LONGEST + 1).decode().strip()
    except (OSError, UnicodeDecodeError) as error:
        text = f"{where}: cannot be read: {error}"
        raise SettingsError(text) from None
    if stat.S_ISREG(facts.st_mode) and facts.st_mode & 0o077:
        text = f"{where}: others may read or change it. Do: chmod 600 {path}"
        raise SettingsError(text)
    if not SHORTEST <= len(text) <= LONGEST:
        text = (
            f"{where}: the secret has {len(text)} characters; it needs at least {SHORTEST}, and "
            f"at most {LONGEST}. A good one is printed by: pellucid run --listen ADDRESS:PORT"
        )
        raise SettingsError(text)
    return text


class Identity:
    """What a box needs to prove that it belongs to the run.

    Args:
        secret: the run's.
        encrypted: whether connections are; all boxes of a run decide alike. The proof is always
            asked for.

    Raises:
        SettingsError: encryption needs a package that is not installed.
    """

    def __init__(self, secret: str, *, encrypted: bool = True) -> None:
        root = hashlib.scrypt(secret.encode(), salt=NAME.encode(), dklen=KEY_BYTES, **_SCRYPT)
        self.proof_key = _derive(root, "proof")
        self.encrypted = encrypted
        self._contexts = _contexts(_derive(root, "certificate")) if encrypted else None

    def __repr__(self) -> str:
        return f"Identity(encrypted={self.encrypted})"  # and nothing of the secret

    def wrap(self, *, dials: bool) -> tuple[ssl.SSLObject, ssl.MemoryBIO, ssl.MemoryBIO] | None:
        """The TLS of one connection, and its incoming and outgoing bytes; None if unencrypted."""
        if self._contexts is None:
            return None
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = self._contexts[dials]
        return context.wrap_bio(incoming, outgoing, server_side=not dials), incoming, outgoing


def _derive(root: bytes, purpose: str) -> bytes:
    """A key for one purpose (HKDF-Expand of RFC 5869, one block)."""
    return hmac.digest(root, f"{NAME} {purpose}\x01".encode(), "sha256")


def _contexts(key: bytes) -> dict[bool, ssl.SSLContext]:
    """TLS for who dials (True) and who listens (False): 1.3, both certified, and only by us."""
    certificate, pem = _certificate(key)
    return {
        dials: _context(
            ssl.PROTOCOL_TLS_CLIENT if dials else ssl.PROTOCOL_TLS_SERVER, certificate, pem
        )
        for dials in (True, False)
    }


def _context(protocol: int, certificate: str, pem: bytes) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False  # a box is known by its key, not by where it is
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=certificate)
    context.options |= ssl.OP_NO_TICKET
    if protocol == ssl.PROTOCOL_TLS_SERVER:
        context.num_tickets = 0  # no session is ever resumed
    # the module takes certificates from files only; this one never touches a disk
    memory = os.memfd_create("pellucid-certificate", os.MFD_CLOEXEC)
    try:
        os.write(memory, pem)
        context.load_cert_chain(f"/proc/self/fd/{memory}")
    finally:
        os.close(memory)
    return context


def _certificate(key: bytes) -> tuple[str, bytes]:
    """A certificate, and it with its private key, as PEM: the same bytes wherever it is made."""
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    except ImportError:
        text = (
            "boxes talk encrypted, which needs the package cryptography. Do: "
            "pip install 'pellucid[boxes]'; or give --no-encrypt on every box"
        )
        raise SettingsError(text) from None
    private = Ed25519PrivateKey.from_private_bytes(key)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, NAME)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(1)
        # it lives as long as the run does, and boxes' clocks may be anywhere
        .not_valid_before(datetime(2000, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(private, None)
        .public_bytes(serialization.Encoding.PEM)
    )
    pem = private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return certificate.decode(), certificate + pem

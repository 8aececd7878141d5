"""Keys and signatures of Ed25519 (RFC 8032) in PEM files, by the package cryptography."""

import hashlib
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from openmlops.errors import SettingsError
from openmlops.files import content_of, create_bytes

PRIVATE, PUBLIC = 0o600, 0o644
"""modes of the files"""


def make(path: Path) -> Ed25519PublicKey:
    """Write a new private key to `path` and its public key to `path`.pub. Raises SettingsError if a file is there, OSError."""
    private = Ed25519PrivateKey.generate()
    public = private.public_key()
    for place, content, mode in (
        (path, private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), PRIVATE),
        (public_path(path), public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), PUBLIC),
    ):
        try:
            create_bytes(place, content, mode)
        except FileExistsError:
            raise SettingsError(f"{place} is there already", "Name another file; a key is never replaced") from None
    return public


def public_path(path: Path) -> Path:
    """Where the public key of a private one is."""
    return path.with_name(f"{path.name}.pub")


def identity(key: Ed25519PublicKey) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of the public key's 32 bytes."""
    return hashlib.sha256(key.public_bytes(Encoding.Raw, PublicFormat.Raw)).hexdigest()[:16]


def private_key(path: Path) -> Ed25519PrivateKey:
    """A private key without a password. Raises SettingsError."""
    try:
        found = load_pem_private_key(_content(path), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        found = None
    if isinstance(found, Ed25519PrivateKey):
        return found
    problem = f"{path} is not a private key of Ed25519 in PEM without a password"
    raise SettingsError(problem, "Make one with `openmlops ledger key FILE`")


def public_key(path: Path) -> Ed25519PublicKey:
    """A public key. Raises SettingsError."""
    try:
        found = load_pem_public_key(_content(path))
    except (ValueError, TypeError, UnsupportedAlgorithm):
        found = None
    if isinstance(found, Ed25519PublicKey):
        return found
    raise SettingsError(f"{path} is not a public key of Ed25519 in PEM", "Name the file that ends with .pub")


def is_signed(message: bytes, signature: bytes, key: Ed25519PublicKey) -> bool:
    """Whether the signature is of this message, by the private key of `key`."""
    try:
        key.verify(signature, message)
    except InvalidSignature:
        return False
    return True


def _content(path: Path) -> bytes:
    try:
        return content_of(path)
    except OSError as error:
        remedy = "Name the file of a key; `openmlops ledger key FILE` makes one"
        raise SettingsError(f"The key {path} cannot be read ({error.strerror})", remedy) from error

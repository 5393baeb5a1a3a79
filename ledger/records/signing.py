"""Ed25519 signatures of checkpoints, over the one form that a document is written in.

The package `cryptography` is an extra, imported where a key is used.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from ledger.errors import InvalidArgument, LedgerError
from ledger.records.checkpoint import Checkpoint, Signature, require_checkpoint, signed_bytes
from ledger.records.plain import plain

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )


class SigningUnavailable(LedgerError):
    """Signatures need the package cryptography: `pip install 'llm-ledger[signing]'`."""


class InvalidSignature(LedgerError):
    """The checkpoint is not as the holder of this key has signed it."""


def sign(checkpoint: Checkpoint, private_key_pem: bytes) -> Checkpoint:
    """The checkpoint with the signature of this key, in place of any that it had.

    Raises InvalidArgument for what is no unencrypted Ed25519 key, and SigningUnavailable.
    """
    key = _private_key(private_key_pem)
    signature = Signature(
        algorithm="ed25519",
        public_key=key.public_key().public_bytes_raw(),
        value=key.sign(signed_bytes(checkpoint)),
    )
    return replace(checkpoint, signature=signature)


def require_signature(checkpoint: Checkpoint, public_key_pem: bytes) -> None:
    """Returns where the holder of this key has signed the checkpoint as it is.

    Raises InvalidSignature where it is unsigned, signed with another key, or was altered;
    InvalidArgument for what is no Ed25519 key, and SigningUnavailable.
    """
    key = _public_key(public_key_pem)
    which, signature = f"the checkpoint of {plain(checkpoint.taken_at)}", checkpoint.signature
    if signature is None:
        raise InvalidSignature(f"{which} is not signed; take the copy that is, or sign it")
    if signature.public_key != (expected := key.public_bytes_raw()):
        raise InvalidSignature(
            f"{which} is signed with the key {signature.public_key.hex()}, not with"
            f" {expected.hex()}; trust it only where you know the first to be the signer's"
        )
    _require_signed_with(key, checkpoint, signature)


def require_unaltered(checkpoint: Checkpoint) -> None:
    """Returns where a checkpoint is not signed, or is what the key it names has signed.

    Whose key that is, is for `require_signature`. Raises InvalidSignature for one that was
    altered, InvalidArgument for what is none, and SigningUnavailable where it is signed.
    """
    require_checkpoint(checkpoint)
    if (signature := checkpoint.signature) is not None:
        _require_cryptography()
        from cryptography.hazmat.primitives.asymmetric import ed25519  # noqa: PLC0415 - an extra

        key = ed25519.Ed25519PublicKey.from_public_bytes(signature.public_key)
        _require_signed_with(key, checkpoint, signature)


def _require_signed_with(
    key: Ed25519PublicKey, checkpoint: Checkpoint, signature: Signature
) -> None:
    from cryptography.exceptions import InvalidSignature as Forged  # noqa: PLC0415 - an extra

    try:
        key.verify(signature.value, signed_bytes(checkpoint))
    except Forged:
        raise InvalidSignature(
            f"the checkpoint of {plain(checkpoint.taken_at)} is not what the key"
            f" {signature.public_key.hex()} has signed: it was altered, or its signature; take"
            " the document as it was written, from where it is kept"
        ) from None


def new_key() -> tuple[bytes, bytes]:
    """A new private key and its public key, both as PEM; the private one is not encrypted.

    Raises SigningUnavailable.
    """
    _require_cryptography()
    from cryptography.hazmat.primitives import serialization as form  # noqa: PLC0415 - an extra
    from cryptography.hazmat.primitives.asymmetric import ed25519  # noqa: PLC0415 - an extra

    key = ed25519.Ed25519PrivateKey.generate()
    private = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
    public = key.public_key().public_bytes(
        form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo
    )
    return private, public


def _private_key(pem: bytes) -> Ed25519PrivateKey:
    _require_cryptography()
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415 - an extra
    from cryptography.hazmat.primitives import serialization as form  # noqa: PLC0415 - an extra
    from cryptography.hazmat.primitives.asymmetric import ed25519  # noqa: PLC0415 - an extra

    # TypeError is what an encrypted key gives.
    with suppress(TypeError, ValueError, UnsupportedAlgorithm):
        key = form.load_pem_private_key(pem, password=None)
        if isinstance(key, ed25519.Ed25519PrivateKey):
            return key
    raise _no_key("private_key_pem", "private key, unencrypted")


def _public_key(pem: bytes) -> Ed25519PublicKey:
    _require_cryptography()
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415 - an extra
    from cryptography.hazmat.primitives import serialization as form  # noqa: PLC0415 - an extra
    from cryptography.hazmat.primitives.asymmetric import ed25519  # noqa: PLC0415 - an extra

    with suppress(TypeError, ValueError, UnsupportedAlgorithm):
        key = form.load_pem_public_key(pem)
        if isinstance(key, ed25519.Ed25519PublicKey):
            return key
    raise _no_key("public_key_pem", "public key")


def _no_key(argument: str, kind: str) -> InvalidArgument:
    # Without the value: it may be a secret, whichever argument it was passed as.
    return InvalidArgument(
        f"{argument} is not an Ed25519 {kind}, in PEM; make a pair with"
        " ledger.new_signing_key(), `ledger audit new-key` or openssl genpkey -algorithm ed25519"
    )


def _require_cryptography() -> None:
    try:
        import cryptography.hazmat.primitives.asymmetric.ed25519  # noqa: F401, PLC0415 - an extra
    except ImportError as error:
        raise SigningUnavailable from error

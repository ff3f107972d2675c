"""Hashes and reversible encryption of stored credentials."""

import hashlib
import secrets

from cryptography.fernet import Fernet, InvalidToken

from sinas.errors import ConfigurationError


def sha256_hex(value: str) -> str:
    """Hex digest; for values with enough entropy of their own (keys, tokens)."""
    return hashlib.sha256(value.encode()).hexdigest()


def random_token() -> str:
    """43 url-safe characters, 256 bits."""
    return secrets.token_urlsafe(32)


class Cipher:
    """Fernet (AES-128-CBC with HMAC-SHA256) under the installation's ENCRYPTION_KEY."""

    def __init__(self, key: str) -> None:
        try:
            self._fernet = Fernet(key.encode())
        except ValueError as error:
            raise ConfigurationError(
                "ENCRYPTION_KEY is no Fernet key: it must be 32 bytes in url-safe base64."
            ) from error

    def encrypt(self, plain: str) -> str:
        """Ciphertext as ASCII text."""
        return self._fernet.encrypt(plain.encode()).decode()

    def decrypt(self, encrypted: str) -> str:
        """The plain text.

        Raises:
            ConfigurationError: Encrypted under another key, or damaged.
        """
        try:
            return self._fernet.decrypt(encrypted.encode()).decode()
        except InvalidToken as error:
            raise ConfigurationError(
                "A stored credential cannot be decrypted: ENCRYPTION_KEY is not the key it was "
                "encrypted with. Restore the old key, or enter the credential again."
            ) from error

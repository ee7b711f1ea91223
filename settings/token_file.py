"""Tokens that lie in files of their own."""

from pathlib import Path

from schemas.secret import SecretError, tidy_token


def read_token(file: Path) -> str:
    """The token that a file holds. Raises SecretError, whose message names the file."""
    try:
        text = file.read_bytes().decode("ascii")
    except FileNotFoundError:
        raise SecretError(f"{file} is not there") from None
    except UnicodeDecodeError:
        raise SecretError(f"{file} is damaged: it holds bytes that no token has") from None
    except OSError as error:
        raise SecretError(f"{file} cannot be read: {error.strerror}") from None
    try:
        token = tidy_token(text)
    except SecretError as error:
        raise SecretError(f"{file} {error}") from None
    if not token:
        raise SecretError(f"{file} is empty")
    return token

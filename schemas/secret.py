"""Secrets as people give them: in a variable, or in a file that an editor or `echo` ended with a line end.

No message here repeats any of a secret's letters, since messages end in logs and on screens. What passes can
stand in an HTTP header: a client that has to refuse one there quotes the whole header.
"""


class SecretError(ValueError):
    """A secret that cannot be one; says which and what is wrong with it, without it."""


def tidy_token(text: str) -> str:
    """A token (or "") without the blanks and line ends around it. Raises SecretError."""
    token = text.strip()
    if not token.isascii() or not token.isprintable():
        raise SecretError(
            "is damaged: it has a line end, a control character or a letter that no token has inside"
        )
    return token


def tidy_password(text: str) -> str:
    """A password without a line end behind it; blanks may be meant. Raises SecretError."""
    password = text.rstrip("\r\n")
    if not password.isprintable():
        raise SecretError("is damaged: it has a line end or a control character inside")
    return password

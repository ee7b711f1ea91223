"""Who a request is from: the key or signature that it shows, wherever a firmware or a collector puts it."""

import base64
import binascii

from aiohttp import web

from sources.gateway.keys import Signed


def credentials_of(request: web.BaseRequest, token: str | None) -> str | Signed | None:
    """What the sender shows: a key, a signature, or nothing. An empty key is nobody's.

    `token`: the key that a path names.
    """
    signature = request.headers.get("X-Skyfuse-Signature")
    if signature is not None:
        return Signed(request.headers.get("X-Skyfuse-Key", ""), signature)
    if token is not None:
        return token
    given = request.headers.get("X-Api-Key")
    if given is not None:
        return given.strip()
    kind, _, rest = request.headers.get("Authorization", "").partition(" ")
    match kind.lower():
        case "":
            return None
        case "bearer" | "token":
            return rest.strip()
        case "basic":
            # Firmwares have a field for a user and one for a password: the key is the password.
            try:
                user, _, password = base64.b64decode(rest.strip(), validate=True).decode().partition(":")
            except (binascii.Error, UnicodeDecodeError):
                return ""
            return password or user
        case _:
            return ""


def client_address(request: web.BaseRequest, *, behind_proxy: bool) -> str:
    """The address of who asks. `behind_proxy`: that which our own proxy has written down."""
    if behind_proxy:
        # Only the last one is our proxy's word; those before it are the client's.
        forwarded = request.headers.get("X-Forwarded-For", "").rpartition(",")[2].strip()
        if forwarded:
            return forwarded
    return request.remote or ""

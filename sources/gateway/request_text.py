"""What a request says beside its body: text, and names that are known, each once."""

from collections.abc import Collection

from aiohttp import web

from sources.gateway.errors import NotTaken


def expect_text(request: web.BaseRequest) -> None:
    """Raises NotTaken where what is asked for, or a header, is no text: no key and no station is that."""
    for name, text in (("the path", request.path_qs), *request.headers.items()):
        if not text.isascii():
            try:
                text.encode()
            except UnicodeEncodeError:
                raise NotTaken("bad_request", f"{ascii(name)[1:-1][:60]} is not UTF-8", 400) from None


def fields_of(request: web.BaseRequest, known: Collection[str]) -> dict[str, str]:
    """What the query names. Raises NotTaken where a name is not among the `known`, or there twice."""
    for name in request.query:
        if name not in known:
            raise NotTaken("bad_request", f"there is no {name[:40]!r} here: {', '.join(known)}", 400)
        if len(request.query.getall(name)) > 1:
            raise NotTaken("bad_request", f"{name} is there twice", 400)
    return dict(request.query)

"""Certificates that settings name: which we show, and by which brokers are known."""

import ssl
from pathlib import Path
from urllib.parse import urlsplit

from settings.sections import HttpSettings, MqttSettings
from sources.gateway.errors import CertificateFileError


def of_server(settings: HttpSettings) -> ssl.SSLContext | None:
    """How HTTPS is served; None: plain HTTP. Raises CertificateFileError."""
    if settings.tls_cert is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    _show(context, settings.tls_cert, settings.tls_key, "gateway.http.tls_cert and tls_key")
    return context


def of_client(settings: MqttSettings) -> ssl.SSLContext | None:
    """How the broker is spoken to; None: not by TLS. Raises CertificateFileError."""
    if urlsplit(settings.url or "").scheme != "mqtts":
        return None
    try:
        context = ssl.create_default_context(cafile=settings.cafile)
    except (ssl.SSLError, OSError) as error:
        raise CertificateFileError(f"gateway.mqtt.cafile: {settings.cafile}: {error}") from error
    if settings.certfile is not None:
        _show(context, settings.certfile, settings.keyfile, "gateway.mqtt.certfile and keyfile")
    return context


def _show(context: ssl.SSLContext, certificate: Path, key: Path | None, names: str) -> None:
    try:
        # A key that is locked is refused rather than asked for on a terminal that nobody sees.
        context.load_cert_chain(certificate, key, password=lambda: b"")
    except (ssl.SSLError, OSError, ValueError) as error:
        files = " and ".join(str(file) for file in (certificate, key) if file is not None)
        raise CertificateFileError(f"{names}: {files}: {error}") from error

"""TLS as a Redis URL asks for it. `rediss://` always means that the server's certificate and name are checked.

Left to themselves the libraries differ: redis-py checks, Celery's result backend refuses a URL that does not say so,
and kombu takes such a URL for one that wants no check at all.
"""

from __future__ import annotations

import ssl
from urllib.parse import parse_qsl, urlencode

#: What every rediss:// URL says to all three.
_CHECKED = {"ssl_cert_reqs": "required", "ssl_check_hostname": "true"}
_SPELLINGS = {"CERT_REQUIRED": "required"}
#: OpenSSL's codes for a certificate whose issuer is not known.
_UNKNOWN_ISSUER = (18, 19, 20, 21)


def with_checks(url: str) -> str:
    """Return a Redis URL that makes every library check the server, unchanged if it is not for TLS.

    Raises ValueError when it asks for TLS without checks, or has TLS options without TLS.
    """
    address, _, query = url.partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True))
    if not url.startswith("rediss://"):
        if given := sorted(name for name in options if name.startswith("ssl_")):
            raise ValueError(f"expected rediss:// in a URL with {', '.join(given)}")
        return url
    for name, expected in _CHECKED.items():
        given_value = options.get(name, expected)
        if _SPELLINGS.get(given_value, given_value).lower() != expected:
            raise ValueError(f"expected {name}={expected} or nothing; name the server's CA with ssl_ca_certs=FILE")
    return f"{address}?{urlencode({**options, **_CHECKED}, safe='/')}"


def tls_reason(error: Exception, url: str) -> str | None:
    """Return why there is no TLS connection, for people; None if the error is about something else."""
    cause = error.__cause__ or error.__context__
    if isinstance(cause, ssl.SSLCertVerificationError):
        advice = "; name its CA in the URL: ?ssl_ca_certs=FILE" if cause.verify_code in _UNKNOWN_ISSUER else ""
        return f"its certificate was refused ({cause.verify_message.rstrip('.')}){advice}"
    if isinstance(cause, ssl.SSLError):
        return f"it does not speak TLS as expected ({cause.reason or cause})"
    if isinstance(cause, FileNotFoundError):
        return "the file that ssl_ca_certs, ssl_certfile or ssl_keyfile names in the URL does not exist"
    if url.startswith("rediss://") and str(error) == "Timeout connecting to server":
        return "no TLS handshake in time; is TLS spoken on that port?"
    return None

"""Certificates made for one run."""

from __future__ import annotations

import tempfile
from pathlib import Path

from mockserver.errors import MockServerError

# Which clients read which: OpenSSL and httpx; requests; curl; Node.
CA_VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS")


def ca_environment(ca_file: str | None) -> dict[str, str]:
    """The environment variables that make clients trust a certificate; none without one."""
    return dict.fromkeys(CA_VARIABLES, ca_file) if ca_file else {}


class Authority:
    """A certificate authority made for one run.

    `file` is its certificate, for clients to trust; `server_file` the server's certificate and key.
    Raises MockServerError without trustme, and for hosts that no certificate can name.
    """

    def __init__(self, *hosts: str) -> None:
        try:
            import trustme
        except ImportError as reason:
            raise MockServerError(
                "--tls needs trustme: pip install 'flux-mockserver[tls]'"
            ) from reason
        authority = trustme.CA(organization_name="mockserver")

        # Only its owner can read the folder: it holds the server's key.
        self._folder = tempfile.TemporaryDirectory(prefix="mockserver-")
        self.file = Path(self._folder.name) / "ca.pem"
        authority.cert_pem.write_to_path(str(self.file))

        self.server_file = Path(self._folder.name) / "server.pem"
        try:
            certificate = authority.issue_cert("127.0.0.1", "localhost", "::1", *hosts)
        except (ValueError, UnicodeError) as reason:
            self.close()
            raise MockServerError(
                f"no certificate can be made for {', '.join(hosts)}: {reason}"
            ) from reason
        certificate.private_key_and_cert_chain_pem.write_to_path(str(self.server_file))

    def close(self) -> None:
        """Remove the certificate."""
        self._folder.cleanup()

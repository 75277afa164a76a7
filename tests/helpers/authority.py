"""The certificates that clients trust."""

from pathlib import Path

import trustme

READ_BY = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")


def one_authority(folder: Path) -> dict[str, str]:
    """An environment with a single authority: a client that reads all those of the system takes 45 ms to be made."""
    file = folder / "authority.pem"
    trustme.CA().cert_pem.write_to_path(str(file))
    return dict.fromkeys(READ_BY, str(file))

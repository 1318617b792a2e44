"""Whether an address is one of this machine's.

What belongs here: that. What does not: judging what people write as an address (`address`).
"""

from __future__ import annotations

import ipaddress
import socket
from urllib.parse import urlsplit

import psutil


def is_here(base_url: str) -> bool:
    """Whether the address is one of this machine's. A tunnel that ends here looks like a server that runs here."""
    try:
        found = socket.getaddrinfo(urlsplit(base_url).hostname, None)
    except (OSError, UnicodeError):
        return False
    told = {ipaddress.ip_address(str(address[0]).partition("%")[0]) for *_, address in found}
    ours = {address.address.partition("%")[0] for card in psutil.net_if_addrs().values() for address in card}
    return any(address.is_loopback or str(address) in ours for address in told)

"""What a Postgres is told for a connection of ours, so that a host that vanishes holds nothing there.

What belongs here: that. What does not: connecting (`postgres_storage`, `shared_campaign_lock`).
"""

from __future__ import annotations

from typing import Final

GONE_WITHIN_25_S: Final = {
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "25s",
}
"""Settings of a session by which the server takes whoever has not answered for 25 s for gone, and frees what they had
locked. By itself it waits two hours, or a quarter of one while an answer of its is under way."""

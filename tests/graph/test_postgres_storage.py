"""A Postgres that is away is waited for; one that refuses what it is asked is not. A real one that is restarted amid a
campaign: `test_cluster`."""

from __future__ import annotations

import time

import psycopg2
import pytest

from resources.postgres_storage import PATIENCE_S, Outage

REFUSED = 'connection to server at "127.0.0.1", port 5432 failed: '


@pytest.mark.parametrize(
    "said",
    ["Connection refused", "FATAL:  the database system is starting up", "FATAL:  sorry, too many connection slots"],
)
def test_a_server_that_will_be_there_again_is_waited_for(said):
    assert Outage().noticed(psycopg2.OperationalError(REFUSED + said), "here")


@pytest.mark.parametrize(
    "said", ['FATAL:  password authentication failed for user "milton"', 'FATAL:  database "other" does not exist']
)
def test_what_a_server_refuses_for_good_is_said_at_once(said):
    assert not Outage().noticed(psycopg2.OperationalError(REFUSED + said), "here")


def test_an_outage_is_waited_for_as_long_as_from_its_first_connection_and_the_next_one_anew():
    outage, away = Outage(), psycopg2.OperationalError("Connection refused")
    outage.since = time.monotonic() - PATIENCE_S
    assert not outage.noticed(away, "here")
    outage.over()
    assert outage.noticed(away, "here")

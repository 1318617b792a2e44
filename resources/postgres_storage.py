"""Dagster's storage in a Postgres that may be restarted: whoever asks it waits until it is there again.

    storage:
      custom:
        module: resources.postgres_storage
        class: PatientPostgresStorage
        config: {postgres_db: …}

What belongs here: connecting, so that the server lets go of a host that is gone (`postgres_sessions`). What does not:
what is stored, which is `dagster_postgres`'s. That tries five times within a few seconds and gives up: a run that was
to write what it had measured failed, and so did a person's campaign. Every process of an instance connects anew for
each question, so a database that is away is noticed there. A question that was under way when the connection broke
still fails, see `resources.dagster_private.ended_run`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from dagster_postgres import DagsterPostgresStorage
from dagster_postgres.utils import get_token_provider_from_config, pg_url_from_config
from sqlalchemy import Engine, event

from resources.postgres_sessions import GONE_WITHIN_25_S

if TYPE_CHECKING:
    from resources.dagster_private import ConfigurableClassData, PostgresStorageConfig

PATIENCE_S = 300.0
"""How long an outage may last, from the first connection that failed on."""

POLL_S = 1.0

COMES_AND_GOES = ("starting up", "shutting down", "recovery mode", "administrator command", "connection slots")
"""What a server says that refuses now and will not refuse later; whatever else it says is about the question."""

_log = logging.getLogger("milton.postgres")


class PatientPostgresStorage(DagsterPostgresStorage):
    """`DagsterPostgresStorage` that waits for its server, `PATIENCE_S` at most."""

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> PatientPostgresStorage:
        """The storage that dagster.yaml describes. From then on all connections of this process to a Postgres wait."""
        if not event.contains(Engine, "do_connect", _connected):
            event.listen(Engine, "do_connect", _connected)
        return cls(
            inst_data=inst_data,
            postgres_url=pg_url_from_config(cast("PostgresStorageConfig", config_value)),
            should_autocreate_tables=config_value.get("should_autocreate_tables", True),
            token_provider=get_token_provider_from_config(config_value),
        )


class Outage:
    """Since when a server is away, for this process."""

    def __init__(self) -> None:
        self.since: float | None = None

    def noticed(self, error: Exception, where: str) -> bool:
        """Whether it is worth trying again; the first time it is said that one waits."""
        said = str(error)
        if "FATAL" in said and not any(words in said for words in COMES_AND_GOES):
            return False
        since = self.since
        if since is None:
            # Remembered before it is said: a run's page is in that database, so saying it waits for the server as well.
            since = self.since = time.monotonic()
            _log.warning("Postgres %s is away (%s); waiting for it, %.0f s at most", where, said.strip(), PATIENCE_S)
        return time.monotonic() - since < PATIENCE_S

    def over(self) -> None:
        """It answered."""
        since, self.since = self.since, None
        if since is not None:
            _log.warning("Postgres is there again, after %.0f s", time.monotonic() - since)


_outage = Outage()


def _connected(dialect: Any, _record: Any, cargs: Any, cparams: Any) -> Any:
    """A connection to the server, as SQLAlchemy's event `do_connect` wants it; None leaves other databases to it."""
    if dialect.name != "postgresql":
        return None
    told = " ".join(f"-c {name}={value}" for name, value in GONE_WITHIN_25_S.items())
    given = {**cparams, "options": f"{cparams.get('options', '')} {told}".strip()}
    while True:
        try:
            made = dialect.connect(*cargs, **given)
        except dialect.dbapi.OperationalError as error:
            if not _outage.noticed(error, f"{cparams.get('host')}:{cparams.get('port')}"):
                raise
            time.sleep(POLL_S)
        else:
            _outage.over()
            return made

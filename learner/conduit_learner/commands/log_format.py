"""The format of log lines: text for people, or JSON objects for machines."""

import json
import logging
import sys
from datetime import UTC, datetime

__all__ = ["JsonFormatter", "configure_logging"]

_TEXT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of JSON.

    Its fields are ``time`` (UTC, ISO 8601), ``level``, ``logger`` and ``message``; with an exception, the field
    ``exception`` holds the traceback.

    Examples
    --------
    >>> record = logging.LogRecord("conduit", logging.INFO, "", 0, "partition %d", (3,), None)
    >>> json.loads(JsonFormatter().format(record))["message"]
    'partition 3'
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def configure_logging(how: str, *, verbose: bool) -> None:
    """Write this process's log to standard error.

    Parameters
    ----------
    how
        ``text`` or ``json``.
    verbose
        Whether to include every snapshot and checkpoint.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if how == "json" else logging.Formatter(_TEXT))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    if verbose:
        for room in ("conduit_learner", "conduit_log"):
            logging.getLogger(room).setLevel(logging.DEBUG)

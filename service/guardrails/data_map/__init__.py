"""What personal data is where, besides columns: Redis, object store, logs, queues, cookies, backups, and other firms.

Protects from: the copy that nobody remembered when a person asked for everything, or for nothing to be left (GDPR Art.
15, 17, 30), and the firm that gets data without anybody having looked at it (Art. 28, 44). How to use: columns are
classified where they are (guardrails.personal_data); whatever else holds data is a `Store` of stores.py, whoever else
receives data a `Processor` of processors.py. `python -m service privacy map` prints all of it, `privacy record` writes
the record of processing. Limits: the tests find a Redis key, an object, a cookie or a log field that is not here by
scanning the code and what a journey leaves behind; they cannot judge whether the sentence is true.
"""

from __future__ import annotations

from service.guardrails.data_map.processors import PROCESSORS, Processor, outbound_hosts
from service.guardrails.data_map.stores import LOG_FIELDS, STORES, Kind, Store, of_kind

__all__ = ["LOG_FIELDS", "PROCESSORS", "STORES", "Kind", "Processor", "Store", "of_kind", "outbound_hosts"]

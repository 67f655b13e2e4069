"""The event log: append, read, verify. All that the rest of LLMux may use of it is named here."""

from llmux.eventstore.append import ANY, NO_STREAM, Append, Appended, Outcome
from llmux.eventstore.archive import Ending
from llmux.eventstore.archive_copies import copy_archives
from llmux.eventstore.archives import Archive, Archives
from llmux.eventstore.auditing import Auditor, walk_archives
from llmux.eventstore.backup import (
    back_up,
    check_is_log,
    check_tables,
    claimed,
    discard,
    forget_lost_positions,
    install,
    named,
)
from llmux.eventstore.chain import EMPTY, GENESIS, NO_KEYS, UNKEYED, Head, Keys
from llmux.eventstore.content import ContentStore, Forgetting, Keeping, KeptContent, KeptText, open_content
from llmux.eventstore.content_file import CONTENT_FILE
from llmux.eventstore.lock import is_owned, own_directory
from llmux.eventstore.origin import Origin
from llmux.eventstore.reader import Reader, open_reader
from llmux.eventstore.sealing import Sealed, seal, tidy
from llmux.eventstore.sqlite import FILE
from llmux.eventstore.store import Store, StoreStatistics, open_store
from llmux.eventstore.table import REVISION
from llmux.eventstore.verify import Verified, Walk, check_end, key_at_end, verify
from llmux.eventstore.vouching import vouched_ending, vouched_origin
from llmux.eventstore.witness import Witness, check_at_start, check_witness, read_witness, sync_directory, write_witness

__all__ = [
    "ANY",
    "CONTENT_FILE",
    "EMPTY",
    "FILE",
    "GENESIS",
    "NO_KEYS",
    "NO_STREAM",
    "REVISION",
    "UNKEYED",
    "Append",
    "Appended",
    "Archive",
    "Archives",
    "Auditor",
    "ContentStore",
    "Ending",
    "Forgetting",
    "Head",
    "Keeping",
    "KeptContent",
    "KeptText",
    "Keys",
    "Origin",
    "Outcome",
    "Reader",
    "Sealed",
    "Store",
    "StoreStatistics",
    "Verified",
    "Walk",
    "Witness",
    "back_up",
    "check_at_start",
    "check_end",
    "check_is_log",
    "check_tables",
    "check_witness",
    "claimed",
    "copy_archives",
    "discard",
    "forget_lost_positions",
    "install",
    "is_owned",
    "key_at_end",
    "named",
    "open_content",
    "open_reader",
    "open_store",
    "own_directory",
    "read_witness",
    "seal",
    "sync_directory",
    "tidy",
    "verify",
    "vouched_ending",
    "vouched_origin",
    "walk_archives",
    "write_witness",
]

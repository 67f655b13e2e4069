"""The event log: append, read, verify. All that the rest of LLMux may use of it is named here."""

from llmux.eventstore.append import ANY, NO_STREAM, Append, Appended, Outcome
from llmux.eventstore.chain import EMPTY, GENESIS, NO_KEYS, UNKEYED, Head, Keys
from llmux.eventstore.content import ContentStore, Forgetting, Keeping, KeptContent, KeptText, open_content
from llmux.eventstore.content_file import CONTENT_FILE
from llmux.eventstore.lock import is_owned, own_directory
from llmux.eventstore.origin import Origin
from llmux.eventstore.reader import Reader, open_reader
from llmux.eventstore.sqlite import FILE
from llmux.eventstore.store import Store, StoreStatistics, open_store
from llmux.eventstore.table import REVISION
from llmux.eventstore.verify import Verified, Walk, verify
from llmux.eventstore.witness import Witness, check_at_start, check_witness, read_witness, write_witness

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
    "ContentStore",
    "Forgetting",
    "Head",
    "Keeping",
    "KeptContent",
    "KeptText",
    "Keys",
    "Origin",
    "Outcome",
    "Reader",
    "Store",
    "StoreStatistics",
    "Verified",
    "Walk",
    "Witness",
    "check_at_start",
    "check_witness",
    "is_owned",
    "open_content",
    "open_reader",
    "open_store",
    "own_directory",
    "read_witness",
    "verify",
    "write_witness",
]

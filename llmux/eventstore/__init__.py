"""The event log: append, read, verify. All that the rest of LLMux may use of it is named here."""

from llmux.eventstore.append import ANY, NO_STREAM, Append, Appended, Outcome
from llmux.eventstore.chain import EMPTY, GENESIS, Head
from llmux.eventstore.content import ContentStore, Forgetting, Keeping, KeptContent, KeptText, open_content
from llmux.eventstore.content_file import CONTENT_FILE
from llmux.eventstore.lock import is_owned, own_directory
from llmux.eventstore.origin import Origin
from llmux.eventstore.reader import Reader, open_reader
from llmux.eventstore.sqlite import FILE
from llmux.eventstore.store import Store, StoreStatistics, open_store
from llmux.eventstore.table import REVISION
from llmux.eventstore.verify import Verified, verify

__all__ = [
    "ANY",
    "CONTENT_FILE",
    "EMPTY",
    "FILE",
    "GENESIS",
    "NO_STREAM",
    "REVISION",
    "Append",
    "Appended",
    "ContentStore",
    "Forgetting",
    "Head",
    "Keeping",
    "KeptContent",
    "KeptText",
    "Origin",
    "Outcome",
    "Reader",
    "Store",
    "StoreStatistics",
    "Verified",
    "is_owned",
    "open_content",
    "open_reader",
    "open_store",
    "own_directory",
    "verify",
]

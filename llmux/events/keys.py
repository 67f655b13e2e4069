"""Facts about the keys of users."""

from llmux.events.event import Event

# --- streams `key-…` -----------------------------------------------------------------------------------------------


class KeyIssued(Event, frozen=True, kw_only=True):
    """A key was made for `user` and `project`. Only the SHA-256 of its secret is kept, as hex."""

    key_id: str
    secret_sha256: str
    user: str
    project: str
    label: str = ""
    record_content: bool = False
    """the text of this key's prompts and answers is kept, outside the log"""


class KeyRevoked(Event, frozen=True, kw_only=True):
    """The key opens nothing any more."""

    key_id: str

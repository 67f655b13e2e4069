"""The numbers by which a stream's events are found again."""


class Numbering:
    """Gives each event its number as `id:`, from 1 on, and leaves the first `seen` out: whoever comes back has those."""

    def __init__(self, seen: int = 0):
        self._seen = seen
        self.count = 0
        """events so far, those that were left out included"""

    def __repr__(self) -> str:
        return f"<Numbering {self.count}, seen {self._seen}>"

    def __call__(self, frames: bytes) -> bytes:
        """Whole frames, whose data has no empty line, with their numbers."""
        told: list[bytes] = []
        for event in frames.split(b"\n\n")[:-1]:
            self.count += 1
            if self.count > self._seen:
                told.append(b"id: %d\n%s\n\n" % (self.count, event))
        return b"".join(told)

"""The cache beside a model of it that is too simple to be wrong: every look of a long random life says the same."""

from hypothesis import given, settings
from hypothesis import strategies as st

from llmux.actors.cache import Cache
from llmux.actors.cached_answer import CachedAnswer
from llmux.clock import SeededClock
from llmux.prompts import Finish, TextDelta, Usage
from tests.actors.house import house_settings

ENTRIES_MAX, TTL_MS = 4, 1000  # all times are eighths of a second, which floats add exactly
FINISH_BYTES, CHUNK_BYTES = 256, 64
BYTES_MAX = 3 * (FINISH_BYTES + CHUNK_BYTES) + 200


class Model:
    """A list of (name, answer, size, end), the least recently used first."""

    def __init__(self):
        self.held = []

    def look(self, name, now):
        for entry in self.held:
            if entry[0] == name:
                self.held.remove(entry)
                if entry[3] <= now:
                    return None
                self.held.append(entry)
                return entry[1]
        return None

    def keep(self, name, answer, size, end):
        if size > BYTES_MAX:
            return
        self.held = [entry for entry in self.held if entry[0] != name] + [(name, answer, size, end)]
        while len(self.held) > ENTRIES_MAX or sum(entry[2] for entry in self.held) > BYTES_MAX:
            del self.held[0]


class HandClock(SeededClock):
    """A clock that goes on when it is told to."""

    moment = 0.0

    def monotonic(self):
        return self.moment


NAMES = st.sampled_from("abcdef")
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("look"), NAMES),
        st.tuples(
            st.just("keep"), NAMES, st.integers(0, 400) | st.just(2000), st.none() | st.sampled_from([125, 5000])
        ),
        st.tuples(st.just("wait"), st.sampled_from([125, 250, 875, 1000])),
    ),
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(steps=STEPS)
def test_every_look_is_that_of_the_model(tmp_path_factory, steps):
    values = house_settings(
        tmp_path_factory.getbasetemp(), cache_entries_max=ENTRIES_MAX, cache_bytes_max=BYTES_MAX, cache_ttl_ms=TTL_MS
    )
    clock, model = HandClock(), Model()
    cache = Cache(None, values, clock)  # no journal: nothing is cleared here
    now_ms = 0
    for number, (what, *rest) in enumerate(steps):
        if what == "wait":
            now_ms += rest[0]
            clock.moment = now_ms / 1000
        elif what == "look":
            assert cache.look(rest[0]) == model.look(rest[0], now_ms)
        else:
            name, length, ttl_ms = rest
            answer = CachedAnswer("p", "default", str(number), (TextDelta("x" * length), Finish("stop", Usage())))
            cache.keep(name, answer, ttl_ms)
            model.keep(name, answer, FINISH_BYTES + CHUNK_BYTES + length, now_ms + (ttl_ms or TTL_MS))
        counts = cache.counts()
        assert (counts.entries, counts.bytes) == (len(model.held), sum(entry[2] for entry in model.held))

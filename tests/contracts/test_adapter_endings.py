"""What is left of an adapter when its service ends."""

import os
from pathlib import Path

import trio

from tests.contracts.rigs import Rig
from tests.providers.hearing import Heard, descendants


async def test_no_process_and_no_descriptor_remains_when_the_service_ends_in_the_midst_of_answers(
    rig: Rig, tmp_path: Path
) -> None:
    before = set(descendants())
    files = len(os.listdir("/proc/self/fd"))
    for round_ in ("first", "second"):
        heard = Heard()
        rig.put("stall")
        adapter = rig.adapter(tmp_path / round_)
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                await nursery.start(adapter.serve)
                nursery.start_soon(adapter.answer, rig.call("some words of a prompt"), heard.emit, heard.report)
                while not heard.chunks:
                    await trio.sleep(0.01)
                nursery.cancel_scope.cancel()
        with trio.fail_after(10):  # grandchildren are reaped by init, not by us
            while set(descendants()) - before:
                await trio.sleep(0.02)
        assert adapter.statistics().busy == 0
    assert len(os.listdir("/proc/self/fd")) <= files + 1, "trio may keep one descriptor of its own"

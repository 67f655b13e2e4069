"""The log lives on local disks only: what the kernel's table of mounts says about a directory."""

import os
import sys
from pathlib import Path

import pytest

from llmux.eventstore import mounts, own_directory
from llmux.eventstore.mounts import Mount, mount_of, network_mount
from llmux.failures import ConfigurationWrong

TABLE = r"""
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard
23 22 0:21 / /proc rw,relatime - proc proc rw
40 22 0:35 / /home/ann/data rw,relatime shared:20 master:3 - nfs4 nas:/export/ann rw,vers=4.2,addr=10.0.0.2
41 40 254:1 / /home/ann/data/fast rw,relatime - xfs /dev/vdb rw
42 22 0:36 / /mnt/with\040blank rw - cifs //server/share rw,vers=3.1.1
43 22 0:37 / /mnt/ssh rw,nosuid - fuse.sshfs bob@host:/ rw,user_id=1000
44 22 0:38 / /mnt/covered rw - nfs nas:/old rw
45 44 254:2 / /mnt/covered rw - ext4 /dev/vdc rw
46 22 0:39 / /mnt/shared rw - virtiofs shared rw
47 22 0:40 / /mnt/c rw - 9p C:\134 rw,trans=fd
48 22 0:41 / /mnt/pool rw - fuse.mergerfs a:b rw
"""


@pytest.mark.parametrize(
    ("path", "mount", "network"),
    [
        ("/", ("/", "ext4"), False),
        ("/home/ann", ("/", "ext4"), False),
        ("/home/ann/database", ("/", "ext4"), False),
        ("/home/ann/data", ("/home/ann/data", "nfs4"), True),
        ("/home/ann/data/llmux/deep", ("/home/ann/data", "nfs4"), True),
        ("/home/ann/data/fast/llmux", ("/home/ann/data/fast", "xfs"), False),
        ("/mnt/with blank/llmux", ("/mnt/with blank", "cifs"), True),
        ("/mnt/ssh/llmux", ("/mnt/ssh", "fuse.sshfs"), True),
        ("/mnt/covered/llmux", ("/mnt/covered", "ext4"), False),
        ("/mnt/shared/llmux", ("/mnt/shared", "virtiofs"), False),
        ("/mnt/c/llmux", ("/mnt/c", "9p"), False),
        ("/mnt/pool/llmux", ("/mnt/pool", "fuse.mergerfs"), False),
    ],
)
def test_the_deepest_and_last_mount_holds_a_path(path: str, mount: tuple[str, str], network: bool) -> None:
    found = mount_of(path, TABLE)
    assert found == Mount(*mount)
    assert found.is_network is network


@pytest.mark.parametrize("table", ["", "\n", "garbage", "1 2 3 - ext4", "22 1 0:1 / / rw"])
def test_a_table_that_says_nothing_refuses_nothing(table: str) -> None:
    assert mount_of("/anywhere", table) is None


def test_a_data_directory_on_a_network_is_refused_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(f"22 1 254:0 / / rw - ext4 /dev/vda rw\n23 22 0:9 / {tmp_path}/nas rw - nfs4 nas:/export rw\n")
    monkeypatch.setattr(mounts, "_MOUNTS", table)
    (tmp_path / "nas").mkdir()
    (tmp_path / "link").symlink_to("nas")
    for directory in (tmp_path / "nas" / "llmux", tmp_path / "link" / "llmux"):
        told = pytest.raises(ConfigurationWrong, match=r"network file system \(nfs4 at .*/nas\).* LLMUX_DATA_DIR")
        with told, own_directory(directory):
            pass
    assert os.listdir(tmp_path / "nas") == []
    with own_directory(tmp_path / "local"):
        pass
    table.unlink()
    with own_directory(tmp_path / "local"):  # a system without such a table
        pass


def test_the_real_table_is_read() -> None:
    found = mount_of("/proc/self", Path("/proc/self/mountinfo").read_text())
    assert found == Mount("/proc", "proc")
    assert network_mount(Path(sys.prefix)) is None

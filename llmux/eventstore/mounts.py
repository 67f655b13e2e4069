"""Which file system a directory is on, and why the log cannot live on some of them.

SQLite's write-ahead log needs memory that everybody shares who has the file open. Where another machine may have it open too,
there is none, and what one side has committed the other one overwrites. 9p and virtiofs are not among these: they hand a directory of
the machine's own disk to a container or a virtual machine, whose one kernel all openers of the log share.
"""

import os
import re
from pathlib import Path
from typing import NamedTuple

_MOUNTS = Path("/proc/self/mountinfo")

# fmt: off
_NETWORK = frozenset({
    "nfs", "nfs4", "cifs", "smb3", "smbfs", "ncpfs", "afs", "coda", "ceph", "lustre", "gpfs", "beegfs", "orangefs", "pvfs2",
    "glusterfs", "gfs2", "ocfs2",
})
_NETWORK_FUSE = frozenset({
    "sshfs", "smbnetfs", "glusterfs", "ceph", "ceph-fuse", "davfs2", "s3fs", "s3ql", "goofys", "gcsfuse", "mount-s3",
    "mountpoint-s3", "blobfuse", "blobfuse2", "rclone", "curlftpfs", "juicefs", "moosefs", "mfs", "seaweedfs", "gvfsd-fuse", "kio-fuse",
})
# fmt: on


class Mount(NamedTuple):
    """A mounted file system: where, and of which type ("ext4", "nfs4", "fuse.sshfs")."""

    point: str
    type: str

    @property
    def is_network(self) -> bool:
        """Whether its files may be on another machine."""
        family, _, kind = self.type.partition(".")
        return self.type in _NETWORK or (family == "fuse" and kind in _NETWORK_FUSE)


def mount_of(path: str, mountinfo: str) -> Mount | None:
    """The file system that holds an absolute, resolved `path`, by the text of /proc/self/mountinfo; None when it says nothing.

    Pure. Of several mounts at one point the last covers the others.
    """
    found: Mount | None = None
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        fields, kind = before.split(" "), after.split(" ")[0]
        if len(fields) < 6 or not kind:
            continue
        point = _unescaped(fields[4])
        if _holds(point, path) and (found is None or len(point) >= len(found.point)):
            found = Mount(point, kind)
    return found


def network_mount(directory: Path) -> Mount | None:
    """The network file system that `directory` is on, or will be once it is made; None for any other."""
    try:
        mountinfo = _MOUNTS.read_text(errors="surrogateescape")
    except OSError:  # a system that has no such table
        return None
    mount = mount_of(os.path.realpath(directory), mountinfo)
    return mount if mount is not None and mount.is_network else None


def _holds(point: str, path: str) -> bool:
    return point == "/" or path == point or path.startswith(f"{point}/")


def _unescaped(text: str) -> str:
    """Blanks, tabs, line ends and backslashes stand in the table as three octal digits of a byte."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)

"""Die with the parent, become somebody else where asked, become the program.

Run by path, `python -I -S trampoline.py PARENT SIGNAL IDENTITY PROGRAM ARGUMENT...`, so that nothing but
the standard library is read. IDENTITY is `-`, `namespace` or `UID:GID`. Exec keeps the process id, the
session and the death signal; a change of identity clears the signal, so it is asked for last.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

PR_SET_PDEATHSIG = 1
CLONE_NEWUSER = 0x1000_0000
NOBODY = 65534
REFUSED = 126


def enter_namespace() -> None:
    """Root outside, nobody inside: PostgreSQL is content, no file changes owner, every path stays open."""
    outside_uid, outside_gid = os.geteuid(), os.getegid()
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWUSER):
        raise OSError(ctypes.get_errno(), "this system refuses user namespaces")
    Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
    Path("/proc/self/uid_map").write_text(f"{NOBODY} {outside_uid} 1", encoding="ascii")
    Path("/proc/self/gid_map").write_text(f"{NOBODY} {outside_gid} 1", encoding="ascii")


def become(identity: str) -> None:
    """Take on the identity for good."""
    if identity == "namespace":
        enter_namespace()
    elif identity != "-":
        uid, gid = (int(number) for number in identity.split(":"))
        os.setgroups([])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)


def main() -> None:
    """Read the command line and exec; it never returns."""
    parent, signal_number, identity, *command = sys.argv[1:]
    try:
        become(identity)
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal_number))
        if os.getppid() != int(parent):  # it died before we could ask to die with it
            sys.exit(0)
        os.execv(command[0], command)  # noqa: S606 - no shell is what we want
    except OSError as error:
        sys.stderr.write(f"{command[0]}: {error.strerror}\n")
        sys.exit(REFUSED)


if __name__ == "__main__":
    main()

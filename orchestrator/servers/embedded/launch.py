"""Become the wanted user, tie our life to the parent's, then exec. Run as a script, with the standard library only.

    python -I -S launch.py OPTIONS-AS-JSON -- PROGRAM ARG...

A script between fork and exec instead of `preexec_fn`, which may deadlock in a parent that has threads.
Exit code 126: the wanted user or a path is not possible here (the reason is on stderr); 127: no such program.
"""

import ctypes
import json
import os
import sys
from typing import Any

_CLONE_NEWUSER = 0x10000000
_PR_SET_PDEATHSIG = 1


def _libc() -> Any:
    return ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")


def _write(path: str, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def enter_namespace(uid: int, gid: int) -> None:
    """A user namespace in which we are `uid`, while outside we stay who we are: no file changes its owner."""
    outer_uid, outer_gid = os.geteuid(), os.getegid()
    _checked(_libc().unshare(_CLONE_NEWUSER), "unshare(CLONE_NEWUSER)")
    _write("/proc/self/setgroups", "deny")  # the kernel wants this before gid_map
    _write("/proc/self/uid_map", f"{uid} {outer_uid} 1")
    _write("/proc/self/gid_map", f"{gid} {outer_gid} 1")


def drop_to(uid: int, gid: int) -> None:
    """Become `uid` for good."""
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)


def die_with_parent(signal_number: int, parent: int) -> None:
    """Ask the kernel for `signal_number` when the thread that started us ends (Linux; elsewhere: nothing)."""
    if not sys.platform.startswith("linux"):
        return
    _checked(_libc().prctl(_PR_SET_PDEATHSIG, signal_number, 0, 0, 0), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:  # it died before the request
        sys.exit(1)


def _refuse_unusable(paths: dict[str, list[str]]) -> None:
    for path in paths.get("writable", []):
        if not os.access(path, os.W_OK | os.X_OK, effective_ids=True):
            raise PermissionError(f"{path} is not writable for uid {os.geteuid()}")
    for path in paths.get("executable", []):
        if not os.access(path, os.R_OK | os.X_OK, effective_ids=True):
            raise PermissionError(f"{path} is not executable for uid {os.geteuid()}")


def main(arguments: list[str]) -> None:
    options: dict[str, Any] = json.loads(arguments[0])
    program = arguments[2:]
    try:
        if user := options.get("user"):
            (enter_namespace if user["how"] == "namespace" else drop_to)(user["uid"], user["gid"])
        os.chdir(options.get("folder", "/"))
        _refuse_unusable(options.get("check", {}))
        if signal_number := options.get("death_signal"):
            die_with_parent(signal_number, options["parent"])  # last: a change of user clears it
    except OSError as exc:
        print(f"{program[0]}: {exc}", file=sys.stderr)
        sys.exit(126)
    if options.get("private"):
        os.umask(0o077)
    try:
        os.execv(program[0], program)
    except OSError as exc:
        print(f"{program[0]}: {exc}", file=sys.stderr)
        sys.exit(127)


if __name__ == "__main__":
    main(sys.argv[1:])

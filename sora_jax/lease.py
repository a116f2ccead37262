"""Who works on a run: a claim in the run's folder that many machines can see, with a number that only ever grows.

`lease/000001.json` is the first claim, made by linking a finished file to its name: one of many racers succeeds. Its
holder touches it (the heartbeat); whoever finds it cold, or its process dead on this host, claims the next number. The
highest number is the fencing token: a holder that slept through its lease finds a higher one and must not write.
"""
import contextlib
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from sora_jax import disk

FOLDER = "lease"


class Rule(NamedTuple):
    """Seconds between heartbeats and until a silent claim is taken over; how often a run that raises is begun again,
    and the seconds before the first of those, doubling; how many processes may die of a run, one after the other."""

    beat: float = 5.0
    cold: float = 60.0
    retries: int = 3
    pause: float = 10.0
    deaths: int = 10


RULE = Rule()


class Fenced(RuntimeError):
    """Another process holds the run now."""


class Status(NamedTuple):
    """What the claims of a run say: `state` is free, held, waiting (to be tried again) or failed (for good). Whether it
    is done is for its record to say, not for a claim."""

    state: str
    token: int
    attempts: int
    failures: int
    owner: str
    error: str
    silent: float


def _clock(folder: Path) -> float:
    """Now, by the clock of the disk: hosts need not agree on the time."""
    if not os.access(folder, os.W_OK):
        return time.time()
    probe = folder / f".clock-{socket.gethostname()}-{os.getpid()}-{threading.get_ident()}"
    probe.touch()
    try:
        return probe.stat().st_mtime
    finally:
        probe.unlink(missing_ok=True)


def _read(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return {}


def _born(pid: int) -> str:
    """When a process of this host began, in its own ticks; empty if there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def _world() -> str:
    """This boot of this machine and its process namespace: only here does a process number mean a process."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{socket.gethostname()} {boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _dead(claim: dict[str, Any]) -> bool:
    """Whether the claim's process is known to have ended: it was of this world and is no more, or is another by now."""
    world = _world()
    return bool(world) and claim.get("world") == world and _born(claim["pid"]) != claim.get("born")


def _tokens(folder: Path) -> list[int]:
    return sorted(int(path.stem) for path in folder.glob("[0-9]*.json"))


def status(run: str | os.PathLike, rule: Rule = RULE) -> Status:
    """How it stands with a run."""
    folder = Path(run) / FOLDER
    tokens = _tokens(folder) if folder.is_dir() else []
    if not tokens:
        return Status("free", 0, 0, 0, "", "", 0.0)
    token, claim = tokens[-1], _read(folder / f"{tokens[-1]:06}.json")
    ends = {k: _read(folder / f"{k:06}.end") for k in tokens}
    failed = [end for end in ends.values() if end.get("how") == "failed"]
    error = failed[-1].get("error", "") if failed else ""
    now = _clock(folder)
    try:
        silent = now - (folder / f"{token:06}.json").stat().st_mtime
    except OSError:
        silent = 0.0
    how = ends[token].get("how")
    if how == "failed":
        again = ends[token]["at"] + rule.pause * 2 ** (len(failed) - 1)
        over = ends[token].get("final") or len(failed) > rule.retries
        state = "failed" if over else "waiting" if now < again else "free"
    elif how == "locked":
        state = "waiting" if now < ends[token]["at"] + rule.pause else "free"
    elif how is not None:
        state = "free"
    elif silent > rule.cold or _dead(claim):
        row = 0  # claims that ended in nothing, up to the newest
        while row < len(tokens) and not ends[tokens[-1 - row]]:
            row += 1
        state = "failed" if row > rule.deaths else "free"
        error = f"the last {row} processes that worked on it died" if state == "failed" else error
    else:
        state = "held"
    return Status(state, token, len(tokens), len(failed), claim.get("owner", "?"), error, silent)


class Lease:
    """A claim that this process made."""

    def __init__(self, folder: Path, token: int, rule: Rule, nonce: str):
        self.folder, self.token, self.rule, self.nonce = folder, token, rule, nonce

    @property
    def path(self) -> Path:
        """The claim's file."""
        return self.folder / f"{self.token:06}.json"

    def fence(self) -> None:
        """Raises Fenced if a higher claim exists. To be asked before anything is written."""
        highest, nonce = max(_tokens(self.folder), default=0), ""
        with contextlib.suppress(FileNotFoundError):  # any other trouble of the disk is no verdict on the claim
            nonce = json.loads(self.path.read_text())["nonce"]
        if highest != self.token or nonce != self.nonce:
            raise Fenced(f"{self.folder.parent}: claim {self.token} was overtaken by claim {highest}, or removed")

    @contextlib.contextmanager
    def beating(self, lost: Callable[[], None]) -> Iterator[None]:
        """Heartbeats from a thread for the length of the block; `lost` is called there if the claim is overtaken."""
        over = threading.Event()

        def beat() -> None:
            while not over.wait(self.rule.beat):
                try:
                    self.fence()
                    os.utime(self.path)
                except Fenced:
                    lost()
                    return
                except OSError:
                    continue  # a disk that is away for a moment; cold claims are somebody else's to judge

        thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def end(self, how: str, error: str = "", final: bool = False) -> None:
        """Give the run back: "done", "left", "locked" (try again in a while) or "failed" with its error; `final`: it
        would fail again."""
        body = {"how": how, "error": error, "final": final, "at": _clock(self.folder)}
        disk.write(self.folder / f"{self.token:06}.end", json.dumps(body).encode())


def claim(run: str | os.PathLike, rule: Rule = RULE, owner: str = "") -> Lease | None:
    """The run, if nobody has it and it may be tried; None otherwise, also if another was faster."""
    found = status(run, rule)
    if found.state != "free":
        return None
    folder, host, pid = Path(run) / FOLDER, socket.gethostname(), os.getpid()
    folder.mkdir(parents=True, exist_ok=True)
    aside = folder / f".claim-{host}-{pid}-{threading.get_ident()}"
    body = {"world": _world(), "pid": pid, "born": _born(pid), "nonce": secrets.token_hex(8),
            "owner": owner or f"process {pid} on {host}",
            "since": time.strftime("%Y-%m-%d %H:%M:%S")}
    aside.write_text(json.dumps(body))
    lease = Lease(folder, found.token + 1, rule, body["nonce"])
    try:
        os.link(aside, lease.path)
    except FileExistsError:
        return None
    finally:
        aside.unlink(missing_ok=True)
    return lease

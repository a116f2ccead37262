"""Many workers, many runs, one folder: each run is trained to its end exactly once, whoever dies on the way.

Enters: tasks, each with a folder, a test whether it is done and a function that trains it. A worker claims a task
(`lease`), trains it, and goes to the next; errors are tried again with growing pauses, a wrong config is not.
"""
import os
import socket
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from sora_jax import disk, lease
from sora_jax.types import ConfigError

LOST = 75  # exit status of a worker whose run was taken over while it slept


class Task(NamedTuple):
    """A run to be trained: `train` gets a fence to ask before it writes, and resumes what it finds in the folder."""

    name: str
    folder: Path
    done: Callable[[], bool]
    train: Callable[[Callable[[], None]], object]


class State(NamedTuple):
    """A task and how it stands."""

    task: Task
    status: lease.Status


def states(tasks: Sequence[Task], rule: lease.Rule = lease.RULE) -> list[State]:
    """How it stands with each task; a recorded one is done whatever its claims say."""
    found = []
    for task in tasks:
        status = lease.status(task.folder, rule)
        found.append(State(task, status._replace(state="done") if task.done() else status))
    return found


def work(tasks: Sequence[Task], rule: lease.Rule = lease.RULE, say: Callable[[str], None] = print,
         first: int = 0) -> list[State]:
    """Work until every task is done or failed for good; returns how they ended. `first` is where to begin, so that
    workers do not race for the same one."""
    order = [*tasks[first % max(len(tasks), 1):], *tasks[:first % max(len(tasks), 1)]]
    while True:
        busy = [once(task, rule, say) for task in order]
        ends = states(tasks, rule)
        if all(end.status.state in ("done", "failed") for end in ends):
            return ends
        if not any(busy):
            time.sleep(min(rule.beat, 2.0))


def once(task: Task, rule: lease.Rule, say: Callable[[str], None]) -> bool:
    """Claim and train one task if it is free; whether it was."""
    if task.done():
        return False
    held = lease.claim(task.folder, rule)
    if held is None:
        return False
    if task.done():  # recorded between the look and the claim
        held.end("done")
        return False
    say(f"{task.name}: attempt {held.token}, process {os.getpid()} on {socket.gethostname()}")
    try:
        with held.beating(lambda: os._exit(LOST)):
            task.train(held.fence)
    except lease.Fenced as error:
        say(f"{task.name}: {error}")
    except disk.Held as error:  # a holder that sleeps still has the kernel's lock: not a failure, but not yet ours
        held.end("locked")
        say(f"{task.name}: {error}")
        return False
    except ConfigError as error:
        held.end("failed", str(error), final=True)
        say(f"{task.name}: {error}")
    except Exception as error:  # noqa: BLE001 — whatever training raises is for the next attempt to meet
        held.end("failed", "".join(traceback.format_exception_only(error)).strip())
        say(f"{task.name}: attempt {held.token} failed: {type(error).__name__}: {error}")
    except BaseException:
        held.end("left")
        raise
    else:
        held.end("done")
    return True

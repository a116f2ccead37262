"""One holder at a time, whoever dies, sleeps or fails: claims, heartbeats, fences, pauses between attempts."""
import json
import os
import subprocess
import sys
import threading
import time

import pytest

from sora_jax import lease

QUICK = lease.Rule(beat=0.05, cold=0.5, retries=2, pause=0.2)


def test_the_first_claim_wins_and_is_number_one(tmp_path):
    held = lease.claim(tmp_path, QUICK, "me")
    assert held.token == 1 and lease.claim(tmp_path, QUICK) is None
    held.fence()
    found = lease.status(tmp_path, QUICK)
    assert (found.state, found.token, found.attempts, found.failures, found.owner) == ("held", 1, 1, 0, "me")
    held.end("done")
    assert lease.status(tmp_path, QUICK).state == "free"
    assert sorted(path.name for path in (tmp_path / lease.FOLDER).iterdir()) == ["000001.end", "000001.json"]


def test_of_many_racers_one_claims(tmp_path):
    won, start = [], threading.Barrier(16)

    def race():
        start.wait()
        if made := lease.claim(tmp_path, QUICK):
            won.append(made.token)

    threads = [threading.Thread(target=race) for _ in range(16)]
    [thread.start() for thread in threads], [thread.join() for thread in threads]
    assert won == [1]


def test_a_dead_process_of_this_host_is_replaced_at_once(tmp_path):
    code = f"import os; from sora_jax import lease; lease.claim({str(tmp_path)!r}); os._exit(9)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 9
    again = lease.claim(tmp_path, lease.Rule(cold=1e6))
    assert again.token == 2 and lease.status(tmp_path).attempts == 2


def test_another_host_is_believed_until_it_is_cold(tmp_path):
    first = lease.claim(tmp_path, QUICK)
    first.path.write_text(json.dumps({**json.loads(first.path.read_text()), "world": "elsewhere", "pid": 1}))
    assert lease.status(tmp_path, QUICK).state == "held" and lease.claim(tmp_path, QUICK) is None
    os.utime(first.path, (time.time() - 9, time.time() - 9))
    assert lease.claim(tmp_path, QUICK).token == 2
    with pytest.raises(lease.Fenced, match="claim 1 was overtaken by claim 2"):
        first.fence()


def test_a_heartbeat_keeps_a_claim_warm_and_tells_of_its_loss(tmp_path):
    held, lost = lease.claim(tmp_path, QUICK), threading.Event()
    os.utime(held.path, (1, 1))
    with held.beating(lost.set):
        time.sleep(0.3)
        assert lease.status(tmp_path, QUICK).silent < 0.3 and not lost.is_set()
        os.utime(held.path, (1, 1))
        (held.folder / "000002.json").write_text("{}")
        assert lost.wait(2)
        os.utime(held.path, (1, 1))  # a beat that had looked before the overtaking may have touched it after
        time.sleep(0.3)
        assert os.stat(held.path).st_mtime < 10, "a lost claim is not touched again"


def test_failures_are_tried_again_with_growing_pauses_then_never(tmp_path):
    for number in range(1, QUICK.retries + 2):
        held = lease.claim(tmp_path, QUICK)
        assert held.token == number
        held.end("failed", f"error {number}")
        found = lease.status(tmp_path, QUICK)
        assert found.error == f"error {number}" and found.failures == number
        if number <= QUICK.retries:
            assert found.state == "waiting" and lease.claim(tmp_path, QUICK) is None
            time.sleep(QUICK.pause * 2 ** (number - 1) + 0.05)
    assert found.state == "failed" and lease.claim(tmp_path, QUICK) is None
    assert lease.status(tmp_path, QUICK._replace(retries=9, pause=0)).state == "free"


def test_a_run_that_would_fail_again_is_not_tried_again(tmp_path):
    lease.claim(tmp_path, QUICK).end("failed", "patch does not divide", final=True)
    assert lease.status(tmp_path, QUICK).state == "failed"


def test_a_run_that_was_left_is_free_at_once_and_was_no_failure(tmp_path):
    lease.claim(tmp_path, QUICK).end("left")
    found = lease.status(tmp_path, QUICK)
    assert (found.state, found.failures) == ("free", 0) and lease.claim(tmp_path, QUICK).token == 2


def test_a_folder_that_is_not_there_is_free(tmp_path):
    assert lease.status(tmp_path / "no").state == "free" and not (tmp_path / "no").exists()


def test_a_run_that_kills_whoever_works_on_it_is_given_up(tmp_path):
    folder = tmp_path / lease.FOLDER
    folder.mkdir()
    for number in range(1, QUICK.deaths + 2):
        assert lease.status(tmp_path, QUICK).state == "free"
        (folder / f"{number:06}.json").write_text("{}")
        os.utime(folder / f"{number:06}.json", (1, 1))
    found = lease.status(tmp_path, QUICK)
    assert found.state == "failed" and found.error == "the last 11 processes that worked on it died"


def test_a_lease_whose_folder_was_removed_is_lost(tmp_path):
    held = lease.claim(tmp_path, QUICK)
    held.path.unlink()
    with pytest.raises(lease.Fenced):
        held.fence()
    assert lease.claim(tmp_path, QUICK).token == 1
    with pytest.raises(lease.Fenced):
        held.fence()

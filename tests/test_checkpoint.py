"""A checkpoint restores bit for bit, or is known to be bad; a killed run is the run that was not killed."""
import os
import pathlib
import random
import resource
import shutil
import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy

from sora_jax import checkpoint, disk, mesh
from sora_jax.checkpoint import Checkpoints
from sora_jax.types import InputError
from sora_jax.weights import weights_hash

ROOT = pathlib.Path(__file__).parents[1]
STEPS = 24


def kept(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(scope="module")
def run():
    return toy.run()


@pytest.fixture(scope="module")
def trained(tmp_path_factory, run):
    """A run folder with checkpoints of steps 8 and 12, and the state at 12."""
    folder = tmp_path_factory.mktemp("trained")
    toy.follow(folder, 12)
    return folder, Checkpoints(folder / "checkpoints").restore(run.abstract()).state


@pytest.fixture
def folder(tmp_path, trained):
    """A copy that a test may harm."""
    return pathlib.Path(shutil.copytree(trained[0] / "checkpoints", tmp_path / "checkpoints"))


def test_round_trip_is_bit_exact_onto_any_mesh(trained, run):
    folder, state = trained
    many = toy.run(data=2, fsdp=4)
    point = Checkpoints(folder / "checkpoints").restore(many.abstract())
    assert point.step == state.step == 12 and list(point.meta) == ["loss"]
    assert weights_hash(point.state) == weights_hash(state)
    assert point.state.params["up"].sharding == many.abstract().params["up"].sharding
    assert jax.tree.structure(point.state) == jax.tree.structure(run.initial())


def test_saving_does_not_wait_and_survives_donation(tmp_path, run):
    state, found = run.initial(), []
    stream = run.loader().iterate()
    with Checkpoints(tmp_path, keep=10) as checkpoints:
        for k in range(6):
            state = run.step(state, next(stream))[0]
            found.append(weights_hash(state))
            checkpoints.save(k + 1, state)
    stream.close()
    assert [weights_hash(checkpoints.restore(run.abstract(), k + 1).state) for k in range(6)] == found


def test_the_newest_are_kept_and_the_named(tmp_path, run):
    state = run.initial()
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        for step in range(1, 6):
            checkpoints.save(step, state, {"k": step}, name="half" if step == 2 else None)
        checkpoints.save(5, state, name="end")
        checkpoints.save(6, state)
        checkpoints.wait()
        assert kept(tmp_path) == ["2", "4", "5", "6"] and checkpoints.named() == {"half": 2, "end": 5}
        assert checkpoints.latest == 6
        assert checkpoints.restore(run.abstract(), "half").meta == {"k": 2}
        with pytest.raises(InputError, match="no checkpoint named 'nope'; it has half, end"):
            checkpoints.restore(run.abstract(), "nope")


def test_a_save_that_need_not_be_is_skipped_while_busy(tmp_path, run, monkeypatch):
    seal = disk.seal
    monkeypatch.setattr(disk, "seal", lambda *args: (time.sleep(0.5), seal(*args)))
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.save(1, run.initial())
        assert not checkpoints.save(2, run.initial(), force=False)
        assert checkpoints.save(3, run.initial(), force=True)
    assert checkpoints.steps() == [1, 3]


def test_nothing_ever_saved_is_none(tmp_path, run):
    assert Checkpoints(tmp_path / "none").restore(run.abstract()) is None
    assert Checkpoints(tmp_path / "none").latest is None


def biggest(step):
    return max((path for path in step.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)


def truncate(step):
    os.truncate(biggest(step), biggest(step).stat().st_size // 2)


def flip(step):
    data = bytearray(biggest(step).read_bytes())
    data[len(data) // 2] ^= 4
    biggest(step).write_bytes(data)


def empty(step):
    shutil.rmtree(step)
    step.mkdir()


def unseal(step):
    (step / disk.MANIFEST).unlink()


HARMS = {truncate: "is damaged", flip: "is damaged", empty: "MANIFEST", unseal: "MANIFEST"}


@pytest.mark.parametrize("harm", HARMS)
def test_a_bad_newest_step_is_named_set_aside_and_replaced_by_the_one_before(folder, run, harm, caplog):
    harm(folder / "12")
    checkpoints = Checkpoints(folder)
    point = checkpoints.restore(run.abstract())
    assert point.step == 8 == point.state.step and kept(folder) == ["8", "bad-12-0"]
    assert f"{folder}/12 is bad" in caplog.text and HARMS[harm] in caplog.text and "back to step 8" in caplog.text
    with checkpoints:
        checkpoints.save(12, point.state)
    assert kept(folder) == ["12", "8", "bad-12-0"] and disk.damage(folder / "12") is None


def test_random_flips_never_restore_silently_wrong(folder, run, trained):
    random.seed(0)
    good, abstract = weights_hash(trained[1]), run.abstract()
    files = [path for path in (folder / "12").rglob("*") if path.is_file()]
    for _ in range(20):
        path = random.choice(files)
        original = path.read_bytes()
        if not original:
            continue
        data = bytearray(original)
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)
        path.write_bytes(data)
        point = Checkpoints(folder).restore(abstract, aside=False)
        assert point.step == 8 or weights_hash(point.state) == good
        path.write_bytes(original)
    assert Checkpoints(folder).restore(abstract).step == 12


def test_all_bad_is_an_error_every_time_and_never_a_fresh_start(folder, run):
    for step in ("8", "12"):
        flip(folder / step)
    for _ in range(2):
        with pytest.raises(InputError, match="step 12: .*; step 8: ") as caught:
            Checkpoints(folder).restore(run.abstract())
        assert "\n" not in str(caught.value) and "overwrite a run" in str(caught.value)
    shutil.rmtree(folder / "8")
    (folder / "12").rename(folder / "bad-12-0")
    with pytest.raises(InputError, match="only bad ones set aside"):
        Checkpoints(folder).restore(run.abstract())


def test_a_requested_step_has_no_substitute(folder, run):
    flip(folder / "12")
    with pytest.raises(InputError, match="step 12: file .* is damaged"):
        Checkpoints(folder).restore(run.abstract(), 12)
    assert kept(folder) == ["12", "8"]
    assert Checkpoints(folder).restore(run.abstract(), 8).step == 8


def test_another_config_is_refused_by_the_name_of_a_weight(folder):
    other = toy.Run(mesh.make(data=1), width=20)
    with pytest.raises(InputError, match=r"ema/bias is float32 \(32,\) there, the config asks for float32 \(40,\)"):
        Checkpoints(folder).restore(other.abstract())
    assert kept(folder) == ["12", "8"], "a good checkpoint is not bad because the config is"


def test_a_state_with_nan_is_not_saved_and_one_on_disk_is_not_restored(folder, run, trained, monkeypatch):
    state = trained[1]._replace(params={**trained[1].params, "bias": trained[1].params["bias"].at[3].set(jnp.nan)})
    with Checkpoints(folder) as checkpoints:
        with pytest.raises(FloatingPointError, match="step 16: params/bias holds NaN.* last good is 12"):
            checkpoints.save(16, state)
        with monkeypatch.context() as patch:
            patch.setattr(checkpoint, "nonfinite", lambda _: None)
            checkpoints.save(16, state)
            checkpoints.wait()
        assert checkpoints.restore(run.abstract()).step == 12
    assert "bad-16-0" in kept(folder)


@pytest.fixture
def small(tmp_path):
    """A disk of 600 KiB where mounting is allowed; else a limit on the size of a file."""
    disk_folder = tmp_path / "small"
    disk_folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=600k", "none", disk_folder]
    if subprocess.run(mount, check=False, capture_output=True).returncode == 0:
        yield disk_folder
        subprocess.run(["umount", disk_folder], check=True)
    else:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (300 * 1024, hard))
        yield disk_folder
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, old)


def test_a_full_disk_is_an_error_at_once_and_older_steps_stay(small, run, capfd):
    state, big = run.initial(), {"x": jnp.asarray(np.random.default_rng(0).normal(size=250_000))}
    start = time.monotonic()
    with Checkpoints(small) as checkpoints:
        checkpoints.save(4, state)
        checkpoints.wait()
        with pytest.raises(InputError, match=f"step 8 could not be written to {small}.*last good step is 4") as caught:
            checkpoints.save(8, big)
            checkpoints.wait()
        assert kept(small) == ["4"], "the part that was written is gone, and its space free"
        checkpoints.save(12, state)
    assert time.monotonic() - start < 10 and "\n" not in str(caught.value)
    assert checkpoints.restore(run.abstract()).step == 12
    assert len(capfd.readouterr().err.splitlines()) <= 30


ENV = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "JAX_PLATFORMS": "cpu"}


def child(folder, steps, every):
    code = f"import toy; toy.follow({str(folder)!r}, {steps}, {every})"
    return subprocess.Popen([sys.executable, "-c", code], env=ENV)


def test_killed_is_uninterrupted_and_cold_is_not(tmp_path, run):
    """Three ways: U runs through; R is killed with SIGKILL while it saves, and resumes; C loses a part of its state."""
    process = child(tmp_path / "r", 10 ** 6, 1)
    points, deadline = tmp_path / "r" / "checkpoints", time.monotonic() + 60
    while not any(int(path.name[8:]) > 5 for path in points.glob(".saving-*")):
        assert process.poll() is None and time.monotonic() < deadline
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    end = max(STEPS, Checkpoints(points).latest // 4 * 4 + 8)
    toy.follow(tmp_path / "u", end)
    assert child(tmp_path / "r", end, 4).wait(timeout=60) == 0
    assert not list(points.glob(".*")), "nothing half-made is left"

    final = {name: Checkpoints(tmp_path / name / "checkpoints").restore(run.abstract()) for name in "ur"}
    assert final["u"].step == final["r"].step == end and final["u"].meta == final["r"].meta
    assert weights_hash(final["u"].state) == weights_hash(final["r"].state)

    before = Checkpoints(tmp_path / "u" / "checkpoints").restore(run.abstract(), end - 4).state
    for reset in ("nothing", "opt", "ema", "step"):
        current = jax.tree.map(jnp.copy, before)
        if reset != "nothing":
            current = current._replace(**{reset: getattr(run.initial(), reset)})
        for k in range(end - 4, end):
            current = run.step(current, run.loader().batch(k))[0]
        same = weights_hash(current.params) == weights_hash(final["u"].state.params) and \
            weights_hash(current.ema) == weights_hash(final["u"].state.ema)
        assert same == (reset == "nothing"), reset


HOSTS = """
import sys, jax
jax.config.update("jax_num_cpu_devices", 2)
jax.distributed.initialize(sys.argv[1], num_processes=2, process_id=int(sys.argv[2]), initialization_timeout=60)
import toy
toy.follow(sys.argv[3], int(sys.argv[4]), sizes={"fsdp": 4})
from sora_jax import checkpoint
assert checkpoint.Checkpoints(sys.argv[3] + "/checkpoints").restore(toy.run(fsdp=4).abstract()).step == int(sys.argv[4])
"""


@pytest.mark.slow
def test_two_hosts_save_resume_and_fall_back_together(tmp_path, run):
    def hosts(steps, port):
        command = [sys.executable, "-c", HOSTS, f"127.0.0.1:{port}"]
        processes = [subprocess.Popen([*command, str(i), str(tmp_path), str(steps)], env=ENV, text=True,
                                      stderr=subprocess.PIPE) for i in range(2)]
        outs = [process.communicate(timeout=120) for process in processes]
        for process, (_, err) in zip(processes, outs, strict=True):
            assert process.returncode == 0, err[-3000:]
        return outs[0][1]

    port = 21000 + os.getpid() % 20000
    hosts(8, port)
    flip(tmp_path / "checkpoints" / "8")
    assert "going back to step 4" in hosts(12, port + 1)
    assert "bad-8-0" in kept(tmp_path / "checkpoints")
    toy.follow(tmp_path / "alone", 12)
    one, two = (Checkpoints(at / "checkpoints").restore(run.abstract()).state for at in (tmp_path / "alone", tmp_path))
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)

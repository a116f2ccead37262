"""Motion is exact: bounces are folded lines, collisions keep momentum and energy, falls keep energy."""

import math

import numpy as np
import pytest

from sora_jax.worlds.motion import evaluate, simulate

ROUNDING = 1e-11  # float64 arithmetic over tens of events
FREE = ((-math.inf, -math.inf), (math.inf, math.inf))
BOX = ((0.1, 0.1), (0.9, 0.9))


def test_bounces_are_a_folded_line():
    start, velocity, times = np.array([0.3, 0.5]), np.array([0.7, -0.43]), np.linspace(0, 9, 200)
    path = simulate([start], [velocity], [0.1], [BOX], seconds=9.0)
    folded = (start + velocity * times[:, None] - 0.1) % 1.6
    np.testing.assert_allclose(evaluate(path, times)[0][:, 0], 0.1 + np.minimum(folded, 1.6 - folded), atol=ROUNDING)
    assert [event.kind for event in path.events[:3]] == ["wall_right", "wall_up", "wall_left"]


def test_a_fall_bounces_with_the_period_and_height_of_the_closed_form():
    gravity, drop = 0.6, 0.5
    path = simulate([(0.5, 0.2)], [(0.0, 0.0)], [0.1], [((0.0, 0.0), (1.0, 0.2 + drop))], gravity=gravity, seconds=8.0)
    fall = math.sqrt(2 * drop / gravity)
    np.testing.assert_allclose(
        [event.time for event in path.events], fall * np.arange(1, 2 * len(path.events), 2), rtol=1e-9
    )
    position, velocity = evaluate(path, np.linspace(0, 8, 300))
    energy = 0.5 * (velocity[:, 0] ** 2).sum(-1) - gravity * position[:, 0, 1]
    np.testing.assert_allclose(energy, energy[0], atol=1e-9)
    assert position[:, 0, 1].max() <= 0.2 + drop + 1e-9


def test_the_ceiling_stops_a_throw():
    path = simulate([(0.5, 0.3)], [(0.0, -0.6)], [0.1], [BOX], gravity=0.6, seconds=1.0)
    assert path.events[0].kind == "wall_up"
    assert evaluate(path, np.linspace(0, 1, 50))[0][:, 0, 1].min() >= 0.1 - ROUNDING


@pytest.mark.parametrize("seed", range(6))
def test_collisions_keep_momentum_and_energy(seed):
    rng = np.random.default_rng(seed)
    radius = rng.uniform(0.05, 0.15, 2)
    position = np.array([[0.2, 0.5], [0.8, 0.5 + rng.uniform(-0.5, 0.5) * radius.sum()]])
    velocity = np.array([[0.4, 0.0], [-rng.uniform(0.1, 0.5), rng.uniform(-0.02, 0.02)]])
    path = simulate(position, velocity, radius, [FREE] * 2, collide=True, seconds=3.0)
    (event,) = path.events
    assert event.kind == "collision" and event.objects == (0, 1)
    before, after = path.velocity
    mass = radius[:, None] ** 2
    np.testing.assert_allclose((mass * before).sum(0), (mass * after).sum(0), atol=1e-15)
    np.testing.assert_allclose((mass * before**2).sum(), (mass * after**2).sum(), rtol=1e-13)
    assert not np.allclose(before, after)
    apart = np.linalg.norm(np.diff(evaluate(path, np.linspace(0, 3, 400))[0], axis=1), axis=-1)
    assert apart.min() >= radius.sum() - ROUNDING
    np.testing.assert_allclose(np.linalg.norm(np.diff(path.position[1], axis=0)), radius.sum(), atol=ROUNDING)


def test_a_head_on_collision_is_the_textbook_one():
    radius, v1, v2 = (0.1, 0.15), 0.3, -0.2
    path = simulate([(0.2, 0.5), (0.8, 0.5)], [(v1, 0), (v2, 0)], radius, [FREE] * 2, collide=True)
    m1, m2 = radius[0] ** 2, radius[1] ** 2
    expected = ((m1 - m2) * v1 + 2 * m2 * v2) / (m1 + m2), ((m2 - m1) * v2 + 2 * m1 * v1) / (m1 + m2)
    np.testing.assert_allclose(path.velocity[1][:, 0], expected, rtol=1e-13)
    np.testing.assert_allclose(path.events[0].time, (0.6 - sum(radius)) / (v1 - v2), rtol=1e-13)


def test_a_closed_box_keeps_its_energy_and_nothing_leaves_it():
    radius = np.array([0.06, 0.08, 0.1])
    bounds = [((r, r), (1 - r, 1 - r)) for r in radius]
    position, velocity = [(0.2, 0.2), (0.7, 0.3), (0.4, 0.7)], [(0.5, 0.3), (-0.4, 0.2), (0.1, -0.6)]
    path = simulate(position, velocity, radius, bounds, collide=True, seconds=12.0)
    assert sum(event.kind == "collision" for event in path.events) >= 3
    where, speed = evaluate(path, np.linspace(0, 12, 500))
    energy = (radius**2 * (speed**2).sum(-1)).sum(-1)
    np.testing.assert_allclose(energy, energy[0], rtol=1e-10)
    assert (where >= radius[:, None] - ROUNDING).all() and (where <= 1 - radius[:, None] + ROUNDING).all()


def test_a_path_is_continuous_and_its_velocity_is_its_slope():
    path = simulate([(0.3, 0.2)], [(0.5, 0.1)], [0.1], [BOX], gravity=0.6, seconds=4.0)
    times, step = np.linspace(0.01, 3.9, 300), 1e-6
    times = times[np.abs(times[:, None] - path.start[None]).min(1) > 1e-3]
    ahead, behind = evaluate(path, times + step)[0], evaluate(path, times - step)[0]
    np.testing.assert_allclose((ahead - behind) / (2 * step), evaluate(path, times)[1], atol=1e-8)
    events = path.start[1:]
    np.testing.assert_allclose(evaluate(path, events - 1e-9)[0], evaluate(path, events)[0], atol=1e-8)

"""Objectives come from configs, new and old: every field is in the base config, and what is absent is the default."""
import dataclasses

import pytest

from configs import smoke
from sora_jax import build, registry, validation
from sora_jax.diffusion.path import Cosine
from sora_jax.scaling import identity
from sora_jax.types import ConfigError

NAMES = [name for name in registry.names("objectives") if name != "vae"]
OLD = ("name", "time", "mean", "std", "caption_drop", "known")
CHANGED = {"kind": "v", "weight": "min-snr", "gamma": 3.0, "shift_tokens": 64, "scale": 1.0, "schedule": "cosine",
           "steps": 500, "beta_min": 2e-4, "beta_max": 0.03, "zero_terminal": True, "p_mean": -1.0, "p_std": 1.0,
           "sigma_min": 0.01, "sigma_max": 80.0, "rho": 5.0}


def config_of(**fields):
    config = smoke.get_config("dit")
    config.objective.update(fields)
    return config


def as_recorded():
    """A config from before the objectives had more than the first fields."""
    config = smoke.get_config("dit")
    for name in set(config.objective) - set(OLD):
        del config.objective[name]
    return config


@pytest.mark.parametrize("name", NAMES)
def test_every_field_is_in_the_config(name):
    fields = {field.name for field in dataclasses.fields(registry.load("objectives", name).Objective)}
    assert fields <= set(smoke.get_config("dit").objective)


@pytest.mark.parametrize("name", NAMES)
def test_a_recorded_config_makes_the_objective_it_made(name):
    old, new = as_recorded(), config_of(name=name)
    old.objective.name = name
    assert build.objective(old) == build.objective(new)
    assert identity.run_id(old.to_dict()) == identity.run_id(new.to_dict())


def test_every_new_field_is_in_the_name_of_a_run():
    assert set(CHANGED) == set(smoke.get_config("dit").objective) - set(OLD)
    names = {identity.run_id(config_of(**{field: value}).to_dict()) for field, value in CHANGED.items()}
    assert len(names | {identity.run_id(as_recorded().to_dict())}) == len(CHANGED) + 1


def test_fields_arrive():
    made = build.objective(config_of(name="ddpm", kind="v", schedule="cosine", steps=200, weight="min-snr", gamma=2.0,
                                     shift_tokens=12))
    assert made.path == Cosine(200)
    assert (made.kind, made.weight, made.gamma, made.shift_tokens) == ("v", "min-snr", 2, 12)
    assert build.objective(config_of(name="edm", sigma_max=80.0)).path.sigma_max == 80.0
    assert build.objective(config_of(time="mode", scale=0.5)).scale == 0.5


@pytest.mark.parametrize("fields, line", [
    ({"name": "ddpm", "zero_terminal": True}, "objective.kind='eps' with a path that ends in noise alone"),
    ({"kind": "l2"}, "objective.kind='l2' is not one of x0, eps, v, flow, edm"),
    ({"name": "edm", "sigma_max": 0.001}, "objective.sigma_min=0.004, sigma_max=0.001"),
    ({"time": "mode", "scale": 2.0}, "objective.scale=2.0 makes no law of times")])
def test_what_cannot_run_is_refused_before_a_compile(fields, line):
    with pytest.raises(ConfigError, match=line):
        validation.validate(config_of(**fields), here=False)

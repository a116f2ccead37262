"""The flags of launch.sample become fields of config.sampler: those that are given, and no others."""
import subprocess
import sys

import pytest

PROBE = """
import sys
from launch import door, drawing, sample
door.parse(["sample", "--prompt=a", *sys.argv[1:]])
print(drawing.options(**sample.changes())["changes"])
"""


@pytest.mark.parametrize("flags, want", [
    ([], {}),
    (["--grid=karras", "--rescale=0.7", "--interval=0.2,0.9", "--zero_star", "--zero_steps=1", "--eta=0",
      "--guidance_known=2"],
     {"grid": "karras", "eta": 0.0, "rescale": 0.7, "interval": (0.2, 0.9), "zero_star": True, "zero_steps": 1,
      "guidance_known": 2.0}),
    (["--lag=2", "--known_noise=0.1", "--interpolate"], {"interpolate": True, "known_noise": 0.1, "lag": 2}),
])
def test_flags_become_fields(flags, want):
    out = subprocess.run([sys.executable, "-c", PROBE, *flags], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == str(want)

"""The flags of launch.sample become fields of config.sampler: those that are given, and no others."""
import subprocess
import sys

import pytest

PROBE = """
import sys
from launch import door, sample
door.parse(["sample", "--prompt=a", *sys.argv[1:]])
print(sample.changes())
"""


@pytest.mark.parametrize("flags, want", [
    ([], {}),
    (["--grid=karras", "--rescale=0.7", "--interval=0.2,0.9", "--zero_star", "--zero_steps=1", "--eta=0",
      "--guidance_known=2"],
     {"grid": "karras", "eta": 0.0, "rescale": 0.7, "interval": (0.2, 0.9), "zero_star": True, "zero_steps": 1,
      "guidance_known": 2.0}),
])
def test_flags_become_fields(flags, want):
    out = subprocess.run([sys.executable, "-c", PROBE, *flags], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == str(want)

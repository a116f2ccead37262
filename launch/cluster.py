"""Text for systems that start processes: Slurm job arrays, Kubernetes JobSets for TPU slices, xpk commands.

Each process is one command of `launch.sweep --only`; claims in the shared folder make it safe to start a command twice.
"""
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

ARRAY = """#!/bin/bash
#SBATCH --job-name={name}
#SBATCH --array=1-{count}
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output={folder}/%a.log
{options}
cd {root}
command=$(sed -n "${{SLURM_ARRAY_TASK_ID}}p" <<'COMMANDS'
{commands}
COMMANDS
)
exec bash -c "exec ${{command:?no command of that number}}"
"""

JOBSET = """apiVersion: jobset.x-k8s.io/v1alpha2
kind: JobSet
metadata:
  name: {name}-{index}
spec:
  failurePolicy: {{maxRestarts: 3}}
  replicatedJobs:
    - name: run
      template:
        spec:
          backoffLimit: 0
          completions: 1
          parallelism: 1
          template:
            spec:
              restartPolicy: Never
              nodeSelector:
                cloud.google.com/gke-tpu-accelerator: tpu-v5-lite-podslice
                cloud.google.com/gke-tpu-topology: 2x2
              containers:
                - name: train
                  image: IMAGE
                  command: ["bash", "-c", {command}]
                  resources: {{limits: {{google.com/tpu: 4}}}}
                  volumeMounts: [{{name: runs, mountPath: /runs}}]
              volumes: [{{name: runs, persistentVolumeClaim: {{claimName: runs}}}}]"""


def command(experiment: str, root: Path, run: str, python: str = sys.executable) -> str:
    """The command of one run."""
    return shlex.join([python, "-m", "launch.sweep", f"--experiment={experiment}", f"--only={run}",
                       f"--workdir={root}"])


def slurm(experiment: str, root: Path, commands: list[str], options: str) -> str:
    """Writes the array, with its commands in it, under `root`/slurm and submits it; returns what was done. Without
    sbatch it is left for a machine that has one. Raises InputError with what sbatch says."""
    from sora_jax.types import InputError

    if not commands:
        return "every run is recorded; nothing to submit"
    folder = (root / "slurm").absolute()
    folder.mkdir(parents=True, exist_ok=True)
    lines = "\n".join(f"#SBATCH {option}" for option in shlex.split(options))
    script = ARRAY.format(name=experiment, count=len(commands), folder=folder, options=lines,
                          root=shlex.quote(str(ROOT)), commands="\n".join(commands))
    (folder / "array.sbatch").write_text(script)
    if shutil.which("sbatch") is None:
        return f"no sbatch here; on a machine of the cluster: sbatch {folder / 'array.sbatch'}"
    done = subprocess.run(["sbatch", str(folder / "array.sbatch")], capture_output=True, text=True, env=os.environ)
    if done.returncode:
        raise InputError(f"sbatch refused {folder / 'array.sbatch'}: {(done.stderr or done.stdout).strip()}")
    return done.stdout.strip()


def jobset(experiment: str, commands: list[str]) -> str:
    """One JobSet for each run. The image, the slice and the volume claim are yours to fill in."""
    name = experiment.replace("_", "-")
    return "\n---\n".join(JOBSET.format(name=name, index=index, command=_quoted(line))
                          for index, line in enumerate(commands))


def xpk(experiment: str, commands: list[str]) -> str:
    """One `xpk workload create` for each run. The cluster and the image are yours to fill in."""
    name = experiment.replace("_", "-")
    return "\n".join(f"xpk workload create --cluster=CLUSTER --tpu-type=v5litepod-4 --num-slices=1 "
                     f"--docker-image=IMAGE --workload={name}-{index} --command={shlex.quote(line)}"
                     for index, line in enumerate(commands))


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


MAKERS = {"jobset": jobset, "xpk": xpk}

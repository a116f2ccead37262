"""Prints what a run costs before anything is compiled: parameters, FLOPs, tokens, updates, bytes per device, hours.

    python -m launch.plan --config=configs/dit.py:w64d4 --config.train.clips=100000 --flops-per-second=1e11
    python -m launch.plan --config=configs/dit.py:w64d4 --measure=20   (does 20 updates here: true hours and bytes)
    python -m launch.plan --config=configs/dit.py:3B --config.mesh.data=4 --config.mesh.fsdp=64 \\
        --config.train.batch=256 --flops-per-second=1e17 --price=2
    python -m launch.plan --experiment=001_first_curve --flops-per-second=8e10
    python -m launch.plan --estimate                                      (a minute of video, in tokens and money)

The mesh need not exist here. FLOPs count 2 per multiply-add; the term that grows with the square of the tokens has its
own line.
"""
from absl import flags

from launch import door, studies

CONFIG = door.define_config(required=False)
EXPERIMENT = flags.DEFINE_string("experiment", "", "plan every run of this experiment instead of one config")
RATE = flags.DEFINE_float("flops_per_second", None, "sustained model FLOPs per second of all devices together; "
                          "adds the hours of the run", lower_bound=1.0)
PRICE = flags.DEFINE_float("price", None, "dollars an hour of one device; adds the cost of the run", lower_bound=0.0)
MEASURE = flags.DEFINE_integer("measure", 0, "updates to do here, to measure seconds and bytes", lower_bound=0)
ESTIMATE = flags.DEFINE_boolean("estimate", False, "print what a minute of generated video costs, and stop")


def run() -> None:
    """The door."""
    from sora_jax import costs
    from sora_jax.types import ConfigError

    if ESTIMATE.value:
        from sora_jax.scaling import estimates

        print(estimates.table())
    elif EXPERIMENT.value:
        print(sweep(studies.configs(studies.find(EXPERIMENT.value))))
    elif CONFIG.value is None:
        raise ConfigError("give --config=FILE, --experiment=NAME or --estimate")
    else:
        budget = costs.budget(CONFIG.value)
        print(budget.table(RATE.value))
        rate = measured(CONFIG.value) if MEASURE.value else RATE.value
        if PRICE.value is not None and rate:
            hours = budget.hours(rate)
            print(f"  {'cost':26}{f'${hours * budget.devices * PRICE.value:,.2f}':>16}   {budget.devices} devices at "
                  f"${PRICE.value:g} an hour")


def sweep(configs: list) -> str:
    """One line a run, and the sum."""
    from sora_jax import costs

    budgets = [costs.budget(config) for config in configs]
    rows = [f"{'run':20}{'n_core':>14}{'n_total':>14}{'clips':>12}{'updates':>10}{'FLOPs':>11}{'hours':>9}"]
    for name, budget in zip([config.name for config in configs], budgets, strict=True):
        hours = f"{budget.hours(RATE.value):9.2f}" if RATE.value else ""
        rows.append(f"{name:20}{budget.n_core:14,}{budget.n_total:14,}{budget.clips:12,}{budget.updates:10,}"
                    f"{budget.flops:11.3g}{hours}")
    total = sum(budget.flops for budget in budgets)
    hours = f"{total / RATE.value / 3600:9.2f}" if RATE.value else ""
    return "\n".join([*rows, f"{'all':70}{total:11.3g}{hours}"])


def measured(config) -> float:
    """Does some updates here, prints what they took, and returns FLOPs per second."""
    from sora_jax import measure

    found = measure.run(config, MEASURE.value)
    gap = found.planned_bytes / found.bytes - 1
    print(f"measured here, {MEASURE.value} updates\n"
          f"  {'seconds per update':26}{found.seconds:16.4g}\n"
          f"  {'FLOPs per second':26}{found.flops_per_second:16.4g}\n"
          f"  {'hours of the run':26}{found.hours:16.4g}\n"
          f"  {'bytes on a device':26}{found.bytes / 2**20:12.4g} MiB   planned {found.planned_bytes / 2**20:.4g} MiB, "
          f"{100 * gap:+.1f} %")
    return found.flops_per_second


if __name__ == "__main__":
    door.main(run)

"""Foreign folders of weights, one file per layout; `sora_jax.bridge` reads and writes them.

A layout has NAME, TITLE (the foreign class), WEIGHTS (its file), MODEL (on our shelf), PRESET (the file of configs
whose run it makes, "" for a model that is no run), FIXED (fields of config.json with the values allowed, the first one
if absent), and functions: knows, read, constants, accepted, table, write; to_run and from_run if it makes runs;
completed if config.json leaves open what the names of the weights say.
"""

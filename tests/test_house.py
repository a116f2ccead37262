"""The house keeps its rules: who imports whom, how long a file is, what things are called, what a shelf exports."""
import ast
import dataclasses
import inspect
import re
from fnmatch import fnmatchcase as fits
from pathlib import Path

import jax
import pytest
from flax import nnx

from sora_jax import registry

ROOT = Path(__file__).resolve().parents[1]
OURS = ("sora_jax", "configs", "launch", "experiments")
FILES, LONGEST_FILE, LONGEST_FUNCTION = (*OURS, "tests"), 300, 60
HEAVY = ("sora_jax", "jax", "flax", "numpy")
BANNED_FILES = {"utils", "util", "common", "helpers", "helper", "misc", "core"}
BANNED_SUFFIXES = ("Manager", "Handler", "Wrapper", "Helper")
READS_CONFIGS = {"sora_jax/build.py", "sora_jax/pipeline.py"}
A_TABLE = {"configs/base.py": "get_config"}  # every field with its default: a list, not a procedure

ASSEMBLED = ("types registry lora mesh disk page video video.* loader weights report collate generate build sources "
             "validation costs checkpoint lease sweeping board measure study pipeline encoding judge streaming tiling "
             "bridge packing preflight rows layouts layouts.* captions states provenance torch_file pretrained "
             "appraise coder reconstructing adapted adapter_file scaling.* train.* datasets.* evals.* tasks editing "
             "referee")

# A file (the first pattern that fits) may import these files of ours, and no others.
LAYERS = {
    # 0 vocabulary
    "sora_jax.types": "",
    "sora_jax.registry": "types",
    # 1 theory: arrays, numbers, bytes; each folder on its own
    "sora_jax.nn.*": "types nn.*",
    "sora_jax.diffusion.*": "types diffusion.*",
    "sora_jax.video*": "types video.*",
    "sora_jax.worlds.*": "types worlds.*",
    "sora_jax.scaling.*": "types scaling.*",
    "sora_jax.mesh": "types nn.axes",
    "sora_jax.disk": "types",
    "sora_jax.torch_file": "types",
    "sora_jax.rows": "types",
    "sora_jax.tasks": "types",
    "sora_jax.layouts*": "types rows layouts.*",
    "sora_jax.page": "types disk",
    "sora_jax.lease": "types disk",
    "sora_jax.coder": "types video",
    "sora_jax.tiling": "types coder",
    "sora_jax.streaming": "types coder",
    "sora_jax.states": "types disk",
    "sora_jax.provenance": "types states",
    "sora_jax.sweeping": "types lease disk",
    "sora_jax.board": "types lease page",
    # 2 shelves: never one another
    "sora_jax.models.*": "types nn.*",
    "sora_jax.objectives.*": "types diffusion.*",
    "sora_jax.samplers.*": "types diffusion.*",
    "sora_jax.datasets.latents": "types states",
    "sora_jax.datasets.*": "types video video.* worlds.*",
    "sora_jax.evals.*": "types video video.* worlds.*",
    # 3 machinery: knows arrays and states, no model and no config
    "sora_jax.train.state": "types mesh",
    "sora_jax.train.widths": "types",
    "sora_jax.train.optimizer": "types mesh train.state train.widths",
    "sora_jax.train.ema": "types mesh train.state",
    "sora_jax.train.step": "types mesh train.state",
    "sora_jax.loader": "types mesh",
    "sora_jax.lora": "types nn.linear nn.low_rank",
    "sora_jax.weights": "types mesh disk",
    "sora_jax.report": "types mesh disk page",
    "sora_jax.collate": "types",
    "sora_jax.packing": "types nn.patch",
    # 4 assembly: models, objectives and samplers only through the registry; never the doors
    "sora_jax.generate": "types diffusion.*",
    "sora_jax*": f"{ASSEMBLED} diffusion.* worlds.*",
    # outside
    "configs*": "configs configs.*",
    "experiments*": "configs configs.* scaling.*",
    "launch*": f"{ASSEMBLED} configs configs.* launch launch.* experiments.*",
}
# Libraries that a folder does without.
WITHOUT = {
    "sora_jax.types": "flax optax orbax", "sora_jax.diffusion.*": "flax optax", "sora_jax.samplers.*": "flax optax",
    "sora_jax.objectives.*": "flax optax", "sora_jax.datasets.*": "flax optax", "sora_jax.worlds.*": "flax optax",
    "sora_jax.scaling.*": "jax flax optax", "sora_jax.*": "absl tensorflow torch", "configs*": "jax numpy flax absl",
}


def module_of(path: Path, root: Path = ROOT) -> str:
    """`sora_jax/nn/conv.py` is `sora_jax.nn.conv`; a package is its folder."""
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(source: str, module: str) -> set[str]:
    """Every name that a file imports, at its top or inside a function, in full."""
    found, package = set(), module.split(".")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level] if node.level else []
            start = ".".join([*base, *([node.module] if node.module else [])])
            found |= {f"{start}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "import_module":
            found |= {a.value for a in node.args if isinstance(a, ast.Constant)}
    return found


def trespasses(root: Path = ROOT) -> list[str]:
    """One line for each import that the tables forbid."""
    paths = [path for top in OURS for path in sorted((root / top).rglob("*.py"))]
    modules, lines = {module_of(path, root) for path in paths}, []
    for path in paths:
        module = module_of(path, root)
        rule = next(names for pattern, names in LAYERS.items() if fits(module, pattern))
        allowed = [name if name.split(".")[0] in OURS else f"sora_jax.{name}" for name in rule.split()]
        banned = {name for pattern, names in WITHOUT.items() if fits(module, pattern) for name in names.split()}
        for name in sorted(imports(path.read_text(), module)):
            if name.split(".")[0] in OURS:
                target = name if name in modules else name.rpartition(".")[0]
                if target == "sora_jax" or not any(fits(target, pattern) for pattern in allowed):
                    lines.append(f"{module} imports {name}; it may import: {rule or 'nothing of ours'}")
            elif name.split(".")[0] in banned:
                lines.append(f"{module} imports {name}; its folder does without {', '.join(sorted(banned))}")
    return lines


def test_nobody_walks_back_through_a_room():
    assert not trespasses(), "\n".join(trespasses())


@pytest.mark.parametrize("module, line", [
    ("sora_jax.objectives.flow", "from sora_jax.objectives import vae"),
    ("sora_jax.objectives.flow", "from . import vae"),
    ("sora_jax.models.dit", "import sora_jax.models.text as text"),
    ("sora_jax.models.dit", "def f():\n    from sora_jax.models.text import build"),
    ("sora_jax.samplers.euler", "from sora_jax.models import dit"),
    ("sora_jax.evals.loss", "from sora_jax import build"),
    ("sora_jax.train.loop", "import importlib\nimportlib.import_module('configs.base')"),
    ("sora_jax.train.loop", "from sora_jax.models import dit"),
    ("sora_jax.build", "from launch import door"),
    ("sora_jax.nn.conv", "from sora_jax.diffusion import path"),
    ("sora_jax.scaling.fit", "import jax.numpy as jnp"),
    ("sora_jax.weights", "from sora_jax import checkpoint"),
    ("configs.dit", "from sora_jax.types import Batch"),
    ("experiments.001_a.sweep", "from sora_jax import build"),
])
def test_a_trespass_is_seen(tmp_path, module, line):
    for name in ("types", "build", "checkpoint", "models.dit", "models.text", "objectives.vae", "diffusion.path"):
        path = tmp_path / "sora_jax" / f"{name.replace('.', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    planted = tmp_path / f"{module.replace('.', '/')}.py"
    planted.parent.mkdir(parents=True, exist_ok=True)
    planted.write_text(f'"""Planted."""\n{line}\n')
    found = trespasses(tmp_path)
    assert len(found) == 1 and found[0].startswith(f"{module} imports"), found


def test_the_doors_are_light():
    """`--help` must not wait for jax: a door imports the package inside its functions."""
    heavy = []
    for path in sorted((ROOT / "launch").glob("*.py")):
        top = ast.Module([node for node in ast.parse(path.read_text()).body
                          if not isinstance(node, ast.FunctionDef | ast.ClassDef)], [])
        names = imports(ast.unparse(top), module_of(path))
        heavy += [f"{path.name}: {name}" for name in names if name.split(".")[0] in HEAVY]
    assert not heavy, heavy


def sources(*tops: str) -> dict[str, str]:
    paths = [path for top in tops or FILES for path in sorted((ROOT / top).rglob("*.py"))]
    return {str(path.relative_to(ROOT)): path.read_text() for path in paths}


def functions(text: str) -> list[tuple[str, int]]:
    """(name, lines) of every function of a file."""
    return [(node.name, node.end_lineno - node.lineno + 1) for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def test_files_and_functions_are_short():
    long = [f"{name}: {len(text.splitlines())} lines" for name, text in sources().items()
            if len(text.splitlines()) > LONGEST_FILE]
    long += [f"{name}: {function} has {size} lines" for name, text in sources().items()
             for function, size in functions(text) if size > LONGEST_FUNCTION and A_TABLE.get(name) != function]
    assert not long, "\n".join(long)


def test_names_say_what_a_thing_is():
    bad = [str(path) for top in FILES for path in (ROOT / top).rglob("*") if path.stem in BANNED_FILES]
    bad += [f"{name}: {node.name}" for name, text in sources().items() for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.ClassDef) and node.name.endswith(BANNED_SUFFIXES)]
    assert not bad, bad


def test_nothing_is_left_for_later_and_annotations_are_real():
    marks = re.compile("TO" + r"DO|FIX" + r"ME|X" + r"XX\b|from __future__ import anno" + "tations")
    bad = [f"{name}: {found.group()}" for name, text in sources().items() for found in marks.finditer(text)]
    assert not bad, bad


def test_one_file_reads_configs():
    makers = {name for name, text in sources("sora_jax").items() if "ConfigDict(" in text}
    assert makers == READS_CONFIGS, f"only {READS_CONFIGS} make ConfigDicts, found {makers}"


def test_every_file_and_public_function_is_documented():
    bare = []
    for name, text in sources("sora_jax", "configs", "launch").items():
        tree = ast.parse(text)
        lines = (ast.get_docstring(tree) or "").splitlines()
        if tree.body and not 1 <= len(lines) <= (6 if name.startswith("sora_jax") else 12):
            bare.append(f"{name}: a module docstring of {len(lines)} lines")
        bare += [f"{name}: {node.name} has no docstring" for node in tree.body
                 if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name[0] != "_"
                 and not ast.get_docstring(node)]
    assert not bare, "\n".join(bare)


SHELVES = [(shelf, name) for shelf in registry.SHELVES for name in registry.names(shelf)]


def frozen(cls) -> bool:
    """A dataclass that cannot change."""
    return dataclasses.is_dataclass(cls) and cls.__dataclass_params__.frozen


def check_models(module):
    assert frozen(module.Config) and callable(module.flops) and module.Config() == module.Config()
    assert "rngs" in inspect.signature(module.build).parameters
    if "text_encoder" not in inspect.signature(module.build).parameters:
        made = nnx.eval_shape(lambda: module.build(module.Config(), rngs=nnx.Rngs(0)))
        assert jax.tree.leaves(nnx.state(made, nnx.Param)) and not jax.tree.leaves(nnx.split(made, nnx.Param, ...)[2])


def check_objectives(module):
    assert frozen(module.Objective) and module.Objective() == module.Objective()
    assert list(inspect.signature(module.Objective.loss).parameters) == ["self", "model", "batch", "key"]
    if hasattr(module.Objective, "errors"):
        assert list(inspect.signature(module.Objective.errors).parameters) == ["self", "model", "batch", "t", "eps"]
        assert module.Objective().path and module.Objective().kind


def check_samplers(module):
    names = list(inspect.signature(module.sample).parameters)
    assert names[:6] == ["denoise", "xt", "times", "path", "key", "hold"]


def check_datasets(module):
    assert frozen(module.Config) and list(inspect.signature(module.source).parameters) == ["config"]


def check_evals(module):
    public = [f for name, f in vars(module).items() if inspect.isfunction(f) and f.__module__ == module.__name__
              and name[0] != "_"]
    assert public and all(inspect.getdoc(f) for f in public)


@pytest.mark.parametrize("shelf, name", SHELVES)
def test_a_shelf_file_keeps_its_contract(shelf, name):
    module = registry.load(shelf, name)
    assert module.__doc__
    globals()[f"check_{shelf}"](module)


def test_an_unknown_name_gets_the_nearest():
    with pytest.raises(registry.ConfigError, match="objectives has no 'flw'; did you mean 'flow'"):
        registry.load("objectives", "flw")
    with pytest.raises(registry.ConfigError, match="no shelf named 'lamps'"):
        registry.load("lamps", "flow")

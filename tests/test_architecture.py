"""Who may import whom in the package, read from the source: the layers of the design hold.

`violations` gets a mapping of module names to sources, so that each rule can be shown to fail.
"""

import ast
import functools
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "minit2i"

# From the ground up: a module imports from groups before its own, or from its own group.
GROUPS = {
    "ground": ("text", "checkpoint", "parallel", "picture", "batches", "muon"),
    "mathematics": ("schedule", "condition", "diffusion", "sample", "guide"),
    "networks": ("layers", "mlp", "unet", "transformer", "text_encoder"),
    "language and codes": ("clip", "dvae", "language"),
    "systems": ("systems", "cascade"),
    "families": ("families",),
    "worlds": ("worlds",),
    "around": (
        "train", "runs", "evaluate", "benchmark", "figures", "findings", "recipes",
        "plot", "doctor", "checks", "coursework", "cli", "__main__", "__init__",
    ),
}  # fmt: skip
LEVEL = {part: level for level, group in enumerate(GROUPS.values()) for part in group}
# Parts of the package that only these others may import.
ONLY_BY = {
    "systems": {"systems", "cascade", "cli", "evaluate", "figures", "findings", "recipes"},
    "plot": {"cli"},
    "checks": {"checks", "coursework", "cli"},
    "coursework": {"coursework", "cli"},
    "cli": {"__main__"},
}
# Between a prompt and its picture nothing knows the captioned world: no system parses its prompt or
# judges its pictures, whatever it imports on the way, nor does the command line on its behalf.
BLIND = {"text_encoder", "systems", "cascade"}
JUDGE = "minit2i.worlds.scenes"
PICKLES = {"pickle", "cPickle", "dill", "cloudpickle", "shelve", "joblib", "marshal"}


def sources():
    """Module name (minit2i.worlds.plane) to source, for the whole package."""
    result = {}
    for path in PACKAGE.rglob("*.py"):
        parts = ("minit2i", *path.relative_to(PACKAGE).with_suffix("").parts)
        result[".".join(parts).removesuffix(".__init__")] = path.read_text(encoding="utf-8")
    return result


def part(module):
    """The part of the package that a module belongs to: worlds for minit2i.worlds.plane."""
    return [*module.split("."), "__init__"][1]


@functools.cache
def nodes(source):
    """The syntax tree of a source, itself first, as a tuple: most are asked for many times."""
    return tuple(ast.walk(ast.parse(source)))


def imported(module, source, modules):
    """Names of what `module` imports, also inside functions: of modules if they are ours."""
    package = module if any(other.startswith(module + ".") for other in modules) else None
    package = package or module.rpartition(".")[0]
    for node in nodes(source):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.rsplit(".", node.level - 1)[0] if node.level > 0 else ""
            base = ".".join(name for name in (base, node.module) if name)
            for alias in node.names:
                name = f"{base}.{alias.name}"
                yield name if name in modules else base


def violations(modules):
    """All breaches of the rules; none: []."""
    found, graph = [], {}
    for module, source in sorted(modules.items()):
        mine = part(module)
        graph[module] = set()
        if mine not in LEVEL:
            found.append(f"{module} has no place in the layers")
            continue
        for name in imported(module, source, modules):
            if name.split(".")[0] in PICKLES:
                found.append(f"{module} imports {name}, which runs code from files")
            if name.split(".")[0] != "minit2i" or name == module:
                continue
            if name in modules and name != "minit2i":
                graph[module].add(name)
            theirs = part(name)
            if LEVEL.get(theirs, 0) > LEVEL[mine]:
                found.append(f"{module} imports {name}, which stands above it")
            if mine not in ONLY_BY.get(theirs, {mine}):
                found.append(f"{module} imports {name}, which only {ONLY_BY[theirs]} may")
            if mine == "train" and theirs not in ("train", "__init__", *GROUPS["ground"]):
                found.append(f"{module} imports {name}: the loop knows no model")
            if mine == "cli" and is_judge(name):
                found.append(f"{module} imports {name}: drawing knows no judge")
        found += [f"{module}: {breach}" for breach in unsafe_or_undocumented(source)]
    for module in (module for module in graph if part(module) in BLIND):
        for name in sorted(filter(is_judge, reached(module, graph))):
            found.append(f"{module} reaches {name}: drawing knows no judge")
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        found.append(f"circle of imports: {' <- '.join(error.args[1])}")
    return found


def is_judge(name):
    """Whether a module is the captioned world or one of its parts."""
    return f"{name}.".startswith(f"{JUDGE}.")


def reached(module, graph):
    """All that a module imports, directly or not."""
    found, new = set(), {module}
    while new:
        found |= new
        new = set().union(*(graph.get(name, ()) for name in new)) - found
    return found - {module}


def unsafe_or_undocumented(source):
    """Calls that unpickle; public modules, classes and functions without a docstring."""
    tree, *_ = nodes(source)
    for node in nodes(source):
        if isinstance(node, ast.Attribute) and node.attr in ("load", "save"):
            if ast.unparse(node.value) == "torch":
                yield f"{ast.unparse(node)} in line {node.lineno}: weights are safetensors"
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            yield f"allow_pickle in line {node.value.lineno}"
    if source.strip() and not ast.get_docstring(tree):
        yield "no docstring"
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            if not ast.get_docstring(node):
                yield f"{node.name} has no docstring"


def test_the_layers_of_the_package_hold():
    modules = sources()
    assert {"minit2i.schedule", "minit2i.worlds.plane", "minit2i.checks"} <= modules.keys()
    found = violations(modules)
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "module, line, words",
    [
        ("schedule", "from minit2i.mlp import MLP", "stands above it"),
        ("schedule", "from .mlp import MLP", "stands above it"),
        ("worlds.plane", "from .. import evaluate", "stands above it"),
        ("mlp", "def later():\n    'Lazy.'\n    from . import train", "stands above it"),
        ("schedule", "from .sample import ddpm", "circle of imports: minit2i."),
        ("doctor", "from .systems import digits", "which only"),
        ("train", "from .plot import show", "which only"),
        ("evaluate", "from . import checks", "which only"),
        ("train", "from .schedule import linear", "the loop knows no model"),
        ("checks.forward", "from .. import plot", "which only"),
        ("checks.forward", "from ..cli import main", "which only"),
        (
            "systems.base",
            "from ..worlds.scenes import parse",
            "base reaches minit2i.worlds.scenes:",
        ),
        ("text_encoder", "from .worlds.scenes.reader import read", "drawing knows no judge"),
        ("guide", "from .worlds.scenes import satisfies", "systems.digits reaches minit2i.worlds"),
        ("cli", "def draw():\n    'Draws.'\n    from .worlds import scenes", "knows no judge"),
        ("cli", "import minit2i.worlds.scenes.judge", "drawing knows no judge"),
        ("gadgets", "", "has no place in the layers"),
        ("train", "import pickle", "runs code from files"),
        ("checkpoint", "import torch\ntorch.load('weights')", "torch.load in line"),
        ("checkpoint", "import numpy\nnumpy.load('w', allow_pickle=True)", "allow_pickle in line"),
        ("schedule", "def bare():\n    pass", "bare has no docstring"),
        ("schedule", "class Bare:\n    pass", "Bare has no docstring"),
    ],
)
def test_a_breach_is_noticed(module, line, words):
    modules, name = sources(), f"minit2i.{module}"
    modules[name] = f"{modules.get(name, '')}\n{line}\n"
    assert any(words in breach for breach in violations(modules))


def test_a_module_without_docstring_is_noticed():
    assert violations({"minit2i.schedule": "x = 1\n"}) == ["minit2i.schedule: no docstring"]


def test_drawing_does_not_wait_for_matplotlib():
    """`python -m minit2i draw` must answer within seconds: nothing it needs imports plot early."""
    modules = sources()
    eager = {
        name: [n for n in ast.parse(source).body if isinstance(n, ast.Import | ast.ImportFrom)]
        for name, source in modules.items()
    }
    for module, nodes in eager.items():
        if part(module) not in ("plot", "checks"):
            text = ast.unparse(ast.Module(nodes, []))
            assert "matplotlib" not in text and "plot" not in text.split(), module

"""Spaces as they should not be: whatever stands in the file, one sentence and exit code 2."""

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

if TYPE_CHECKING:
    from conftest import Mutants, Survives

SPACE = """\
name: small
description: a bit of everything
fixed:
  model.backbone: test_efficientnet
  model.weights: none
  train.epochs: 2
parameters:
  kind:
    choice:
      plain: {optimiser.name: adamw}
      other: {optimiser.name: adam}
    default: plain
  optimiser.lr: {log_uniform: [1.0e-4, 1.0e-2], default: 1.0e-3}
  loss.label_smoothing: {uniform: [0.0, 0.5], default: 0.1, when: {kind: {not: other}}}
  train.batch_size: {choice: [16, 32, 64], default: 32}
  train.head_epochs: {integer: [0, 2], default: 1, when: {train.batch_size: [16, 32]}}
points:
  - {kind: other}
  - {train.batch_size: 64, optimiser.lr: 1.0e-2}
"""

BOMB = "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9) or 'lol'}]\n" for i in range(1, 12)).replace("*a0", "lol")
CHAIN = "".join(
    f"  c{i}: {{choice: {{x: {{}}, y: {{}}, z: {{}}}}, default: x, when: {{c{i - 1}: [x, y, z]}}}}\n"
    for i in range(1, 30)
)
MANY = "".join(f"  c{i}: {{choice: {{x: {{}}, y: {{}}}}, default: x}}\n" for i in range(2000))


def _with(old: str, new: str) -> bytes:
    assert old in SPACE
    return SPACE.replace(old, new).encode()


def _lr(body: str) -> bytes:
    return _with("{log_uniform: [1.0e-4, 1.0e-2], default: 1.0e-3}", body)


CONTENTS: dict[str, bytes] = {
    "empty": b"",
    "blank lines": b"\n\n\n",
    "only a comment": b"# nothing\n",
    "a number": b"7",
    "a list": b"[1, 2]",
    "a text": b"core",
    "two documents": (SPACE + "---\n" + SPACE).encode(),
    "random bytes": random.Random(1).randbytes(4096),
    "utf-16": SPACE.encode("utf-16"),
    "latin-1": SPACE.replace("everything", "épreuve").encode("latin-1"),
    "zero bytes": SPACE.replace("small", "sm\0all").encode(),
    "tabs": SPACE.replace("  ", "\t").encode(),
    "ten megabytes": (SPACE + "#" + "x" * 10_000_000).encode(),
    "ten megabytes of points": (SPACE + "  - {kind: other}\n" * 600_000).encode(),
    "deep lists": b"fixed: " + b"[" * 100_000,
    "deep mappings": b"a: " + b"{a: " * 5000,
    "deep but legal": _with("train.epochs: 2", f"train.epochs: {'[' * 90}{']' * 90}"),
    "a bomb of aliases": BOMB.encode() + b"fixed: *a11\n",
    "a bomb in a value": BOMB.encode().replace(b"a1:", b"fixed: {train.epochs: *a11}\na1:", 1),
    "a bomb behind": (SPACE + "".join(f"      {line}\n" for line in BOMB.splitlines())).encode(),
    "a circle of aliases": b"fixed: &a {train.epochs: *a}\n",
    "a list in itself": _with("[16, 32, 64]", "&a [16, *a]"),
    "a name in itself": b"&a {fixed: *a}\n",
    "an unknown alias": _with("train.epochs: 2", "train.epochs: *nobody"),
    "a tag of python": _with("train.epochs: 2", "train.epochs: !!python/object/apply:os.system ['true']"),
    "a tag of nobody": _with("train.epochs: 2", "train.epochs: !mine 3"),
    "a bad timestamp": _with("train.epochs: 2", "train.epochs: !!timestamp soon"),
    "a good timestamp": _with("train.epochs: 2", "train.epochs: !!timestamp 2001-01-01"),
    "a bad truth": _with("train.epochs: 2", "train.epochs: !!bool maybe"),
    "a bad number": _with("train.epochs: 2", "train.epochs: !!int two"),
    "a bad float": _with("train.epochs: 2", "train.epochs: !!float two"),
    "bad base64": _with("train.epochs: 2", "train.epochs: !!binary '%%%'"),
    "bytes": _with("train.epochs: 2", "train.epochs: !!binary AAAA"),
    "a set": _with("[16, 32, 64]", "!!set {16, 32}"),
    "pairs": _with("[16, 32, 64]", "!!pairs [16: 1]"),
    "a merge with a number": _with("train.epochs: 2", "<<: 3"),
    "a value mark": _with("train.epochs: 2", "=: 3"),
    "a key twice": _with("train.epochs: 2", "train.epochs: 2\n  train.epochs: 3"),
    "a list as key": _with("train.epochs: 2", "? [1, 2]\n  : 3"),
    "null as key": _with("train.epochs: 2", "~: 3"),
    "nan as epochs": _with("train.epochs: 2", "train.epochs: .nan"),
    "infinite epochs": _with("train.epochs: 2", "train.epochs: .inf"),
    "huge epochs": _with("train.epochs: 2", f"train.epochs: 1{'0' * 400}"),
    "epochs of 5000 digits": _with("train.epochs: 2", f"train.epochs: {'9' * 5000}"),
    "minus zero": _with("train.epochs: 2", "train.epochs: -0.0"),
    "a long text": _with("train.epochs: 2", f"train.epochs: {'x' * 100_000}"),
    "a long list": _with("train.epochs: 2", f"train.epochs: [{', '.join(['1'] * 20_000)}]"),
    "a long name of a setting": _with("train.epochs: 2", f"train.{'x' * 100_000}: 2"),
    "a near miss": _with("train.epochs: 2", "train.epoch: 2"),
    "no such backbone": _with("test_efficientnet", "resnet_of_nobody"),
    "a backbone that climbs": _with("test_efficientnet", "../../etc/passwd"),
    "a backbone on the hub": _with("test_efficientnet", "hf-hub:nobody/nothing"),
    "weights that are not there": _with("model.weights: none", "model.weights: nothing.safetensors"),
    "weights with a zero byte": _with("model.weights: none", 'model.weights: "a\\0b"'),
    "weights of nobody's home": _with("model.weights: none", "model.weights: ~nobody_here/w"),
    "nan as an end": _lr("{log_uniform: [.nan, 1.0e-2], default: 1.0e-3}"),
    "an infinite end": _lr("{uniform: [0.0, .inf], default: 1.0e-3}"),
    "a huge end": _lr(f"{{uniform: [0.0, 1{'0' * 400}], default: 1.0e-3}}"),
    "ends the wrong way": _lr("{log_uniform: [1.0e-2, 1.0e-4], default: 1.0e-3}"),
    "ends of text": _lr("{log_uniform: [low, high], default: 1.0e-3}"),
    "three ends": _lr("{log_uniform: [1, 2, 3], default: 1}"),
    "zero in a log": _lr("{log_uniform: [0, 1], default: 1.0e-3}"),
    "nan as default": _lr("{log_uniform: [1.0e-4, 1.0e-2], default: .nan}"),
    "nan as an option": _lr("{choice: [.nan, 1.0e-3], default: .nan}"),
    "two domains": _lr("{uniform: [0, 1], choice: [1], default: 1}"),
    "no domain": _lr("{default: 1}"),
    "a domain that is a list": _lr("[1, 2]"),
    "a domain that is nothing": _lr("~"),
    "options of lists": _lr("{choice: [[1, [2]], [3]], default: [3]}"),
    "options of mappings": _lr("{choice: [{a: 1}], default: 1}"),
    "10,000 options": _lr(f"{{choice: [{', '.join(f'{i}.0e-7' for i in range(1, 10_000))}], default: 1.0e-7}}"),
    "an empty choice": _lr("{choice: [], default: 1}"),
    "a condition on itself": _lr("{uniform: [0, 1], default: 1, when: {optimiser.lr: 1}}"),
    "a condition on a later one": _lr("{uniform: [0, 1], default: 1, when: {train.batch_size: 16}}"),
    "a condition of mappings": _lr("{uniform: [0, 1], default: 1, when: {kind: {not: {not: plain}}}}"),
    "a condition that is a list": _lr("{uniform: [0, 1], default: 1, when: [kind]}"),
    "a condition on nothing": _lr("{uniform: [0, 1], default: 1, when: {kind: []}}"),
    "a circle of conditions": (
        b"name: x\nparameters:\n"
        b"  a: {choice: {x: {}, y: {}}, default: x, when: {b: x}}\n"
        b"  b: {choice: {x: {}, y: {}}, default: x, when: {a: x}}\n"
    ),
    "conditions that can never hold": (
        "name: x\nparameters:\n  c0: {choice: {x: {}, y: {}, z: {}}, default: x}\n"
        + CHAIN
        + "  d: {choice: {x: {}, y: {}}, default: x, when: {c0: x, c29: z}}\n"
        + "  e: {choice: {x: {}, y: {}}, default: x, when: {d: x, c0: y}}\n"
    ).encode(),
    "thousands of parameters": f"name: x\nparameters:\n{MANY}".encode(),
    "points of text": _with("  - {kind: other}", "  - other"),
    "points that are a mapping": SPACE.encode().split(b"points")[0] + b"points: {kind: other}\n",
    "a point of nobody": _with("  - {kind: other}", "  - {sort: other}"),
    "a point that is not active": _with("  - {kind: other}", "  - {kind: other, loss.label_smoothing: 0.2}"),
    "a name that climbs": _with("name: small", "name: ../../x"),
    "a name of lists": _with("name: small", "name: [x]"),
    "a description of numbers": _with("a bit of everything", "7"),
    "an unknown part": SPACE.encode() + b"parametres: {}\n",
    "odd letters in a name": _with("  kind:", "  \u202ekind\u0301\U0001f600:"),
    "a lone surrogate": _with("a bit of everything", '"\\ud800"'),
    "fixed and varied": _with("train.epochs: 2", "optimiser.lr: 1.0e-3"),
}
"""Name of a case to what stands in the file."""

FINE: dict[str, bytes] = {
    "a byte order mark": b"\xef\xbb\xbf" + SPACE.encode(),
    "windows' line ends": SPACE.replace("\n", "\r\n").encode(),
    "anchors and merges": _with("train.epochs: 2", "<<: &more {train.epochs: 2}"),
    "odd letters in the description": _with("a bit of everything", "\u202e\u0301 \U0001f600 [bold]x[/] {y}"),
}
"""Odd, and right all the same."""

QUICK = {"a bomb in a value", "a circle of aliases", "a bad timestamp", "thousands of parameters"}
N_MUTANTS = 24
NASTY = (
    "[]",
    "{}",
    "~",
    ".nan",
    "-1",
    "1e999",
    '"\\0"',
    "*a",
    "&a",
    "!!set",
    "- x",
    ": :",
    "\t",
    "'",
    "%",
    "@",
    "\x85",
)


def _cases(names: dict[str, bytes]) -> list[object]:
    return [pytest.param(name, id=name, marks=() if name in QUICK else pytest.mark.faults) for name in names]


@pytest.mark.parametrize("name", _cases(CONTENTS))
def test_check_says_in_a_sentence_what_is_wrong_with_a_space(name: str, survives: "Survives", tmp_path: Path) -> None:
    file = tmp_path / "space.yaml"
    file.write_bytes(CONTENTS[name])

    answer = survives("spaces", "check", file, codes=(2,))

    assert answer.out == ""


@pytest.mark.parametrize("name", _cases(FINE))
def test_check_takes_an_odd_space(name: str, survives: "Survives", tmp_path: Path) -> None:
    file = tmp_path / "space.yaml"
    file.write_bytes(FINE[name])

    answer = survives("spaces", "check", file, codes=(0,))

    assert "the space is fine" in answer.out


@pytest.mark.faults
@pytest.mark.parametrize("seed", range(N_MUTANTS))
def test_check_judges_a_space_that_was_edited_blindly(seed: int, survives: "Survives", tmp_path: Path) -> None:
    file = tmp_path / "space.yaml"
    file.write_text(_mutant(seed), encoding="utf-8")

    survives("spaces", "check", file, "--json", codes=(0, 2))


@pytest.mark.parametrize(
    "put",
    [
        pytest.param(Path.mkdir, id="a folder"),
        pytest.param(os.mkfifo, id="a pipe that nobody writes to"),
        pytest.param(lambda path: path.symlink_to("/dev/zero"), id="a device"),
        pytest.param(lambda path: path.symlink_to(path), id="a link to itself"),
        pytest.param(lambda path: None, id="nothing"),
    ],
)
def test_check_takes_files_alone_for_a_space(put: Callable[[Path], None], survives: "Survives", tmp_path: Path) -> None:
    put(tmp_path / "space.yaml")

    answer = survives("spaces", "check", tmp_path / "space.yaml", codes=(2,))

    assert answer.sentence.startswith("space must be a preset or a YAML file, got ")


def _mutant(seed: int) -> str:
    draw = random.Random(seed)
    lines = SPACE.splitlines()
    for _ in range(draw.randint(1, 3)):
        place = draw.randrange(len(lines))
        line = lines[place]
        match draw.randrange(5):
            case 0:
                lines.pop(place)
            case 1:
                lines.insert(place, draw.choice(lines))
            case 2:
                lines[place] = "  " * draw.randrange(4) + line.strip()
            case 3:
                words = line.split(" ")
                words[draw.randrange(len(words))] = draw.choice(NASTY)
                lines[place] = " ".join(words)
            case _:
                cut = draw.randrange(len(line) + 1)
                lines[place] = line[:cut] + draw.choice(NASTY) + line[cut:]
    return "\n".join(lines) + "\n"


@pytest.mark.faults
def test_space_of_which_a_part_is_another_is_refused_or_taken(
    mutants: "Mutants", survives: "Survives", tmp_path: Path
) -> None:
    file = tmp_path / "space.yaml"
    for what, mutant in mutants(yaml.safe_load(SPACE), 100):
        print(what)
        file.write_text(yaml.safe_dump(mutant, sort_keys=False))
        answer = survives("spaces", "check", file, codes=(0, 1, 2))
        assert answer.code != 1 or "weights must be none, hub or a safetensors file that exists" in answer.sentence

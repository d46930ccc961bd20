"""Operators that damage values, tensors, text, bytes and archives; each says what it did.

All are harmless to the libraries that read these formats: nothing here is made to crash them.
"""

from __future__ import annotations

import copy
import io
import json
import math
import random
import tarfile
import zipfile
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

NUMBERS: tuple[Any, ...] = (
    *(0, 1, -1, 2, 3, 5, 7, 64, 1000, 4097, 10**6, 10**9, 2**31, 2**40, 2**63, 10**30, -(10**9)),
    *(4, 8, 16, 100, 256, 512, 4096, 2**14, 2**16, 384_000),  # what some field may allow
    *(0.5, -0.5, 1e-30, 1e300, math.inf, -math.inf, math.nan, 16000.0),
)
OTHERS: tuple[Any, ...] = (
    *(None, True, False, "", "x", "16000", "???", "${nowhere}", "x" * 100_000),
    "two\nlines \x1b[31mand a colour\x00",
    *([], {}, [[]], [None], [0], [1, 2, 3], ["x"], [-1, -1], [[70, 13]], {"a": 1}),
)
MOST = 8  # entries of a long list that may be damaged


def damaged_values(values: Any, rng: random.Random) -> tuple[Any, str]:
    """A copy of plain values with one thing wrong, sometimes two or three."""
    values, what = _once_damaged(values, rng)
    while rng.random() < 0.3:
        values, more = _once_damaged(values, rng)
        what = f"{what}; {more}"
    return values, what


def _once_damaged(values: Any, rng: random.Random) -> tuple[Any, str]:
    values = copy.deepcopy(values)
    places = list(_places(values))
    if not places:
        return rng.choice(OTHERS), "the root replaced"
    holder, key, name = rng.choice(places)
    before = holder[key]
    match rng.randrange(10):
        case 0 if isinstance(holder, dict):
            del holder[key]
            return values, f"{name} removed"
        case 1 if isinstance(holder, dict):
            added = rng.choice(["surprise", f"{key}s", "a\nb", "x" * 50_000, "model", "__class__"])
            holder[added] = rng.choice([*NUMBERS, *OTHERS])
            return values, f"{added[:20]!r} added beside {name}"
        case 2:
            depth = rng.choice([1, 3, 30, 300])
            for _ in range(depth):
                holder[key] = {"deep": holder[key]} if rng.random() < 0.5 else [holder[key]]
            return values, f"{name} nested {depth} deep"
        case 3:
            _, other, told = rng.choice(places)
            if other in holder if isinstance(holder, dict) else False:
                holder[key], holder[other] = holder[other], holder[key]
                return values, f"{name} and {told} swapped"
    numeric = isinstance(before, int | float) and not isinstance(before, bool)
    holder[key] = rng.choice(NUMBERS if numeric and rng.random() < 0.7 else (*NUMBERS, *OTHERS))
    return values, f"{name} := {str(holder[key])[:40]!r}"


def _places(node: Any, name: str = "") -> Any:
    if isinstance(node, dict):
        for key, value in list(node.items()):
            below = (f"{name}.{key}" if name else str(key))[-60:]
            yield node, key, below
            yield from _places(value, below)
    elif isinstance(node, list):
        for number, value in enumerate(node[:MOST]):
            yield node, number, f"{name}.{number}"
            yield from _places(value, f"{name}.{number}")


def damaged_tensors(
    state: Mapping[str, Any], rng: random.Random, *, pickled: bool
) -> tuple[dict[str, Any], str]:
    """A copy of a state dict with one tensor wrong; some wrongs only a pickle can say."""
    state = dict(state)
    names = sorted(state)
    name = rng.choice(names)
    value: Tensor = state[name]
    kinds = [
        *("drop", "rename", "extra", "swap", "dtype", "dtype", "dtype", "nan", "inf", "huge"),
        *("empty", "flat", "deeper", "shorter", "scalar", "all dropped"),
    ]
    if pickled:
        kinds += ["sparse", "meta", "quantised", "expanded", "object", "number key", "nested"]
    kind = rng.choice(kinds)
    match kind:
        case "drop":
            del state[name]
        case "all dropped":
            state = {}
        case "rename":
            changed = [name + "x", "model." + name, "x" * 60_000, "a\nb", "", "encoder.layers.99.x"]
            state[rng.choice(changed)] = state.pop(name)
        case "extra":
            state[rng.choice(["surprise", "encoder.layers.7.norm_out.weight"])] = torch.ones(2)
        case "swap":
            other = rng.choice(names)
            state[name], state[other] = state[other], state[name]
        case "dtype":
            dtype = rng.choice(
                [
                    *(torch.int8, torch.uint8, torch.bool, torch.int64, torch.float16),
                    *(torch.bfloat16, torch.float64, torch.complex64, torch.float8_e4m3fn),
                ]
            )
            some = names if rng.random() < 0.3 else [name]
            if dtype == torch.complex64 and not pickled:
                dtype = torch.int16
            state.update({key: state[key].to(dtype) for key in some})
            kind = f"{dtype} in {len(some)}"
        case "nan" | "inf" | "huge":
            changed_value = value.double().clone() if value.is_floating_point() else value.double()
            changed_value.view(-1)[:1] = {"nan": math.nan, "inf": math.inf, "huge": 1e38}[kind]
            state[name] = changed_value.float()
        case "empty":
            state[name] = value[:0] if value.ndim else torch.empty(0)
        case "flat":
            state[name] = value.reshape(-1).clone()
        case "deeper":
            state[name] = value[None].clone()
        case "shorter":
            state[name] = value[1:].clone() if value.ndim and len(value) else value[None].clone()
        case "scalar":
            state[name] = torch.tensor(1.0)
        case "sparse":
            state[name] = value.float().to_sparse()
        case "meta":
            state[name] = value.to("meta")
        case "quantised":
            state[name] = torch.quantize_per_tensor(value.float(), 0.1, 0, torch.qint8)
        case "expanded":
            state[name] = torch.ones(1).expand(rng.choice([10**9, 2]))
        case "object":
            state[name] = rng.choice([1, "x", None, [1, 2], {"a": value}])
        case "number key":
            state[7] = state.pop(name)  # type: ignore[index]
        case "nested":
            state = {"state_dict": state}
    return state, f"tensor {name}: {kind}"


def damaged_bytes(content: bytes, rng: random.Random) -> tuple[bytes, str]:
    """Bytes flipped, cut off, taken out, doubled or put in front."""
    if not content:
        return b"x", "a byte added"
    at = rng.randrange(len(content))
    if rng.random() < 0.5:
        at = min(at, rng.randrange(600))
    match rng.randrange(6):
        case 0:
            return content[:at], f"cut at {at}"
        case 1:
            return content[:at] + content[at + rng.choice([1, 4, 512]) :], f"bytes out at {at}"
        case 2:
            return content[:at] + content[at : at + 512] + content[at:], f"bytes doubled at {at}"
        case 3:
            return rng.choice([b"", b"\0" * 64, b"PK\3\4", b"\x1f\x8b\x08"]), "all replaced"
        case _:
            count = rng.choice([1, 1, 8])
            changed = bytearray(content)
            for place in range(at, min(at + count, len(changed))):
                changed[place] = rng.randrange(256)
            return bytes(changed), f"{count} bytes wrong at {at}"


def damaged_text(text: str, rng: random.Random) -> tuple[bytes, str]:
    """Lines of text cut, joined, doubled, nested or made of other characters."""
    lines = text.splitlines()
    at = rng.randrange(len(lines))
    line = lines[at]
    match rng.randrange(8):
        case 0:
            lines[at] = line[: rng.randrange(len(line) + 1)]
        case 1:
            lines[at] = line + line
        case 2:
            lines[at] = "[" * rng.choice([10, 5000])
        case 3:
            lines[at] = line.replace('"', rng.choice(["'", "", '\\"']))
        case 4:
            lines[at] = line.replace(":", rng.choice(["", "::", ": \x00", ": &a *a", "\u2028"]), 1)
        case 5:
            lines[at] = rng.choice(
                ["", "null", "7", '"x"', "[]", "\ufeff" + line, "NaN", "- " + line]
            )
        case 6:
            lines[at] = line[::-1]
        case _:
            return damaged_bytes(text.encode(), rng)
    return "\n".join(lines).encode(errors="surrogateescape"), f"line {at + 1} damaged"


def damaged_json(text: str, rng: random.Random) -> tuple[bytes, str]:
    """A JSON document with a value wrong, or its text."""
    if rng.random() < 0.8:
        values, what = damaged_values(json.loads(text), rng)
        return json.dumps(values).encode(), what
    return damaged_text(text, rng)


def damaged_tar(members: Mapping[str, bytes], rng: random.Random) -> tuple[bytes, str]:
    """A tar of these members, with the archive wrong and the members right."""
    names = sorted(members)
    name = rng.choice(names)
    items = [(_item("./" + key, len(members[key])), members[key]) for key in names]
    at = names.index(name)
    item, content = items[at]
    kind = rng.choice(
        [
            *("renamed", "short", "twice", "left out", "top folder", "link", "size", "many"),
            *("negative size", "outside", "header", "odd name", "folder"),
        ]
    )
    match kind:
        case "renamed":
            item.name = "./" + name + rng.choice(["x", ".bak", "/inside"])
        case "short":
            content = content[: rng.randrange(len(content) + 1)]
            items[at] = (_item("./" + name, len(content)), content)
        case "twice":
            items.append((_item("./" + name, 3), b"abc"))
        case "left out":
            del items[at]
        case "top folder":
            items = [(_item("model/" + key, len(members[key])), members[key]) for key in names]
        case "link":
            item.type, item.linkname, item.size = tarfile.SYMTYPE, "/etc/hostname", 0
            items[at] = (item, b"")
        case "size":
            item.size += rng.choice([1, 512, 10**6, 2**40])
        case "negative size":
            item.size = -rng.choice([1, 512, 10**6])
        case "many":
            items += [(_item(f"./more{i}", 0), b"") for i in range(rng.choice([10, 5000]))]
        case "outside":
            item.name = rng.choice(["../x", "/x", "a/../../x"])
        case "odd name":
            item.name = "./a\nb\x1b[31m" + "x" * rng.choice([1, 200])
        case "folder":
            items.append((_item("./" + name, 0, tarfile.DIRTYPE), b""))
    out = io.BytesIO()
    for item, content in items:
        out.write(item.tobuf(tarfile.GNU_FORMAT, errors="surrogateescape"))
        out.write(content + bytes(-len(content) % 512))
    whole = out.getvalue() + bytes(1024)
    if kind == "header":
        place = rng.randrange(512)
        whole = whole[:place] + bytes([rng.randrange(256)]) + whole[place + 1 :]
    return whole, f"tar: {name} {kind}"


def _item(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    item = tarfile.TarInfo(name)
    item.size, item.type = size, kind
    return item


def damaged_zip(content: bytes, rng: random.Random) -> tuple[bytes, str]:
    """What `torch.save` wrote, with its zip or its pickle wrong."""
    kind = rng.choice(["compressed", "left out", "renamed", "record", "twice", "bytes"])
    if kind == "bytes":
        return damaged_bytes(content, rng)
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as before:
        names = before.namelist()
        name = rng.choice(names)
        way = zipfile.ZIP_DEFLATED if kind == "compressed" else zipfile.ZIP_STORED
        with zipfile.ZipFile(out, "w", way) as after:
            for entry in names:
                data = before.read(entry)
                if entry == name and kind == "left out":
                    continue
                if entry == name and kind == "record":
                    data = data[: rng.randrange(len(data) + 1)]
                if entry == name and kind == "twice":
                    after.writestr(entry + "x", data)
                after.writestr(entry + "x" if entry == name and kind == "renamed" else entry, data)
    return out.getvalue(), f"zip: {name} {kind}"

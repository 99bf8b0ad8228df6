"""Inline assembly of CUDA C as calls: ``asm("f.x %0, [%1], 16;" : "=r"(d) : "l"(p))`` is
``ptx::f_x(d, p, 16);``."""

from __future__ import annotations

import re

ASM = re.compile(r"\b(?:asm|__asm__)\s*(?:volatile|__volatile__)?\s*\(")
LITERAL = re.compile(r'"((?:[^"\\]|\\.)*)"')
INSTRUCTION = re.compile(r"(?:@(?P<not>!?)(?P<if>\w+)\s+)?(?P<name>[a-z][\w.:]*)(?P<rest>.*)", re.S)
REGISTER = re.compile(r"\.reg\s+\.(\w+)\s+(\w+)$")
# Where a value comes from, an address with an offset, a register of the block, or a number.
OPERAND = re.compile(r"%\d+(?:\s*\+\s*-?\d+)?|(?<![\w.])-?(?:0[xX][0-9a-fA-F]+|\d+)\b|[A-Za-z_]\w*")
# Hints to a cache, and the memory of a block, which is all that there is without clusters.
UNHEARD = re.compile(r"\.L2::\d+B|::cta\b")
TYPES = {"pred": "bool", "u64": "uint64_t", "b64": "uint64_t", "s64": "int64_t", "f32": "float"}
TYPES |= {f"{kind}{size}": f"uint{size}_t" for kind in "bu" for size in (16, 32)}
TYPES |= {"s32": "int32_t"}


def translated(source: str) -> str:
    """The source with calls in place of assembly; ValueError where an instruction has no such form."""
    out, at = [], 0
    while found := ASM.search(source, at):
        end = _closing(source, found.end() - 1)
        inside = source[found.end() : end]
        # The lines that follow keep their numbers.
        out += [source[at : found.start()], _block(inside), "\n" * inside.count("\n")]
        at = end + 1
    return "".join([*out, source[at:]])


def _closing(text: str, at: int) -> int:
    """Where the parenthesis at ``at`` is closed."""
    depth = 0
    while at < len(text):
        if literal := LITERAL.match(text, at):
            at = literal.end()
            continue
        depth += {"(": 1, ")": -1}.get(text[at], 0)
        if not depth:
            return at
        at += 1
    raise ValueError("inline assembly that does not end")


def _block(inside: str) -> str:
    """One ``asm(inside)`` as a block of calls."""
    template, *sections = _split(inside, ":")
    text = "".join(LITERAL.findall(template)).replace("\\n", "\n").replace("\\t", " ").strip()
    if text.startswith("{") and not re.match(r"\{\s*%", text):
        text = text[1:].rstrip().removesuffix("}")
    bound = [_bound(part) for section in sections[:2] for part in _split(section, ",")]
    lines = [line.strip() for line in text.split(";")]
    return "{ " + " ".join(_statement(line, bound) for line in lines if line) + " }"


def _split(text: str, mark: str) -> list[str]:
    """The parts of ``text`` between marks that no parenthesis holds; none where it is empty."""
    parts, begin, at = [], 0, 0
    while at < len(text):
        if literal := LITERAL.match(text, at):
            at = literal.end()
        elif text[at] == "(":
            at = _closing(text, at) + 1
        else:
            if text[at] == mark:
                parts.append(text[begin:at])
                begin = at + 1
            at += 1
    return [part.strip() for part in [*parts, text[begin:]]] if text.strip() else []


def _bound(operand: str) -> str:
    """What ``"=r"(x)`` binds."""
    return operand[operand.index("(") :] if "(" in operand else operand


def _statement(line: str, bound: list[str]) -> str:
    if register := REGISTER.match(line):
        if register[1] not in TYPES:
            raise ValueError(f"inline assembly with a register of type {register[1]}")
        return f"{TYPES[register[1]]} {register[2]};"
    found = INSTRUCTION.fullmatch(line)
    if not found:
        raise ValueError(f"inline assembly that is no instruction: {line}")
    operands = ", ".join(_operand(word, bound) for word in OPERAND.findall(found["rest"]))
    name = UNHEARD.sub("", found["name"]).replace("::", "__").replace(".", "_")
    condition = f"if ({found['not']}{found['if']}) " if found["if"] else ""
    return f"{condition}ptx::{name}({operands});"


def _operand(word: str, bound: list[str]) -> str:
    if not word.startswith("%"):
        return word
    number, _, offset = word[1:].partition("+")
    value = bound[int(number)]
    return f"emu::moved({value}, {offset.strip()})" if offset else value

"""What a module of kernels offers to the outside, in LLVM's language, which TVM links in.

    count() -> how many kernels there are
    caller() -> the address of a function that calls a kernel: call(number, pointers)
    walk(calls, end, bases, pointers)
    loop(): a parallel loop without work, to see how late threads come

``pointers`` is the address of an array of pointers, one for each slot of the kernel. ``calls`` is
what ``walk`` runs, an array of 64-bit numbers: for each call the address of a ``call`` and a number
for it, how many slots there are, and for each slot the place of a base among ``bases`` and the
distance from there. So it runs kernels of any modules; its ``pointers`` is room for the largest.

A kernel is called through an address that LLVM does not know: it can neither inline one into
``walk`` nor move a load of one ahead of a store of another.

TVM inlines what it links in, and forgets it: of what is here nobody can have the address. Functions
that are called by address are made in TIR, and return 0 as those must.
"""

from __future__ import annotations

from collections.abc import Sequence

# The functions above, by name, with the number of their arguments.
OFFERED = {"count": 0, "caller": 0, "walk": 4, "loop": 0}
# Made in TIR: what calls a kernel, and what a thread runs in ``loop``.
CALL, TURN = "quatrain_call", "quatrain_turn"
TEXT = """
@__TVMBackendParallelLaunch = weak dllexport global ptr null
declare i32 @quatrain_turn(i32, ptr, ptr)
declare i32 @quatrain_call(i64, i64)

define linkonce_odr i64 @quatrain_walk(i64 %calls, i64 %stop, i64 %given, i64 %room) {
start:
  %first = inttoptr i64 %calls to ptr
  %end = inttoptr i64 %stop to ptr
  %bases = inttoptr i64 %given to ptr
  %pointers = inttoptr i64 %room to ptr
  br label %next
next:
  %at = phi ptr [ %first, %start ], [ %after, %ready ]
  %done = icmp eq ptr %at, %end
  br i1 %done, label %good, label %call
call:
  %caller = load ptr, ptr %at
  %second = getelementptr i64, ptr %at, i64 1
  %number = load i64, ptr %second
  %third = getelementptr i64, ptr %at, i64 2
  %slots = load i64, ptr %third
  %places = getelementptr i64, ptr %at, i64 3
  br label %slot
slot:
  %i = phi i64 [ 0, %call ], [ %j, %fill ]
  %filled = icmp eq i64 %i, %slots
  %twice = shl i64 %i, 1
  %after = getelementptr i64, ptr %places, i64 %twice
  br i1 %filled, label %ready, label %fill
fill:
  %place = load i64, ptr %after
  %behind = getelementptr i64, ptr %after, i64 1
  %distance = load i64, ptr %behind
  %at_base = getelementptr ptr, ptr %bases, i64 %place
  %base = load ptr, ptr %at_base
  %pointer = getelementptr i8, ptr %base, i64 %distance
  %at_pointer = getelementptr ptr, ptr %pointers, i64 %i
  store ptr %pointer, ptr %at_pointer
  %j = add i64 %i, 1
  br label %slot
ready:
  %status = call i32 %caller(i64 %number, i64 %room)
  br label %next
good:
  ret i64 0
}

define linkonce_odr i64 @quatrain_loop() {
  %launch = load ptr, ptr @__TVMBackendParallelLaunch
  %status = call i32 %launch(ptr @quatrain_turn, ptr null, i32 0)
  %wide = sext i32 %status to i64
  ret i64 %wide
}

define linkonce_odr i64 @quatrain_caller() {
  %address = ptrtoint ptr @quatrain_call to i64
  ret i64 %address
}
"""


def text(kernels: Sequence[tuple[str, int]]) -> str:
    """The module for kernels given by name and number of slots."""
    declared = (f"declare i32 @{name}({_types(slots)})\n" for name, slots in kernels)
    count = f"define linkonce_odr i64 @quatrain_count() {{\n  ret i64 {len(kernels)}\n}}\n"
    return TEXT + "".join(declared) + count + _choose(kernels)


def _choose(kernels: Sequence[tuple[str, int]]) -> str:
    """The function that calls a kernel by number."""
    cases = " ".join(f"i64 {i}, label %c{i}" for i in range(len(kernels)))
    arms = "".join(_arm(i, name, slots) for i, (name, slots) in enumerate(kernels))
    return (
        "define linkonce_odr i64 @quatrain_choose(i64 %number, i64 %given) {\n"
        "  %pointers = inttoptr i64 %given to ptr\n"
        f"  switch i64 %number, label %none [ {cases} ]\n{arms}"
        "none:\n  ret i64 0\n}\n"
    )


def _arm(i: int, name: str, slots: int) -> str:
    """A call with the pointers of an array."""
    lines = [f"c{i}:\n"]
    for j in range(slots):
        lines.append(f"  %at{i}_{j} = getelementptr ptr, ptr %pointers, i64 {j}\n")
        lines.append(f"  %p{i}_{j} = load ptr, ptr %at{i}_{j}\n")
    given = ", ".join(f"ptr %p{i}_{j}" for j in range(slots))
    lines.append(f"  %s{i} = call i32 @{name}({given})\n")
    lines.append("  ret i64 0\n")
    return "".join(lines)


def _types(slots: int) -> str:
    return ", ".join(["ptr"] * slots)

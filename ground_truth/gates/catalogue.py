"""The gates: what each computes, how it is wired, and its circuit under every ablation, worked out by hand.

Names of edges below: ``q0``, ``k0``, ``v0`` lead into head 0 (from the position embedding the first two, from the token
embedding the third), ``m0`` from it to the MLP, ``o0`` from it to the output; ``out`` is from the MLP to the output.

The following holds for all gates and is used below without being repeated:

* Queries and keys are made of positions alone. Another input has the same ones, so under ``patch`` and
  ``mean-positional`` their edges are inert.
* Without queries, or without keys, or with one average key for all positions, a head sees all four tokens evenly and
  copies (x0 + x1 + x2) / 4, in place of its bit. So ``zero`` needs q and k, and ``mean`` needs k.
* The average query of all positions is a quarter of the answer token's, which is still far too sharp to notice: under
  ``mean`` q is inert.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from .wiring import Copy, Unit, Wiring

Bits = Sequence[int]


@dataclass(frozen=True)
class Known:
    """A circuit worked out by hand: ``core`` in every minimal circuit; ``optional`` in some, or needed only as long as
    another edge is there. ``n_circuits``: how many minimal circuits there are."""

    core: frozenset[str]
    optional: frozenset[str] = frozenset()
    n_circuits: int = 1


@dataclass(frozen=True)
class Gate:
    """One gate.

    Args:
        specification: bits -> the outputs at their positions and at the answer token; None where it is not read.
        known: ablation -> its circuit.
        kinds: edges -> the kind of gate that they lead into ("and", "or", "adder"), where each bit is on in the clean
            run and off in the corrupted one: what an edge alone destroys ("and"), restores ("or"), or both, at least
            in part ("adder", or no gate at all). Edges that do neither alone are in none.
    """

    name: str
    description: str
    wiring: Wiring
    specification: Callable[[Bits], list[float | None]]
    known: Mapping[str, Known]
    kinds: Mapping[str, str]


def edges(text: str) -> frozenset[str]:
    """The edges that short names stand for.

    >>> sorted(edges("v0 o0"))
    ['a0.h0->logits', 'tok_embed->a0.h0<v>']
    """
    return frozenset(map(_edge, text.split()))


def _edge(short: str) -> str:
    if short == "out":
        return "m0->logits"
    kind, head = short[0], short[1:]
    if kind in "qkv":
        return f"{'tok_embed' if kind == 'v' else 'pos_embed'}->a0.h{head}<{kind}>"
    return f"a0.h{head}->{'m0' if kind == 'm' else 'logits'}"


def _kinds(**by_kind: str) -> dict[str, str]:
    """Edge -> kind, of the short names of the edges of each kind (``and_``: "and")."""
    return {edge: kind.rstrip("_") for kind, text in by_kind.items() for edge in edges(text)}


def _clear(content: str, heads: Sequence[int]) -> dict[str, Known]:
    """Every edge of ``content`` is needed under every ablation, and q and k of ``heads`` where those are."""
    q, k = (" ".join(f"{part}{head}" for head in heads) for part in "qk")
    return {
        "patch": Known(edges(content)),
        "zero": Known(edges(f"{content} {q} {k}")),
        "mean": Known(edges(f"{content} {k}")),
        "mean-positional": Known(edges(content)),
    }


def _at_answer(function: Callable[[int, int, int], float]) -> Callable[[Bits], list[float | None]]:
    return lambda x: [None, None, None, float(function(*x))]


def _two_inputs(
    name: str,
    description: str,
    units: Sequence[Unit],
    function: Callable[[int, int, int], float],
    kinds: Mapping[str, str],
) -> Gate:
    """A function of x0 and x1 that the MLP computes from a head each."""
    wiring = Wiring([Copy(0, {"a": 1}), Copy(1, {"b": 1})], {"y": 1}, units)
    return Gate(name, description, wiring, _at_answer(function), _clear("v0 v1 m0 m1 out", (0, 1)), kinds)


_SUM = {"a": 1, "b": 1}
_THREE = {"a": 1, "b": 1, "c": 1}

AND = _two_inputs(
    "and",
    "x0 and x1: restoring one input alone restores nothing",
    [Unit(_SUM, -1, {"y": 1})],
    lambda a, b, _: a and b,
    _kinds(and_="v0 v1 m0 m1", adder="out"),
)
OR = _two_inputs(
    "or",
    "x0 or x1: each input alone is enough, and destroying one destroys nothing while the other stands",
    [Unit(_SUM, 0, {"y": 1}), Unit(_SUM, -1, {"y": -1})],
    lambda a, b, _: a or b,
    _kinds(or_="v0 v1 m0 m1", adder="out"),
)
XOR = _two_inputs(
    "xor",
    "x0 xor x1: an input's effect has the sign that the other one gives it, and none on average",
    [Unit(_SUM, 0, {"y": 1}), Unit(_SUM, -1, {"y": -2})],
    lambda a, b, _: a ^ b,
    {},  # both bits turn, and the output stays
)
ADDER = Gate(
    "adder",
    "x0 + x1: linear, so that noising and denoising agree",
    Wiring([Copy(0, {"a": 1}), Copy(1, {"b": 1})], {"a": 1, "b": 1}),
    _at_answer(lambda a, b, _: a + b),
    _clear("v0 v1 o0 o1", (0, 1)),
    _kinds(adder="v0 v1 o0 o1"),
)

# The MLP clamps p + b to [-1, 1], both of them the sign of x0. One that is 0 is not missed; one of the wrong sign is.
# Zero is what cut edges carry under zero, and under mean as well: every token is -1 as often as 1.
BACKUP = Gate(
    "backup",
    "the sign of x0, by a head and its backup: under zero and mean each is inert alone, and both together are needed",
    Wiring(
        [Copy(0, {"p": 1}, "sign"), Copy(0, {"b": 1}, "sign")],
        {"y": 1},
        [Unit({"p": 1, "b": 1}, 1, {"y": 1}), Unit({"p": 1, "b": 1}, -1, {"y": -1})],
        {"y": -1},
    ),
    _at_answer(lambda x, *_: 2 * x - 1),
    {
        "patch": Known(edges("v0 m0 v1 m1 out")),
        "zero": Known(edges("out"), edges("q0 k0 v0 m0 q1 k1 v1 m1"), 2),
        "mean": Known(edges("out"), edges("k0 v0 m0 k1 v1 m1"), 2),
        "mean-positional": Known(edges("out"), edges("v0 m0 v1 m1"), 2),
    },
    _kinds(adder="v0 m0 v1 m1 out"),  # a sign against the other's is half of the way
)

# The MLP takes the majority of three copies. Two of them decide it, so each is inert alone and no two together.
# The average of a copy is 1/2 and does not vote: two averages leave the decision to the third.
REDUNDANT = Gate(
    "redundant",
    "the majority of three copies of x0: each inert alone; patching and zero need two of them, averages only one",
    Wiring(
        [Copy(0, {"a": 1}), Copy(0, {"b": 1}), Copy(0, {"c": 1})],
        {"y": 1},
        [Unit(_THREE, -1, {"y": 1}), Unit(_THREE, -2, {"y": -1})],
    ),
    _at_answer(lambda x, *_: x),
    {
        "patch": Known(edges("out"), edges("v0 m0 v1 m1 v2 m2"), 3),
        "zero": Known(edges("out"), edges("q0 k0 v0 m0 q1 k1 v1 m1 q2 k2 v2 m2"), 3),
        "mean": Known(edges("out"), edges("k0 v0 m0 k1 v1 m1 k2 v2 m2"), 3),
        "mean-positional": Known(edges("out"), edges("v0 m0 v1 m1 v2 m2"), 3),
    },
    _kinds(adder="out"),  # one copy of three neither destroys nor restores anything
)

# Heads 1 and 2 add x1 and take it away again. Cutting one edge of theirs shows; cutting both heads' does not.
CANCELLING = Gate(
    "cancelling",
    "x0, and x1 added by one head and taken away by another: each of the two is needed alone, and inert together",
    Wiring([Copy(0, {"a": 1}), Copy(1, {"b": 1}), Copy(1, {"b": -1})], {"a": 1, "b": 1}),
    _at_answer(lambda x, *_: x),
    {
        "patch": Known(edges("v0 o0"), edges("v1 o1 v2 o2")),
        "zero": Known(edges("q0 k0 v0 o0"), edges("q1 k1 v1 o1 q2 k2 v2 o2")),
        "mean": Known(edges("k0 v0 o0"), edges("k1 v1 o1 k2 v2 o2")),
        "mean-positional": Known(edges("v0 o0"), edges("v1 o1 v2 o2")),
    },
    _kinds(adder="v0 o0 v1 o1 v2 o2"),
)

# The MLP clamps 3 x0 - 1 to [0, 1]: flat at x0 = 0 and at x0 = 1, steep between.
SATURATION = Gate(
    "saturation",
    "x0 through a step that is flat at both of its values, plus x1: no gradient at any input shows that x0 matters",
    Wiring(
        [Copy(0, {"a": 1}), Copy(1, {"b": 1})],
        {"y": 1, "b": 1},
        [Unit({"a": 3}, -1, {"y": 1}), Unit({"a": 3}, -2, {"y": -1})],
    ),
    _at_answer(lambda x, y, _: x + y),
    _clear("v0 m0 out v1 o1", (0, 1)),
    _kinds(adder="v0 m0 out v1 o1"),
)

DISTRACTORS = Gate(
    "distractors",
    "x0; two louder heads and the MLP are busy with x1 and x2, and nothing reads what they write",
    Wiring(
        [Copy(0, {"a": 1}), Copy(1, {"b": 5}), Copy(2, {"c": 5})],
        {"a": 1},
        [Unit({"b": 1, "c": 1}, -5, {"d": 5})],
    ),
    _at_answer(lambda x, *_: x),
    _clear("v0 o0", (0,)),
    _kinds(adder="v0 o0"),
)

POSITION = Gate(
    "position",
    "each bit plus its index plus max(index - 1, 0): what is made of positions alone matters to zero and mean only",
    Wiring([None], {"bit": 1, "index": 1, "late": 1}, [Unit({"index": 1}, -1, {"late": 1})]),
    lambda x: [float(bit + i + max(i - 1, 0)) for i, bit in enumerate(x)] + [None],
    {
        "patch": Known(frozenset({"tok_embed->logits"})),
        "zero": Known(frozenset({"tok_embed->logits", "pos_embed->logits", "pos_embed->m0", "m0->logits"})),
        "mean": Known(frozenset({"tok_embed->logits", "pos_embed->logits", "pos_embed->m0", "m0->logits"})),
        "mean-positional": Known(frozenset({"tok_embed->logits"})),
    },
    {"tok_embed->logits": "adder"},
)

GATES: dict[str, Gate] = {
    gate.name: gate for gate in (AND, OR, XOR, ADDER, BACKUP, REDUNDANT, CANCELLING, SATURATION, DISTRACTORS, POSITION)
}

"""Lifetimes counted by hand, and against an executor that plays random programs."""

from hypothesis import given
from hypothesis import strategies as st

from oracle.lives import VIEWS, find_lives
from oracle.program import Operation, Program, Tensor


def program(*lines, results, **tensors):
    """Lines are (operator, inputs, outputs); every name that is not told otherwise is 100 floats, 400 bytes."""
    operations = tuple(
        Operation(op_type, tuple(inputs.split()), tuple(outputs.split()), *more)
        for op_type, inputs, outputs, *more in lines
    )
    names = {name for one in operations for name in (*one.inputs, *one.outputs)}
    return Program(operations, {name: Tensor((100,)) for name in names} | tensors, tuple(results.split()))


def test_a_chain_holds_two_tensors_or_one_where_they_are_written_over():
    chain = program(("Softmax", "x", "a"), ("Neg", "a", "b"), ("Softmax", "b", "c"), ("Neg", "c", "y"), results="y")

    found = find_lives(chain)

    # a | a b | b c | c, and y is the caller's. Neg may write b over a; Softmax may not.
    assert found.live == (400, 800, 800, 400)
    assert found.least == (400, 400, 800, 400)
    # c could go where a was: its place is kept from a's birth to c's death, b's in between.
    assert [(place.first, place.last) for place in found.places] == [(0, 3), (1, 2)]
    assert found.most == (400, 800, 800, 400)


def test_in_a_diamond_the_fork_lives_until_both_branches_have_read_it():
    diamond = program(
        ("Neg", "x", "fork"), ("Exp", "fork", "left"), ("Softmax", "fork", "right"), ("Add", "left right", "join"),
        ("Neg", "join", "y"), results="y",
    )  # fmt: skip

    found = find_lives(diamond)

    # fork | fork left | fork left right | left right join | join
    assert found.live == (400, 800, 1200, 1200, 400)
    assert found.least == (400, 800, 1200, 800, 400)  # Exp cannot write over fork, which is read again; Add can
    assert (found.peak, found.live_bytes, found.least_bytes) == (2, 1200, 1200)
    assert [(life.name, life.op_type, life.born, life.dies) for life in found.at(2)] == [
        ("fork", "Neg", 0, 2),
        ("left", "Exp", 1, 3),
        ("right", "Softmax", 2, 3),
    ]


def test_a_view_takes_nothing_and_keeps_its_owner_alive():
    viewed = program(
        ("Softmax", "x", "a"), ("Reshape", "a shape", "b"), ("Unsqueeze", "b axes", "c"), ("Softmax", "c", "d"),
        ("Neg", "d", "y"), results="y",
    )  # fmt: skip

    found = find_lives(viewed)

    assert [life.name for life in found.lives] == ["a", "d"]
    assert found.live == (400, 400, 400, 800, 400)


def test_a_view_of_what_the_caller_has_takes_nothing_either():
    found = find_lives(
        program(("Reshape", "x shape", "a"), ("Neg", "a", "y"), ("Reshape", "y shape", "z"), results="y z")
    )

    assert found.live == (0, 0, 0)


def test_a_result_that_nobody_reads_is_there_while_it_is_made():
    found = find_lives(program(("Split", "x", "a b"), ("Neg", "a", "y"), results="y"))

    assert found.live == (800, 400)


def test_a_mask_may_be_written_over_the_floats_it_comes_from_and_not_the_other_way_round():
    lines = ("Softmax", "x", "a"), ("Greater", "a zero", "mask"), ("Cast", "mask", "b"), ("Neg", "b", "y")

    found = find_lives(program(*lines, results="y", mask=Tensor((100,), "bool")))

    assert found.live == (400, 500, 500, 400)
    assert found.least == (400, 400, 500, 400)


def test_of_two_branches_the_dearer_counts_and_what_they_read_lives_as_long():
    small = program(("Neg", "b", "s"), results="s")
    # Inside: p | p q | q, and t is handed out.
    large = program(("Neg", "a", "p"), ("Softmax", "p", "q"), ("Neg", "q", "t"), results="t")
    outer = program(
        ("Softmax", "x", "a"), ("Softmax", "x", "b"), ("If", "condition", "c", {}, (small, large)), ("Neg", "c", "y"),
        results="y",
    )  # fmt: skip

    found = find_lives(outer)

    # a | a b | a b, c for the result, and 800 inside | c
    assert found.live == (400, 800, 1200 + 800, 400)
    assert found.least == (400, 800, 1200 + 800, 400)


def test_a_place_is_kept_for_the_next_tensor_of_its_shape():
    # a dies at once; between it and d, which has its shape, only the larger b is there.
    kept = program(
        ("Softmax", "x", "a"), ("Softmax", "a", "b"), ("Softmax", "b", "c"), ("Softmax", "c", "d"), ("Neg", "d", "y"),
        results="y", b=Tensor((200,)), c=Tensor((300,)),
    )  # fmt: skip

    found = find_lives(kept)

    assert found.live == (400, 400 + 800, 800 + 1200, 1200 + 400, 400)
    assert found.most == (400, 400 + 800, 400 + 800 + 1200, 1200 + 400, 400)


def test_working_memory_counts_while_its_operator_runs():
    conv = ("Conv", "x w", "a", {"strides": (2, 2), "pads": (1, 1, 1, 1)})
    product = ("Conv", "a v", "b", {"strides": (1, 1), "pads": (0, 0, 0, 0)})
    lines = conv, product, ("ConvTranspose", "b u", "c"), ("Where", "mask c c", "d"), ("Neg", "d", "y")
    shapes = {"x": (5, 3, 8, 8), "w": (4, 3, 3, 3), "a": (5, 4, 4, 4), "v": (2, 4, 1, 1), "b": (5, 2, 4, 4)}
    shapes |= {"u": (2, 6, 3, 3), "c": (5, 6, 9, 9), "d": (5, 6, 9, 9)}

    found = find_lives(program(*lines, results="y", **{name: Tensor(shape) for name, shape in shapes.items()}))

    extra = [most - live for most, live in zip(found.most, found.live, strict=True)]
    assert extra == [
        4 * (3 * 3 * 3) * (4 * 4),  # the columns of one image
        0,
        4 * (6 * 3 * 3) * (4 * 4),
        2 * 4 * (5 * 6 * 9 * 9),  # both sides, spread out
        0,
    ]


def test_an_empty_program_holds_nothing():
    found = find_lives(Program((), {}, ()))

    assert (found.least_bytes, found.live_bytes, found.most_bytes, found.at(found.peak)) == (0, 0, 0, ())


_OPERATORS = ["Neg", "Add", "Softmax", "Greater", "Reshape", "Split", "Size"]


@st.composite
def programs(draw):
    known, operations, tensors = ["x"], [], {"x": Tensor((8,))}
    for index in range(draw(st.integers(1, 12))):
        op_type = draw(st.sampled_from(_OPERATORS))
        inputs = [draw(st.sampled_from(known)) for _ in range(2 if op_type == "Add" else 1)]
        outputs = [f"t{index}.{place}" for place in range(2 if op_type == "Split" else 1)]
        for name in outputs:
            # A view has its input's bytes; others any.
            side = draw(st.integers(1, 4)) * 8
            tensors[name] = (
                tensors[inputs[0]] if op_type in VIEWS else Tensor((side,), draw(st.sampled_from(["bool", "float32"])))
            )
        operations.append(Operation(op_type, tuple(inputs), tuple(outputs)))
        known += outputs
    results = draw(st.lists(st.sampled_from(known[1:]), unique=True, max_size=3))
    return Program(tuple(operations), tensors, tuple(results))


def played(program):
    """Bytes held at each operation, all apart and with results written over inputs: run with real buffers."""
    buffers, apart, over = {}, [], []  # name -> [size_bytes, whether it is ours]

    def needed(name, after):
        later = program.operations[after:]
        return any(name in one.inputs for one in later)

    for index, one in enumerate(program.operations):
        for name in one.outputs:
            source = buffers.get(one.inputs[0])
            if one.op_type in VIEWS and name not in program.results:
                buffers[name] = source or [0]
            else:
                buffers[name] = [0 if name in program.results else program.tensors[name].size_bytes]
        held = sum({id(buffer): buffer[0] for buffer in buffers.values()}.values())
        apart.append(held)
        kept = {id(buffers[name]) for name in buffers if needed(name, index + 1)}
        saved = 0
        if one.op_type in ("Neg", "Add", "Greater"):
            result = buffers[one.outputs[0]]
            dying = [buffers[name] for name in one.inputs if name in buffers and id(buffers[name]) not in kept]
            saved = result[0] if any(buffer[0] >= result[0] for buffer in dying) else 0
        over.append(held - saved)
        buffers = {name: buffer for name, buffer in buffers.items() if id(buffer) in kept}
    return tuple(apart), tuple(over)


@given(programs())
def test_any_program_holds_what_an_executor_with_real_buffers_holds(program):
    found = find_lives(program)

    apart, over = played(program)
    assert found.live == apart
    assert found.least == over
    assert all(least <= live <= most for least, live, most in zip(found.least, found.live, found.most, strict=True))


@given(programs())
def test_no_place_has_two_tenants_at_once_and_each_is_as_large_as_they_are(program):
    found = find_lives(program)

    for index in range(len(program.operations)):
        here = sorted(life.size_bytes for life in found.at(index))
        there = [place.size_bytes for place in found.places if place.first <= index <= place.last]
        assert not [size for size in set(here) if here.count(size) > there.count(size)]

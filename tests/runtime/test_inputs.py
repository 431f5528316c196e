from __future__ import annotations

from typing import Any

import numpy as np
import openvino as ov
import openvino.opset15 as op
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ovgen.runtime.inputs import InputBuffer


def doubling(shape: list[int], dtype: ov.Type) -> ov.CompiledModel:
    x = op.parameter(shape, dtype)
    return ov.Core().compile_model(ov.Model([op.multiply(x, op.constant(2, dtype))], [x]), "CPU")


@settings(deadline=None, max_examples=30)
@given(lengths=st.lists(st.integers(0, 200), min_size=1, max_size=6))
def test_the_request_reads_what_was_written_last(lengths: list[int]) -> None:
    compiled = doubling([1, -1], ov.Type.i64)
    request = compiled.create_infer_request()
    buffer = InputBuffer(request, compiled.inputs[0], (1,))
    for length in lengths:
        values = list(range(length, 2 * length))
        buffer.write(values)
        request.infer()
        np.testing.assert_array_equal(request.get_output_tensor(0).data, [[2 * v for v in values]])


def test_a_step_of_the_same_length_makes_no_new_tensor(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = doubling([-1], ov.Type.i32)
    made: list[Any] = []

    class Counting:
        def set_tensor(self, port: object, tensor: object) -> None:
            made.append(tensor)

    buffer = InputBuffer(Counting(), compiled.inputs[0])
    for step in range(5):
        buffer.write([step])
    assert len(made) == 1
    buffer.write([1, 2])
    assert len(made) == 2

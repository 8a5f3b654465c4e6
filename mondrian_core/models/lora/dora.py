"""DoRA (Liu et al., "DoRA: Weight-Decomposed Low-Rank Adaptation", 2024) without ever building the adapted matrix.

A layer's weight becomes m (W + s B A) / ||W + s B A||: the norm is that of each row, the magnitude m a number for each.
The norms need products of rank r alone, so W may stay packed:

    ||W_i + s (BA)_i||^2 = ||W_i||^2 + 2 s B_i . (A W_i) + s^2 B_i (A A^T) B_i^T

||W_i||^2 never changes and is computed once. As in the paper's section 4.3 the norm counts as a constant for the
gradient. The base's bias is neither part of the norm nor multiplied.
Legend: W (out, in) weight; here A is `down` (in, r) and B is `up` (r, out), as mlx-vlm stores them.
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import mlx.nn as nn

MIN_ROW_NORM = 1e-15  # a row that is all zero has no direction; it is not divided by zero either


class DoRALinear(nn.Module):
    """A frozen linear layer with trainable direction (A, B) and magnitude; parameters are named as mlx-vlm names them.

    With B = 0 the factor m / norm is exactly 1, so a fresh layer gives the base's output.
    """

    def __init__(self, linear: nn.Module, down: mx.array, up: mx.array, scale: float, dropout: float) -> None:
        super().__init__()
        self.linear = linear
        self.dropout = nn.Dropout(p=dropout)
        self.scale = scale
        self.lora_a, self.lora_b = down, up
        self._squares = squared_row_norms(linear)  # with the underscore it is none of the module's parameters
        self.m = adapted_row_norms(linear, self._squares, down, mx.zeros_like(up), scale)

    def __call__(self, x: mx.array) -> mx.array:
        """(..., in) to (..., out). Dropout acts on the low-rank product alone, as in mlx-vlm and PEFT."""
        product = (self.dropout(x) @ self.lora_a) @ self.lora_b
        adapted = matmul_without_bias(self.linear, x) + (self.scale * product).astype(x.dtype)
        norms = adapted_row_norms(self.linear, self._squares, self.lora_a, self.lora_b, self.scale)
        # the factor less 1: near 1 a 16-bit number has steps of up to 0.8 %, as large as what is learned
        excess = (self.m / mx.stop_gradient(norms) - 1.0).astype(x.dtype)
        found = adapted + excess * adapted
        return found + self.linear["bias"] if "bias" in self.linear else found


def matmul_without_bias(linear: nn.Module, x: mx.array) -> mx.array:
    """x W^T of a linear layer, packed or not."""
    if not isinstance(linear, nn.QuantizedLinear):
        return x @ linear["weight"].T
    return mx.quantized_matmul(
        x,
        linear["weight"],
        scales=linear["scales"],
        biases=linear.get("biases"),
        transpose=True,
        group_size=linear.group_size,
        bits=linear.bits,
        mode=linear.mode,
    )


def dequantized_weight(linear: nn.Module) -> mx.array:
    """W (out, in) in float32; packed weights are unpacked for it."""
    weight = linear["weight"]
    if isinstance(linear, nn.QuantizedLinear):
        scales, zero = linear["scales"], linear.get("biases")
        if mx.issubdtype(scales.dtype, mx.floating):  # else each value would be rounded to the scales' 16 bits
            scales, zero = scales.astype(mx.float32), None if zero is None else zero.astype(mx.float32)
        weight = mx.dequantize(weight, scales, zero, group_size=linear.group_size, bits=linear.bits, mode=linear.mode)
    return weight.astype(mx.float32)


def squared_row_norms(linear: nn.Module) -> mx.array:
    """||W_i||^2, (out,) in float32, computed here and now: one layer is unpacked at a time."""
    squares = mx.sum(mx.square(dequantized_weight(linear)), axis=1)
    mx.eval(squares)
    return squares


def adapted_row_norms(linear: nn.Module, squares: mx.array, down: mx.array, up: mx.array, scale: float) -> mx.array:
    """||W_i + s (BA)_i||, (out,) in float32.

    A meets packed weights in float32, which costs a wider copy of their scales, and others in their own type: in 16 bit
    that rounds the mixed term to about 0.4 %, and with it the norm by that much of the adapter's share.

    Args:
        squares: what `squared_rows` gave for this layer.
    """
    down, up = down.astype(mx.float32), scale * up.astype(mx.float32)
    meets = mx.float32 if isinstance(linear, nn.QuantizedLinear) else linear["weight"].dtype
    mixed = matmul_without_bias(linear, down.T.astype(meets)).astype(mx.float32)
    squared = squares + mx.sum(up * (2.0 * mixed + (down.T @ down) @ up), axis=0)
    return mx.sqrt(mx.maximum(squared, MIN_ROW_NORM**2))


def compute_dtype(linear: nn.Module) -> mx.Dtype:
    """The type of a layer's products; scales that are no floats of their own (mxfp4) leave it to the input."""
    found: Any = linear["scales"] if isinstance(linear, nn.QuantizedLinear) else linear["weight"]
    return found.dtype if mx.issubdtype(found.dtype, mx.floating) else mx.float32

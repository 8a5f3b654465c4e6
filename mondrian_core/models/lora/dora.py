"""DoRA (Liu et al., "DoRA: Weight-Decomposed Low-Rank Adaptation", 2024) without building the adapted matrix.

A layer's weight becomes m (W + s B A) / ||W + s B A||, with the norm of each row and one magnitude m per row. The norms
only need products of rank r, so W may stay packed:

    ||W_i + s (BA)_i||^2 = ||W_i||^2 + 2 s B_i . (A W_i) + s^2 B_i (A A^T) B_i^T

||W_i||^2 never changes and is computed once. The norm is a constant for the gradient (section 4.3 of the paper). The
base's bias is neither part of the norm nor multiplied.

Shapes: W (out, in), A (in, r), B (r, out), as mlx-vlm stores them; m (out,).
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import mlx.nn as nn

MIN_ROW_NORM = 1e-15  # rows of zeros must not be divided by zero


class DoRALinear(nn.Module):
    """A frozen linear layer with trainable direction (A, B) and magnitude; parameters are named as mlx-vlm names them.

    With B = 0 the factor m / norm is exactly 1, so a fresh layer gives the base's output.
    """

    def __init__(self, linear: nn.Module, lora_a: mx.array, lora_b: mx.array, scale: float, dropout: float) -> None:
        """Wrap `linear`; the magnitudes start at the row norms of its weights."""
        super().__init__()
        self.linear = linear
        self.dropout = nn.Dropout(p=dropout)
        self.scale = scale
        self.lora_a, self.lora_b = lora_a, lora_b
        self._squares = squared_row_norms(linear)  # the underscore keeps it out of the module's parameters
        self.m = adapted_row_norms(linear, self._squares, lora_a, mx.zeros_like(lora_b), scale)

    def __call__(self, x: mx.array) -> mx.array:
        """(..., in) to (..., out). Dropout acts on the low-rank product alone, as in mlx-vlm and PEFT."""
        product = (self.dropout(x) @ self.lora_a) @ self.lora_b
        adapted = matmul_without_bias(self.linear, x) + (self.scale * product).astype(x.dtype)
        norms = adapted_row_norms(self.linear, self._squares, self.lora_a, self.lora_b, self.scale)
        # the factor minus 1: near 1 a 16-bit number has steps of up to 0.8 %, as large as what is learned
        excess = (self.m / mx.stop_gradient(norms) - 1.0).astype(x.dtype)
        output = adapted + excess * adapted
        return output + self.linear["bias"] if "bias" in self.linear else output


def matmul_without_bias(linear: nn.Module, x: mx.array) -> mx.array:
    """x W^T of a linear layer, packed or not: (..., in) to (..., out)."""
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
        if mx.issubdtype(scales.dtype, mx.floating):  # otherwise each value would be rounded to the scales' 16 bits
            scales, zero = scales.astype(mx.float32), None if zero is None else zero.astype(mx.float32)
        weight = mx.dequantize(weight, scales, zero, group_size=linear.group_size, bits=linear.bits, mode=linear.mode)
    return weight.astype(mx.float32)


def squared_row_norms(linear: nn.Module) -> mx.array:
    """||W_i||^2, (out,) in float32; evaluated at once, so that only one layer is unpacked at a time."""
    squares = mx.sum(mx.square(dequantized_weight(linear)), axis=1)
    mx.eval(squares)
    return squares


def adapted_row_norms(
    linear: nn.Module, squares: mx.array, lora_a: mx.array, lora_b: mx.array, scale: float
) -> mx.array:
    """||W_i + s (BA)_i||, (out,) in float32.

    A is multiplied with packed weights in float32, which needs a wider copy of their scales, and with others in their
    own type. In 16 bit that rounds the mixed term, and with it the adapter's part of the norm, to about 0.4 %.

    Args:
        linear: the base's layer.
        squares: (out,) what `squared_row_norms` returned for this layer.
        lora_a: A, (in, r).
        lora_b: B, (r, out).
        scale: factor of the product A B.
    """
    lora_a, lora_b = lora_a.astype(mx.float32), scale * lora_b.astype(mx.float32)
    dtype = mx.float32 if isinstance(linear, nn.QuantizedLinear) else linear["weight"].dtype
    mixed = matmul_without_bias(linear, lora_a.T.astype(dtype)).astype(mx.float32)
    squared = squares + mx.sum(lora_b * (2.0 * mixed + (lora_a.T @ lora_a) @ lora_b), axis=0)
    return mx.sqrt(mx.maximum(squared, MIN_ROW_NORM**2))


def compute_dtype(linear: nn.Module) -> mx.Dtype:
    """The data type that a layer computes in; float32 if its scales are not floats (mxfp4)."""
    found: Any = linear["scales"] if isinstance(linear, nn.QuantizedLinear) else linear["weight"]
    return found.dtype if mx.issubdtype(found.dtype, mx.floating) else mx.float32

"""How much rounding may change a result, by data type and stream.

Two correct computations of the same numbers differ by rounding. Every layer rounds the residual stream twice, and the
errors of independent roundings add up like a random walk, so the relative root-mean-square difference of the logits of
L layers is about u * sqrt(2 L), where u is the relative error of one rounding:

- float32 on a CPU: the result has 24 bits, but a product of K terms adds its terms in another order on every device,
  which costs sqrt(K) * 2^-24.
- float32 on a GPU: matrix units may read 11 bits of each factor (TF32): 2^-11.
- float16 and bfloat16: the result of each layer has 11 or 8 bits: 2^-11 or 2^-8, and sums are kept in float32.

`SAFETY` times that is allowed. A wrong kernel, a wrong mask or a wrong position changes logits by their own size.
"""

from __future__ import annotations

import math

SAFETY = 4.0
LARGEST_TO_RMS = 8.0  # of 150,000 normally distributed differences the largest is about 4.5 standard deviations
_RESULT_ROUNDING = {"float16": 2.0**-11, "bfloat16": 2.0**-8, "float32": 2.0**-24}
_TF32_ROUNDING = 2.0**-11


def rounding_error(dtype: str, stream: str, width: int) -> float:
    """Relative error of one layer's result.

    Args:
        dtype: data type of the hidden states, such as "bfloat16".
        stream: "GPU" or "CPU".
        width: largest number of terms of a product.
    """
    of_sum = math.sqrt(width) * 2.0**-24
    if dtype == "float32" and stream == "GPU":
        return max(of_sum, _TF32_ROUNDING)
    return max(of_sum, _RESULT_ROUNDING[dtype])


def allowed_difference(dtype: str, stream: str, *, layers: int, width: int, backward: bool = False) -> float:
    """Largest relative root-mean-square difference of logits, or relative difference of a loss, that rounding explains.

    Args:
        dtype: data type of the hidden states.
        stream: "GPU" or "CPU".
        layers: layers of the language model.
        width: largest number of terms of a product.
        backward: True for a gradient, which passes every layer twice.
    """
    roundings = 2 * layers * (2 if backward else 1)
    return SAFETY * rounding_error(dtype, stream, width) * math.sqrt(roundings)

"""Embed a photograph as one vector of the base's vision tower, for retrieval.

Shapes: `N` image tokens, `D` width.
"""

from __future__ import annotations

import mlx.core as mx
import numpy as np

from mondrian_core.errors import BadInput
from mondrian_core.models.prompt_encoding import EncodedPrompt


def photo_embedding(prompt: EncodedPrompt) -> tuple[float, ...]:
    """(D,) the vision tower's output (N, D), averaged over the image tokens and scaled to length 1.

    Vectors of different bases can't be compared. Adding DeepStack features made no measurable difference
    (docs/experiments/data.md).

    Raises:
        BadInput: the prompt has no photograph.
    """
    if not prompt.image_tokens:
        raise BadInput("A prompt without a photograph has no embedding.", "Encode the photograph with the prompt.")
    features = prompt.embeddings[0][prompt.image_index].astype(mx.float32)
    mean = np.array(features.mean(axis=0), dtype=np.float64)
    length = float(np.linalg.norm(mean)) or 1.0
    return tuple(float(value) for value in mean / length)

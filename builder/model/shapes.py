"""How large models are inside: the keys of `config/models.yaml`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from builder.model.base import Closed

Count = Annotated[int, Field(ge=1)]


class Shape(Closed):
    """The sizes of one model, as its `config.json` and its model card give them."""

    parameters: Count = Field(description="weights, all layers and embeddings together")
    hidden_size: Count = Field(description="width of a layer")
    layers: Count = Field(description="num_hidden_layers")
    heads: Count = Field(description="num_attention_heads; tensor parallelism must divide it")
    kv_heads: Count = Field(description="num_key_value_heads")
    head_dim: Count = Field(description="size of one head; hidden_size / heads unless given")
    bytes_per_parameter: Annotated[float, Field(gt=0, le=8)] = Field(
        description="as stored: 2 for bfloat16, 1 for 8-bit, 0.5 for 4-bit weights"
    )
    kv_bytes: Annotated[int, Field(ge=1, le=8)] = Field(
        2, description="bytes of one number in the KV cache: 2 unless the model says otherwise"
    )


class Shapes(Closed):
    """All models that are known."""

    models: dict[str, Shape] = Field(description="by Hugging Face name")

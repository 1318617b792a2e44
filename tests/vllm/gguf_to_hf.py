"""Turn a GGUF into a Hugging Face directory: `ENVIRONMENT/bin/python gguf_to_hf.py FILE FOLDER`.

What belongs here: the conversion, with transformers. What does not: imports of ours; it is run as a file by the vLLM
environment's interpreter.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from gguf import GGUFReader
from transformers import AutoModelForCausalLM, AutoTokenizer


def main() -> None:
    """Dequantise to bfloat16 and save weights, configuration and tokenizer with its chat template."""
    source, target = Path(sys.argv[1]), Path(sys.argv[2])
    where = {"pretrained_model_name_or_path": str(source.parent), "gguf_file": source.name}
    model = AutoModelForCausalLM.from_pretrained(**where).to(torch.bfloat16)
    # Transformers remembers that the weights were quantised, and would write so, though they are not any more.
    model.hf_quantizer = None
    model.is_quantized = False
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.config.dtype = torch.bfloat16
    model.save_pretrained(target)
    tokenizer = AutoTokenizer.from_pretrained(**where)
    template = GGUFReader(source).get_field("tokenizer.chat_template")
    if template is not None:
        tokenizer.chat_template = template.contents()
    tokenizer.save_pretrained(target)


if __name__ == "__main__":
    main()

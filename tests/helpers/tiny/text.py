"""Tokenizers, and what text encoders have in common."""

CHARACTERS = 100
"""Tokens of `character_tokenizer`."""
BYTES = 258
"""Tokens of `byte_tokenizer`."""


def character_tokenizer():
    """A tokenizer of 100 tokens, which are characters."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = ["<pad>", "<unk>", "<s>", "</s>", "<|vision_start|>"]
    tokenizer = Tokenizer(
        models.WordLevel(
            {token: number for number, token in enumerate([*special, *map(chr, range(32, 127))])},
            unk_token="<unk>",
        )
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 2), ("</s>", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        additional_special_tokens=special[4:],
        chat_template="{% for message in messages %}{{ message.content }}{% endfor %}",
    )


def byte_tokenizer(longest: int = 512):
    """A tokenizer with one token a byte."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    names = ["<pad>", "</s>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokens = Tokenizer(models.BPE({name: number for number, name in enumerate(names)}, []))
    tokens.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokens, pad_token="<pad>", eos_token="</s>", model_max_length=longest
    )


def umt5(vocabulary: int, **settings):
    """The text encoder of Wan."""
    from transformers import UMT5Config, UMT5EncoderModel

    config = UMT5Config(
        vocab_size=vocabulary, d_model=32, d_kv=8, d_ff=37, num_layers=2, num_heads=4, **settings
    )
    return UMT5EncoderModel(config)


def decoder_settings(
    vocabulary: int, width: int, inner: int, layers: int, heads: int, groups: int, **settings
) -> dict:
    """Settings of a language model with grouped attention."""
    return {
        "vocab_size": vocabulary,
        "hidden_size": width,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": groups,
        **settings,
    }

#!/usr/bin/env python3
"""Make the bundled storyteller from nothing: corpus, tokenizer, main model, and the draft that speeds it up.

The models are Llamas in plain torch, trained on the stories of ``story_corpus.py`` and written as ordinary
Hugging Face folders in f16. torch is needed here and nowhere else in the project.

    python scripts/train_demo.py --out models                   # everything, under an hour on two CPU cores
    python scripts/train_demo.py --out /tmp/try --steps 300     # a quick try that already writes sentences
    python scripts/train_demo.py --out models --only draft      # the draft model alone
    python scripts/train_demo.py --out models --resume          # go on from the last checkpoint
"""

# mypy: disable-error-code="import-not-found, import-untyped, no-any-return, no-untyped-call, unused-ignore"
from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import story_corpus as stories

MISSING: ImportError | None = None
try:
    import torch
    import torch.nn.functional as F  # noqa: N812
    from safetensors.torch import save_file
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from torch import Tensor
    from tqdm import tqdm
except ImportError as error:  # told in main(), so that --help works without them
    MISSING = error

VOCAB = 4096
CONTEXT = 1024
SPECIAL = [stories.BOS, stories.EOS, stories.USER, stories.ASSISTANT]  # ids 0 to 3
BOS_ID = 0
COMMON = 250  # this many of the most frequent tokens are common words and punctuation
COPY_WEIGHT = 10  # how much a repeated name counts in the first part of the training
HELD_OUT_SEED = 1_000_003  # added to the seed: held-out stories come from another stream
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'user' %}{{ '<|user|>' + message['content'] | trim }}"
    "{% elif message['role'] == 'assistant' %}"
    "{{ '<|assistant|>' + message['content'] | trim + eos_token }}"
    "{% else %}{{ raise_exception('The roles are user and assistant, not ' + message['role']) }}"
    "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)

Params = dict[str, "Tensor"]


@dataclass(frozen=True)
class Shape:
    """The size of a Llama and how long it trains."""

    folder: str
    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    lr: float
    head: int = 64

    def config(self) -> dict[str, Any]:
        """The ``config.json`` of a Hugging Face ``LlamaForCausalLM``."""
        return {
            "architectures": ["LlamaForCausalLM"], "model_type": "llama", "dtype": "float16",
            "vocab_size": VOCAB, "hidden_size": self.hidden, "intermediate_size": self.intermediate,
            "num_hidden_layers": self.layers, "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads, "head_dim": self.head, "hidden_act": "silu",
            "max_position_embeddings": CONTEXT, "rope_theta": 10000.0, "rope_scaling": None,
            "rms_norm_eps": 1e-5, "tie_word_embeddings": True, "attention_bias": False, "mlp_bias": False,
            "attention_dropout": 0.0, "initializer_range": 0.02, "pretraining_tp": 1, "use_cache": True,
            "bos_token_id": 0, "eos_token_id": 1,
        }  # fmt: skip


MAIN = Shape("storyteller", hidden=256, intermediate=768, layers=6, heads=4, kv_heads=2, lr=3e-3)
DRAFT = Shape("storyteller-draft", hidden=128, intermediate=256, layers=1, heads=2, kv_heads=1, lr=6e-3)


# ----------------------------------------------------------------------------------------------- tokenizer


def train_tokenizer(texts: list[str]) -> Tokenizer:
    """A byte-level BPE of exactly ``VOCAB`` entries, the special tokens first."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    bos = (stories.BOS, tokenizer.token_to_id(stories.BOS))
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{stories.BOS} $A", pair=f"{stories.BOS} $A $B:1", special_tokens=[bos]
    )
    if tokenizer.get_vocab_size() != VOCAB:
        raise SystemExit(f"the corpus gives {tokenizer.get_vocab_size()} of {VOCAB} tokens: use more --documents")
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Write the three files of a Hugging Face fast tokenizer."""
    tokenizer.save(str(folder / "tokenizer.json"))
    names = {"bos_token": stories.BOS, "eos_token": stories.EOS, "pad_token": stories.EOS}
    flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}
    _write_json(folder / "special_tokens_map.json", names)
    _write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast", **names,
            "added_tokens_decoder": {str(i): {"content": token, **flags} for i, token in enumerate(SPECIAL)},
            "model_max_length": CONTEXT, "clean_up_tokenization_spaces": False,
            "chat_template": CHAT_TEMPLATE,
        },
    )  # fmt: skip


def encode(tokenizer: Tokenizer, texts: list[str], device: str) -> Tensor:
    """All the documents in one row of token ids: (tokens,) int64."""
    encoded = tokenizer.encode_batch_fast(texts, add_special_tokens=False)
    return torch.tensor([token for entry in encoded for token in entry.ids], device=device)


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


# --------------------------------------------------------------------------------------------------- model


def init_params(shape: Shape, device: str) -> Params:
    """Fresh weights under their Hugging Face names; the output layer is the embedding, and has none."""
    q_size, kv_size = shape.heads * shape.head, shape.kv_heads * shape.head
    sizes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (VOCAB, shape.hidden)}
    for layer in range(shape.layers):
        at = f"model.layers.{layer}."
        sizes |= {
            at + "input_layernorm.weight": (shape.hidden,),
            at + "self_attn.q_proj.weight": (q_size, shape.hidden),
            at + "self_attn.k_proj.weight": (kv_size, shape.hidden),
            at + "self_attn.v_proj.weight": (kv_size, shape.hidden),
            at + "self_attn.o_proj.weight": (shape.hidden, q_size),
            at + "post_attention_layernorm.weight": (shape.hidden,),
            at + "mlp.gate_proj.weight": (shape.intermediate, shape.hidden),
            at + "mlp.up_proj.weight": (shape.intermediate, shape.hidden),
            at + "mlp.down_proj.weight": (shape.hidden, shape.intermediate),
        }
    sizes["model.norm.weight"] = (shape.hidden,)
    params: Params = {}
    for name, size in sizes.items():
        if len(size) == 1:
            weight = torch.ones(size)
        elif name.endswith("v_proj.weight"):
            weight = torch.linalg.qr(torch.randn(size).T)[0].T  # rows orthonormal
        elif name.endswith("o_proj.weight"):
            weight = _copying(params[name.replace("o_proj", "v_proj")].detach().cpu(), shape)
        elif name.endswith("down_proj.weight"):
            weight = torch.zeros(size)  # the MLPs start by adding nothing: what attention copies stays legible
        else:
            weight = torch.randn(size) * shape.hidden**-0.5
        params[name] = weight.to(device).requires_grad_()
    return params


def _copying(values: Tensor, shape: Shape) -> Tensor:
    """The output projection (hidden, heads * head) that undoes ``values`` (kv_heads * head, hidden), halved.

    A head then begins by copying what it looks at, and has only to learn where to look: without this, and
    `copy_weights`, names were not carried through a story after two million tokens. After "Mimetic
    Initialization of Self-Attention Layers" (arXiv:2305.09828).
    """
    heads = values.view(shape.kv_heads, shape.head, shape.hidden)
    return 0.5 * heads.repeat_interleave(shape.heads // shape.kv_heads, 0).flatten(0, 1).T


def forward(params: Params, ids: Tensor, shape: Shape) -> Tensor:
    """Logits (batch, length, VOCAB) of token ids (batch, length)."""
    batch, length = ids.shape
    cos, sin = _rope_tables(length, shape.head, ids.device)
    norm = (shape.hidden,)
    x = F.embedding(ids, params["model.embed_tokens.weight"])  # (batch, length, hidden)
    for layer in range(shape.layers):
        at = f"model.layers.{layer}."
        h = F.rms_norm(x, norm, params[at + "input_layernorm.weight"], 1e-5)
        q, k, v = (
            F.linear(h, params[at + f"self_attn.{name}_proj.weight"])
            .view(batch, length, -1, shape.head)
            .transpose(1, 2)
            for name in "qkv"
        )  # (batch, heads or kv_heads, length, head)
        q, k = _rotate(q, cos, sin), _rotate(k, cos, sin)
        k, v = (part.repeat_interleave(shape.heads // shape.kv_heads, dim=1) for part in (k, v))
        h = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
        x = x + F.linear(h, params[at + "self_attn.o_proj.weight"])
        h = F.rms_norm(x, norm, params[at + "post_attention_layernorm.weight"], 1e-5)
        gate, up = (F.linear(h, params[at + f"mlp.{name}_proj.weight"]) for name in ("gate", "up"))
        x = x + F.linear(F.silu(gate) * up, params[at + "mlp.down_proj.weight"])
    x = F.rms_norm(x, norm, params["model.norm.weight"], 1e-5)
    return F.linear(x, params["model.embed_tokens.weight"])


def _rope_tables(length: int, head: int, device: torch.device) -> tuple[Tensor, Tensor]:
    frequencies = 10000.0 ** -(torch.arange(0, head, 2, device=device) / head)
    angles = torch.arange(length, device=device)[:, None] * frequencies  # (length, head / 2)
    return angles.cos().repeat(1, 2), angles.sin().repeat(1, 2)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin


def loss_of(params: Params, block: Tensor, shape: Shape, weights: Tensor | None = None) -> Tensor:
    """Mean cross-entropy of each token of a block (batch, length + 1) after those before it.

    ``weights`` (batch, length) says how much each token counts.
    """
    logits = forward(params, block[:, :-1], shape)
    if weights is None:
        return F.cross_entropy(logits.flatten(0, 1), block[:, 1:].flatten())
    losses = F.cross_entropy(logits.flatten(0, 1), block[:, 1:].flatten(), reduction="none")
    return (losses * weights.flatten()).sum() / weights.sum()


def copy_weights(block: Tensor, rare: Tensor, weight: float) -> Tensor:
    """``weight`` for a rare token that stood in its document before, and 1 for others: (batch, length).

    Names and things of a story are a hundredth of its tokens. ``rare`` (VOCAB,) is true for what is not a
    common word; ``block`` is (batch, length + 1).
    """
    document = (block == BOS_ID).cumsum(1)
    here = document[:, 1:, None] == document[:, None, :-1]  # (batch, length, length), and so are the next two
    seen = (block[:, 1:, None] == block[:, None, :-1]) & here
    repeated = seen.tril().any(-1) & rare[block[:, 1:]]
    return 1 + (weight - 1) * repeated


# ------------------------------------------------------------------------------------------------ training


def blocks(tokens: Tensor, length: int, count: int, generator: torch.Generator) -> Tensor:
    """``count`` stretches of ``length + 1`` tokens that begin where a document does: (count, length + 1)."""
    begins = (tokens[: -length - 1] == BOS_ID).nonzero()  # (documents, 1)
    chosen = torch.randint(len(begins), (count,), generator=generator)
    return tokens[begins[chosen] + torch.arange(length + 1)]


def perplexity(params: Params, tokens: Tensor, shape: Shape, count: int) -> float:
    """Perplexity over evenly spread stretches of 512 tokens."""
    starts = torch.linspace(0, len(tokens) - 514, count).long()
    with torch.no_grad():
        losses = [loss_of(params, tokens[None, start : start + 513], shape) for start in starts]
    return math.exp(torch.stack(losses).mean().item())


def sample(params: Params, tokenizer: Tokenizer, shape: Shape, prompt: str, tokens: int = 120) -> str:
    """A story told at temperature 0.7, recomputed in full for each token: it is for a look, not for speed."""
    ids = torch.tensor([tokenizer.encode(prompt, add_special_tokens=False).ids])
    device = params["model.norm.weight"].device
    with torch.no_grad():
        for _ in range(tokens):
            logits = forward(params, ids.to(device), shape)[0, -1].float().cpu()
            token = torch.multinomial(torch.softmax(logits / 0.7, dim=-1), 1)
            ids = torch.cat((ids, token[None]), dim=1)
            if token.item() == 1:
                break
    return str(tokenizer.decode(ids[0].tolist(), skip_special_tokens=False))


def train(shape: Shape, options: argparse.Namespace, steps: int, tokenizer: Tokenizer, data: list[Tensor]) -> None:
    """Train one model on ``data`` (training and held-out tokens), with checkpoints, and export it."""
    torch.manual_seed(options.seed)
    params = init_params(shape, options.device)
    optimizer = _optimizer(params, shape.lr)
    checkpoint = options.work / f"{shape.folder}.pt"
    first = _restore(checkpoint, params, optimizer) if options.resume and checkpoint.exists() else 0
    compute_loss = torch.compile(loss_of) if options.compile else loss_of
    rare = torch.bincount(data[0], minlength=VOCAB).argsort(descending=True).argsort() >= COMMON
    started = time.monotonic()
    for step in (bar := tqdm(range(first, steps), initial=first, total=steps, desc=shape.folder, mininterval=10)):
        for group in optimizer.param_groups:
            warmup, cosine = min(1.0, (step + 1) / options.warmup), 0.5 * (1 + math.cos(math.pi * step / steps))
            group["lr"] = shape.lr * warmup * cosine
        length = 256 if step < 0.7 * steps else 512 if step < 0.9 * steps else CONTEXT
        generator = torch.Generator().manual_seed(options.seed * 1_000_000 + step)
        block = blocks(data[0], length, max(1, options.batch_tokens // length), generator)
        weight = 1 + (COPY_WEIGHT - 1) * min(1.0, max(0.0, (0.5 - step / steps) / 0.2))  # falls to 1 in the end
        loss = compute_loss(params, block, shape, copy_weights(block, rare, weight))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(params.values(), 1.0)
        optimizer.step()
        bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
        if (step + 1) % options.every == 0 or step + 1 == steps:
            torch.save({"params": params, "optimizer": optimizer.state_dict(), "step": step + 1}, checkpoint)
            tqdm.write(f"step {step + 1}, {time.monotonic() - started:.0f} s")
            _report(params, shape, tokenizer, data, count=192 if step + 1 == steps else 32)
    export(params, shape, tokenizer, options.out / shape.folder)


def _optimizer(params: Params, lr: float) -> torch.optim.Optimizer:
    matrices = [p for p in params.values() if p.ndim == 2]
    vectors = [p for p in params.values() if p.ndim == 1]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.95))


def _restore(checkpoint: Path, params: Params, optimizer: torch.optim.Optimizer) -> int:
    state = torch.load(checkpoint, map_location=params["model.norm.weight"].device)
    optimizer.load_state_dict(state["optimizer"])
    with torch.no_grad():
        for name, weight in state["params"].items():
            params[name].copy_(weight)
    return int(state["step"])


def _report(params: Params, shape: Shape, tokenizer: Tokenizer, data: list[Tensor], count: int) -> None:
    seen, held_out = (perplexity(params, tokens, shape, count) for tokens in data)
    tqdm.write(f"perplexity {seen:.3f} in training, {held_out:.3f} held out")
    prompt = stories.BOS + stories.USER + "Tell me a story about a brave fox named Pip." + stories.ASSISTANT
    tqdm.write(sample(params, tokenizer, shape, prompt))


def export(params: Params, shape: Shape, tokenizer: Tokenizer, folder: Path) -> None:
    """Write a complete Hugging Face folder, in f16."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: weight.detach().half().cpu().contiguous() for name, weight in params.items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)  # save_file leaves it readable by its owner alone
    _write_json(folder / "config.json", shape.config())
    generation = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    _write_json(folder / "generation_config.json", {**generation, "do_sample": True, "temperature": 0.5, "top_p": 0.95})
    save_tokenizer(tokenizer, folder)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    work = Path(tempfile.gettempdir()) / "ovgen-train-demo"
    add = parser.add_argument
    add("--out", type=Path, required=True, help="where the two model folders are written")
    add("--only", choices=("main", "draft"), help="make one of the models (default: both)")
    add("--documents", type=int, default=40_000, help="documents to train on (default: %(default)s)")
    add("--steps", type=int, default=2300, help="steps of the main model (default: %(default)s)")
    add("--draft-steps", type=int, default=1500, help="steps of the draft model (default: %(default)s)")
    add("--batch-tokens", type=int, default=2048, help="tokens of a step (default: %(default)s)")
    add("--warmup", type=int, default=100, help="steps of warm-up (default: %(default)s)")
    add("--every", type=int, default=150, help="steps between checkpoints (default: %(default)s)")
    add("--seed", type=int, default=1, help="of the corpus and of training (default: %(default)s)")
    add("--device", default="cpu", help="torch device (default: %(default)s)")
    add("--work", type=Path, default=work, help="where checkpoints are kept (default: %(default)s)")
    add("--compile", action="store_true", help="torch.compile the step: somewhat faster")
    add("--resume", action="store_true", help="go on from the checkpoints in --work")
    return parser.parse_args()


def main() -> None:
    """Read the options and make what they ask for."""
    options = _options()
    if MISSING is not None:
        raise SystemExit(f"{MISSING}\nTraining needs more than ovgen itself: pip install 'ovgen[train]'")
    options.work.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(options.seed)
    texts = stories.corpus(options.seed, options.documents)
    held_out = stories.corpus(options.seed + HELD_OUT_SEED, max(200, options.documents // 50))
    tokenizer = train_tokenizer(texts[:20_000])
    data = [encode(tokenizer, part, options.device) for part in (texts, held_out)]
    print(f"{len(texts)} documents, {len(data[0])} tokens; held out: {len(held_out)}, {len(data[1])} tokens")
    if options.only != "draft":
        train(MAIN, options, options.steps, tokenizer, data)
    if options.only != "main":
        train(DRAFT, options, options.draft_steps, tokenizer, data)


if __name__ == "__main__":
    main()

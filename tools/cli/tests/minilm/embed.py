"""Embeddings of all-MiniLM-L6-v2 with safetensors and numpy, printed bit for bit. The engine knows nothing of sealing."""
import json
import sys

import numpy as np
from safetensors import safe_open

folder = sys.argv[1]
config = json.load(open(f"{folder}/config.json"))
words = {word.rstrip("\n"): at for at, word in enumerate(open(f"{folder}/vocab.txt", encoding="utf-8"))}
heads, layers = config["num_attention_heads"], config["num_hidden_layers"]
with safe_open(f"{folder}/model.safetensors", framework="numpy") as file:
    w = {name: file.get_tensor(name).astype(np.float32) for name in file.keys()}


def norm(x, name):
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + config["layer_norm_eps"])
    return x * w[f"{name}.weight"] + w[f"{name}.bias"]


def linear(x, name):
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def gelu(x):
    # Abramowitz and Stegun 7.1.26; good enough, and the same for both files.
    z = np.abs(x) / np.sqrt(np.float32(2))
    t = 1 / (1 + 0.3275911 * z)
    poly = ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t
    return x * (0.5 + 0.5 * np.sign(x) * (1 - poly * np.exp(-z * z)))


def embed(text):
    ids = [words["[CLS]"]] + [words[word] for word in text.split()] + [words["[SEP]"]]
    e = "embeddings."
    x = w[e + "word_embeddings.weight"][ids] + w[e + "position_embeddings.weight"][: len(ids)]
    x = norm(x + w[e + "token_type_embeddings.weight"][0], e + "LayerNorm")
    for layer in range(layers):
        p = f"encoder.layer.{layer}."
        split = lambda y: y.reshape(len(ids), heads, -1).transpose(1, 0, 2)
        q, k, v = (split(linear(x, f"{p}attention.self.{name}")) for name in ("query", "key", "value"))
        scores = q @ k.transpose(0, 2, 1) / np.sqrt(np.float32(q.shape[-1]))
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = (scores / scores.sum(-1, keepdims=True)) @ v
        mixed = mixed.transpose(1, 0, 2).reshape(len(ids), -1)
        x = norm(x + linear(mixed, p + "attention.output.dense"), p + "attention.output.LayerNorm")
        x = norm(x + linear(gelu(linear(x, p + "intermediate.dense")), p + "output.dense"), p + "output.LayerNorm")
    x = x.mean(0)
    return x / np.linalg.norm(x)


one, two, three = (embed(text) for text in ("the cat sits outside", "a cat is in the garden", "the price of oil rose"))
print(f"related {one @ two:.4f} unrelated {one @ three:.4f}")
print(np.concatenate([one, two, three]).astype(np.float32).tobytes().hex())

"""The forward pass of latent_decoder.py's model in NumPy, in double precision, as the equations have it.

Nothing of the graph is used: no cache (every step computes the whole sequence), keys and values of every head are formed,
and the experts of a token are computed one by one.
"""
import numpy as np


def rms_norm(x, gain, epsilon):
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + epsilon) * gain


def silu(x):
    return x / (1 + np.exp(-x))


def rotate(x, position, base):
    """One vector at one position."""
    half = len(x) // 2
    angle = position * base ** (-2.0 * np.arange(half) / len(x))
    as_complex = (x[:half] + 1j * x[half:]) * np.exp(1j * angle)
    return np.concatenate([as_complex.real, as_complex.imag])


def attention(shape, weights, layer, x):
    s = shape
    get = lambda name: weights[f"{layer}.{name}"].astype(np.float64)
    count = len(x)
    low = rms_norm(x @ get("query_down"), get("query_norm"), s.epsilon)
    queries = (low @ get("query_up")).reshape(count, s.heads, s.nope + s.rotary)
    down = x @ get("latent_down")
    latent = rms_norm(down[:, : s.latent], get("latent_norm"), s.epsilon)
    shared_key = np.stack([rotate(down[t, s.latent :], t, s.base) for t in range(count)])
    out = np.zeros((count, s.heads, s.value))
    for head in range(s.heads):
        keys = np.concatenate([latent @ get("key_up")[head], shared_key], axis=1)
        values = latent @ get("value_up")[head]
        for t in range(count):
            query = np.concatenate([queries[t, head, : s.nope], rotate(queries[t, head, s.nope :], t, s.base)])
            scores = keys[: t + 1] @ query / np.sqrt(s.nope + s.rotary)
            shares = np.exp(scores - scores.max())
            out[t, head] = shares / shares.sum() @ values[: t + 1]
    return out.reshape(count, -1) @ get("output")


def mlp(x, gate, up, down):
    return (silu(x @ gate) * (x @ up)) @ down


def experts(shape, weights, layer, x):
    s = shape
    get = lambda name: weights[f"{layer}.{name}"].astype(np.float64)
    out = np.zeros_like(x)
    margin = np.inf  # how clearly the choice of experts was made
    for t, token in enumerate(x):
        scores = 1 / (1 + np.exp(-(token @ get("router"))))
        order = sorted(range(s.experts), key=lambda e: -(scores[e] + get("router_bias")[e]))
        ranked = [scores[e] + get("router_bias")[e] for e in order]
        margin = min(margin, ranked[s.chosen - 1] - ranked[s.chosen])
        total = sum(scores[e] for e in order[: s.chosen])
        for e in order[: s.chosen]:
            result = mlp(token, get("expert_gate")[e], get("expert_up")[e], get("expert_down")[e])
            out[t] += s.scaling * scores[e] / total * result
        out[t] += mlp(token, get("shared_gate")[0], get("shared_up")[0], get("shared_down")[0])
    return out, margin


def forward(shape, weights, tokens):
    """Logits [len(tokens), vocabulary], and the smallest margin by which an expert was preferred to another."""
    s = shape
    get = lambda name: weights[name].astype(np.float64)
    x = get("embedding")[np.asarray(tokens)]
    margin = np.inf
    for layer in range(s.layers):
        x = x + attention(s, weights, layer, rms_norm(x, get(f"{layer}.attention_norm"), s.epsilon))
        inner = rms_norm(x, get(f"{layer}.mlp_norm"), s.epsilon)
        if layer < s.dense_layers:
            x = x + mlp(inner, get(f"{layer}.gate"), get(f"{layer}.up"), get(f"{layer}.down"))
        else:
            result, layer_margin = experts(s, weights, layer, inner)
            x = x + result
            margin = min(margin, layer_margin)
    return rms_norm(x, get("norm"), s.epsilon) @ get("head"), margin

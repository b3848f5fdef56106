#!/usr/bin/python3
"""Writes a small decoder language model in the manner of DeepSeek-V3, with seeded weights, as an ONNX file.

Multi-head latent attention: keys and values of a token are one latent vector (and one rotary key that all heads share);
the cache holds only these, and the projections of keys and values are absorbed into those of queries and outputs.
Mixture of experts: sigmoid scores with a selection bias, the best k experts of each token, their weights normalised, and
one expert that every token passes. The dimensions are those of DeepSeek-V3 (7168 wide, latent 512, rotary key 64, heads of
128, 18432 and 2048 wide MLPs) divided by 56, 16, 8, 8 and about 57, with 3 layers, 4 heads and 8 experts.

One graph serves prefill and decode. Inputs: tokens int64 [1, S]; positions int64 [1, S], the place of each token in the
sequence and of its entry in the caches; past_latent.L float32 [1, C, 32] and past_rotary.L float32 [1, C, 8] for each layer.
Outputs: logits float32 [1, S, V]; present_latent.L and present_rotary.L, the caches with the tokens' entries set. A token
sees the entries at positions up to its own, so entries behind the sequence's end never matter.

Usage: latent_decoder.py MODEL.onnx [--seed N] [--capacity C] [--charset FILE.json]
"""
import argparse
import json

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


class Shape:
    """Dimensions of the model."""

    layers = 3
    dense_layers = 1  # the first; the others have experts
    width = 128
    heads = 4
    query_rank = 48
    latent = 32
    nope = 16  # of a head's query and key without position
    rotary = 8
    value = 16
    dense = 320
    expert = 36
    experts = 8
    chosen = 2
    scaling = 2.5
    epsilon = 1e-6
    base = 10000.0

    def __init__(self, vocabulary=65, capacity=64):
        self.vocabulary = vocabulary
        self.capacity = capacity


def make_weights(shape, seed):
    """All weights by name, float32, each matrix scaled by its number of rows."""
    random = np.random.default_rng(seed)
    weights = {}

    def matrix(name, *dims, scale=1.0):
        values = random.standard_normal(dims) * scale / np.sqrt(dims[-2])
        weights[name] = values.astype(np.float32)

    def gain(name, size):
        weights[name] = (1 + 0.1 * random.standard_normal(size)).astype(np.float32)

    s = shape
    weights["embedding"] = random.standard_normal((s.vocabulary, s.width)).astype(np.float32)
    for layer in range(s.layers):
        p = f"{layer}."
        gain(p + "attention_norm", s.width)
        matrix(p + "query_down", s.width, s.query_rank)
        gain(p + "query_norm", s.query_rank)
        matrix(p + "query_up", s.query_rank, s.heads * (s.nope + s.rotary))
        matrix(p + "latent_down", s.width, s.latent + s.rotary)
        gain(p + "latent_norm", s.latent)
        matrix(p + "key_up", s.heads, s.latent, s.nope)
        matrix(p + "value_up", s.heads, s.latent, s.value)
        matrix(p + "output", s.heads * s.value, s.width)
        gain(p + "mlp_norm", s.width)
        if layer < s.dense_layers:
            matrix(p + "gate", s.width, s.dense)
            matrix(p + "up", s.width, s.dense)
            matrix(p + "down", s.dense, s.width)
            continue
        matrix(p + "router", s.width, s.experts)
        weights[p + "router_bias"] = (0.1 * random.standard_normal(s.experts)).astype(np.float32)
        for kind, count in (("expert", s.experts), ("shared", 1)):
            matrix(p + kind + "_gate", count, s.width, s.expert)
            matrix(p + kind + "_up", count, s.width, s.expert)
            matrix(p + kind + "_down", count, s.expert, s.width)
    gain("norm", s.width)
    matrix("head", s.width, s.vocabulary, scale=2.0)
    return weights


class Builder:
    """Collects nodes; every method adds one and returns its result's name."""

    def __init__(self):
        self.nodes = []
        self.constants = {}

    def constant(self, value, name=None):
        value = np.asarray(value)
        name = name or f"constant_{len(self.constants)}"
        self.constants.setdefault(name, numpy_helper.from_array(value, name))
        return name

    def integers(self, *values):
        return self.constant(np.array(values, np.int64), "i_" + "_".join(str(v) for v in values))

    def op(self, kind, *inputs, outputs=1, name=None, **attributes):
        names = [name] if name else [f"{kind}_{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(
            helper.make_node(kind, list(inputs), names, name=f"{kind}_{len(self.nodes)}", **attributes)
        )
        return names[0] if outputs == 1 else names


def build(shape, weights):
    s = shape
    b = Builder()
    w = {name: b.constant(value, name) for name, value in weights.items()}

    def scalar(value):
        return b.constant(np.float32(value), f"f_{value}")

    def rms_norm(x, gain):
        mean = b.op("ReduceMean", b.op("Mul", x, x), axes=[-1])
        return b.op("Mul", b.op("Div", x, b.op("Sqrt", b.op("Add", mean, scalar(s.epsilon)))), gain)

    def silu(x):
        return b.op("Mul", x, b.op("Sigmoid", x))

    def rotate(x, cos, sin):  # the first half of the last dimension is turned against the second
        half = s.rotary // 2
        low, high = b.op("Split", x, b.integers(half, half), outputs=2, axis=-1)
        turned_low = b.op("Sub", b.op("Mul", low, cos), b.op("Mul", high, sin))
        turned_high = b.op("Add", b.op("Mul", high, cos), b.op("Mul", low, sin))
        return b.op("Concat", turned_low, turned_high, axis=-1)

    angles = np.outer(np.arange(s.capacity), s.base ** (-np.arange(0, s.rotary, 2) / s.rotary))
    cos = b.op("Gather", b.constant(np.cos(angles).astype(np.float32), "cos"), "positions")  # [1, S, rotary / 2]
    sin = b.op("Gather", b.constant(np.sin(angles).astype(np.float32), "sin"), "positions")
    head_cos, head_sin = (b.op("Unsqueeze", t, b.integers(1)) for t in (cos, sin))
    places = b.op("Unsqueeze", "positions", b.integers(2))  # [1, S, 1]
    slots = b.constant(np.arange(s.capacity, dtype=np.int64).reshape(1, 1, s.capacity), "slots")
    visible = b.op("Unsqueeze", b.op("LessOrEqual", slots, places), b.integers(1))  # [1, 1, S, C]
    length = b.op("Shape", "tokens", start=1)

    def update(kind, layer, entries, size):
        """The layer's cache with the tokens' entries at their positions."""
        where = b.op("Expand", places, b.op("Concat", b.integers(1), length, b.integers(size), axis=0))
        present = b.op("ScatterElements", f"past_{kind}.{layer}", where, entries, axis=1, name=f"present_{kind}.{layer}")
        return b.op("Unsqueeze", present, b.integers(1))  # one for all heads

    def attention(x, layer):
        p = f"{layer}."
        low = rms_norm(b.op("MatMul", x, w[p + "query_down"]), w[p + "query_norm"])
        query = b.op("Reshape", b.op("MatMul", low, w[p + "query_up"]), b.integers(0, 0, s.heads, s.nope + s.rotary))
        query = b.op("Transpose", query, perm=[0, 2, 1, 3])
        query, query_rotary = b.op("Split", query, b.integers(s.nope, s.rotary), outputs=2, axis=-1)
        query_rotary = rotate(query_rotary, head_cos, head_sin)
        down = b.op("MatMul", x, w[p + "latent_down"])
        latent, key_rotary = b.op("Split", down, b.integers(s.latent, s.rotary), outputs=2, axis=-1)
        latents = update("latent", layer, rms_norm(latent, w[p + "latent_norm"]), s.latent)
        rotaries = update("rotary", layer, rotate(key_rotary, cos, sin), s.rotary)
        # (q . (c K)) = (q K^T) . c: the keys need never be formed.
        key_up = b.constant(np.ascontiguousarray(weights[p + "key_up"].transpose(0, 2, 1)), p + "key_up_transposed")
        query = b.op("MatMul", query, key_up)
        scores = b.op(
            "Add",
            b.op("MatMul", query, b.op("Transpose", latents, perm=[0, 1, 3, 2])),
            b.op("MatMul", query_rotary, b.op("Transpose", rotaries, perm=[0, 1, 3, 2])),
        )
        scores = b.op("Mul", scores, scalar(float(1 / np.sqrt(s.nope + s.rotary))))
        shares = b.op("Softmax", b.op("Where", visible, scores, scalar(-1e9)), axis=-1)
        mixed = b.op("MatMul", b.op("MatMul", shares, latents), w[p + "value_up"])
        mixed = b.op("Reshape", b.op("Transpose", mixed, perm=[0, 2, 1, 3]), b.integers(0, 0, s.heads * s.value))
        return b.op("MatMul", mixed, w[p + "output"])

    def mlp(x, gate, up, down):
        return b.op("MatMul", b.op("Mul", silu(b.op("MatMul", x, gate)), b.op("MatMul", x, up)), down)

    def experts(x, layer):
        p = f"{layer}."
        scores = b.op("Sigmoid", b.op("MatMul", x, w[p + "router"]))
        ranked = b.op("Add", scores, w[p + "router_bias"])
        _, chosen = b.op("TopK", ranked, b.integers(s.chosen), outputs=2, axis=-1)
        share = b.op("GatherElements", scores, chosen, axis=-1)
        total = b.op("ReduceSum", share, b.integers(-1))
        share = b.op("Mul", b.op("Div", share, total), scalar(s.scaling))
        none = b.op("ConstantOfShape", b.op("Shape", scores), value=helper.make_tensor("", TensorProto.FLOAT, [1], [0.0]))
        share = b.op("ScatterElements", none, chosen, share, axis=-1)  # [1, S, experts], 0 for those not chosen
        share = b.op("Unsqueeze", b.op("Transpose", share, perm=[2, 1, 0]), b.integers(0))  # [1, experts, S, 1]
        wide = b.op("Unsqueeze", x, b.integers(1))  # [1, 1, S, width]
        results = mlp(wide, *(w[p + "expert_" + part] for part in ("gate", "up", "down")))
        mixed = b.op("ReduceSum", b.op("Mul", results, share), b.integers(1), keepdims=0)
        shared = mlp(wide, *(w[p + "shared_" + part] for part in ("gate", "up", "down")))
        return b.op("Add", mixed, b.op("Squeeze", shared, b.integers(1)))

    x = b.op("Gather", w["embedding"], "tokens")
    for layer in range(s.layers):
        p = f"{layer}."
        x = b.op("Add", x, attention(rms_norm(x, w[p + "attention_norm"]), layer))
        inner = rms_norm(x, w[p + "mlp_norm"])
        if layer < s.dense_layers:
            x = b.op("Add", x, mlp(inner, w[p + "gate"], w[p + "up"], w[p + "down"]))
        else:
            x = b.op("Add", x, experts(inner, layer))
    b.op("MatMul", rms_norm(x, w["norm"]), w["head"], name="logits")

    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, [1, "S"]) for name in ("tokens", "positions")]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, "S", s.vocabulary])]
    for layer in range(s.layers):
        for kind, size in (("latent", s.latent), ("rotary", s.rotary)):
            dims = [1, s.capacity, size]
            inputs.append(helper.make_tensor_value_info(f"past_{kind}.{layer}", TensorProto.FLOAT, dims))
            outputs.append(helper.make_tensor_value_info(f"present_{kind}.{layer}", TensorProto.FLOAT, dims))
    used = {name for node in b.nodes for name in node.input}
    constants = [tensor for name, tensor in b.constants.items() if name in used]
    graph = helper.make_graph(b.nodes, "latent_decoder", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], producer_name="cxvp examples")
    model.ir_version = 8
    onnx.checker.check_model(model)
    return model


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--seed", type=int, default=2)
    parser.add_argument("--capacity", type=int, default=64, help="tokens that the caches hold")
    parser.add_argument("--charset", help="file to write the characters to, one for each token (JSON)")
    arguments = parser.parse_args()
    characters = "\n !$&',-.3:;?ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    shape = Shape(len(characters), arguments.capacity)
    onnx.save(build(shape, make_weights(shape, arguments.seed)), arguments.model)
    if arguments.charset:
        with open(arguments.charset, "w", encoding="utf-8") as file:
            json.dump(list(characters), file)


if __name__ == "__main__":
    main()

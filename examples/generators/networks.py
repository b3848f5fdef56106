#!/usr/bin/python3
"""Writes networks of known shapes with seeded weights as ONNX files, for measurements.

  networks.py resnet50 FILE [--batch 1] [--size 224] [--int8] [--seed 1]
  networks.py mlp FILE [--batch 200] [--layers 5] [--width 2048] [--int8] [--seed 1]
  networks.py encoder FILE [--tokens 128] [--layers 12] [--width 768] [--heads 12] [--seed 1]
  networks.py decoder FILE [--tokens 128] [--layers 12] [--width 768] [--heads 12] [--seed 1]
  networks.py gpt2 FILE [--capacity 128] [--vocabulary 50257] [--layers 12] [--width 768] [--heads 12] [--seed 1]

resnet50: the layers of ResNet-50 (He et al. 2015, table 1; strides in the 3x3 convolutions), batch normalisation folded.
  --batch: a number, or a name, by which the model leaves it open (cx run --shape image=8,3,224,224).
mlp: square layers with ReLU; as it stands about MLP0 of Jouppi et al., ISCA 2017, table 1 (5 layers, 20 M weights, batch 200).
--int8: weights and what goes from layer to layer are int8 with one scale each (QuantizeLinear, DequantizeLinear).
encoder: a stack of BERT blocks (Devlin et al. 2018; base: 12 blocks of width 768 with 12 heads) on embedded tokens.
decoder: a stack of GPT-2 blocks (Radford et al. 2019), causal, as it runs over a prompt.
gpt2: the whole model with a cache of `capacity` tokens, for cx generate; as it stands 124 million parameters (GPT-2 small).

The same arguments give the same bytes. Needs python3-numpy and python3-onnx.
"""
import argparse

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


class Network:
    def __init__(self, name, seed):
        self.name = name
        self.random = np.random.Generator(np.random.PCG64(seed))
        self.nodes = []
        self.constants = []
        self.count = 0

    def constant(self, values, dtype=np.float32):
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(values, dtype=dtype), name))
        return name

    def weights(self, shape, fan_in, gain=1.0):
        scale = np.float32(gain / np.sqrt(fan_in))
        return self.constant(self.random.standard_normal(shape, dtype=np.float32) * scale)

    def small(self, size):
        return self.constant(self.random.standard_normal(size, dtype=np.float32) * np.float32(0.02))

    def node(self, op, inputs, **attributes):
        name = f"{op.lower()}_{self.count}"
        self.count += 1
        self.nodes.append(helper.make_node(op, inputs, [name], name=name, **attributes))
        return name

    def int8_scale(self, largest):
        return [self.constant(np.float32(largest / 127)), self.constant(0, np.int8)]

    def int8(self, x, largest):
        """x as int8 of [-largest, largest], and back."""
        scale = self.int8_scale(largest)
        return self.node("DequantizeLinear", [self.node("QuantizeLinear", [x, *scale]), *scale])

    def int8_weights(self, shape, fan_in, gain=1.0):
        values = self.random.standard_normal(shape, dtype=np.float32) * np.float32(gain / np.sqrt(fan_in))
        scale = np.float32(np.abs(values).max() / 127)
        return self.node("DequantizeLinear", [self.constant(np.rint(values / scale), np.int8), self.constant(scale),
                                              self.constant(0, np.int8)])

    def save(self, path, inputs, outputs, dtype=TensorProto.FLOAT, opset=13):
        """inputs, outputs: (name, shape), or (name, shape, type) where it is not dtype."""
        def values(list_):
            return [helper.make_tensor_value_info(n, kind[0] if kind else dtype, shape) for n, shape, *kind in list_]

        for produced, (name, *_) in zip(self.outputs, outputs):
            self.nodes.append(helper.make_node("Identity", [produced], [name], name=name))
        graph = helper.make_graph(self.nodes, self.name, values(inputs), values(outputs), self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], producer_name="networks.py")
        model.ir_version = 8
        onnx.save(model, path)


def resnet50(arguments):
    net = Network("resnet50", arguments.seed)
    weights = net.int8_weights if arguments.int8 else net.weights

    def stored(x, largest=8):
        return net.int8(x, largest) if arguments.int8 else x

    def conv(x, inputs, outputs, kernel, stride=1, gain=np.sqrt(2.0)):
        w = weights((outputs, inputs, kernel, kernel), inputs * kernel * kernel, gain)
        return net.node("Conv", [x, w, net.small(outputs)], kernel_shape=[kernel] * 2, strides=[stride] * 2,
                        pads=[kernel // 2] * 4)

    def relu(x):
        return stored(net.node("Relu", [x]))

    x = net.node("Relu", [conv(stored("image", 4), 3, 64, 7, 2)])
    x = stored(net.node("MaxPool", [x], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]))
    channels = 64
    for stage, blocks in enumerate([3, 4, 6, 3]):
        narrow = 64 << stage
        for block in range(blocks):
            stride = 2 if stage > 0 and block == 0 else 1
            y = relu(conv(x, channels, narrow, 1))
            y = relu(conv(y, narrow, narrow, 3, stride))
            # A small gain keeps the sums of the residual path from growing from block to block.
            y = stored(conv(y, narrow, 4 * narrow, 1, gain=0.5))
            if block == 0:
                x = stored(conv(x, channels, 4 * narrow, 1, stride, gain=1.0))
            x = relu(net.node("Add", [y, x]))
            channels = 4 * narrow
    x = net.node("GlobalAveragePool", [x])
    x = stored(net.node("Flatten", [x], axis=1))
    w = weights((1000, channels), channels)
    net.outputs = [net.node("Gemm", [x, w, net.small(1000)], transB=1)]
    net.save(arguments.file, [("image", [arguments.batch, 3, arguments.size, arguments.size])],
             [("scores", [arguments.batch, 1000])])


def mlp(arguments):
    net = Network("mlp", arguments.seed)
    weights = net.int8_weights if arguments.int8 else net.weights
    width = arguments.width
    # Input and output are integers too: the host quantises.
    x = net.node("DequantizeLinear", ["x", *net.int8_scale(4)]) if arguments.int8 else "x"
    for layer in range(arguments.layers):
        product = net.node("MatMul", [x, weights((width, width), width, np.sqrt(2.0))])
        x = net.node("Relu", [net.node("Add", [product, net.small(width)])])
        if arguments.int8 and layer + 1 < arguments.layers:
            x = net.int8(x, 8)
    if arguments.int8:
        x = net.node("QuantizeLinear", [x, *net.int8_scale(8)])
    net.outputs = [x]
    shape = [arguments.batch, width]
    net.save(arguments.file, [("x", shape)], [("y", shape)], TensorProto.INT8 if arguments.int8 else TensorProto.FLOAT)


def transformer(arguments, causal):
    net = Network("decoder" if causal else "encoder", arguments.seed)
    tokens, width, heads = arguments.tokens, arguments.width, arguments.heads
    depth = width // heads

    def linear(x, inputs, outputs):
        return net.node("Add", [net.node("MatMul", [x, net.weights((inputs, outputs), inputs)]), net.small(outputs)])

    def normalise(x):
        mean = net.node("ReduceMean", [x], axes=[-1], keepdims=1)
        centred = net.node("Sub", [x, mean])
        square = net.node("Pow", [centred, net.constant(2.0)])
        variance = net.node("ReduceMean", [square], axes=[-1], keepdims=1)
        deviation = net.node("Sqrt", [net.node("Add", [variance, net.constant(1e-5)])])
        scaled = net.node("Mul", [net.node("Div", [centred, deviation]), net.constant(np.ones(width))])
        return net.node("Add", [scaled, net.small(width)])

    def split(x, perm):
        x = net.node("Reshape", [x, net.constant([1, tokens, heads, depth], np.int64)])
        return net.node("Transpose", [x], perm=perm)

    def attention(x):
        q = split(linear(x, width, width), [0, 2, 1, 3])
        k = split(linear(x, width, width), [0, 2, 3, 1])
        v = split(linear(x, width, width), [0, 2, 1, 3])
        scores = net.node("Div", [net.node("MatMul", [q, k]), net.constant(np.sqrt(depth))])
        if causal:
            mask = np.triu(np.full((1, 1, tokens, tokens), -1e4), 1)
            scores = net.node("Add", [scores, net.constant(mask)])
        mixed = net.node("MatMul", [net.node("Softmax", [scores], axis=-1), v])
        mixed = net.node("Transpose", [mixed], perm=[0, 2, 1, 3])
        mixed = net.node("Reshape", [mixed, net.constant([1, tokens, width], np.int64)])
        return linear(mixed, width, width)

    def gelu(x):
        erf = net.node("Erf", [net.node("Div", [x, net.constant(np.sqrt(2.0))])])
        return net.node("Mul", [net.node("Mul", [x, net.node("Add", [erf, net.constant(1.0)])]), net.constant(0.5)])

    def feed_forward(x):
        return linear(gelu(linear(x, width, 4 * width)), 4 * width, width)

    x = "embedded"
    for _ in range(arguments.layers):
        if causal:
            x = net.node("Add", [x, attention(normalise(x))])
            x = net.node("Add", [x, feed_forward(normalise(x))])
        else:
            x = normalise(net.node("Add", [x, attention(x)]))
            x = normalise(net.node("Add", [x, feed_forward(x)]))
    net.outputs = [normalise(x) if causal else x]
    shape = [1, tokens, width]
    net.save(arguments.file, [("embedded", shape)], [("hidden", shape)])


def gpt2(arguments):
    net = Network("gpt2", arguments.seed)
    width, heads, capacity, vocabulary = arguments.width, arguments.heads, arguments.capacity, arguments.vocabulary
    depth = width // heads

    def integers(*values):
        return net.constant(values, np.int64)

    def linear(x, inputs, outputs):
        return net.node("Add", [net.node("MatMul", [x, net.weights((inputs, outputs), inputs)]), net.small(outputs)])

    def normalise(x):
        centred = net.node("Sub", [x, net.node("ReduceMean", [x], axes=[-1], keepdims=1)])
        variance = net.node("ReduceMean", [net.node("Mul", [centred, centred])], axes=[-1], keepdims=1)
        deviation = net.node("Sqrt", [net.node("Add", [variance, net.constant(1e-5)])])
        return net.node("Add", [net.node("Mul", [net.node("Div", [centred, deviation]), net.constant(np.ones(width))]), net.small(width)])

    def by_head(x, perm):
        return net.node("Transpose", [net.node("Reshape", [x, integers(0, 0, heads, depth)])], perm=perm)

    places = net.node("Unsqueeze", ["positions", integers(2)])  # [1, S, 1]
    length = net.node("Shape", ["tokens"], start=1)
    where = net.node("Expand", [places, net.node("Concat", [integers(1), length, integers(width)], axis=0)])
    slots = net.constant(np.arange(capacity).reshape(1, 1, capacity), np.int64)
    visible = net.node("Unsqueeze", [net.node("LessOrEqual", [slots, places]), integers(1)])  # [1, 1, S, C]
    presents = []

    def cached(entries, name):
        present = net.node("ScatterElements", [f"past_{name}", where, entries], axis=1)
        presents.append((present, f"present_{name}"))
        return present

    def attention(x, layer):
        q = by_head(linear(x, width, width), [0, 2, 1, 3])
        k = by_head(cached(linear(x, width, width), f"key.{layer}"), [0, 2, 3, 1])
        v = by_head(cached(linear(x, width, width), f"value.{layer}"), [0, 2, 1, 3])
        scores = net.node("Mul", [net.node("MatMul", [q, k]), net.constant(1 / np.sqrt(depth))])
        shares = net.node("Softmax", [net.node("Where", [visible, scores, net.constant(-1e4)])], axis=-1)
        mixed = net.node("Transpose", [net.node("MatMul", [shares, v])], perm=[0, 2, 1, 3])
        return linear(net.node("Reshape", [mixed, integers(0, 0, width)]), width, width)

    def gelu(x):
        erf = net.node("Erf", [net.node("Div", [x, net.constant(np.sqrt(2.0))])])
        return net.node("Mul", [net.node("Mul", [x, net.node("Add", [erf, net.constant(1.0)])]), net.constant(0.5)])

    embedding = net.weights((vocabulary, width), width)
    position = net.node("Gather", [net.weights((capacity, width), width), "positions"])
    x = net.node("Add", [net.node("Gather", [embedding, "tokens"]), position])
    for layer in range(arguments.layers):
        x = net.node("Add", [x, attention(normalise(x), layer)])
        x = net.node("Add", [x, linear(gelu(linear(normalise(x), width, 4 * width)), 4 * width, width)])
    scores = net.node("MatMul", [normalise(x), net.node("Transpose", [embedding], perm=[1, 0])])
    cache = [1, capacity, width]
    net.outputs = [scores] + [produced for produced, _ in presents]
    inputs = [(name, [1, "S"], TensorProto.INT64) for name in ("tokens", "positions")]
    inputs += [(name.replace("present", "past"), cache) for _, name in presents]
    net.save(arguments.file, inputs, [("logits", [1, "S", vocabulary])] + [(name, cache) for _, name in presents], opset=15)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest="kind", required=True)
    for kind in ["resnet50", "mlp", "encoder", "decoder", "gpt2"]:
        one = kinds.add_parser(kind)
        one.add_argument("file")
        one.add_argument("--seed", type=int, default=1)
        if kind in ["resnet50", "mlp"]:
            one.add_argument("--int8", action="store_true")
        if kind == "resnet50":
            one.add_argument("--batch", type=lambda text: int(text) if text.isdigit() else text, default=1)
            one.add_argument("--size", type=int, default=224)
            continue
        if kind == "mlp":
            one.add_argument("--batch", type=int, default=200)
            one.add_argument("--layers", type=int, default=5)
            one.add_argument("--width", type=int, default=2048)
            continue
        if kind == "gpt2":
            one.add_argument("--capacity", type=int, default=128)
            one.add_argument("--vocabulary", type=int, default=50257)
        else:
            one.add_argument("--tokens", type=int, default=128)
        one.add_argument("--layers", type=int, default=12)
        one.add_argument("--width", type=int, default=768)
        one.add_argument("--heads", type=int, default=12)
    arguments = parser.parse_args()
    if arguments.kind == "resnet50":
        resnet50(arguments)
    elif arguments.kind == "mlp":
        mlp(arguments)
    else:
        if arguments.width % arguments.heads != 0:
            parser.error("--width must be a multiple of --heads")
        if arguments.kind == "gpt2":
            gpt2(arguments)
        else:
            transformer(arguments, arguments.kind == "decoder")


if __name__ == "__main__":
    main()

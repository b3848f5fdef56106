#!/usr/bin/python3
"""Runs an ONNX classifier on the simulated card with the module cxvp and says what each batch cost.

Usage: PYTHONPATH=build/release/python examples/python/classify.py MODEL.onnx [--config cx3210] [--precision fp16]
Every open dimension of the first input takes the batch's size; other inputs must not exist. The images are random.
"""
import argparse

import numpy as np

import cxvp


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--config", default="cx3210")
    parser.add_argument("--precision", default="fp16")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4, 1])
    arguments = parser.parse_args()

    session = cxvp.Session(arguments.model, config=arguments.config, precision=arguments.precision)
    (image,) = session.get_inputs()
    output = session.get_outputs()[0]
    print(f"{image} -> {output}")
    random = np.random.default_rng(1)
    for batch in arguments.batches:
        shape = [size if isinstance(size, int) else batch for size in image.shape]
        values = random.random(shape, np.float32)
        (scores,) = session.run([output.name], {image.name: values})
        report = session.report()
        print(
            f"{shape}: classes {np.argmax(scores, axis=-1).ravel().tolist()}, {report['latency_us']:.1f} us simulated, "
            f"{report['session']['compilations']} programs compiled"
        )


if __name__ == "__main__":
    main()

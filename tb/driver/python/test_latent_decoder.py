"""The decoder of examples/language on the card: its caches stay on the device and every step equals a NumPy forward pass."""
import os
import tempfile
import unittest

import numpy as np
import onnx

import cxvp
import latent_decoder
import latent_decoder_reference as reference

SEED = 2
PROMPT = [30, 27, 25, 17, 27, 10]


class LatentDecoderTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.shape = latent_decoder.Shape()
        cls.weights = latent_decoder.make_weights(cls.shape, SEED)
        cls.path = os.path.join(cls.folder.name, "latent.onnx")
        onnx.save(latent_decoder.build(cls.shape, cls.weights), cls.path)

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def session(self, precision):
        names = [f"{kind}.{layer}" for layer in range(self.shape.layers) for kind in ("latent", "rotary")]
        session = cxvp.Session(
            self.path, config="tiny", precision=precision, in_place={"present_" + n: "past_" + n for n in names}
        )
        self.caches = {}
        for node in session.get_inputs():
            if node.name.startswith("past_"):
                self.caches[node.name] = session.device.zeros(node.shape)
                session.bind_input(node.name, self.caches[node.name])
        self.assertEqual(len(self.caches), 6)
        return session

    def feed(self, session, tokens, position):
        count = len(tokens)
        places = np.arange(position, position + count, dtype=np.int64)[None]
        (logits,) = session.run(["logits"], {"tokens": np.array([tokens], np.int64), "positions": places})
        self.assertEqual(logits.shape, (1, count, self.shape.vocabulary))
        return logits[0]

    def generate(self, precision, steps, tolerance):
        session = self.session(precision)
        tokens = list(PROMPT)
        logits = self.feed(session, tokens, 0)
        for step in range(steps):
            expected, margin = reference.forward(self.shape, self.weights, tokens)
            # Another choice of experts would be another function: the weights' seed keeps them apart.
            self.assertGreater(margin, 1e-3)
            compared = expected if step == 0 else expected[-1:]
            np.testing.assert_allclose(logits, compared, rtol=tolerance, atol=tolerance)
            chosen = int(np.argmax(expected[-1]))
            self.assertEqual(int(np.argmax(logits[-1])), chosen)
            tokens.append(chosen)
            logits = self.feed(session, [chosen], len(tokens) - 1)
            report = session.report()
            self.assertEqual(report["bytes"]["inputs"], 16)
            self.assertEqual(report["bytes"]["resident"], 3 * 4 * self.shape.capacity * (32 + 8))
        statistics = session.statistics()
        self.assertEqual((statistics["compilations"], statistics["runs"]), (2, steps + 1))
        return session

    def test_fp32_equals_the_reference_step_by_step(self):
        self.generate("fp32", 12, 2e-4)

    def test_a_part_of_the_prompt_at_a_time_gives_the_same(self):
        session = self.session("fp32")
        expected, _ = reference.forward(self.shape, self.weights, PROMPT)
        got = np.concatenate([self.feed(session, PROMPT[:4], 0), self.feed(session, PROMPT[4:], 4)])
        np.testing.assert_allclose(got, expected, rtol=2e-4, atol=2e-4)
        # Entries behind the sequence's end are never seen.
        cache = self.caches["past_latent.0"]
        values = cache.numpy()
        self.assertTrue((values[0, 6:] == 0).all() and (values[0, :6] != 0).any(axis=1).all())
        values[0, 7:] = 1e6
        cache.write(values)
        got = self.feed(session, [3], 6)
        expected, _ = reference.forward(self.shape, self.weights, PROMPT + [3])
        np.testing.assert_allclose(got, expected[-1:], rtol=2e-4, atol=2e-4)


if __name__ == "__main__":
    unittest.main()

// Milliseconds that ONNX Runtime takes for one run on one core: node onnxruntime_time.js MODULE MODEL INPUT.pb...
// The median of the runs of one second, after one that is not counted.
const [, , modulePath, model, ...files] = process.argv;
const ort = require(modulePath);
const fs = require("fs");

const kTypes = { 1: ["float32", Float32Array], 6: ["int32", Int32Array], 7: ["int64", BigInt64Array] };

/// The fields of a TensorProto that the stored inputs use: dims, data_type, raw_data.
function readTensor(path) {
  const bytes = fs.readFileSync(path);
  let at = 0, type = 0, raw = null;
  const dims = [];
  const varint = () => {
    let value = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const byte = bytes[at++];
      value |= BigInt(byte & 127) << shift;
      if (byte < 128) return Number(value);
    }
  };
  while (at < bytes.length) {
    const tag = varint();
    if ((tag & 7) === 0) {
      const value = varint();
      if (tag >> 3 === 1) dims.push(value);
      if (tag >> 3 === 2) type = value;
    } else {
      const end = varint() + at;
      if (tag >> 3 === 1) while (at < end) dims.push(varint());
      if (tag >> 3 === 9) raw = bytes.subarray(at, end);
      at = end;
    }
  }
  if (!kTypes[type] || !raw) throw new Error(path + ": type " + type + " or no raw data");
  const [name, View] = kTypes[type];
  return new ort.Tensor(name, new View(raw.buffer.slice(raw.byteOffset, raw.byteOffset + raw.length)), dims);
}

(async () => {
  const session = await ort.InferenceSession.create(model, { intraOpNumThreads: 1, interOpNumThreads: 1 });
  const feeds = {};
  session.inputNames.forEach((name, i) => (feeds[name] = readTensor(files[i])));
  await session.run(feeds);
  const times = [];
  const begin = process.hrtime.bigint();
  while (process.hrtime.bigint() - begin < 1000000000n) {
    const start = process.hrtime.bigint();
    await session.run(feeds);
    times.push(Number(process.hrtime.bigint() - start) / 1e6);
  }
  times.sort((a, b) => a - b);
  console.log(times[times.length >> 1].toFixed(4));
})();

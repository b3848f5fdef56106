// Profile documents of any size from a seed, for tests: the layout is right, the figures are random.

/** Numbers in [0, 1) from a seed (mulberry32). */
export function randomFrom(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

/** A document of one run with `spans` spans on disjoint, nested and overlapping tracks. */
export function generatedProfile(seed, spans, nodes = 200, config = 'generated') {
  const random = randomFrom(seed);
  const pick = (n) => Math.floor(random() * n);
  const reasons = ['compute', 'dram', 'scratchpad', 'noc', 'pcie', 'launch', 'dependency', 'engine'];
  const names = Array.from({length: 60}, (_, i) => `${['LOAD', 'STORE', 'MM_MUL', 'V_ADD', 'SEM_WAIT', 'COPY'][i % 6]} r${i}`);
  const tracks = [
    ...['load', 'store', 'dmmu', 'vpu', 'sca'].map((name) => ({name, group: 'engines', clock: 'device', unit: 'issue', nested: true})),
    ...[0, 1, 2, 3].map((n) => ({name: `channel ${n}`, group: 'dram', clock: 'device', unit: '', nested: true})),
    {name: 'requests', group: 'noc', clock: 'device', unit: 'in flight', nested: false},
    {name: 'packets', group: 'packets', clock: 'device', unit: '', nested: true},
  ];
  const rows = [{start: 0, duration: spans * 4, name: 0, track: 10, node: -1, bytes: 0, operations: 0, reason: 5}];
  const free = tracks.map(() => 0);
  while (rows.length < spans) {
    const track = pick(10);
    // Bursts of short spans and, now and then, a long one.
    const duration = random() < 0.002 ? 500 + pick(5000) : 1 + pick(random() < 0.2 ? 100 : 20);
    const gap = random() < 0.05 ? pick(300) : pick(8);
    const start = tracks[track].nested ? free[track] + gap : Math.max(0, free[track] + pick(40) - 30);
    free[track] = tracks[track].nested ? start + duration : Math.max(free[track], start) + 1;
    rows.push({start, duration, name: pick(names.length), track, node: pick(nodes), bytes: pick(4096), operations: pick(3) ? 0 : pick(100000), reason: pick(9) - 1});
  }
  rows.sort((a, b) => a.start - b.start);
  const end = rows.reduce((most, r) => Math.max(most, r.start + r.duration), 0);
  const column = (key) => rows.map((r) => r[key]);
  const counters = [['DRAM read', 'bytes/s', 'bandwidth', 5e10], ['DRAM written', 'bytes/s', 'bandwidth', 2e10], ['power', 'W', 'power', 20],
    ['junction', 'Celsius', 'temperature', 80]].map(([name, unit, group, most]) => ({
    name, unit, group, time: Array.from({length: 2000}, (_, i) => (i * end) / 2000), value: Array.from({length: 2000}, () => random() * most)}));
  const each = end / nodes;
  const nodeList = Array.from({length: nodes}, (_, i) => {
    const parts = reasons.map(() => (random() < 0.4 ? random() : 0));
    parts[pick(reasons.length)] += 0.1;
    const total = parts.reduce((a, b) => a + b, 0);
    const byReason = parts.map((p) => (p / total) * each);
    return {
      name: `node.${i}`, op: ['Conv', 'MatMul', 'Add', 'Softmax'][pick(4)], nodes: [`node.${i}`, `relu.${i}`], start: i * each, end: (i + 1.5) * each,
      time: each, engine: tracks[pick(5)].name, utilisation: random(), mac_utilisation: random(), bound: byReason.indexOf(Math.max(...byReason)),
      by_reason: byReason, macs: pick(4) ? pick(1e8) : 0, bytes: pick(1e6), memory_bytes: 1 + pick(2e6), bound_ns: random() * each,
      energy_uj: random() * 100, engines: {load: {instructions: pick(50), busy_ns: random() * each, waited_ns: 0, operations: 0, bytes_read: 10, bytes_written: 10}},
    };
  });
  const total = (reason) => nodeList.reduce((sum, n) => sum + n.by_reason[reason], 0);
  const buffers = Array.from({length: 150}, (_, i) => {
    const first = random() * end;
    return {space: pick(2), name: pick(names.length), kind: pick(7), address: 4096 * pick(256), size: 1 + pick(40000), first, last: first + (random() * (end - first))};
  });
  const bufferColumn = (key) => buffers.map((b) => b[key]);
  return {
    format: 'cx-profile', version: 1,
    runs: [{
      model: 'generated.onnx', config, precision: 'fp16',
      chip: {clock_mhz: 1000, tiles: 16, tile_rows: 32, tile_cols: 32, sca_tiles: 0, vpu_lanes: 64, scratchpad_bytes: 8388608, dram_bytes: 1073741824,
        dram_bytes_per_s: 5e10, scratchpad_bytes_per_s: 6.4e10, peak_macs_per_s: 1.6384e13},
      summary: {latency_us: end / 1000, launch_us: end / 1100, work_us: end / 1200, cycles: end, macs: 1e9, mac_utilisation: 0.4, bound_us: end / 2000,
        bound_ratio: 0.55, packets: 3, interrupts: 1, firmware_instructions: 5000, firmware_cycles: 9000,
        bytes: {pcie_to_device: 1e6, pcie_to_host: 1e5, dram_read: 1e8, dram_written: 5e7, spm_read: 1e8, spm_written: 1e8, noc: 1e8},
        energy_uj: 5000, average_w: 12, compile_s: 0.5, wall_s: 2, limited_by: 'dram', headline: `generated from seed ${seed}`},
      reasons, names, tracks,
      spans: {start: column('start'), duration: column('duration'), name: column('name'), track: column('track'), node: column('node'),
        cause: rows.map((_, i) => (i > 0 && random() < 0.8 ? Math.max(0, i - 1 - pick(30)) : -1)), bytes: column('bytes'), operations: column('operations'), reason: column('reason')},
      counters, nodes: nodeList,
      critical_path: {span: nodeList.map(() => pick(rows.length)), start: nodeList.map((_, i) => i * each), duration: nodeList.map(() => each),
        reason: nodeList.map((n) => n.bound), node: nodeList.map((_, i) => i), by_reason: Object.fromEntries(reasons.map((r, i) => [r, total(i)]))},
      stalls: Array.from({length: 12}, (_, i) => ({track: pick(5), node: pick(nodes), waiting_for: pick(6) - 1, reason: pick(8), ns: (12 - i) * 1000, count: 1 + pick(9)})),
      roofline: {ceilings: [{name: 'array', macs_per_s: 1.6384e13}], slopes: [{name: 'DRAM', bytes_per_s: 5e10}],
        points: {node: nodeList.map((_, i) => i), macs: nodeList.map((n) => n.macs), bytes: nodeList.map((n) => n.memory_bytes), ns: nodeList.map((n) => n.time)}},
      memory: {spaces: [{name: 'DRAM', bytes: 1073741824}, {name: 'scratchpad', bytes: 8388608}], kinds: ['program', 'constants', 'workspace', 'input', 'output', 'table', 'tile'],
        buffers: {space: bufferColumn('space'), name: bufferColumn('name'), kind: bufferColumn('kind'), address: bufferColumn('address'), size: bufferColumn('size'),
          first: bufferColumn('first'), last: bufferColumn('last')}},
      energy: {total_uj: 5000, span_us: end / 1000, domains: ['leakage', 'dram', 'dmmu', 'vpu'].map((name, i) => ({name, uj: 2000 - 500 * i, least_uj: 1000 - 250 * i, most_uj: 3000 - 500 * i}))},
      what_if: [{name: 'DRAM bandwidth doubled', sets: ['dram.bandwidth_gbps=100'], latency_us: end / 1500, speedup: 1.5},
        {name: 'no launch cost', sets: ['cp.clock_mhz=100000'], error: 'the chip has no such clock'}],
    }],
  };
}

/** The seed of this run of the tests, in their log. */
export function seedOfRun() {
  const seed = Number(process.env.CX_SEED ?? Math.floor(Math.random() * 2 ** 31));
  console.log(`seed ${seed} (CX_SEED repeats it)`);
  return seed;
}

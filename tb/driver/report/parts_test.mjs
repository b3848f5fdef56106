// Parts of the report page against straightforward references on random data.
import assert from 'node:assert/strict';
import {mkdtempSync, rmSync} from 'node:fs';
import {createRequire} from 'node:module';
import {tmpdir} from 'node:os';
import {dirname, join, resolve} from 'node:path';
import {test} from 'node:test';
import {fileURLToPath, pathToFileURL} from 'node:url';
import {generatedProfile, randomFrom, seedOfRun} from './generated_profile.mjs';

const require = createRequire(`${process.env.CX_REPORT_PACKAGES}/`);
const page = resolve(dirname(fileURLToPath(import.meta.url)), '../../../driver/report/src');

async function load() {
  const folder = mkdtempSync(join(tmpdir(), 'cx_report_'));
  const outfile = join(folder, 'parts.mjs');
  const parts = ['timeline/row_index.ts', 'timeline/layout.ts', 'timeline/step_series.ts', 'document.ts', 'panels/memory.ts', 'panels/compare.ts', 'format.ts'];
  await require('esbuild').build({
    stdin: {contents: parts.map((p) => `export * from ${JSON.stringify(`${page}/${p}`)};`).join('\n'), resolveDir: page, loader: 'ts'},
    bundle: true, format: 'esm', platform: 'node', outfile, nodePaths: [process.env.CX_REPORT_PACKAGES], logLevel: 'error',
    banner: {js: 'globalThis.matchMedia ??= () => ({matches: false}); globalThis.document ??= {createElement: () => ({setAttribute() {}, append() {}})};'},
  });
  const loaded = await import(pathToFileURL(outfile));
  rmSync(folder, {recursive: true});
  return loaded;
}

const parts = await load();
const seed = seedOfRun();

function randomRow(random, n) {
  const start = [];
  const duration = [];
  let t = random() * 100;
  for (let i = 0; i < n; ++i) {
    t += random() < 0.3 ? 0 : random() * (random() < 0.1 ? 300 : 3);
    start.push(t);
    duration.push(random() < 0.05 ? 0 : random() * (random() < 0.05 ? 500 : 4));
    t += duration[i];
  }
  return {start, duration, row: new parts.RowIndex(Int32Array.from(start, (_, i) => i), start, duration)};
}

test('a row draws each visible span once, in pieces that the width bounds', () => {
  const random = randomFrom(seed);
  for (let round = 0; round < 300; ++round) {
    const {start, duration, row} = randomRow(random, 1 + Math.floor(random() * 400));
    const whole = start[start.length - 1] + 10;
    const length = whole * random() ** 3 + 0.01;
    const t0 = random() * whole - length * 0.2;
    const width = 5 + Math.floor(random() * 300);
    const scale = width / length;
    const pieces = [];
    const steps = row.visit(t0, scale, width, (first, last, longest, x0, x1) => pieces.push({first, last, longest, x0, x1}));
    assert.ok(steps <= width + 2, `${steps} steps for ${width} pixels`);
    assert.ok(pieces.length <= 2 * steps);
    let next = -1;
    for (const {first, last, longest, x0, x1} of pieces) {
      if (next >= 0) assert.equal(first, next, 'pieces follow each other');
      next = last;
      assert.ok(first < last && longest >= first && longest < last);
      for (let i = first; i < last; ++i) {
        assert.ok(duration[i] <= duration[longest]);
        assert.ok((start[i] - t0) * scale >= x0 - 1e-6 && (start[i] - t0) * scale <= x1 + 1e-6, 'a span starts in its piece');
        assert.ok((start[i] + duration[i] - t0) * scale <= x1 + 1.5 + 1e-6, 'and ends in it, or within what is too narrow to show');
      }
    }
    // A span that ends or begins right at a border may be in or out.
    const shows = start.map((s, i) => i).filter((i) => start[i] + duration[i] > t0 + 1e-9 && start[i] < t0 + length - 1e-9);
    if (shows.length > 0) {
      assert.ok(pieces.length > 0);
      assert.ok(pieces[0].first <= shows[0] && next > shows[shows.length - 1], 'all that shows is drawn');
    }
  }
});

test('what a row draws does not grow with its spans', () => {
  const work = [1000, 10000, 100000].map((n) => {
    const {start, row} = randomRow(randomFrom(seed), n);
    let pieces = 0;
    row.visit(0, 800 / start[n - 1], 800, () => ++pieces);
    return pieces;
  });
  assert.ok(Math.max(...work) <= 1604, String(work));
});

test('covered time and the span at a time agree with a search of all', () => {
  const random = randomFrom(seed + 1);
  for (let round = 0; round < 300; ++round) {
    const {start, duration, row} = randomRow(random, 1 + Math.floor(random() * 100));
    const end = start[start.length - 1] + 10;
    const from = random() * end;
    const to = from + random() * (end - from);
    const expected = start.reduce((sum, s, i) => sum + Math.max(0, Math.min(to, s + duration[i]) - Math.max(from, s)), 0);
    assert.ok(Math.abs(row.covered(from, to) - expected) < 1e-6 * end);
    const slack = random() * 3;
    const found = row.at(from, slack);
    const near = start.map((s, i) => i).filter((i) => start[i] < from + slack && start[i] + duration[i] >= from - slack);
    if (found === null) {
      assert.equal(near.length, 0);
    } else if (found.last - found.first === 1 && duration[found.first] >= 2 * slack) {
      assert.ok(start[found.first] - slack <= from && start[found.first] + duration[found.first] >= from - slack);
    } else {
      assert.deepEqual([found.first, found.last], [near[0], near[near.length - 1] + 1]);
      assert.equal(duration[found.longest], Math.max(...near.map((i) => duration[i])));
    }
  }
});

test('matches are counted for each piece', () => {
  const random = randomFrom(seed + 2);
  const {row} = randomRow(random, 500);
  const matches = Uint8Array.from({length: 500}, () => (random() < 0.2 ? 1 : 0));
  row.setMatches(matches);
  for (let round = 0; round < 100; ++round) {
    const first = Math.floor(random() * 500);
    const last = first + Math.floor(random() * (500 - first));
    assert.equal(row.matchesIn(first, last), matches.slice(first, last).reduce((a, b) => a + b, 0));
  }
});

test('means and peaks of counters agree with sums over their steps', () => {
  const random = randomFrom(seed + 3);
  for (let round = 0; round < 200; ++round) {
    const n = 1 + Math.floor(random() * 60);
    const time = [random() * 10];
    for (let i = 1; i < n; ++i) time.push(time[i - 1] + random() * 5 + 0.001);
    const value = time.map(() => random() * 100 - 20);
    const end = time[n - 1] + 5;
    const series = new parts.StepSeries({name: 'c', unit: 'W', group: 'power', time, value}, end);
    const from = random() * end;
    const to = from + random() * (end - from) + 1e-3;
    let integral = 0;
    let covered = 0;
    let peak = -Infinity;
    time.forEach((t, i) => {
      const overlap = Math.min(to, i + 1 < n ? time[i + 1] : end) - Math.max(from, t);
      if (overlap <= 0) return;
      integral += overlap * value[i];
      covered += overlap;
      peak = Math.max(peak, value[i]);
    });
    if (covered < 1e-9) continue;
    assert.ok(Math.abs(series.mean(from, to) - integral / covered) < 1e-6);
    assert.equal(series.peak(from, to), peak);
  }
});

function documentOf(spans) {
  return parts.documentFrom(JSON.stringify(generatedProfile(seed, spans)), 'generated.json', 0).runs[0].run;
}

test('every span is in one row of its track, and spans of a row do not overlap', () => {
  const run = documentOf(5000);
  const seen = new Int32Array(run.spans.count);
  for (const {track, rows} of parts.layOut(run)) {
    for (const row of rows) {
      for (let i = 0; i < row.length; ++i) {
        assert.equal(run.spans.track[row.spans[i]], track);
        ++seen[row.spans[i]];
        if (i > 0) assert.ok(row.start[i] >= row.end[i - 1]);
      }
    }
  }
  assert.ok(seen.every((n) => n === 1));
});

test('a span that lies in another goes below it', () => {
  const run = documentOf(2);
  Object.assign(run.spans, {count: 4, start: Float64Array.of(0, 0, 2, 12), duration: Float64Array.of(10, 5, 3, 4), track: Int32Array.of(0, 0, 0, 0)});
  assert.deepEqual(parts.layOut(run)[0].rows.map((r) => Array.from(r.spans)), [[0, 3], [1], [2]]);
});

test('effects are the spans whose cause is the span', () => {
  const run = documentOf(3000);
  const effects = new parts.Effects(run.spans.cause);
  for (let span = 0; span < 3000; span += 7) {
    const expected = Array.from(run.spans.cause, (c, i) => (c === span ? i : -1)).filter((i) => i >= 0);
    assert.deepEqual(Array.from(effects.list(span)), expected);
  }
});

test('engines are busy for as long as any of their spans is open', () => {
  const run = documentOf(4000);
  const tracks = parts.layOut(run);
  const end = run.spans.start.reduce((most, s, i) => Math.max(most, s + run.spans.duration[i]), 0);
  for (const series of parts.engineSeries(run, tracks, 0, end)) {
    const track = run.tracks.findIndex((t) => t.name === series.name);
    // All times are whole nanoseconds, so that counting them is exact.
    const busy = new Uint8Array(end + 1);
    for (let i = 0; i < run.spans.count; ++i) {
      if (run.spans.track[i] === track) busy.fill(1, run.spans.start[i], run.spans.start[i] + run.spans.duration[i]);
    }
    for (const [from, to] of [[0, end], [100, 1000], [1234, 1235], [2000, 9000]]) {
      const expected = busy.slice(from, to).reduce((a, b) => a + b, 0) / (to - from);
      assert.ok(Math.abs(series.mean(from, to) - expected) < 1e-9);
    }
  }
});

test('memory: addresses without holes keep order and sizes, and use adds up', () => {
  const {buffers} = documentOf(10).memory;
  const members = buffers.space.map((s, i) => (s === 0 ? i : -1)).filter((i) => i >= 0);
  const scale = new parts.AddressScale(buffers, members);
  for (const i of members) {
    const size = scale.place(buffers.address[i] + buffers.size[i]) - scale.place(buffers.address[i]);
    assert.ok(Math.abs(size - buffers.size[i]) < 1e-6);
    for (const k of members) {
      if (buffers.address[i] < buffers.address[k]) assert.ok(scale.place(buffers.address[i]) < scale.place(buffers.address[k]));
    }
  }
  const use = parts.inUse(buffers, members);
  use.time.forEach((t, i) => {
    const expected = members.reduce((sum, k) => sum + (buffers.first[k] <= t && t < buffers.last[k] ? buffers.size[k] : 0), 0);
    assert.equal(use.bytes[i], expected);
  });
});

test('nodes of two runs are paired by name, and none is lost', () => {
  const node = (name, time) => ({name, op: 'Conv', time});
  const pairs = parts.pairNodes({nodes: [node('a', 1), node('b', 2)]}, {nodes: [node('c', 3), node('b', 4)]});
  assert.deepEqual(pairs.map((p) => [p.name, p.a?.time, p.b?.time]), [['a', 1, undefined], ['b', 2, 4], ['c', undefined, 3]]);
});

test('numbers read as people write them', () => {
  assert.equal(parts.time(999.9), '1.00 µs');
  assert.equal(parts.time(12345), '12.3 µs');
  assert.equal(parts.time(0), '0');
  assert.equal(parts.time(0.5), '0.500 ns');
  assert.equal(parts.bytes(1536), '1.50 KiB');
  assert.equal(parts.energy(1500), '1.50 mJ');
  assert.equal(parts.percent(0.0123), '1.2 %');
  assert.equal(parts.percent(1), '100 %');
  assert.equal(parts.rate(5e10, 'B'), '50.0 GB/s');
  assert.equal(parts.quantity(0.25, 'share'), '25 %');
  assert.equal(parts.ratio(Infinity), '–');
});

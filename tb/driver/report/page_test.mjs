// The report in headless Chromium, filled by cx report.
import assert from 'node:assert/strict';
import {mkdtempSync, readFileSync, rmSync, writeFileSync} from 'node:fs';
import {tmpdir} from 'node:os';
import {dirname, join} from 'node:path';
import {after, test} from 'node:test';
import {fileURLToPath} from 'node:url';
import {launch, makeReport, openPage, settled, showPanel} from './browser.mjs';
import {generatedProfile, seedOfRun} from './generated_profile.mjs';

const seed = seedOfRun();
const folder = mkdtempSync(join(tmpdir(), 'cx_report_page_'));
const small = join(dirname(fileURLToPath(import.meta.url)), 'small_profile.json');
const browser = await launch();
after(async () => {
  await browser.close();
  rmSync(folder, {recursive: true});
});

function save(name, document) {
  const path = join(folder, name);
  writeFileSync(path, JSON.stringify(document));
  return path;
}

function reportOf(name, ...documents) {
  const path = join(folder, name);
  makeReport(path, ...documents);
  return path;
}

const middle = generatedProfile(seed, 3000);
const middleRun = middle.runs[0];
const middlePage = reportOf('middle.html', save('middle.json', middle));
const kPanels = ['overview', 'timeline', 'nodes', 'roofline', 'over-time', 'memory', 'energy'];

/** The same stretch of time but for rounding. */
function same([a0, a1], [b0, b1], message) {
  assert.ok(Math.abs(a0 - b0) + Math.abs(a1 - b1) < 1e-6 * (b1 - b0), message);
}

const view = (page) => page.evaluate(() => window.cxReport.timeline().view);
/** Where a span is in the window. */
async function pointOf(page, span) {
  return page.evaluate((s) => {
    const timeline = window.cxReport.timeline();
    const box = timeline.canvas.getBoundingClientRect();
    const point = timeline.pointOf(s);
    return point && {x: point.x + box.left, y: point.y + box.top};
  }, span);
}
const canvasBox = (page) => page.evaluate(() => {
  const {left, top, width, height} = window.cxReport.timeline().canvas.getBoundingClientRect();
  return {left, top, width, height};
});

for (const scheme of ['light', 'dark']) {
  test(`every panel draws without errors, requests or overflow, ${scheme}`, async () => {
    const {page, problems} = await openPage(browser, middlePage, {scheme});
    for (const id of kPanels) {
      await showPanel(page, id);
      const found = await page.evaluate(() => ({
        text: document.getElementById('panel').innerText.length,
        wide: document.documentElement.scrollWidth,
        selected: document.querySelector('[role=tab][aria-selected=true]').id,
        background: getComputedStyle(document.body).backgroundColor,
      }));
      assert.equal(found.selected, `tab-${id}`);
      assert.ok(found.text > 20, `${id} has text`);
      assert.ok(found.wide <= 1280, `${id} is ${found.wide} pixels wide`);
      const bright = Number(found.background.match(/\d+/)[0]);
      assert.ok(scheme === 'dark' ? bright < 80 : bright > 180, found.background);
    }
    assert.equal(await page.evaluate(() => document.querySelector('#tab-compare')), null, 'one run has nothing to compare');
    await showPanel(page, 'timeline');
    const corner = await page.evaluate(() => Array.from(window.cxReport.timeline().canvas.getContext('2d').getImageData(2, 2, 1, 1).data));
    assert.ok(scheme === 'dark' ? corner[0] < 80 : corner[0] > 180, `canvas ${corner}`);
    assert.deepEqual(problems, []);
    await page.close();
  });
}

test('the overview says what limits the run, and what would change it', async () => {
  const {page, problems} = await openPage(browser, reportOf('small.html', small));
  const text = await page.evaluate(() => document.getElementById('panel').innerText);
  assert.match(text, /Limited by dram: 33 % of the critical path/);
  assert.match(text, /DRAM takes most of the time/);
  assert.match(text, /DRAM bandwidth doubled\s+1\.25 ×\s+800 ns/);
  assert.match(text, /infinite scratchpad\s+the chip has no such size/);
  assert.match(text, /dmmu waits for load\s+300 ns\s+dram/);
  const widths = await page.evaluate(() => Array.from(document.querySelectorAll('.limiter .bar > span'), (s) => [s.dataset.reason, s.style.width]));
  assert.deepEqual(widths.map((w) => w[0]).sort(), ['compute', 'dram', 'launch']);
  for (const [, width] of widths) assert.ok(Math.abs(parseFloat(width) - 100 / 3) < 0.01, width);
  assert.equal(await page.title(), 'small.onnx on tiny');
  assert.deepEqual(problems, []);
  await page.close();
});

test('the wheel zooms around the pointer, drags and keys move, and the whole comes back', async () => {
  const {page, problems} = await openPage(browser, middlePage, {hash: '#timeline'});
  const box = await canvasBox(page);
  const x = Math.round(box.left + box.width * 0.6);
  const y = box.top + 100;
  await page.mouse.move(x, y);
  const [a0, a1] = await view(page);
  const share = (x - box.left - 148) / (box.width - 148);
  for (let i = 0; i < 5; ++i) await page.mouse.wheel({deltaY: -200});
  await settled(page);
  const [b0, b1] = await view(page);
  assert.ok(Math.abs((b1 - b0) / (a1 - a0) - Math.exp(-1.5)) < 1e-6, 'five turns zoom by e^-1.5');
  assert.ok(Math.abs(a0 + share * (a1 - a0) - (b0 + share * (b1 - b0))) < (b1 - b0) * 0.002, 'the time under the pointer stays');
  await page.mouse.down();
  await page.mouse.move(x - 100, y, {steps: 4});
  await page.mouse.up();
  const [c0, c1] = await view(page);
  assert.ok(Math.abs((c0 - b0) / (b1 - b0) - 100 / (box.width - 148)) < 1e-6, 'a drag moves by its pixels');
  assert.ok(Math.abs(c1 - c0 - (b1 - b0)) < 1e-6);
  await page.keyboard.down('Shift');
  await page.mouse.move(box.left + 300, y);
  await page.mouse.down();
  await page.mouse.move(box.left + 400, y, {steps: 4});
  await page.mouse.up();
  await page.keyboard.up('Shift');
  const [d0, d1] = await view(page);
  assert.ok(Math.abs((d1 - d0) / (c1 - c0) - 100 / (box.width - 148)) < 0.01, 'shift and drag zooms to the range');
  await page.keyboard.press('ArrowRight');
  assert.ok((await view(page))[0] > d0);
  for (let i = 0; i < 12; ++i) await page.mouse.wheel({deltaY: -1000});
  await settled(page);
  const [e0, e1] = await view(page);
  assert.ok(e1 - e0 >= 3.999, 'there is a closest zoom');
  await page.mouse.wheel({deltaY: -1000});
  await settled(page);
  same(await view(page), [e0, e1], 'which does not move');
  await page.keyboard.press('f');
  same(await view(page), [a0, a1], 'F shows all');
  assert.deepEqual(problems, []);
  await page.close();
});

test('a span shows its arguments and cause under the pointer, and its links when clicked', async () => {
  const {page, problems} = await openPage(browser, reportOf('small2.html', small), {hash: '#timeline'});
  const point = await pointOf(page, 4);
  await page.mouse.move(point.x, point.y);
  await settled(page);
  const tip = await page.evaluate(() => document.querySelector('.tip').innerText);
  for (const part of [/multiply/, /time\s+300 ns/, /node\s+conv/, /operator\s+Conv/, /mostly\s+compute/, /bytes\s+100/, /operations\s+9\s000/, /begun by\s+load tile \(load\)/]) assert.match(tip, part);
  await page.mouse.click(point.x, point.y);
  await settled(page);
  const detail = await page.evaluate(() => document.querySelector('.detail').innerText);
  assert.match(detail, /Begun by\s+load: load tile\s+100 ns after its end/);
  assert.match(detail, /Began 1\s+dmmu: activate/);
  assert.equal((await page.evaluate(() => window.cxReport.work())).links, 5, 'one effect and four causes up to the host');
  await page.click('.detail .link');
  assert.equal(await page.evaluate(() => window.cxReport.timeline().selected), 3, 'the cause is a way to go');
  await page.keyboard.press('Escape');
  assert.deepEqual(problems, []);
  await page.close();
});

test('the search finds what a search of the document finds, and goes from match to match', async () => {
  const {page, problems} = await openPage(browser, middlePage, {hash: '#timeline'});
  await page.keyboard.press('/');
  await page.keyboard.type('MM_mul R2');
  const {spans, names} = middleRun;
  const matches = spans.name.map((n, i) => (names[n].toLowerCase().includes('mm_mul r2') ? i : -1)).filter((i) => i >= 0);
  assert.ok(matches.length > 3);
  const found = await page.evaluate(() => document.querySelector('.found').textContent);
  assert.equal(Number(found.replace(/\D/g, '')), matches.length);
  const selected = () => page.evaluate(() => window.cxReport.timeline().selected);
  await page.keyboard.press('Enter');
  assert.equal(await selected(), matches[0]);
  await page.keyboard.press('Enter');
  assert.equal(await selected(), matches[1]);
  const [from, to] = await view(page);
  assert.ok(from < spans.start[matches[1]] && spans.start[matches[1]] + spans.duration[matches[1]] < to, 'the match is in sight');
  assert.notEqual(await pointOf(page, matches[1]), null);
  await page.click('[aria-label="Previous match"]');
  await page.click('[aria-label="Previous match"]');
  assert.equal(await selected(), matches[matches.length - 1], 'it goes round');
  await page.$eval('#timeline-search', (field) => {
    field.value = 'relu.17';
    field.dispatchEvent(new Event('input'));
  });
  const ofNode = spans.node.filter((n) => n === 17 || (n >= 170 && n <= 179)).length;
  assert.equal(Number((await page.evaluate(() => document.querySelector('.found').textContent)).replace(/\D/g, '')), ofNode, 'names of graph nodes count');
  assert.deepEqual(problems, []);
  await page.close();
});

test('the table sorts by each kind of column, filters, and opens rows', async () => {
  const {page, problems} = await openPage(browser, middlePage, {hash: '#nodes'});
  const names = () => page.evaluate(() => Array.from(document.querySelectorAll('#panel .table tbody tr.opens'), (r) => r.children[1].textContent));
  const {nodes, reasons} = middleRun;
  const sorted = (key, sign) => [...nodes].sort((a, b) => sign * (a[key] - b[key])).map((n) => n.name);
  const press = (id) => page.click(`th[data-column=${id}] button`);
  await press('macs');
  assert.deepEqual((await names()).map((n) => nodes[Number(n.split('.')[1])].macs), nodes.map((n) => n.macs).sort((a, b) => b - a));
  await press('energy');
  assert.deepEqual(await names(), sorted('energy_uj', -1));
  await press('energy');
  assert.deepEqual(await names(), sorted('energy_uj', 1));
  assert.equal(await page.$eval('th[data-column=energy]', (th) => th.getAttribute('aria-sort')), 'ascending');
  await press('name');
  assert.deepEqual((await names()).slice(0, 3), ['node.0', 'node.1', 'node.2'], 'numbers in names count as numbers');
  await page.type('#node-filter', 'conv');
  const conv = nodes.filter((n) => n.op === 'Conv');
  assert.deepEqual((await names()).sort(), conv.map((n) => n.name).sort());
  await page.select('select[aria-label="bound by anything"]', 'dram');
  const both = conv.filter((n) => reasons[n.bound] === 'dram');
  assert.deepEqual((await names()).sort(), both.map((n) => n.name).sort());
  assert.match(await page.$eval('tfoot', (f) => f.innerText), new RegExp(`${both.length} of ${nodes.length} nodes`));
  await page.click('#panel tbody tr.opens');
  assert.match(await page.$eval('tr.details', (r) => r.innerText), /lower bound/);
  await page.click('tr.details button');
  assert.equal(await page.evaluate(() => document.querySelector('[aria-selected=true]').id), 'tab-timeline');
  const first = both.map((n) => n.name).sort((a, b) => a.localeCompare(b, 'en', {numeric: true}))[0];
  const node = nodes.find((n) => n.name === first);
  const [from, to] = await view(page);
  assert.ok(from <= node.start && to >= Math.min(node.end, to), 'the timeline shows the node');
  assert.deepEqual(problems, []);
  await page.close();
});

test('the roofline has a point for each node that multiplies, where its figures put it', async () => {
  const {page, problems} = await openPage(browser, middlePage, {hash: '#roofline'});
  const points = await page.evaluate(() => Array.from(document.querySelectorAll('.point'), (c) => ({
    name: c.getAttribute('aria-label'), x: Number(c.getAttribute('cx')), y: Number(c.getAttribute('cy'))})));
  const nodes = new Map(middleRun.nodes.filter((n) => n.macs > 0).map((n) => [n.name, n]));
  assert.equal(points.length, nodes.size);
  // Both axes are logarithmic: one line fits all points of each.
  const fits = (value, at) => {
    const pairs = points.map((p) => [Math.log(value(nodes.get(p.name))), at(p)]).sort((a, b) => a[0] - b[0]);
    const [low, high] = [pairs[0], pairs[pairs.length - 1]];
    for (const [v, place] of pairs) {
      assert.ok(Math.abs(low[1] + ((v - low[0]) / (high[0] - low[0])) * (high[1] - low[1]) - place) < 0.5);
    }
    return Math.sign(high[1] - low[1]);
  };
  assert.equal(fits((n) => n.macs / n.memory_bytes, (p) => p.x), 1);
  assert.equal(fits((n) => n.macs / n.time, (p) => p.y), -1);
  await page.hover('.point');
  assert.match(await page.evaluate(() => document.querySelector('.tip').innerText), /of its roof/);
  assert.deepEqual(problems, []);
  await page.close();
});

test('charts over time zoom together by a drag', async () => {
  const {page, problems} = await openPage(browser, middlePage, {hash: '#over-time'});
  await settled(page);
  const charts = await page.evaluate(() => Array.from(document.querySelectorAll('.charts h3'), (t) => t.textContent));
  assert.deepEqual(charts, ['Engines: share of time busy', 'bandwidth, bytes/s', 'power, W', 'temperature, Celsius']);
  const over = await (await page.$('.u-over')).boundingBox();
  await page.mouse.move(over.x + over.width * 0.25, over.y + 20);
  await page.mouse.down();
  await page.mouse.move(over.x + over.width * 0.5, over.y + 20, {steps: 4});
  await page.mouse.up();
  await page.evaluate(() => Array.from(document.querySelectorAll('.toolbar button')).at(-1).click());
  const end = middleRun.spans.start.reduce((most, s, i) => Math.max(most, s + middleRun.spans.duration[i]), 0);
  const [from, to] = await view(page);
  assert.ok(Math.abs((to - from) / (end * 0.25 * 1.02 * 1.1) - 1) < 0.03, `a quarter of the run shows: ${from} to ${to} of ${end}`);
  assert.deepEqual(problems, []);
  await page.close();
});

test('memory says how much is in use at most, and each buffer under the pointer', async () => {
  const {page, problems} = await openPage(browser, middlePage, {hash: '#memory'});
  await settled(page);
  const {buffers, spaces} = middleRun.memory;
  for (const space of [0, 1]) {
    await page.select('select[aria-label=Memory]', String(space));
    const mine = buffers.space.map((s, i) => (s === space ? i : -1)).filter((i) => i >= 0);
    const most = Math.max(...mine.map((i) => mine.reduce((sum, k) => sum + (buffers.first[k] <= buffers.first[i] && buffers.first[i] < buffers.last[k] ? buffers.size[k] : 0), 0)));
    const label = await page.$eval('.memory canvas', (c) => c.getAttribute('aria-label'));
    const [, value, unit, count] = label.match(/at most ([\d.]+) (\w+) in use by (\d+)/);
    assert.ok(label.startsWith(spaces[space].name));
    assert.equal(Number(count), mine.length);
    const scale = {B: 1, KiB: 1024, MiB: 1024 ** 2}[unit];
    assert.ok(Math.abs(Number(value) * scale - most) <= most * 0.006, `${label}, not ${most}`);
  }
  assert.deepEqual(problems, []);
  await page.close();
});

test('two documents are compared node by node', async () => {
  const slow = generatedProfile(seed, 3000, 200, 'slow');
  slow.runs[0].nodes.forEach((n, i) => (n.time *= i === 42 ? 50 : 2));
  slow.runs[0].summary.latency_us *= 3;
  const file = reportOf('two.html', join(folder, 'middle.json'), save('slow.json', slow));
  const {page, problems} = await openPage(browser, file, {hash: '#compare'});
  const text = await page.evaluate(() => document.querySelector('.figures-table').innerText);
  assert.match(text, /latency\s[^\n]*\s3\.00 ×/);
  assert.equal(await page.$eval('.compare .table tbody tr', (r) => r.children[0].textContent), 'node.42', 'what changed most comes first');
  assert.match(await page.$eval('.compare .table tbody tr', (r) => r.innerText), /50\.0 ×/);
  await page.select('select[aria-label="Run A"]', '1');
  assert.match(await page.evaluate(() => document.querySelector('.figures-table').innerText), /latency\s[^\n]*\s=/);
  await page.select('#run', '1');
  assert.match(await page.$eval('.title', (t) => t.textContent), /slow/);
  assert.deepEqual(problems, []);
  await page.close();
});

test('names are text, whatever they hold', async () => {
  const evil = '</script><img src=x onerror="window.hacked=1"><script>window.hacked=1</script>&lt;';
  const document = JSON.parse(readFileSync(small, 'utf8'));
  const [run] = document.runs;
  run.model = run.config = run.summary.headline = evil;
  run.names = run.names.map(() => evil);
  run.nodes.forEach((n) => Object.assign(n, {name: evil, op: evil, nodes: [evil]}));
  run.tracks.forEach((t) => (t.name = evil));
  run.what_if.forEach((w) => (w.name = evil));
  document.comparison = [evil];
  const {page, problems} = await openPage(browser, reportOf('evil.html', save('"<b>evil.json', document)));
  for (const id of kPanels) await showPanel(page, id);
  await showPanel(page, 'timeline');
  const point = await pointOf(page, 4);
  await page.mouse.click(point.x, point.y);
  assert.equal(await page.$eval('.detail .name', (n) => n.textContent), evil);
  assert.equal(await page.title(), `${evil} on ${evil}`);
  assert.equal(await page.evaluate(() => window.hacked ?? document.querySelectorAll('img').length), 0);
  assert.deepEqual(problems, []);
  await page.close();
});

test('a page without a profile says so', async () => {
  const filled = readFileSync(middlePage, 'utf8');
  const empty = join(folder, 'empty.html');
  writeFileSync(empty, filled.replace(/<script type="application\/gzip".*?<\/script>/s, ''));
  const {page} = await openPage(browser, empty);
  assert.match(await page.$eval('[role=alert]', (a) => a.innerText), /holds no profile/);
  const broken = join(folder, 'broken.html');
  writeFileSync(broken, filled.replace(/(data-file="middle.json">)[^<]{2000}/, '$1'));
  const second = await openPage(browser, broken);
  assert.match(await second.page.$eval('[role=alert]', (a) => a.innerText), /cannot be shown/);
  await page.close();
  await second.page.close();
});

test('cx report refuses what is no profile, and more than two', () => {
  const fails = (expected, ...documents) => assert.throws(() => makeReport(join(folder, 'no.html'), ...documents), (error) => {
    assert.equal(error.status, 2);
    assert.match(error.stderr, expected);
    return true;
  });
  fails(/nothing\.json: cannot be read/, join(folder, 'nothing.json'));
  fails(/bad\.json: runs\[0\]\.model: is missing/, save('bad.json', {format: 'cx-profile', version: 1, runs: [{}]}));
  writeFileSync(join(folder, 'text.json'), '{');
  fails(/text\.json: .*parse error/, join(folder, 'text.json'));
  assert.throws(() => makeReport(join(folder, 'no.html'), small, small, small), (error) => error.status === 2);
});

test('100,000 spans stay fluid: a frame draws what fits its pixels', async () => {
  const spans = 100000;
  const file = reportOf('large.html', save('large.json', generatedProfile(seed, spans)));
  const {page, problems} = await openPage(browser, file, {hash: '#timeline'});
  const frames = await page.evaluate(async () => {
    const {canvas} = window.cxReport.timeline();
    const box = canvas.getBoundingClientRect();
    const frame = () => new Promise((done) => requestAnimationFrame(done));
    const result = [];
    const turn = async (deltaY, shiftKey) => {
      const before = performance.now();
      canvas.dispatchEvent(new WheelEvent('wheel', {deltaY, shiftKey, clientX: box.left + 500, clientY: box.top + 200, cancelable: true}));
      await frame();
      await frame();
      result.push({...window.cxReport.work(), view: window.cxReport.timeline().view, two: performance.now() - before});
    };
    for (let i = 0; i < 14; ++i) await turn(-440, false);
    for (let i = 0; i < 4; ++i) await turn(400, true);
    for (let i = 0; i < 12; ++i) await turn(440, false);
    return result;
  });
  assert.equal(frames.length, 30);
  const counters = 4;
  frames.forEach((f, i) => {
    if (i > 0) assert.ok(f.frame > frames[i - 1].frame, 'each turn of the wheel is drawn');
    assert.ok(f.rows > 0 && f.width > 700);
    // Two pieces for each pixel of a row; of a counter a mean and a peak; the strip of the whole run is a row more.
    assert.ok(f.rectangles <= 2 * (f.width + 2) * (f.rows + 1 + counters), `frame ${i}: ${f.rectangles} rectangles`);
    assert.ok(f.steps <= (f.width + 2) * (f.rows + 1), `frame ${i}: ${f.steps} steps`);
  });
  const visible = frames.map(({view: [from, to]}) => to - from);
  assert.ok(Math.min(...visible) < Math.max(...visible) / 200, 'the frames go from the whole to single spans');
  assert.ok(frames[0].rectangles < spans / 3, 'spans of the whole run are merged');
  assert.ok(Math.max(...frames.map((f) => f.labels)) > 10, 'names show when there is room');
  const order = (key) => frames.map((f) => f[key]).sort((a, b) => a - b);
  const drawn = order('milliseconds');
  console.log(`${spans} spans: drawing a frame took ${drawn[15].toFixed(1)} ms (median), ${drawn[28].toFixed(1)} ms (95 %), ${drawn[29].toFixed(1)} ms (most); ` +
    `two frames of the browser ${order('two')[15].toFixed(1)} ms (median); at most ${Math.max(...frames.map((f) => f.rectangles))} rectangles, ${Math.max(...frames.map((f) => f.steps))} steps`);
  assert.deepEqual(problems, []);
  await page.close();
});

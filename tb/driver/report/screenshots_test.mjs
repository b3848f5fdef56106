// Reports of real runs in headless Chromium: text recognition, and a decoder language model's prefill and decode step. Each is looked over and
// its pictures are written to CX_SCREENSHOTS, from where the target cx_screenshots copies them to docs/report.
import assert from 'node:assert/strict';
import {execFileSync} from 'node:child_process';
import {existsSync, mkdirSync, mkdtempSync, rmSync, statSync} from 'node:fs';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import {after, test} from 'node:test';
import {launch, openPage, settled, showPanel} from './browser.mjs';

const pictures = process.env.CX_SCREENSHOTS;
const source = process.env.CX_SOURCE_DIR;
const work = mkdtempSync(join(tmpdir(), 'cx_screenshots_'));
mkdirSync(pictures, {recursive: true});
const browser = await launch();
after(async () => {
  await browser.close();
  rmSync(work, {recursive: true});
});

function profile(html, ...command) {
  execFileSync(process.env.CX_BINARY, ['profile', ...command, '--config', 'cx3210', '--what-if', '--html', html], {cwd: source, stdio: 'pipe'});
}

/** The largest product that something caused, among its neighbours. */
function showProduct(page) {
  return page.evaluate(() => {
    const timeline = window.cxReport.timeline();
    const {spans, tracks} = timeline.run;
    let best = -1;
    for (let i = 0; i < spans.count; ++i) {
      const shown = tracks[spans.track[i]].name === 'dmmu' && spans.cause[i] >= 0;
      if (shown && (best < 0 || spans.operations[i] > spans.operations[best])) best = i;
    }
    timeline.select(best);
    const [from, to] = timeline.deviceTime;
    const middle = spans.start[best] + spans.duration[best] / 2;
    const half = Math.max(spans.duration[best] * 3, (to - from) / 60);
    timeline.show(middle - half, middle + half);
    return best;
  });
}

/** What any picture must be: not a blank sheet, and modest. */
async function picture(page, name) {
  const path = join(pictures, `${name}.png`);
  await page.screenshot({path, optimizeForSpeed: false});
  const bytes = statSync(path).size;
  assert.ok(bytes > 20000 && bytes < 400000, `${name}: ${bytes} bytes`);
}

async function look(html, name, {scheme = 'light', panels = ['overview', 'timeline', 'nodes'], run = 0} = {}) {
  const {page, problems} = await openPage(browser, html, {scheme});
  if (run > 0) await page.select('#run', String(run));
  for (const id of panels) {
    await showPanel(page, id);
    if (id === 'timeline') assert.ok((await showProduct(page)) >= 0, 'a product was caused by something');
    await settled(page);
    const {text, wide} = await page.evaluate(() => ({
      text: document.getElementById('panel').innerText, wide: document.documentElement.scrollWidth}));
    assert.ok(wide <= 1280, `${name} ${id} is ${wide} pixels wide`);
    if (id === 'overview') {
      assert.match(text, /Limited by \w+: \d+ % of the critical path/);
      assert.match(text, /What would change it/);
      assert.ok(!/out of range|expected/.test(text), 'every change was measured');
    }
    await picture(page, `${name}-${id}${scheme === 'dark' ? '-dark' : ''}`);
  }
  assert.deepEqual(problems, []);
  await page.close();
}

test('text recognition', async (t) => {
  const model = join(source, 'build/models/ocr/ch_PP-OCRv4_rec_infer.onnx');
  if (!existsSync(model)) return t.skip('the models of scripts/setup.sh are absent');
  const html = join(work, 'text.html');
  profile(html, model, '--shape', 'x=1,3,48,320');
  await look(html, 'text-recognition', {panels: ['overview', 'timeline', 'nodes', 'roofline', 'over-time', 'memory', 'energy']});
  await look(html, 'text-recognition', {scheme: 'dark', panels: ['overview', 'timeline']});
});

test('decoder language model', async (t) => {
  const model = join(work, 'gpt2.onnx');
  try {
    execFileSync('/usr/bin/python3', [join(source, 'examples/generators/networks.py'), 'gpt2', model, '--layers', '4', '--width', '512', '--heads', '8', '--vocabulary', '8192'], {stdio: 'pipe'});
  } catch (error) {
    if (/No module named/.test(String(error.stderr))) return t.skip('python3-numpy or python3-onnx is absent');
    throw error;
  }
  const html = join(work, 'gpt2.html');
  profile(html, model, '--prompt-tokens', Array.from({length: 32}, (_, i) => (i * 37) % 8192).join(','));
  await look(html, 'decoder-prefill');
  await look(html, 'decoder-step', {run: 1});
  await look(html, 'decoder-step', {scheme: 'dark', panels: ['overview', 'timeline'], run: 1});
});

// What limits the run, in one glance, and what would change it.
import * as format from '../format.ts';
import {reasonBar, reasonLegend, sharesOf, valueBar} from '../bars.ts';
import {h} from '../dom.ts';
import {reasonColour, seriesColour} from '../palette.ts';
import type {Run, WhatIf} from '../document.ts';
import type {Context, Panel} from './context.ts';

const kReasonText: Record<string, string> = {
  compute: 'the arithmetic of the engines',
  dram: 'waiting for DRAM',
  scratchpad: 'waiting for scratchpad ports',
  noc: 'the network on chip',
  pcie: 'the PCIe link',
  launch: 'launching: packets, firmware, interrupts',
  dependency: 'engines waiting for one another',
  engine: 'fixed times of engines: set-up, addresses',
};

function figure(name: string, value: string, note = ''): HTMLElement {
  return h('div', {class: 'figure'}, h('span', {}, name), h('b', {}, value), h('small', {}, note));
}

function limiter(run: Run): HTMLElement {
  const {summary, critical_path: path} = run;
  const shares = sharesOf(run.reasons, (name) => path.by_reason[name] ?? 0);
  const total = shares.reduce((sum, s) => sum + s.ns, 0);
  const limit = shares.find((s) => s.name === summary.limited_by);
  const share = limit && total > 0 ? `${format.percent(limit.ns / total)} of the critical path` : '';
  const title = h('h2', {}, 'Limited by ', h('mark', {}, summary.limited_by), share ? `: ${share}` : '');
  title.querySelector('mark')!.style.setProperty('--colour', reasonColour(summary.limited_by));
  return h('section', {class: 'card limiter'}, title,
    h('p', {}, summary.headline),
    reasonBar(shares, total, true), reasonLegend(shares),
    h('p', {class: 'faint'}, kReasonText[summary.limited_by] ? `${summary.limited_by}: ${kReasonText[summary.limited_by]}. ` : '',
      'The critical path is the chain of work without which the run would have ended earlier.'));
}

function figures(run: Run): HTMLElement {
  const {summary: s, chip} = run;
  const memory = (s.bytes.dram_read ?? 0) + (s.bytes.dram_written ?? 0);
  return h('section', {class: 'figures'},
    figure('latency', format.time(s.latency_us * 1e3), `launch ${format.time(s.launch_us * 1e3)}, work ${format.time(s.work_us * 1e3)}` +
      (s.cache_moves_us ? `, cache moves ${format.time(s.cache_moves_us * 1e3)}` : '')),
    figure('lower bound', format.time(s.bound_us * 1e3), `${format.percent(s.bound_ratio)} of it reached`),
    figure('array utilisation', format.percent(s.mac_utilisation), `${format.count(s.macs)} MACs, peak ${format.rate(chip.peak_macs_per_s, 'MAC')}`),
    figure('DRAM', format.bytes(memory), `${format.rate(memory / ((s.launch_us + (s.cache_moves_us ?? 0)) * 1e-6 || 1), 'B')} of ${format.rate(chip.dram_bytes_per_s, 'B')}`),
    figure('energy', format.energy(s.energy_uj), `${s.average_w.toFixed(2)} W on average`),
    figure('firmware', `${format.count(s.firmware_cycles)} cycles`, `packets ${s.packets}, interrupts ${s.interrupts}`),
    figure('this computer', format.time(s.wall_s * 1e9), `compile ${format.time(s.compile_s * 1e9)}`));
}

function whatIf(run: Run): HTMLElement {
  const card = h('section', {class: 'card what-if'}, h('h3', {}, 'What would change it'));
  if (run.what_if.length === 0) {
    card.append(h('p', {class: 'faint'}, 'This profile has no such measurements.'));
    return card;
  }
  const saved = (w: WhatIf) => Math.max(0, 1 - 1 / (w.speedup || 1));
  const most = Math.max(0.05, ...run.what_if.map(saved));
  const rows = [...run.what_if].sort((a, b) => (b.speedup ?? -1) - (a.speedup ?? -1));
  const list = h('div', {class: 'lines'});
  for (const w of rows) {
    const measured = w.speedup !== undefined && w.error === undefined;
    list.append(h('div', {class: 'line', title: [w.name, w.sets.join(' '), w.remark ?? '', w.error ?? ''].filter((t) => t !== '').join('\n')}, h('span', {}, w.name),
      measured ? valueBar(saved(w), most, seriesColour(2)) : h('span', {class: 'faint one-line'}, w.error ?? 'no figure'),
      h('b', {}, measured ? format.ratio(w.speedup!) : '–'),
      h('small', {}, measured && w.latency_us !== undefined ? format.time(w.latency_us * 1e3) : '')));
  }
  card.append(list, h('p', {class: 'faint'}, 'Measured: the model simulated on each chip so changed. Bars: time saved.'));
  return card;
}

function longestNodes(run: Run, context: Context): HTMLElement {
  const nodes = run.nodes.map((node, i) => ({node, i})).sort((a, b) => b.node.time - a.node.time).slice(0, 9);
  const most = nodes[0]?.node.time ?? 0;
  const all = run.nodes.reduce((sum, n) => sum + n.time, 0);
  const list = h('div', {class: 'lines'});
  for (const {node, i} of nodes) {
    const shares = sharesOf(run.reasons, (_, r) => node.by_reason[r] ?? 0);
    const parts = shares.reduce((sum, s) => sum + s.ns, 0);
    list.append(h('div', {class: 'line'},
      h('button', {class: 'link', type: 'button', click: () => context.showNode(i), title: `${node.name} (${node.op})`}, node.name),
      // The parts on the critical path may add up to another time than the node's own.
      reasonBar(shares, parts > 0 && node.time > 0 ? (parts * most) / node.time : 1),
      h('b', {}, format.time(node.time)), h('small', {}, format.percent(node.time / (all || 1)))));
  }
  return h('section', {class: 'card'}, h('h3', {}, 'Longest nodes'), list);
}

function longestStalls(run: Run, context: Context): HTMLElement {
  const list = h('div', {class: 'lines'});
  const most = run.stalls[0]?.ns ?? 0;
  for (const stall of run.stalls.slice(0, 9)) {
    const reason = run.reasons[stall.reason];
    const what = `${run.tracks[stall.track].name} waits${stall.waiting_for >= 0 ? ` for ${run.tracks[stall.waiting_for].name}` : ''}`;
    const node = stall.node >= 0 ? run.nodes[stall.node] : undefined;
    list.append(h('div', {class: 'line', title: node ? `in ${node.name}, ${stall.count} times` : `${stall.count} times`},
      node ? h('button', {class: 'link', type: 'button', click: () => context.showTime(node.start, node.end)}, what) : h('span', {}, what),
      valueBar(stall.ns, most, reasonColour(reason)),
      h('b', {}, format.time(stall.ns)), h('small', {}, reason ?? '')));
  }
  if (run.stalls.length === 0) list.append(h('p', {class: 'faint'}, 'No engine waited.'));
  return h('section', {class: 'card'}, h('h3', {}, 'Longest waits'), list);
}

/** How busy each engine was over the whole run. */
function engines(run: Run): HTMLElement {
  const list = h('div', {class: 'lines'});
  for (const counter of run.counters.filter((c) => c.group === 'utilisation')) {
    const mean = counter.value.reduce((sum, v) => sum + v, 0) / (counter.value.length || 1);
    list.append(h('div', {class: 'line'}, h('span', {}, counter.name), valueBar(mean, 1, seriesColour(0)), h('b', {}, format.percent(mean)), h('small')));
  }
  if (list.childElementCount === 0) list.append(h('p', {class: 'faint'}, 'The profile says nothing of it.'));
  return h('section', {class: 'card'}, h('h3', {}, 'Engines: share of the run with work'), list);
}

function energyParts(run: Run): HTMLElement {
  const {total_uj: total, domains} = run.energy;
  const list = h('div', {class: 'lines'});
  const shown = [...domains].sort((a, b) => b.uj - a.uj).slice(0, 5);
  for (const d of shown) {
    list.append(h('div', {class: 'line'}, h('span', {}, d.name), valueBar(d.uj, shown[0].uj, seriesColour(d.name === 'leakage' ? 5 : 0)),
      h('b', {}, format.energy(d.uj)), h('small', {}, format.percent(d.uj / (total || 1)))));
  }
  return h('section', {class: 'card'}, h('h3', {}, 'Energy by part'), list);
}

export function overview(context: Context): Panel {
  const {run, document} = context.current;
  const comparison = context.documents[document].comparison;
  const element = h('div', {class: 'overview'});
  if (comparison.length > 0) {
    const list = h('ul');
    for (const line of comparison) list.append(h('li', {}, line));
    element.append(h('section', {class: 'card comparison'}, h('h3', {}, 'What makes the difference'), list));
  }
  element.append(limiter(run), figures(run),
    h('div', {class: 'three'}, whatIf(run), longestNodes(run, context), longestStalls(run, context)),
    h('div', {class: 'two'}, engines(run), energyParts(run)));
  return {element};
}

// Two runs side by side: figures, reasons, energy, and which nodes make the difference.
import * as format from '../format.ts';
import {reasonBar, reasonLegend, sharesOf, valueBar} from '../bars.ts';
import {h} from '../dom.ts';
import {seriesColour} from '../palette.ts';
import {DataTable} from '../table.ts';
import type {LoadedRun, Node, Run} from '../document.ts';
import type {Context, Panel} from './context.ts';

interface Pair {
  name: string;
  op: string;
  a?: Node;
  b?: Node;
}

/** Nodes of both runs by name; compilers group differently for different chips, so a node may be in one run only. */
export function pairNodes(a: Run, b: Run): Pair[] {
  const left = new Map<string, Node>();
  for (const node of b.nodes) left.set(node.name, node);
  const pairs: Pair[] = a.nodes.map((node) => {
    const other = left.get(node.name);
    left.delete(node.name);
    return {name: node.name, op: node.op, a: node, b: other};
  });
  for (const node of b.nodes) if (left.get(node.name) === node) pairs.push({name: node.name, op: node.op, b: node});
  return pairs;
}

function figures(a: Run, b: Run): HTMLElement {
  const body = h('tbody');
  const line = (name: string, x: number, y: number, show: (v: number) => string) => {
    const r = x !== 0 ? y / x : NaN;
    body.append(h('tr', {}, h('td', {}, name), h('td', {class: 'number'}, show(x)), h('td', {class: 'number'}, show(y)),
      h('td', {class: 'number'}, x === y ? '=' : format.ratio(r))));
  };
  const us = (v: number) => format.time(v * 1e3);
  const [s, t] = [a.summary, b.summary];
  line('latency', s.latency_us, t.latency_us, us);
  line('launch', s.launch_us, t.launch_us, us);
  if (s.cache_moves_us || t.cache_moves_us) line('cache moves', s.cache_moves_us ?? 0, t.cache_moves_us ?? 0, us);
  line('work', s.work_us, t.work_us, us);
  line('lower bound', s.bound_us, t.bound_us, us);
  line('array utilisation', s.mac_utilisation, t.mac_utilisation, format.percent);
  line('peak', a.chip.peak_macs_per_s, b.chip.peak_macs_per_s, (v) => format.rate(v, 'MAC'));
  line('DRAM bandwidth', a.chip.dram_bytes_per_s, b.chip.dram_bytes_per_s, (v) => format.rate(v, 'B'));
  line('multiply-accumulates', s.macs, t.macs, format.count);
  for (const key of Object.keys(s.bytes)) {
    line(`bytes: ${key.replace(/_/g, ' ')}`, s.bytes[key], t.bytes[key] ?? 0, format.bytes);
  }
  line('energy', s.energy_uj, t.energy_uj, format.energy);
  line('average power', s.average_w, t.average_w, (v) => `${v.toFixed(2)} W`);
  line('firmware cycles', s.firmware_cycles, t.firmware_cycles, format.count);
  line('compile time', s.compile_s, t.compile_s, (v) => format.time(v * 1e9));
  return h('table', {class: 'figures-table'}, h('thead', {}, h('tr', {}, h('th', {}, ''), h('th', {class: 'number'}, 'A'), h('th', {class: 'number'}, 'B'),
    h('th', {class: 'number'}, 'B / A'))), body);
}

function side(a: LoadedRun, b: LoadedRun): HTMLElement {
  const of = (run: Run) => sharesOf(run.reasons, (name) => run.critical_path.by_reason[name] ?? 0);
  const [x, y] = [of(a.run), of(b.run)];
  const total = (s: typeof x) => s.reduce((sum, v) => sum + v.ns, 0);
  const whole = Math.max(total(x), total(y));
  const box = h('section', {class: 'card'}, h('h3', {}, 'Critical path, on one scale'));
  for (const [letter, run, shares] of [['A', a, x], ['B', b, y]] as const) {
    box.append(h('p', {}, h('b', {}, `${letter} `), `${run.label}: ${format.time(total(shares))}, limited by ${run.run.summary.limited_by}`),
      reasonBar(shares, whole), reasonLegend(shares));
  }
  const names = [...new Set([...a.run.energy.domains, ...b.run.energy.domains].map((d) => d.name))];
  const uj = (run: Run, name: string) => run.energy.domains.find((d) => d.name === name)?.uj ?? 0;
  const most = Math.max(0, ...names.flatMap((n) => [uj(a.run, n), uj(b.run, n)]));
  box.append(h('h3', {}, 'Energy, on one scale'));
  const list = h('div', {class: 'lines'});
  for (const name of names.sort((p, q) => Math.max(uj(a.run, q), uj(b.run, q)) - Math.max(uj(a.run, p), uj(b.run, p)))) {
    list.append(h('div', {class: 'line'}, h('span', {}, name),
      h('div', {class: 'double'}, valueBar(uj(a.run, name), most, seriesColour(0)), valueBar(uj(b.run, name), most, seriesColour(1))),
      h('b', {}, format.energy(uj(a.run, name))), h('b', {}, format.energy(uj(b.run, name)))));
  }
  box.append(list);
  return box;
}

function nodeTable(a: Run, b: Run): DataTable<Pair> {
  const time = (n?: Node) => n?.time ?? NaN;
  const change = (p: Pair) => (p.b?.time ?? 0) - (p.a?.time ?? 0);
  const bound = (run: Run, n?: Node) => (n ? run.reasons[n.bound] ?? '–' : '–');
  const shown = (n?: Node) => (n ? format.time(n.time) : '–');
  const signed = (ns: number) => `${ns > 0 ? '+' : ns < 0 ? '−' : ''}${format.time(Math.abs(ns))}`;
  return new DataTable<Pair>({
    label: 'Nodes of both runs',
    rows: pairNodes(a, b),
    sort: {id: 'size', descending: true},
    columns: [
      {id: 'name', title: 'node', value: (p) => p.name},
      {id: 'op', title: 'operator', value: (p) => p.op},
      {id: 'a', title: 'A', numeric: true, value: (p) => time(p.a), cell: (p) => shown(p.a)},
      {id: 'b', title: 'B', numeric: true, value: (p) => time(p.b), cell: (p) => shown(p.b)},
      {id: 'size', title: 'B − A', numeric: true, hint: 'sorted by size, whatever the sign', value: (p) => Math.abs(change(p)), cell: (p) => signed(change(p))},
      {id: 'ratio', title: 'B / A', numeric: true, value: (p) => time(p.b) / time(p.a), cell: (p) => format.ratio(time(p.b) / time(p.a))},
      {id: 'bound-a', title: 'A bound by', value: (p) => bound(a, p.a)},
      {id: 'bound-b', title: 'B bound by', value: (p) => bound(b, p.b)},
      {id: 'dram-a', title: 'A DRAM', numeric: true, value: (p) => p.a?.memory_bytes ?? NaN, cell: (p) => (p.a ? format.bytes(p.a.memory_bytes) : '–')},
      {id: 'dram-b', title: 'B DRAM', numeric: true, value: (p) => p.b?.memory_bytes ?? NaN, cell: (p) => (p.b ? format.bytes(p.b.memory_bytes) : '–')},
    ],
    total: (rows) => [`${rows.length} nodes`, '', format.time(rows.reduce((s, p) => s + (p.a?.time ?? 0), 0)), format.time(rows.reduce((s, p) => s + (p.b?.time ?? 0), 0)),
      signed(rows.reduce((s, p) => s + change(p), 0)), '', '', '', '', ''],
  });
}

export function comparePanel(context: Context): Panel {
  const {runs} = context;
  let a = runs[0];
  let b = runs[1];
  const body = h('div', {class: 'compare-body'});
  const draw = () => {
    body.replaceChildren();
    const {comparison} = context.documents[a.document];
    if (comparison.length > 0 && a.document === b.document && context.documents[a.document].runs.length === 2) {
      const list = h('ul');
      for (const text of comparison) list.append(h('li', {}, text));
      body.append(h('section', {class: 'card comparison'}, h('h3', {}, 'What makes the difference'), list));
    }
    const table = nodeTable(a.run, b.run);
    const filter = h('input', {type: 'search', placeholder: 'Filter nodes', 'aria-label': 'Filter', input: () => {
      const wanted = filter.value.trim().toLowerCase();
      table.filter((p) => p.name.toLowerCase().includes(wanted) || p.op.toLowerCase().includes(wanted));
    }});
    body.append(h('div', {class: 'two'}, h('section', {class: 'card'}, h('h3', {}, 'Figures'), figures(a.run, b.run)), side(a, b)),
      h('section', {class: 'card'}, h('div', {class: 'toolbar'}, h('h3', {}, 'Nodes'), filter), table.element));
  };
  const choose = (letter: string, value: LoadedRun, set: (run: LoadedRun) => void) => {
    const select = h('select', {'aria-label': `Run ${letter}`, change: () => {
      set(runs[Number(select.value)]);
      draw();
    }});
    runs.forEach((run, i) => select.append(h('option', {value: i, selected: run === value}, run.label)));
    return h('label', {}, h('b', {}, letter), ' ', select);
  };
  draw();
  return {
    element: h('div', {class: 'compare'}, h('div', {class: 'toolbar'}, choose('A', a, (run) => (a = run)), choose('B', b, (run) => (b = run))), body),
    restyle: draw,
  };
}

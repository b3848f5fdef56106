// Every node of the graph, as the chip ran it: sort by any column, filter by text, reason and engine.
import * as format from '../format.ts';
import {reasonBar, reasonLegend, sharesOf} from '../bars.ts';
import {facts, h} from '../dom.ts';
import {reasonColour} from '../palette.ts';
import {DataTable} from '../table.ts';
import type {Node, Run} from '../document.ts';
import type {Context, Panel} from './context.ts';

interface Row {
  index: number;
  node: Node;
}

export interface NodesPanel extends Panel {
  reveal: (node: number) => void;
}

function chip(reason: string): HTMLElement {
  const mark = h('i');
  mark.style.setProperty('--colour', reasonColour(reason));
  return h('span', {class: 'chip'}, mark, reason);
}

function details(run: Run, {node}: Row, context: Context): HTMLElement {
  const shares = sharesOf(run.reasons, (_, i) => node.by_reason[i] ?? 0);
  const engines = h('table', {class: 'small'}, h('thead', {}, h('tr', {},
    ...['engine', 'instructions', 'busy', 'waited', 'operations', 'read', 'written'].map((t) => h('th', {}, t)))));
  const body = h('tbody');
  for (const [name, e] of Object.entries(node.engines)) {
    if (e.instructions === 0) continue;
    body.append(h('tr', {}, ...[name, format.whole(e.instructions), format.time(e.busy_ns), format.time(e.waited_ns), format.count(e.operations),
      format.bytes(e.bytes_read), format.bytes(e.bytes_written)].map((t) => h('td', {}, t))));
  }
  engines.append(body);
  return h('div', {class: 'node-details'},
    h('div', {}, facts([
      ['from', format.time(node.start, 7)], ['to', format.time(node.end, 7)], ['lower bound', format.time(node.bound_ns)],
      ['cannot but move', format.bytes(node.bytes)], ['DRAM moved', format.bytes(node.memory_bytes)],
    ]), h('button', {type: 'button', click: ((event: Event) => {
      event.stopPropagation();
      context.showTime(node.start, node.end);
    }) as never}, 'Show in timeline')),
    h('div', {}, shares.length > 0 && h('p', {class: 'faint'}, 'Of the critical path'), shares.length > 0 && reasonBar(shares, shares.reduce((s, x) => s + x.ns, 0)),
      shares.length > 0 && reasonLegend(shares), engines, h('p', {class: 'faint'}, `graph nodes: ${node.nodes.join(', ')}`)));
}

export function nodesPanel(context: Context): NodesPanel {
  const {run} = context.current;
  const whole = run.nodes.reduce((sum, n) => sum + n.time, 0) || 1;
  const rows: Row[] = run.nodes.map((node, index) => ({index, node}));
  const sum = (shown: Row[], f: (n: Node) => number) => shown.reduce((total, r) => total + f(r.node), 0);
  const table = new DataTable<Row>({
    label: 'Nodes',
    rows,
    sort: {id: 'time', descending: true},
    columns: [
      {id: 'index', title: '#', hint: 'order of execution', numeric: true, value: (r) => r.index},
      {id: 'name', title: 'node', value: (r) => r.node.name},
      {id: 'op', title: 'operator', value: (r) => r.node.op},
      {id: 'time', title: 'time', hint: 'by which it moved the end of the run on', numeric: true, value: (r) => r.node.time, cell: (r) => format.time(r.node.time)},
      {id: 'share', title: 'share', numeric: true, value: (r) => r.node.time, cell: (r) => format.percent(r.node.time / whole)},
      {id: 'bound', title: 'bound by', value: (r) => run.reasons[r.node.bound] ?? '', cell: (r) => (run.reasons[r.node.bound] ? chip(run.reasons[r.node.bound]) : '–')},
      {id: 'engine', title: 'engine', hint: 'the busiest in its time', value: (r) => r.node.engine},
      {id: 'busy', title: 'busy', hint: 'share of its time in which that engine was busy with it', numeric: true, value: (r) => r.node.utilisation, cell: (r) => format.percent(r.node.utilisation)},
      {id: 'array', title: 'array', hint: 'multiply-accumulates at the peak of the array, as a share of time', numeric: true, value: (r) => r.node.mac_utilisation, cell: (r) => (r.node.macs > 0 ? format.percent(r.node.mac_utilisation) : '–')},
      {id: 'macs', title: 'MACs', numeric: true, value: (r) => r.node.macs, cell: (r) => format.count(r.node.macs)},
      {id: 'dram', title: 'DRAM', hint: 'bytes that DRAM moved', numeric: true, value: (r) => r.node.memory_bytes, cell: (r) => format.bytes(r.node.memory_bytes)},
      {id: 'excess', title: '× bound', hint: 'time over its own lower bound', numeric: true, value: (r) => (r.node.bound_ns > 0 ? r.node.time / r.node.bound_ns : NaN), cell: (r) => (r.node.bound_ns > 0 ? format.ratio(r.node.time / r.node.bound_ns) : '–')},
      {id: 'energy', title: 'energy', hint: 'without leakage', numeric: true, value: (r) => r.node.energy_uj ?? NaN, cell: (r) => (r.node.energy_uj === undefined ? '–' : format.energy(r.node.energy_uj))},
    ],
    details: (row) => details(run, row, context),
    total: (shown) => ['', `${shown.length} of ${rows.length} nodes`, '', format.time(sum(shown, (n) => n.time)), format.percent(sum(shown, (n) => n.time) / whole),
      '', '', '', '', format.count(sum(shown, (n) => n.macs)), format.bytes(sum(shown, (n) => n.memory_bytes)), '', format.energy(sum(shown, (n) => n.energy_uj ?? 0))],
  });
  const text = h('input', {type: 'search', placeholder: 'Filter nodes and operators', 'aria-label': 'Filter', id: 'node-filter', input: () => apply()});
  const choice = (label: string, values: string[]) => {
    const select = h('select', {'aria-label': label, change: () => apply()}, h('option', {value: ''}, label));
    for (const value of values) select.append(h('option', {value}, value));
    return select;
  };
  const reason = choice('bound by anything', run.reasons.filter((_, i) => run.nodes.some((n) => n.bound === i)));
  const engine = choice('any engine', [...new Set(run.nodes.map((n) => n.engine))].sort());
  const apply = () => {
    const wanted = text.value.trim().toLowerCase();
    const has = (s: string) => s.toLowerCase().includes(wanted);
    table.filter(({node}) => (wanted === '' || has(node.name) || has(node.op) || node.nodes.some(has)) &&
      (reason.value === '' || run.reasons[node.bound] === reason.value) && (engine.value === '' || node.engine === engine.value));
  };
  return {
    element: h('div', {class: 'nodes'}, h('div', {class: 'toolbar'}, text, reason, engine,
      h('span', {class: 'faint'}, 'Click a title to sort, a row for its engines.')), table.element),
    reveal: (node) => {
      text.value = reason.value = engine.value = '';
      apply();
      table.reveal(rows[node]);
    },
  };
}

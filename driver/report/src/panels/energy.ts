// Where the energy goes: by part of the chip with the range of the energy table, and by node.
import * as format from '../format.ts';
import {valueBar} from '../bars.ts';
import {h} from '../dom.ts';
import {seriesColour} from '../palette.ts';
import type {Context, Panel} from './context.ts';

export function energyPanel(context: Context): Panel {
  const {run} = context.current;
  const {energy} = run;
  const domains = [...energy.domains].sort((a, b) => b.uj - a.uj);
  const most = Math.max(0, ...domains.map((d) => d.most_uj));
  const parts = h('div', {class: 'lines wide'});
  for (const d of domains) {
    parts.append(h('div', {class: 'line'}, h('span', {}, d.name), valueBar(d.uj, most, seriesColour(d.name === 'leakage' ? 5 : 0), [d.least_uj, d.most_uj]),
      h('b', {}, format.energy(d.uj)), h('small', {}, format.percent(d.uj / (energy.total_uj || 1))),
      h('small', {class: 'range'}, `${format.energy(d.least_uj)} to ${format.energy(d.most_uj)}`)));
  }
  const attributed = run.nodes.map((node, i) => ({node, i, uj: node.energy_uj ?? 0})).filter((n) => n.uj > 0).sort((a, b) => b.uj - a.uj);
  const nodes = h('div', {class: 'lines wide'});
  for (const {node, i, uj} of attributed.slice(0, 16)) {
    nodes.append(h('div', {class: 'line'}, h('button', {type: 'button', class: 'link', title: node.name, click: () => context.showNode(i)}, node.name),
      valueBar(uj, attributed[0].uj, seriesColour(0)), h('b', {}, format.energy(uj)), h('small', {}, format.percent(uj / (energy.total_uj || 1))),
      h('small', {class: 'range'}, node.macs > 0 ? `${format.energy(uj / node.macs)}/MAC` : '')));
  }
  if (attributed.length === 0) nodes.append(h('p', {class: 'faint'}, 'The profile attributes no energy to nodes.'));
  const {macs} = run.summary;
  return {
    element: h('div', {class: 'energy'},
      h('section', {class: 'card'}, h('h3', {}, `Energy: ${format.energy(energy.total_uj)} in ${format.time(energy.span_us * 1e3)}, ${(energy.total_uj / (energy.span_us || 1)).toFixed(2)} W on average`),
        h('p', {class: 'faint'}, `${macs > 0 ? `${format.energy(energy.total_uj / macs)} for each multiply-accumulate, all counted. ` : ''}Thin lines: least and most of the energy table.`), parts),
      h('section', {class: 'card'}, h('h3', {}, 'By node, without leakage'), nodes)),
  };
}

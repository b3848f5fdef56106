// Roofline: what each node could reach at its ratio of arithmetic to memory traffic, and what it reached.
import {scaleLog} from 'd3-scale';
import * as format from '../format.ts';
import {facts, h, hideTip, onResize, showTip, svg} from '../dom.ts';
import {reasonColour} from '../palette.ts';
import type {Context, Panel} from './context.ts';

interface Point {
  node: number;
  macs: number;
  bytes: number;
  ns: number;
  intensity: number;
  performance: number;
}

const kMargin = {left: 84, right: 150, top: 16, bottom: 44};

export function rooflinePanel(context: Context): Panel {
  const {run} = context.current;
  const {points: columns, ceilings, slopes} = run.roofline;
  const points: Point[] = columns.node.map((node, i) => ({
    node, macs: columns.macs[i], bytes: columns.bytes[i], ns: columns.ns[i],
    intensity: columns.macs[i] / columns.bytes[i], performance: (columns.macs[i] / columns.ns[i]) * 1e9,
  })).filter((p) => p.macs > 0 && p.bytes > 0 && p.ns > 0);
  const left = columns.node.length - points.length;
  const holder = h('div', {class: 'chart'});
  const draw = (width: number, height: number) => {
    if (points.length === 0) {
      holder.replaceChildren(h('p', {class: 'faint'}, 'No node of this run multiplies.'));
      return;
    }
    const top = Math.max(...ceilings.map((c) => c.macs_per_s), ...points.map((p) => p.performance));
    const steep = Math.max(...slopes.map((s) => s.bytes_per_s), 0);
    const ridge = steep > 0 ? top / steep : 1;
    const xs = points.map((p) => p.intensity);
    const x = scaleLog().domain([Math.min(...xs, ridge / 10) * 0.6, Math.max(...xs, ridge * 10) * 1.6]).range([kMargin.left, width - kMargin.right]);
    const y = scaleLog().domain([Math.min(...points.map((p) => p.performance)) * 0.5, top * 2]).range([height - kMargin.bottom, kMargin.top]);
    const root = svg('svg', {width, height, role: 'img', 'aria-label': 'Roofline'});
    const powers = (scale: typeof x) => scale.ticks(8).filter((t) => Math.abs(Math.log10(t) - Math.round(Math.log10(t))) < 1e-9);
    for (const t of powers(x)) {
      root.append(svg('line', {class: 'grid', x1: x(t), x2: x(t), y1: kMargin.top, y2: height - kMargin.bottom}),
        svg('text', {x: x(t), y: height - kMargin.bottom + 16, 'text-anchor': 'middle'}, String(Number(t.toPrecision(3)))));
    }
    for (const t of powers(y)) {
      root.append(svg('line', {class: 'grid', x1: kMargin.left, x2: width - kMargin.right, y1: y(t), y2: y(t)}),
        svg('text', {x: kMargin.left - 8, y: y(t) + 4, 'text-anchor': 'end'}, format.rate(t, 'MAC')));
    }
    root.append(svg('text', {x: (kMargin.left + width - kMargin.right) / 2, y: height - 8, 'text-anchor': 'middle'}, 'MACs for each byte of DRAM traffic'));
    const [x0, x1] = x.domain();
    const [y0] = y.domain();
    for (const slope of slopes) {
      const highest = Math.max(...ceilings.map((c) => c.macs_per_s));
      const from = Math.max(x0, y0 / slope.bytes_per_s);
      const to = Math.min(x1, highest / slope.bytes_per_s);
      if (from >= to) continue;
      root.append(svg('line', {class: 'roof', x1: x(from), y1: y(from * slope.bytes_per_s), x2: x(to), y2: y(to * slope.bytes_per_s)}),
        svg('text', {x: x(from) + 8, y: y(from * slope.bytes_per_s) - 12, class: 'strong'}, `${slope.name} ${format.rate(slope.bytes_per_s, 'B')}`));
    }
    // Ceilings at the same place share a line and its label.
    const heights = [...new Set(ceilings.map((c) => c.macs_per_s))];
    for (const height of heights) {
      const ceiling = {macs_per_s: height, name: ceilings.filter((c) => c.macs_per_s === height).map((c) => c.name).join(', ')};
      const from = Math.max(x0, Math.min(...slopes.map((s) => ceiling.macs_per_s / s.bytes_per_s), x1));
      root.append(svg('line', {class: 'roof', x1: x(slopes.length > 0 ? from : x0), x2: x(x1), y1: y(ceiling.macs_per_s), y2: y(ceiling.macs_per_s)}),
        svg('text', {x: x(x1) + 6, y: y(ceiling.macs_per_s) + 4, class: 'strong'}, ceiling.name),
        svg('text', {x: x(x1) + 6, y: y(ceiling.macs_per_s) + 20}, format.rate(ceiling.macs_per_s, 'MAC')));
    }
    const longest = Math.max(...points.map((p) => p.ns));
    // Large ones first, so that none hides another.
    for (const p of [...points].sort((a, b) => b.ns - a.ns)) {
      const node = run.nodes[p.node];
      const reason = run.reasons[node.bound];
      const roof = Math.min(...ceilings.map((c) => c.macs_per_s), ...slopes.map((s) => s.bytes_per_s * p.intensity));
      const circle = svg('circle', {
        cx: x(p.intensity), cy: y(p.performance), r: 3 + 11 * Math.sqrt(p.ns / longest), fill: reasonColour(reason), tabindex: 0, class: 'point',
        'aria-label': node.name, click: () => context.showNode(p.node), pointerleave: hideTip,
        keydown: ((e: KeyboardEvent) => e.key === 'Enter' && context.showNode(p.node)) as never,
        pointermove: ((e: PointerEvent) => showTip(e.clientX, e.clientY, h('b', {}, node.name), facts([
          ['operator', node.op], ['time', format.time(p.ns)], ['bound by', reason ?? '–'], ['reached', format.rate(p.performance, 'MAC')],
          ['of its roof', format.percent(p.performance / roof)], ['intensity', `${p.intensity.toPrecision(3)} MAC/B`],
        ]))) as never,
      });
      root.append(circle);
    }
    holder.replaceChildren(root);
  };
  let size: [number, number] = [0, 0];
  const stop = onResize(holder, (width, height) => draw(...(size = [width, height])));
  const used = run.reasons.filter((_, i) => points.some((p) => run.nodes[p.node].bound === i));
  const legend = h('ul', {class: 'legend'});
  const drawLegend = () => {
    legend.replaceChildren();
    for (const reason of used) {
      const mark = h('i');
      mark.style.setProperty('--colour', reasonColour(reason));
      legend.append(h('li', {}, mark, reason));
    }
    legend.append(h('li', {class: 'faint'}, `area: time. ${left > 0 ? `${left} nodes without products or DRAM traffic are left out.` : ''}`));
  };
  drawLegend();
  return {
    element: h('section', {class: 'card fill roofline'}, h('h3', {}, 'Roofline'), legend, holder),
    dispose: () => {
      stop();
      hideTip();
    },
    restyle: () => {
      draw(...size);
      drawLegend();
    },
  };
}

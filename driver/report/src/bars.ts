// Bars made of elements: shares of a whole, and single values on one scale.
import * as format from './format.ts';
import {h, hideTip, showTip} from './dom.ts';
import {reasonColour} from './palette.ts';

export interface Share {
  name: string;
  ns: number;
}

/** Shares that are not zero, largest first. */
export function sharesOf(reasons: string[], ns: (reason: string, index: number) => number): Share[] {
  return reasons.map((name, i) => ({name, ns: ns(name, i)})).filter((s) => s.ns > 0).sort((a, b) => b.ns - a.ns);
}

/** One bar of reasons; `whole` is the time of its full width. */
export function reasonBar(shares: Share[], whole: number, named = false): HTMLElement {
  const total = shares.reduce((sum, s) => sum + s.ns, 0);
  const text = shares.map((s) => `${s.name} ${format.percent(s.ns / (total || 1))}`).join(', ');
  const bar = h('div', {class: 'bar', role: 'img', 'aria-label': text});
  for (const {name, ns} of shares) {
    const share = ns / (total || 1);
    const width = whole > 0 ? (ns / whole) * 100 : 0;
    const piece = h('span', {
      pointermove: ((e: PointerEvent) => showTip(e.clientX, e.clientY, `${name}: ${format.time(ns)}, ${format.percent(share)}`)) as never,
      pointerleave: hideTip,
    }, named && width > 12 ? `${name} ${format.percent(share)}` : '');
    piece.style.width = `${width}%`;
    piece.style.setProperty('--colour', reasonColour(name));
    piece.dataset.reason = name;
    bar.append(piece);
  }
  return bar;
}

export function reasonLegend(shares: Share[]): HTMLElement {
  const total = shares.reduce((sum, s) => sum + s.ns, 0);
  const list = h('ul', {class: 'legend'});
  for (const {name, ns} of shares) {
    const mark = h('i');
    mark.style.setProperty('--colour', reasonColour(name));
    list.append(h('li', {}, mark, `${name} `, h('b', {}, format.percent(ns / (total || 1))), ` ${format.time(ns)}`));
  }
  return list;
}

/** A value on a scale of 0 to `most`, with the range of its uncertainty where there is one. */
export function valueBar(value: number, most: number, colour: string, range?: [number, number]): HTMLElement {
  const at = (v: number) => `${most > 0 ? Math.min(100, (v / most) * 100) : 0}%`;
  const fill = h('span');
  fill.style.width = at(value);
  fill.style.setProperty('--colour', colour);
  const bar = h('div', {class: 'bar'}, fill);
  if (range) {
    const whisker = h('u');
    whisker.style.left = at(range[0]);
    whisker.style.width = `calc(${at(range[1])} - ${at(range[0])})`;
    bar.append(whisker);
  }
  return bar;
}

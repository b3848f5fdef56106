// Memory over time: each buffer from first to last use at its addresses, and how much is in use.
import * as format from '../format.ts';
import {facts, h, hideTip, onResize, showTip} from '../dom.ts';
import {seriesColour, surface} from '../palette.ts';
import {tickStep} from '../timeline/view.ts';
import type {Buffers} from '../document.ts';
import type {Context, Panel} from './context.ts';

const kLeft = 108;
const kUse = 92;
const kBottom = 24;
/** Height that a hole between used addresses shows with, as a share of all used bytes. */
const kHole = 0.02;

/** Addresses without the holes between buffers, so that small buffers far apart can be seen together. */
export class AddressScale {
  private readonly from: number[] = [];
  private readonly at: number[] = [];
  private readonly size: number[] = [];
  readonly length: number;

  constructor(buffers: Buffers, members: number[]) {
    const parts = members.map((i) => [buffers.address[i], buffers.address[i] + buffers.size[i]]).sort((a, b) => a[0] - b[0]);
    let used = 0;
    const merged: [number, number][] = [];
    for (const [from, to] of parts) {
      const last = merged[merged.length - 1];
      if (last && from <= last[1]) last[1] = Math.max(last[1], to);
      else merged.push([from, to]);
    }
    for (const [from, to] of merged) used += to - from;
    let at = 0;
    merged.forEach(([from, to], i) => {
      if (i > 0) at += Math.min(from - merged[i - 1][1], used * kHole);
      this.from.push(from);
      this.at.push(at);
      this.size.push(to - from);
      at += to - from;
    });
    this.length = at;
  }

  place(address: number): number {
    let i = this.from.findLastIndex((f) => f <= address);
    if (i < 0) i = 0;
    return this.at[i] + Math.min(address - this.from[i], this.size[i]);
  }

  /** Starts of the used ranges, with their place. */
  starts(): {address: number; at: number}[] {
    return this.from.map((address, i) => ({address, at: this.at[i]}));
  }
}

/** Bytes in use from each time on. */
export function inUse(buffers: Buffers, members: number[]): {time: number[]; bytes: number[]; most: number} {
  const changes = members.flatMap((i) => [[buffers.first[i], buffers.size[i]], [buffers.last[i], -buffers.size[i]]]);
  changes.sort((a, b) => a[0] - b[0] || b[1] - a[1]);
  const time: number[] = [];
  const bytes: number[] = [];
  let now = 0;
  let most = 0;
  for (const [t, change] of changes) {
    now += change;
    most = Math.max(most, now);
    if (time[time.length - 1] === t) bytes[bytes.length - 1] = now;
    else {
      time.push(t);
      bytes.push(now);
    }
  }
  return {time, bytes, most};
}

export function memoryPanel(context: Context): Panel {
  const {run} = context.current;
  const {memory} = run;
  const {buffers} = memory;
  const [begin, end] = context.timeline().deviceTime;
  let range: [number, number] = [begin, end];
  let space = Math.max(0, memory.spaces.findIndex((_, i) => buffers.space.includes(i)));
  const hidden = new Set<number>();
  const canvas = h('canvas', {tabindex: 0, role: 'img'});
  const holder = h('div', {class: 'canvas'}, canvas);
  const summary = h('span', {class: 'faint'});
  let size: [number, number] = [0, 0];
  let drawn: {i: number; x: number; y: number; w: number; h: number}[] = [];

  const membersNow = () => buffers.space.map((s, i) => (s === space && !hidden.has(buffers.kind[i]) ? i : -1)).filter((i) => i >= 0);

  const draw = () => {
    const [width, height] = size;
    const context2d = canvas.getContext('2d');
    if (context2d === null || width <= kLeft || height <= kUse + kBottom) return;
    const dpr = devicePixelRatio || 1;
    canvas.width = width * dpr;
    canvas.height = height * dpr;
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
    context2d.setTransform(dpr, 0, 0, dpr, 0, 0);
    const look = surface();
    context2d.clearRect(0, 0, width, height);
    context2d.font = '11px system-ui, "Liberation Sans", Arial, sans-serif';
    context2d.textBaseline = 'middle';
    const members = membersNow();
    const scale = new AddressScale(buffers, members);
    const use = inUse(buffers, members);
    const x = (t: number) => kLeft + ((t - range[0]) / (range[1] - range[0])) * (width - kLeft);
    const top = kUse + 12;
    const mapHeight = height - top - kBottom;
    const y = (at: number) => height - kBottom - (at / (scale.length || 1)) * mapHeight;

    const step = tickStep(range[1] - range[0], (width - kLeft) / 110);
    for (let i = Math.ceil(range[0] / step); i * step <= range[1]; ++i) {
      context2d.fillStyle = look.line;
      context2d.fillRect(Math.round(x(i * step)), 0, 1, height - kBottom);
      context2d.fillStyle = look.text;
      context2d.fillText(format.time(i * step), x(i * step) + 3, height - kBottom / 2);
    }
    context2d.save();
    context2d.beginPath();
    context2d.rect(kLeft, 0, width - kLeft, height - kBottom);
    context2d.clip();
    context2d.fillStyle = seriesColour(0);
    use.time.forEach((t, i) => {
      const until = i + 1 < use.time.length ? use.time[i + 1] : t;
      const tall = use.most > 0 ? (use.bytes[i] / use.most) * (kUse - 14) : 0;
      context2d.fillRect(x(t), kUse - tall, Math.max(0, x(until) - x(t)), tall);
    });
    drawn = [];
    for (const i of members) {
      const low = scale.place(buffers.address[i]);
      const box = {i, x: x(buffers.first[i]), y: 0, w: 0, h: 0};
      box.w = Math.max(1, x(buffers.last[i]) - box.x);
      box.h = Math.max(1, y(low) - y(low + buffers.size[i]));
      box.y = y(low) - box.h;
      if (box.x > width || box.x + box.w < kLeft) continue;
      context2d.fillStyle = seriesColour(buffers.kind[i]);
      context2d.fillRect(box.x, box.y, box.w - (box.w > 4 ? 0.7 : 0), box.h - (box.h > 4 ? 0.7 : 0));
      drawn.push(box);
    }
    context2d.restore();
    context2d.fillStyle = look.text;
    context2d.fillText('in use', 8, 14);
    context2d.fillText(`most ${format.bytes(use.most)}`, 8, 30);
    let free = Infinity;
    for (const {address, at} of scale.starts()) {
      const place = y(at);
      if (free - place < 14) continue;
      context2d.fillText(`0x${address.toString(16)}`, 8, place - 6);
      free = place;
    }
    canvas.setAttribute('aria-label', `${memory.spaces[space]?.name}: at most ${format.bytes(use.most)} in use by ${members.length} buffers`);
    summary.textContent = `${members.length} buffers, at most ${format.bytes(use.most)} in use at a time of ${format.bytes(memory.spaces[space]?.bytes ?? 0)}; addresses without holes`;
  };

  const at = (event: MouseEvent) => {
    const box = canvas.getBoundingClientRect();
    return {px: event.clientX - box.left, py: event.clientY - box.top};
  };
  let drag: {px: number; range: [number, number]} | null = null;
  const show = (from: number, to: number) => {
    const length = Math.min(Math.max(to - from, 4), end - begin);
    const low = Math.min(Math.max(from, begin), end - length);
    range = [low, low + length];
    draw();
  };
  canvas.addEventListener('wheel', (event) => {
    event.preventDefault();
    const around = range[0] + ((at(event).px - kLeft) / (size[0] - kLeft)) * (range[1] - range[0]);
    const factor = Math.exp(event.deltaY * 0.0015);
    show(around - (around - range[0]) * factor, around + (range[1] - around) * factor);
  }, {passive: false});
  canvas.addEventListener('pointerdown', (event) => {
    drag = {px: at(event).px, range: [...range]};
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener('pointerup', () => (drag = null));
  canvas.addEventListener('dblclick', () => show(begin, end));
  canvas.addEventListener('pointerleave', hideTip);
  canvas.addEventListener('pointermove', (event) => {
    const {px, py} = at(event);
    if (drag !== null) {
      const moved = ((px - drag.px) / (size[0] - kLeft)) * (range[1] - range[0]);
      show(drag.range[0] - moved, drag.range[1] - moved);
      return;
    }
    const over = drawn.findLast((b) => px >= b.x - 1 && px <= b.x + b.w + 1 && py >= b.y - 1 && py <= b.y + b.h + 1);
    if (over === undefined) return hideTip();
    const {i} = over;
    showTip(event.clientX, event.clientY, h('b', {}, run.names[buffers.name[i]] ?? ''), facts([
      ['kind', memory.kinds[buffers.kind[i]]], ['address', `0x${buffers.address[i].toString(16)}`], ['bytes', format.whole(buffers.size[i])],
      ['first use', format.time(buffers.first[i], 5)], ['last use', format.time(buffers.last[i], 5)],
    ]));
  });

  const legend = h('ul', {class: 'legend'});
  const drawLegend = () => {
    legend.replaceChildren();
    memory.kinds.forEach((kind, k) => {
      const mine = buffers.kind.map((b, i) => (b === k && buffers.space[i] === space ? buffers.size[i] : -1)).filter((b) => b >= 0);
      if (mine.length === 0) return;
      const mark = h('i');
      mark.style.setProperty('--colour', seriesColour(k));
      legend.append(h('li', {}, h('button', {type: 'button', class: 'toggle', 'aria-pressed': String(!hidden.has(k)), click: () => {
        if (!hidden.delete(k)) hidden.add(k);
        drawLegend();
        draw();
      }}, mark, `${kind} (${mine.length}, largest ${format.bytes(mine.reduce((a, b) => Math.max(a, b), 0))})`)));
    });
  };
  const choose = h('select', {'aria-label': 'Memory', change: () => {
    space = Number(choose.value);
    drawLegend();
    draw();
  }});
  memory.spaces.forEach((s, i) => choose.append(h('option', {value: i, selected: i === space}, s.name)));
  drawLegend();
  const stop = onResize(holder, (width, height) => {
    size = [width, height];
    draw();
  });
  return {
    element: h('section', {class: 'card fill memory'}, h('div', {class: 'toolbar'}, h('h3', {}, 'Memory'), choose, summary,
      h('span', {class: 'faint'}, 'Wheel: zoom. Drag: move. Double click: all.')), legend, holder),
    dispose: () => {
      stop();
      hideTip();
    },
    restyle: () => {
      drawLegend();
      draw();
    },
  };
}


// The timeline: a canvas that draws spans, critical path and counters for the visible time, one frame for each change.
import * as format from '../format.ts';
import type {Run} from '../document.ts';
import {reasonColour, seriesColour, surface, textOn, type Surface} from '../palette.ts';
import {Effects, groupsInOrder, layOut, type TrackRows} from './layout.ts';
import {RowIndex} from './row_index.ts';
import {StepSeries, trackLabel} from './step_series.ts';

export type ColourBy = 'reason' | 'node' | 'track';

/** Work of the last frame, and how many frames there were. */
export interface FrameWork {
  frame: number;
  /** filled rectangles */
  rectangles: number;
  /** entries of rows that were looked at */
  steps: number;
  labels: number;
  /** rows of spans in sight */
  rows: number;
  /** columns of counters */
  columns: number;
  /** lines of cause */
  links: number;
  width: number;
  milliseconds: number;
}

/** What the pointer is over. */
export type Hit =
  | {kind: 'span'; span: number; count: number; busy: number}
  | {kind: 'path'; entry: number}
  | {kind: 'counter'; name: string; text: string};

type Lane =
  | {kind: 'group'; top: number; height: number; group: string}
  | {kind: 'rows'; top: number; height: number; label: string; rows: RowIndex[]; rowHeight: number; track: number}
  | {kind: 'path'; top: number; height: number; label: string; row: RowIndex}
  | {kind: 'counter'; top: number; height: number; label: string; series: StepSeries; most: number; least: number; colour: number};

const kGutter = 148;
const kAxis = 22;
const kOverview = 26;
const kTop = kAxis + kOverview;
const kRow = 18;
const kSmallestView = 4;
const kLevels = [0.45, 0.65, 0.82, 1];

function blend(front: string, back: string, share: number): string {
  const mix = (at: number) => {
    const f = parseInt(front.slice(at, at + 2), 16);
    const b = parseInt(back.slice(at, at + 2), 16);
    return Math.round(f * share + b * (1 - share)).toString(16).padStart(2, '0');
  };
  return `#${mix(1)}${mix(3)}${mix(5)}`;
}

/** Distance of ticks, 1, 2 or 5 times a power of ten. */
export function tickStep(range: number, most: number): number {
  const rough = range / Math.max(1, most);
  const power = 10 ** Math.floor(Math.log10(rough));
  return [1, 2, 5, 10].find((f) => f * power >= rough)! * power;
}

export class TimelineView {
  readonly canvas = document.createElement('canvas');
  readonly tracks: TrackRows[];
  readonly effects: Effects;
  readonly begin: number;
  readonly end: number;
  /** From first to last span of the device's clock, with a margin: the host's compile time would dwarf it. */
  readonly deviceTime: [number, number];
  readonly work: FrameWork = {
    frame: 0, rectangles: 0, steps: 0, labels: 0, rows: 0, columns: 0, links: 0, width: 0, milliseconds: 0,
  };
  selected = -1;
  onHover: (hit: Hit | null, x: number, y: number) => void = () => {};
  onSelect: (span: number) => void = () => {};
  onFrame: () => void = () => {};

  private t0: number;
  private t1: number;
  private scroll = 0;
  private width = 0;
  private height = 0;
  private pending = 0;
  private pointer: {x: number; y: number} | null = null;
  private range: {from: number; to: number} | null = null;
  private lanes: Lane[] = [];
  private contentHeight = 0;
  private readonly collapsed = new Set<string>();
  /** Row of each span within its track. */
  private readonly rowOf: Int32Array;
  private readonly path: RowIndex;
  private readonly counters: {series: StepSeries; most: number; least: number}[];
  private matches: Uint8Array | null = null;
  matchCount = 0;
  private by: ColourBy = 'reason';
  private colours: string[][] = [];
  private dimmed: string[] = [];
  private look: Surface = surface();

  constructor(readonly run: Run) {
    const {spans} = run;
    this.tracks = layOut(run);
    this.effects = new Effects(spans.cause);
    this.rowOf = new Int32Array(spans.count);
    for (const {rows} of this.tracks) rows.forEach((row, r) => row.spans.forEach((s) => (this.rowOf[s] = r)));
    const path = run.critical_path;
    this.path = new RowIndex(Int32Array.from(path.start, (_, i) => i), path.start, path.duration);
    let begin = Infinity;
    let end = -Infinity;
    for (let i = 0; i < spans.count; ++i) {
      begin = Math.min(begin, spans.start[i]);
      end = Math.max(end, spans.start[i] + spans.duration[i]);
    }
    for (let i = 0; i < this.path.length; ++i) {
      begin = Math.min(begin, this.path.start[i]);
      end = Math.max(end, this.path.end[i]);
    }
    if (!(end > begin)) [begin, end] = [0, 1];
    this.begin = begin;
    this.end = end;
    this.counters = run.counters.map((counter) => ({
      series: new StepSeries(counter, end),
      most: counter.value.reduce((a, b) => Math.max(a, b), 0),
      least: counter.value.reduce((a, b) => Math.min(a, b), 0),
    }));
    this.deviceTime = this.findDeviceTime();
    [this.t0, this.t1] = this.deviceTime;
    this.buildLanes();
    this.chooseColours();
    this.canvas.tabIndex = 0;
    this.canvas.setAttribute('role', 'application');
    this.canvas.setAttribute('aria-label',
      'Timeline. Arrow keys move and zoom, F shows all, N and P go through the matches of the search.');
    this.listen();
  }

  private findDeviceTime(): [number, number] {
    const {spans, tracks} = this.run;
    let begin = Infinity;
    let end = -Infinity;
    for (let i = 0; i < spans.count; ++i) {
      if (tracks[spans.track[i]].clock === 'host') continue;
      begin = Math.min(begin, spans.start[i]);
      end = Math.max(end, spans.start[i] + spans.duration[i]);
    }
    if (!(end > begin)) return [this.begin, this.end];
    const margin = (end - begin) * 0.01;
    return [begin - margin, end + margin];
  }

  get view(): [number, number] {
    return [this.t0, this.t1];
  }

  show(from: number, to: number): void {
    const margin = (this.end - this.begin) * 0.02;
    const low = this.begin - margin;
    const high = this.end + margin;
    const length = Math.min(Math.max(to - from, kSmallestView), high - low);
    const middle = (from + to) / 2;
    this.t0 = Math.min(Math.max(middle - length / 2, low), high - length);
    this.t1 = this.t0 + length;
    this.invalidate();
  }

  showAll(): void {
    this.show(...this.deviceTime);
  }

  zoom(factor: number, around = (this.t0 + this.t1) / 2): void {
    // At the limits the view must not move.
    const length = this.t1 - this.t0;
    const wanted = Math.min(Math.max(length * factor, kSmallestView), (this.end - this.begin) * 1.04);
    const f = wanted / length;
    if (Math.abs(f - 1) < 1e-12) return;
    this.show(around - (around - this.t0) * f, around + (this.t1 - around) * f);
  }

  /** Selects a span and brings it into sight; `close`: so that it fills a good part of the view. */
  goTo(span: number, close = true): void {
    this.select(span);
    if (span < 0) return;
    const {start, duration, track} = this.run.spans;
    if (this.collapsed.delete(this.run.tracks[track[span]].group)) this.buildLanes();
    const length = close ? Math.max(duration[span] * 6, 200) : this.t1 - this.t0;
    const middle = start[span] + duration[span] / 2;
    if (close || middle < this.t0 || middle > this.t1) this.show(middle - length / 2, middle + length / 2);
    const place = this.placeOf(span);
    if (place !== null) {
      const y = place.y - this.scroll;
      if (y < kTop || y > this.height - 2 * kRow) this.scrollTo(place.y - this.height / 2);
    }
    this.invalidate();
  }

  select(span: number): void {
    if (this.selected === span) return;
    this.selected = span;
    this.onSelect(span);
    this.invalidate();
  }

  colourBy(by: ColourBy): void {
    this.by = by;
    this.chooseColours();
    this.invalidate();
  }

  restyle(): void {
    this.chooseColours();
    this.invalidate();
  }

  /** Spans whose name, node, operator or track contains the text, whatever its case. Returns how many. */
  search(text: string): number {
    const wanted = text.trim().toLowerCase();
    const {spans, names, nodes, tracks} = this.run;
    this.matchCount = 0;
    if (wanted === '') {
      this.matches = null;
    } else {
      const has = (s: string) => s.toLowerCase().includes(wanted);
      const name = names.map(has);
      const node = nodes.map((n) => has(n.name) || has(n.op) || n.nodes.some(has));
      const track = tracks.map((t) => has(t.name));
      const matches = (this.matches = new Uint8Array(spans.count));
      for (let i = 0; i < spans.count; ++i) {
        const hit = name[spans.name[i]] || track[spans.track[i]] || (spans.node[i] >= 0 && node[spans.node[i]]);
        if (hit) {
          matches[i] = 1;
          ++this.matchCount;
        }
      }
    }
    for (const {rows} of this.tracks) for (const row of rows) row.setMatches(this.matches);
    this.invalidate();
    return this.matchCount;
  }

  /** The next match after the selected span, or before it; -1 when there is none. Goes round at the ends. */
  match(direction: 1 | -1): number {
    const n = this.run.spans.count;
    if (this.matchCount === 0 || this.matches === null) return -1;
    let i = this.selected < 0 && direction < 0 ? 0 : this.selected;
    do i = (i + direction + n) % n;
    while (this.matches[i] === 0);
    this.goTo(i);
    return i;
  }

  resize(width: number, height: number): void {
    this.width = width;
    this.height = height;
    const dpr = devicePixelRatio || 1;
    this.canvas.width = Math.round(width * dpr);
    this.canvas.height = Math.round(height * dpr);
    this.canvas.style.width = `${width}px`;
    this.canvas.style.height = `${height}px`;
    this.scrollTo(this.scroll);
    this.draw();
  }

  invalidate(): void {
    if (this.pending !== 0) return;
    this.pending = requestAnimationFrame(() => {
      this.pending = 0;
      this.draw();
    });
  }

  dispose(): void {
    cancelAnimationFrame(this.pending);
  }

  private buildLanes(): void {
    const {run} = this;
    const lanes: Lane[] = [];
    let top = 4;
    const add = (lane: Lane) => {
      lane.top = top;
      top += lane.height;
      lanes.push(lane);
    };
    const at = {top: 0};
    if (this.path.length > 0) {
      add({kind: 'path', ...at, height: kRow + 6, label: 'critical path', row: this.path});
    }
    for (const group of groupsInOrder(run.tracks)) {
      const members = this.tracks.filter((t) => run.tracks[t.track].group === group && t.rows.length > 0);
      if (members.length === 0) continue;
      add({kind: 'group', ...at, height: kRow, group});
      if (this.collapsed.has(group)) continue;
      for (const {track, rows} of members) {
        const rowHeight = rows.length <= 4 ? kRow : Math.max(4, Math.floor((4 * kRow) / rows.length));
        add({kind: 'rows', ...at, height: rows.length * rowHeight + 4, label: trackLabel(run, track), rows, rowHeight, track});
      }
    }
    if (this.counters.length > 0) {
      add({kind: 'group', ...at, height: kRow, group: 'counters'});
      if (!this.collapsed.has('counters')) {
        this.counters.forEach(({series, most, least}, colour) => {
          add({kind: 'counter', ...at, height: 40, label: series.name, series, most, least, colour});
        });
      }
    }
    this.lanes = lanes;
    this.contentHeight = top + 8;
    this.scrollTo(this.scroll);
  }

  private chooseColours(): void {
    this.look = surface();
    const {run} = this;
    const base =
      this.by === 'reason' ? [...run.reasons.map((r) => reasonColour(r)), reasonColour(undefined)]
      : this.by === 'node' ? Array.from({length: 8}, (_, i) => seriesColour(i)).concat(seriesColour(-1))
      : run.tracks.map((_, i) => seriesColour(i));
    this.colours = base.map((c) => kLevels.map((level) => blend(c, this.look.panel, level)));
    this.dimmed = base.map((c) => blend(c, this.look.panel, 0.22));
  }

  private colourIndex(span: number): number {
    const {spans, reasons} = this.run;
    if (this.by === 'reason') return spans.reason[span] < 0 ? reasons.length : spans.reason[span];
    if (this.by === 'node') return spans.node[span] < 0 ? 8 : spans.node[span] % 8;
    return spans.track[span];
  }

  private scrollTo(y: number): void {
    this.scroll = Math.max(0, Math.min(y, this.contentHeight - (this.height - kTop)));
    this.invalidate();
  }

  private get scale(): number {
    return (this.width - kGutter) / (this.t1 - this.t0);
  }

  private timeAt(x: number): number {
    return this.t0 + (x - kGutter) / this.scale;
  }

  /** Where a span's row is, in pixels of the content; null when its group is folded. */
  private placeOf(span: number): {y: number; height: number} | null {
    const track = this.run.spans.track[span];
    for (const lane of this.lanes) {
      if (lane.kind === 'rows' && lane.track === track) {
        return {y: kTop + lane.top + 2 + this.rowOf[span] * lane.rowHeight, height: lane.rowHeight};
      }
    }
    return null;
  }

  private draw(): void {
    const begun = performance.now();
    const context = this.canvas.getContext('2d', {alpha: false});
    if (context === null || this.width <= kGutter) return;
    const dpr = devicePixelRatio || 1;
    context.setTransform(dpr, 0, 0, dpr, 0, 0);
    const {work, look} = this;
    work.rectangles = work.steps = work.labels = work.rows = work.columns = work.links = 0;
    work.width = this.width - kGutter;
    context.fillStyle = look.panel;
    context.fillRect(0, 0, this.width, this.height);
    context.font = '11px system-ui, "Liberation Sans", Arial, sans-serif';
    context.textBaseline = 'middle';

    const ticks = this.ticks();
    context.fillStyle = look.line;
    for (const t of ticks.at) context.fillRect(Math.round(kGutter + (t - this.t0) * this.scale), kTop, 1, this.height - kTop);
    context.save();
    context.beginPath();
    context.rect(0, kTop, this.width, this.height - kTop);
    context.clip();
    for (const lane of this.lanes) {
      const y = kTop + lane.top - this.scroll;
      if (y + lane.height < kTop || y > this.height) continue;
      if (lane.kind === 'group') this.drawGroup(context, lane.group, y);
      else this.drawLane(context, lane, y);
    }
    this.drawLinks(context);
    context.restore();
    this.drawTop(context, ticks);
    this.drawPointer(context);
    ++work.frame;
    work.milliseconds = performance.now() - begun;
    this.onFrame();
  }

  private ticks(): {step: number; at: number[]} {
    const step = tickStep(this.t1 - this.t0, (this.width - kGutter) / 110);
    const at: number[] = [];
    for (let i = Math.ceil(this.t0 / step); i * step <= this.t1; ++i) at.push(i * step);
    return {step, at};
  }

  private drawGroup(context: CanvasRenderingContext2D, group: string, y: number): void {
    context.fillStyle = this.look.background;
    context.fillRect(0, y, this.width, kRow - 1);
    context.fillStyle = this.look.text;
    context.font = '600 11px system-ui, "Liberation Sans", Arial, sans-serif';
    context.fillText(`${this.collapsed.has(group) ? '▸' : '▾'} ${group}`, 8, y + kRow / 2);
    context.font = '11px system-ui, "Liberation Sans", Arial, sans-serif';
  }

  private label(context: CanvasRenderingContext2D, text: string, y: number): void {
    context.fillStyle = this.look.text;
    context.fillText(clipped(text, kGutter - 24), 18, y);
  }

  private drawLane(context: CanvasRenderingContext2D, lane: Exclude<Lane, {kind: 'group'}>, y: number): void {
    context.save();
    context.beginPath();
    context.rect(kGutter, Math.max(y, kTop), this.width - kGutter, lane.height);
    context.clip();
    if (lane.kind === 'rows') {
      lane.rows.forEach((row, r) => {
        const top = y + 2 + r * lane.rowHeight;
        if (top + lane.rowHeight >= kTop && top <= this.height) this.drawRow(context, row, top, lane.rowHeight);
      });
    } else if (lane.kind === 'path') {
      this.drawPath(context, lane.row, y + 3, kRow);
    } else {
      this.drawCounter(context, lane, y + 3, lane.height - 6);
    }
    context.restore();
    this.label(context, lane.label, lane.kind === 'counter' ? y + 13 : y + 2 + Math.min(kRow, lane.height) / 2);
    if (lane.kind === 'counter') {
      context.fillStyle = this.look.faint;
      context.fillText(`to ${format.quantity(lane.most, lane.series.unit)}`, 18, y + 27);
    }
  }

  private drawRow(context: CanvasRenderingContext2D, row: RowIndex, top: number, height: number): void {
    const {work} = this;
    ++work.rows;
    const {scale} = this;
    const tall = height - (height > 6 ? 2 : 1);
    // Neighbouring cells of one colour become one rectangle.
    let colour = '';
    let from = 0;
    let to = -1;
    const flush = () => {
      if (to <= from) return;
      context.fillStyle = colour;
      context.fillRect(kGutter + from, top, to - from, tall);
      ++work.rectangles;
    };
    const texts: {x0: number; x1: number; span: number; colour: string}[] = [];
    work.steps += row.visit(this.t0, scale, this.width - kGutter, (first, last, longest, x0, x1) => {
      const alone = last - first === 1 && x1 - x0 > 1;
      const span = row.spans[longest];
      const dim = this.matches !== null && row.matchesIn(first, last) === 0;
      const busy = Math.min(1, row.busy(first, last) * scale);
      const index = this.colourIndex(span);
      const style = dim ? this.dimmed[index] : this.colours[index][alone ? 3 : Math.min(3, Math.floor(busy * 4))];
      // A wide span leaves the last third of a pixel free, so that it can be told from the next one.
      const right = alone && x1 - x0 > 4 ? x1 - 0.7 : x1;
      if (!alone && style === colour && x0 <= to + 0.01) {
        to = right;
        return;
      }
      flush();
      colour = style;
      from = Math.max(x0, -2);
      to = Math.min(right, this.width - kGutter + 2);
      if (alone && x1 - x0 > 34 && height >= 14) texts.push({x0: Math.max(0, x0), x1: to, span, colour: dim ? '' : style});
    });
    flush();
    for (const {x0, x1, span, colour: under} of texts) {
      const text = clipped(this.run.names[this.run.spans.name[span]], x1 - x0 - 8);
      if (text === '') continue;
      context.fillStyle = under === '' ? this.look.faint : textOn(under);
      context.fillText(text, kGutter + x0 + 4, top + tall / 2 + 0.5);
      ++work.labels;
    }
  }

  private drawPath(context: CanvasRenderingContext2D, row: RowIndex, top: number, height: number): void {
    const {run, work} = this;
    ++work.rows;
    work.steps += row.visit(this.t0, this.scale, this.width - kGutter, (first, last, longest, x0, x1) => {
      const entry = row.spans[longest];
      const reason = run.reasons[run.critical_path.reason[entry]];
      const colour = reasonColour(reason);
      context.fillStyle = colour;
      const wide = last - first === 1 && x1 - x0 > 4;
      context.fillRect(kGutter + Math.max(x0, -2), top, Math.min(x1, this.width) - Math.max(x0, -2) - (wide ? 0.7 : 0), height - 1);
      ++work.rectangles;
      if (wide && x1 - x0 > 34) {
        const node = run.critical_path.node[entry];
        const left = Math.max(0, x0);
        const text = clipped(node >= 0 ? run.nodes[node].name : reason ?? '', Math.min(x1, this.width - kGutter) - left - 8);
        context.fillStyle = textOn(colour);
        context.fillText(text, kGutter + left + 4, top + height / 2);
        ++work.labels;
      }
    });
  }

  private drawCounter(
    context: CanvasRenderingContext2D, lane: Extract<Lane, {kind: 'counter'}>, top: number, height: number,
  ): void {
    const range = lane.most - lane.least || 1;
    const base = top + height;
    const width = this.width - kGutter;
    const {scale, work} = this;
    const colour = seriesColour(lane.colour);
    const heightOf = (v: number) => ((v - lane.least) / range) * height;
    for (const [style, value] of [
      [blend(colour, this.look.panel, 0.3), (a: number, b: number) => lane.series.peak(a, b)],
      [blend(colour, this.look.panel, 0.75), (a: number, b: number) => lane.series.mean(a, b)],
    ] as const) {
      context.fillStyle = style;
      let from = 0;
      let level: number | null = null;
      for (let x = 0; x <= width; ++x) {
        const v = x === width ? null : value(this.t0 + x / scale, this.t0 + (x + 1) / scale);
        const tall = v === null ? null : Math.round(heightOf(v) * 2) / 2;
        if (tall === level) continue;
        if (level !== null) {
          context.fillRect(kGutter + from, base - level, x - from, level);
          ++work.rectangles;
        }
        level = tall;
        from = x;
      }
      work.columns += width;
    }
  }

  /** Lines from each cause to its effect: the chain up from the selected span, and what it caused. */
  private drawLinks(context: CanvasRenderingContext2D): void {
    if (this.selected < 0) return;
    const {spans} = this.run;
    const outline = this.placeOf(this.selected);
    const x = (t: number) => kGutter + (t - this.t0) * this.scale;
    const line = (cause: number, effect: number, strong: boolean) => {
      const a = this.placeOf(cause);
      const b = this.placeOf(effect);
      if (a === null || b === null) return;
      // A cause may still run when its effect begins.
      const t = Math.min(spans.start[cause] + spans.duration[cause], spans.start[effect]);
      const far = 4 * this.width;
      const x0 = Math.max(-far, Math.min(far, x(t)));
      const x1 = Math.max(-far, Math.min(far, x(spans.start[effect])));
      const y0 = a.y - this.scroll + a.height / 2;
      const y1 = b.y - this.scroll + b.height / 2;
      const bend = Math.max(12, Math.min(60, Math.abs(x1 - x0) / 2));
      context.strokeStyle = this.look.accent;
      context.globalAlpha = strong ? 1 : 0.5;
      context.lineWidth = strong ? 1.8 : 1.2;
      context.beginPath();
      context.moveTo(x0, y0);
      context.bezierCurveTo(x0 + bend, y0, x1 - bend, y1, x1 - 4, y1);
      context.stroke();
      context.fillStyle = this.look.accent;
      context.beginPath();
      context.moveTo(x1, y1);
      context.lineTo(x1 - 6, y1 - 3.5);
      context.lineTo(x1 - 6, y1 + 3.5);
      context.fill();
      context.globalAlpha = 1;
      ++this.work.links;
    };
    context.save();
    context.beginPath();
    context.rect(kGutter, kTop, this.width - kGutter, this.height - kTop);
    context.clip();
    for (const effect of this.effects.list(this.selected).subarray(0, 48)) line(this.selected, effect, false);
    let span = this.selected;
    for (let depth = 0; depth < 24 && spans.cause[span] >= 0; ++depth) {
      line(spans.cause[span], span, true);
      span = spans.cause[span];
    }
    if (outline !== null) {
      const x0 = Math.max(kGutter - 4, x(spans.start[this.selected]));
      const x1 = Math.min(this.width + 4, x(spans.start[this.selected] + spans.duration[this.selected]));
      context.strokeStyle = this.look.text;
      context.lineWidth = 2;
      context.strokeRect(x0 - 1, outline.y - this.scroll - 1, Math.max(3, x1 - x0 + 1), outline.height);
    }
    context.restore();
  }

  /** Axis, and the whole run with the part of it that is in sight. */
  private drawTop(context: CanvasRenderingContext2D, ticks: {step: number; at: number[]}): void {
    const {look, run} = this;
    context.fillStyle = look.panel;
    context.fillRect(0, 0, this.width, kTop);
    const width = this.width - kGutter;
    const [begin, end] = this.deviceTime;
    const whole = width / (end - begin);
    this.work.steps += this.path.visit(begin, whole, width, (_first, _last, longest, x0, x1) => {
      context.fillStyle = reasonColour(run.reasons[run.critical_path.reason[this.path.spans[longest]]]);
      context.fillRect(kGutter + x0, 5, x1 - x0, kOverview - 12);
      ++this.work.rectangles;
    });
    const from = kGutter + Math.max(0, Math.min(width, (this.t0 - begin) * whole));
    const to = kGutter + Math.max(0, Math.min(width, (this.t1 - begin) * whole));
    context.fillStyle = look.panel;
    context.globalAlpha = 0.65;
    context.fillRect(kGutter, 2, from - kGutter, kOverview - 6);
    context.fillRect(to, 2, this.width - to, kOverview - 6);
    context.globalAlpha = 1;
    context.strokeStyle = look.text;
    context.lineWidth = 1.5;
    context.strokeRect(from, 2.5, Math.max(2, to - from - 1), kOverview - 7);
    context.fillStyle = look.faint;
    context.fillText('whole run', 18, kOverview / 2);
    // Beyond a run's 3 digits, ticks close together would read the same.
    const digits = Math.max(3, Math.ceil(Math.log10(Math.max(Math.abs(this.t0), Math.abs(this.t1)) / ticks.step)) + 1);
    context.fillStyle = look.text;
    for (const t of ticks.at) {
      const text = t === 0 ? '0' : `${trimmed(format.time(t, Math.min(12, digits)))}`;
      context.fillText(text, kGutter + (t - this.t0) * this.scale + 3, kOverview + kAxis / 2);
    }
    context.fillStyle = look.faint;
    context.fillText(`${format.time(this.t1 - this.t0)} in sight`, 18, kOverview + kAxis / 2);
    context.fillStyle = look.line;
    context.fillRect(0, kTop - 1, this.width, 1);
    context.fillRect(kGutter - 1, 0, 1, this.height);
  }

  private drawPointer(context: CanvasRenderingContext2D): void {
    if (this.range !== null) {
      const a = kGutter + (this.range.from - this.t0) * this.scale;
      const b = kGutter + (this.range.to - this.t0) * this.scale;
      context.globalAlpha = 0.18;
      context.fillStyle = this.look.accent;
      context.fillRect(Math.min(a, b), kTop, Math.abs(b - a), this.height - kTop);
      context.globalAlpha = 1;
      context.fillStyle = this.look.text;
      context.fillText(format.time(Math.abs(this.range.to - this.range.from)), Math.min(a, b) + 4, this.height - 10);
    } else if (this.pointer !== null && this.pointer.x > kGutter) {
      context.globalAlpha = 0.35;
      context.fillStyle = this.look.text;
      context.fillRect(Math.round(this.pointer.x), kTop, 1, this.height - kTop);
      context.globalAlpha = 1;
    }
  }

  /** What lies under a point of the canvas. */
  hit(x: number, y: number): Hit | null {
    if (x < kGutter || y < kTop) return null;
    const t = this.timeAt(x);
    const slack = 1.5 / this.scale;
    for (const lane of this.lanes) {
      const top = kTop + lane.top - this.scroll;
      if (y < top || y >= top + lane.height) continue;
      if (lane.kind === 'rows') {
        const row = lane.rows[Math.floor((y - top - 2) / lane.rowHeight)];
        const found = row?.at(t, slack);
        if (!found) return null;
        return {kind: 'span', span: row.spans[found.longest], count: found.last - found.first, busy: row.busy(found.first, found.last)};
      }
      if (lane.kind === 'path') {
        const found = lane.row.at(t, slack);
        return found ? {kind: 'path', entry: lane.row.spans[found.longest]} : null;
      }
      if (lane.kind === 'counter') {
        const value = lane.series.mean(t, t + 1 / this.scale);
        return value === null ? null : {kind: 'counter', name: lane.label, text: format.quantity(value, lane.series.unit)};
      }
    }
    return null;
  }

  /** Middle of a span on the canvas, or null when it is out of sight. */
  pointOf(span: number): {x: number; y: number} | null {
    const place = this.placeOf(span);
    const {start, duration} = this.run.spans;
    const x = kGutter + (start[span] + duration[span] / 2 - this.t0) * this.scale;
    if (place === null || x < kGutter || x > this.width) return null;
    return {x, y: place.y - this.scroll + place.height / 2};
  }

  private listen(): void {
    const {canvas} = this;
    const local = (event: MouseEvent) => {
      const box = canvas.getBoundingClientRect();
      return {x: event.clientX - box.left, y: event.clientY - box.top};
    };
    canvas.addEventListener('wheel', (event) => {
      event.preventDefault();
      const {x} = local(event);
      const unit = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 16 : 1;
      const dx = event.deltaX * unit;
      const dy = event.deltaY * unit;
      if (x < kGutter) this.scrollTo(this.scroll + dy);
      else if (event.shiftKey || Math.abs(dx) > Math.abs(dy)) this.show(this.t0 + (dx || dy) / this.scale, this.t1 + (dx || dy) / this.scale);
      else this.zoom(Math.exp(dy * 0.0015), this.timeAt(x));
    }, {passive: false});

    let drag: {x: number; y: number; t0: number; t1: number; scroll: number; mode: 'move' | 'range' | 'overview'; moved: boolean} | null = null;
    canvas.addEventListener('pointerdown', (event) => {
      if (event.button !== 0) return;
      const {x, y} = local(event);
      canvas.setPointerCapture(event.pointerId);
      const mode = y < kOverview && x > kGutter ? 'overview' : event.shiftKey ? 'range' : 'move';
      drag = {x, y, t0: this.t0, t1: this.t1, scroll: this.scroll, mode, moved: false};
      if (mode === 'overview') this.moveOverview(x);
    });
    canvas.addEventListener('pointermove', (event) => {
      const {x, y} = local(event);
      this.pointer = {x, y};
      if (drag !== null) {
        drag.moved ||= Math.abs(x - drag.x) + Math.abs(y - drag.y) > 3;
        if (drag.mode === 'overview') {
          this.moveOverview(x);
        } else if (drag.mode === 'range') {
          this.range = {from: this.timeAt(Math.max(drag.x, kGutter)), to: this.timeAt(Math.max(x, kGutter))};
        } else if (drag.moved) {
          const moved = (x - drag.x) / this.scale;
          this.scrollTo(drag.scroll - (y - drag.y));
          this.show(drag.t0 - moved, drag.t1 - moved);
        }
        this.onHover(null, 0, 0);
      } else {
        this.onHover(this.hit(x, y), event.clientX, event.clientY);
      }
      this.invalidate();
    });
    canvas.addEventListener('pointerup', (event) => {
      const {x, y} = local(event);
      const ended = drag;
      drag = null;
      if (ended === null) return;
      if (ended.mode === 'range' && this.range !== null) {
        const {from, to} = this.range;
        this.range = null;
        if (ended.moved) this.show(Math.min(from, to), Math.max(from, to));
      } else if (ended.mode === 'move' && !ended.moved) {
        this.click(x, y);
      }
      this.range = null;
      this.invalidate();
    });
    canvas.addEventListener('pointercancel', () => {
      drag = null;
      this.range = null;
    });
    canvas.addEventListener('pointerleave', () => {
      this.pointer = null;
      this.onHover(null, 0, 0);
      this.invalidate();
    });
    canvas.addEventListener('dblclick', (event) => {
      const {x, y} = local(event);
      const hit = this.hit(x, y);
      if (hit?.kind === 'span') this.goTo(hit.span);
    });
    canvas.addEventListener('keydown', (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const step = (this.t1 - this.t0) * 0.15;
      const actions: Record<string, () => void> = {
        ArrowLeft: () => this.show(this.t0 - step, this.t1 - step),
        ArrowRight: () => this.show(this.t0 + step, this.t1 + step),
        ArrowUp: () => this.zoom(0.7),
        ArrowDown: () => this.zoom(1 / 0.7),
        PageUp: () => this.scrollTo(this.scroll - this.height / 2),
        PageDown: () => this.scrollTo(this.scroll + this.height / 2),
        f: () => this.showAll(),
        n: () => this.match(1),
        p: () => this.match(-1),
        Escape: () => this.select(-1),
      };
      const action = actions[event.key];
      if (action === undefined) return;
      event.preventDefault();
      action();
    });
  }

  private click(x: number, y: number): void {
    for (const lane of this.lanes) {
      const top = kTop + lane.top - this.scroll;
      if (lane.kind === 'group' && y >= kTop && y >= top && y < top + lane.height) {
        if (!this.collapsed.delete(lane.group)) this.collapsed.add(lane.group);
        this.buildLanes();
        return;
      }
    }
    const hit = this.hit(x, y);
    if (hit?.kind === 'span') this.select(hit.span);
    else if (hit?.kind === 'path') this.select(this.run.critical_path.span[hit.entry]);
    else this.select(-1);
  }

  private moveOverview(x: number): void {
    const [begin, end] = this.deviceTime;
    const middle = begin + ((x - kGutter) / (this.width - kGutter)) * (end - begin);
    const half = (this.t1 - this.t0) / 2;
    this.show(middle - half, middle + half);
  }
}

/** Text cut to a width in pixels, by an average width of letters: measuring each would cost more than drawing it. */
function clipped(text: string, width: number): string {
  const letters = Math.floor(width / 6.8);
  if (text.length <= letters) return text;
  return letters < 3 ? '' : `${text.slice(0, letters - 1)}…`;
}

function trimmed(text: string): string {
  return text.replace(/(\.\d*?)0+(?= )/, '$1').replace(/\.(?= )/, '');
}

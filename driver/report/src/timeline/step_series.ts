// A value over time that holds until the next one: means over any interval in O(log n).
import {MaxTree, RowIndex, lowerBound} from './row_index.ts';
import type {Counter, Run} from '../document.ts';
import type {TrackRows} from './layout.ts';

export interface Series {
  name: string;
  unit: string;
  /** Mean over [from, to); null before the first value. */
  mean(from: number, to: number): number | null;
  /** Largest value that holds somewhere in [from, to); null before the first value. */
  peak(from: number, to: number): number | null;
}

export class StepSeries implements Series {
  readonly name: string;
  readonly unit: string;
  private readonly time: number[];
  private readonly value: number[];
  private readonly integral: Float64Array;
  private readonly largest: MaxTree;

  /** `end`: until when the last value holds. */
  constructor(counter: Counter, private readonly end: number) {
    this.name = counter.name;
    this.unit = counter.unit;
    this.time = counter.time;
    this.value = counter.value;
    this.integral = new Float64Array(this.time.length);
    for (let i = 1; i < this.time.length; ++i) {
      this.integral[i] = this.integral[i - 1] + this.value[i - 1] * (this.time[i] - this.time[i - 1]);
    }
    this.largest = new MaxTree(this.value);
  }

  /** Index of the value that holds at `t`, or -1. */
  private index(t: number): number {
    const next = lowerBound(this.time, t);
    return next < this.time.length && this.time[next] === t ? next : next - 1;
  }

  private until(t: number): number {
    const i = this.index(t);
    return i < 0 ? 0 : this.integral[i] + this.value[i] * (t - this.time[i]);
  }

  mean(from: number, to: number): number | null {
    if (this.time.length === 0) return null;
    from = Math.max(from, this.time[0]);
    to = Math.min(to, this.end);
    return to > from ? (this.until(to) - this.until(from)) / (to - from) : null;
  }

  peak(from: number, to: number): number | null {
    if (this.time.length === 0 || to <= this.time[0] || from >= this.end) return null;
    const first = Math.max(0, this.index(from));
    return this.value[this.largest.argmax(first, Math.max(first + 1, lowerBound(this.time, to)))];
  }
}

/** Share of time in which a track has a span. Tracks whose spans overlap count as busy with any. */
class BusySeries implements Series {
  readonly unit = 'share';
  constructor(readonly name: string, private readonly first: {covered(from: number, to: number): number},
              private readonly begin: number, private readonly end: number) {}
  mean(from: number, to: number): number | null {
    from = Math.max(from, this.begin);
    to = Math.min(to, this.end);
    return to > from ? Math.min(1, Math.max(0, this.first.covered(from, to)) / (to - from)) : null;
  }
  peak(from: number, to: number): number | null {
    return this.mean(from, to);
  }
}

/** When any of a track's spans is open, as disjoint intervals. */
function unionOf(rows: TrackRows['rows']): {start: number[]; duration: number[]} {
  const parts = rows.flatMap((r) => Array.from(r.start, (s, i) => [s, r.end[i]]));
  parts.sort((a, b) => a[0] - b[0]);
  const start: number[] = [];
  const duration: number[] = [];
  let end = -Infinity;
  for (const [from, to] of parts) {
    if (from > end) {
      start.push(from);
      duration.push(to - from);
      end = to;
    } else if (to > end) {
      end = to;
      duration[duration.length - 1] = end - start[start.length - 1];
    }
  }
  return {start, duration};
}

export function trackLabel(run: Run, track: number): string {
  const t = run.tracks[track];
  const alone = run.tracks.filter((o) => o.name === t.name && o.group === t.group).length === 1;
  return alone || !t.unit ? t.name : `${t.name} ${t.unit}`;
}

/** How busy each engine is, of its spans, so that it can be looked at as closely as they are. */
export function engineSeries(run: Run, tracks: TrackRows[], begin: number, end: number): Series[] {
  // The group may hold tracks of waits and streams beside those of the engines' work.
  const named = new Set(run.nodes.flatMap((n) => [n.engine, ...Object.keys(n.engines)]));
  const engines = tracks.filter((t) => run.tracks[t.track].group === 'engines');
  const work = engines.filter((t) => named.has(run.tracks[t.track].name));
  return (work.length > 0 ? work : engines).map((t) => {
    const label = trackLabel(run, t.track);
    if (t.rows.length <= 1) return new BusySeries(label, t.rows[0] ?? {covered: () => 0}, begin, end);
    const {start, duration} = unionOf(t.rows);
    return new BusySeries(label, new RowIndex(Int32Array.from(start, (_, i) => i), start, duration), begin, end);
  });
}

// Level of detail for one row of disjoint spans: what a row takes to draw depends on its width in pixels, not on how many spans it has.

/** Index of the largest of a range of values, in O(log n). */
export class MaxTree {
  private readonly tree: Int32Array;

  constructor(private readonly values: ArrayLike<number>) {
    const n = values.length;
    this.tree = new Int32Array(2 * Math.max(n, 1));
    for (let i = 0; i < n; ++i) this.tree[n + i] = i;
    for (let i = n - 1; i > 0; --i) this.tree[i] = this.larger(this.tree[2 * i], this.tree[2 * i + 1]);
  }

  private larger(a: number, b: number): number {
    const difference = this.values[a] - this.values[b];
    return difference > 0 || (difference === 0 && a < b) ? a : b;
  }

  /** The first of the largest in [from, to), which is not empty. */
  argmax(from: number, to: number): number {
    const n = this.values.length;
    let best = from;
    for (let lo = from + n, hi = to + n; lo < hi; lo >>= 1, hi >>= 1) {
      if (lo & 1) best = this.larger(best, this.tree[lo++]);
      if (hi & 1) best = this.larger(best, this.tree[--hi]);
    }
    return best;
  }
}

/** First index in [from, values.length) whose value is not below `limit`; values do not descend. */
export function lowerBound(values: ArrayLike<number>, limit: number, from = 0): number {
  let step = 1;
  let hi = from;
  while (hi < values.length && values[hi] < limit) {
    from = hi + 1;
    hi += step;
    step *= 2;
  }
  hi = Math.min(hi, values.length);
  while (from < hi) {
    const middle = (from + hi) >>> 1;
    if (values[middle] < limit) from = middle + 1;
    else hi = middle;
  }
  return from;
}

/** A piece of a row to draw: entries [first, last), of which `longest` takes the most time, at pixels [x0, x1). */
export type DrawPiece = (first: number, last: number, longest: number, x0: number, x1: number) => void;

/** Narrower than this, in pixels, a span shares a pixel with its neighbours; wider than a pixel, so that a cell has one wide span at most. */
const kAloneWidth = 1.5;

export class RowIndex {
  readonly start: Float64Array;
  readonly end: Float64Array;
  private readonly reach: Float64Array;
  private readonly busyBefore: Float64Array;
  private readonly longest: MaxTree;
  private matchesBefore: Int32Array | null = null;

  /** `spans`: numbers of spans in the order of their starts, each starting when the one before has ended. */
  constructor(readonly spans: Int32Array, start: ArrayLike<number>, duration: ArrayLike<number>) {
    const n = spans.length;
    this.start = new Float64Array(n);
    this.end = new Float64Array(n);
    this.reach = new Float64Array(n);
    this.busyBefore = new Float64Array(n + 1);
    const durations = new Float64Array(n);
    let reach = -Infinity;
    for (let i = 0; i < n; ++i) {
      durations[i] = duration[spans[i]];
      this.start[i] = start[spans[i]];
      this.end[i] = this.start[i] + durations[i];
      this.reach[i] = reach = Math.max(reach, this.end[i]);
      this.busyBefore[i + 1] = this.busyBefore[i] + durations[i];
    }
    this.longest = new MaxTree(durations);
  }

  get length(): number {
    return this.spans.length;
  }

  /** Time taken by entries [first, last). */
  busy(first: number, last: number): number {
    return this.busyBefore[last] - this.busyBefore[first];
  }

  /** Of the time [from, to), what spans cover. */
  covered(from: number, to: number): number {
    const first = lowerBound(this.reach, from);
    const last = lowerBound(this.start, to, first);
    if (first >= last) return 0;
    return this.busy(first, last) - Math.max(0, from - this.start[first]) - Math.max(0, this.end[last - 1] - to);
  }

  /** Marks which spans match a search; null ends it. */
  setMatches(matches: Uint8Array | null): void {
    if (matches === null) {
      this.matchesBefore = null;
      return;
    }
    const before = (this.matchesBefore = new Int32Array(this.length + 1));
    for (let i = 0; i < this.length; ++i) before[i + 1] = before[i] + matches[this.spans[i]];
  }

  matchesIn(first: number, last: number): number {
    return this.matchesBefore === null ? 0 : this.matchesBefore[last] - this.matchesBefore[first];
  }

  /**
   * Calls `draw` for what shows of the row when time `t0` is at pixel 0 and a nanosecond is `scale` pixels wide: every visible span
   * that is wide enough by itself, and one piece for all others that start in the same pixel. Returns the steps it took, at most width + 2;
   * it draws at most twice as many pieces.
   */
  visit(t0: number, scale: number, width: number, draw: DrawPiece): number {
    const t1 = t0 + width / scale;
    const x = (t: number) => (t - t0) * scale;
    let steps = 0;
    let i = lowerBound(this.reach, t0);
    while (i < this.length && this.start[i] < t1) {
      ++steps;
      const x0 = x(this.start[i]);
      const x1 = x(this.end[i]);
      if (x1 - x0 >= kAloneWidth) {
        draw(i, i + 1, i, x0, x1);
        ++i;
        continue;
      }
      const pixel = Math.floor(x0);
      const next = Math.max(i + 1, lowerBound(this.start, t0 + (pixel + 1) / scale, i + 1));
      const longest = this.longest.argmax(i, next);
      const left = x(this.start[longest]);
      const right = x(this.end[longest]);
      if (right - left >= kAloneWidth) {
        if (longest > i) draw(i, longest, this.longest.argmax(i, longest), pixel, pixel + 1);
        draw(longest, longest + 1, longest, left, right);
      } else {
        draw(i, next, longest, pixel, pixel + 1);
      }
      i = next;
    }
    return steps;
  }

  /** What is at time `t`, or else within `slack` of it: entries [first, last) and the longest of them. */
  at(t: number, slack: number): {first: number; last: number; longest: number} | null {
    const inside = lowerBound(this.reach, t);
    if (inside < this.length && this.start[inside] <= t && this.end[inside] - this.start[inside] >= 2 * slack) {
      return {first: inside, last: inside + 1, longest: inside};
    }
    const first = lowerBound(this.reach, t - slack);
    const last = lowerBound(this.start, t + slack, first);
    return first < last ? {first, last, longest: this.longest.argmax(first, last)} : null;
  }
}

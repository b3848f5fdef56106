// Puts the spans of every track into rows whose spans do not overlap.
import type {Run, Spans, Track} from '../document.ts';
import {RowIndex} from './row_index.ts';

export interface TrackRows {
  track: number;
  rows: RowIndex[];
}

/** Order in which groups show: from what asks for work to what does it. Others come after, in the order of the document. */
const kGroupOrder = ['host', 'packets', 'engines', 'firmware', 'dram', 'scratchpad', 'pcie', 'noc'];

export function groupsInOrder(tracks: Track[]): string[] {
  const groups = [...new Set(tracks.map((t) => t.group))];
  const place = (g: string) => (kGroupOrder.includes(g) ? kGroupOrder.indexOf(g) : kGroupOrder.length);
  return groups.sort((a, b) => place(a) - place(b));
}

/** By depth: a span goes one row below the innermost span that contains it. */
function nestedRows(members: Int32Array, spans: Spans): number[][] {
  const order = Array.from(members).sort(
    (a, b) => spans.start[a] - spans.start[b] || spans.duration[b] - spans.duration[a] || a - b);
  const rows: number[][] = [];
  const openEnds: number[] = [];
  for (const span of order) {
    const start = spans.start[span];
    while (openEnds.length > 0 && openEnds[openEnds.length - 1] <= start) openEnds.pop();
    (rows[openEnds.length] ??= []).push(span);
    openEnds.push(start + spans.duration[span]);
  }
  return rows;
}

/** First row that is free when the span starts. */
function freeRows(members: Int32Array, spans: Spans): number[][] {
  const rows: number[][] = [];
  const ends: number[] = [];
  for (const span of members) {
    let row = 0;
    while (row < ends.length && ends[row] > spans.start[span]) ++row;
    (rows[row] ??= []).push(span);
    ends[row] = spans.start[span] + spans.duration[span];
  }
  return rows;
}

export function layOut(run: Run): TrackRows[] {
  const {spans, tracks} = run;
  const counts = new Int32Array(tracks.length);
  for (const track of spans.track) ++counts[track];
  const members = Array.from(counts, (n) => new Int32Array(n));
  counts.fill(0);
  for (let i = 0; i < spans.count; ++i) {
    const track = spans.track[i];
    members[track][counts[track]++] = i;
  }
  return tracks.map((track, index) => {
    const rows = (track.nested ? nestedRows : freeRows)(members[index], spans);
    return {track: index, rows: rows.map((r) => new RowIndex(Int32Array.from(r), spans.start, spans.duration))};
  });
}

/** For each span those that it caused, in order: of[from[i]] .. of[from[i + 1] - 1]. */
export class Effects {
  private readonly from: Int32Array;
  private readonly of: Int32Array;

  constructor(cause: Int32Array) {
    const from = (this.from = new Int32Array(cause.length + 1));
    for (const c of cause) if (c >= 0) ++from[c + 1];
    for (let i = 0; i < cause.length; ++i) from[i + 1] += from[i];
    this.of = new Int32Array(from[cause.length]);
    const next = from.slice();
    for (let i = 0; i < cause.length; ++i) if (cause[i] >= 0) this.of[next[cause[i]]++] = i;
  }

  list(span: number): Int32Array {
    return this.of.subarray(this.from[span], this.from[span + 1]);
  }
}

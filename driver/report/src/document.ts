// The profile document (docs/reference/profile-json.md), decoded into typed arrays. Times are nanoseconds.
// cx checks a document before it puts it into the page (driver/tools/report_page.hpp); here only its version is.

export interface Chip {
  clock_mhz: number;
  tiles: number;
  tile_rows: number;
  tile_cols: number;
  sca_tiles: number;
  vpu_lanes: number;
  scratchpad_bytes: number;
  dram_bytes: number;
  dram_bytes_per_s: number;
  scratchpad_bytes_per_s: number;
  peak_macs_per_s: number;
}

export interface Summary {
  latency_us: number;
  launch_us: number;
  work_us: number;
  cache_moves_us?: number;
  cycles: number;
  macs: number;
  mac_utilisation: number;
  bound_us: number;
  bound_ratio: number;
  packets: number;
  interrupts: number;
  firmware_instructions: number;
  firmware_cycles: number;
  bytes: Record<string, number>;
  energy_uj: number;
  average_w: number;
  compile_s: number;
  wall_s: number;
  limited_by: string;
  headline: string;
}

export interface Track {
  name: string;
  group: string;
  clock: 'device' | 'host';
  unit: string;
  nested: boolean;
}

export interface Counter {
  name: string;
  unit: string;
  group: string;
  time: number[];
  value: number[];
}

export interface EngineShare {
  instructions: number;
  busy_ns: number;
  waited_ns: number;
  operations: number;
  bytes_read: number;
  bytes_written: number;
}

export interface Node {
  name: string;
  op: string;
  nodes: string[];
  start: number;
  end: number;
  time: number;
  engine: string;
  utilisation: number;
  mac_utilisation: number;
  bound: number;
  by_reason: number[];
  macs: number;
  bytes: number;
  memory_bytes: number;
  bound_ns: number;
  energy_uj?: number;
  engines: Record<string, EngineShare>;
}

export interface Stall {
  track: number;
  node: number;
  waiting_for: number;
  reason: number;
  ns: number;
  count: number;
}

export interface WhatIf {
  name: string;
  sets: string[];
  latency_us?: number;
  speedup?: number;
  remark?: string;
  error?: string;
}

export interface EnergyDomain {
  name: string;
  uj: number;
  least_uj: number;
  most_uj: number;
}

export interface CriticalPath {
  span: number[];
  start: number[];
  duration: number[];
  reason: number[];
  node: number[];
  by_reason: Record<string, number>;
}

export interface Buffers {
  space: number[];
  name: number[];
  kind: number[];
  address: number[];
  size: number[];
  first: number[];
  last: number[];
}

/** Columns by span, sorted by start. */
export interface Spans {
  count: number;
  start: Float64Array;
  duration: Float64Array;
  name: Int32Array;
  track: Int32Array;
  node: Int32Array;
  cause: Int32Array;
  bytes: Float64Array;
  operations: Float64Array;
  reason: Int32Array;
}

export interface Run {
  model: string;
  config: string;
  precision: string;
  chip: Chip;
  summary: Summary;
  reasons: string[];
  names: string[];
  tracks: Track[];
  spans: Spans;
  counters: Counter[];
  nodes: Node[];
  critical_path: CriticalPath;
  stalls: Stall[];
  roofline: {
    ceilings: {name: string; macs_per_s: number}[];
    slopes: {name: string; bytes_per_s: number}[];
    points: {node: number[]; macs: number[]; bytes: number[]; ns: number[]};
  };
  memory: {spaces: {name: string; bytes: number}[]; buffers: Buffers; kinds: string[]};
  energy: {total_uj: number; span_us: number; domains: EnergyDomain[]};
  what_if: WhatIf[];
}

/** A run with what the page needs to tell it from others. */
export interface LoadedRun {
  run: Run;
  file: string;
  label: string;
  document: number;
}

export interface LoadedDocument {
  file: string;
  comparison: string[];
  runs: LoadedRun[];
}

type Columns = Record<string, number[]>;

function spansFrom(columns: Columns): Spans {
  return {
    count: columns.start.length,
    start: Float64Array.from(columns.start),
    duration: Float64Array.from(columns.duration),
    name: Int32Array.from(columns.name),
    track: Int32Array.from(columns.track),
    node: Int32Array.from(columns.node),
    cause: Int32Array.from(columns.cause),
    bytes: Float64Array.from(columns.bytes),
    operations: Float64Array.from(columns.operations),
    reason: Int32Array.from(columns.reason),
  };
}

export function documentFrom(text: string, file: string, index: number): LoadedDocument {
  const json = JSON.parse(text);
  if (json.format !== 'cx-profile') throw new Error(`${file} is no profile document`);
  if (json.version !== 1) throw new Error(`${file} has version ${json.version}; this page reads version 1`);
  const runs = (json.runs as (Omit<Run, 'spans'> & {spans: Columns})[]).map((raw) => {
    const run: Run = {...raw, spans: spansFrom(raw.spans)};
    return {run, file, label: '', document: index};
  });
  return {file, comparison: json.comparison ?? [], runs};
}

async function inflate(base64: string): Promise<string> {
  const packed = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream('gzip'));
  return new Response(stream).text();
}

/** Decodes what cx put into the page: gzip in base64, one element for each document. */
export async function embeddedDocuments(): Promise<LoadedDocument[]> {
  const documents: LoadedDocument[] = [];
  for (const element of document.querySelectorAll<HTMLElement>('script.cx-document')) {
    const text = await inflate(element.textContent!.trim());
    documents.push(documentFrom(text, element.dataset.file ?? '', documents.length));
    element.remove();
  }
  if (documents.length === 0) throw new Error('this page holds no profile; cx report fills it');
  labelRuns(documents.flatMap((d) => d.runs));
  return documents;
}

/** Shortest of model, configuration, precision, file that tells the runs apart; the configuration always shows. */
export function labelRuns(runs: LoadedRun[]): void {
  const differs = (f: (r: LoadedRun) => string) => new Set(runs.map(f)).size > 1;
  for (const r of runs) {
    const parts = [r.run.config];
    if (differs((x) => x.run.precision)) parts.push(r.run.precision);
    if (differs((x) => x.run.model)) parts.unshift(r.run.model);
    r.label = parts.join(' · ');
  }
  const seen = new Map<string, number>();
  for (const r of runs) seen.set(r.label, (seen.get(r.label) ?? 0) + 1);
  runs.forEach((r, i) => {
    if (seen.get(r.label)! > 1) r.label = `${i + 1}: ${r.label}${differs((x) => x.file) ? ` (${r.file})` : ''}`;
  });
}

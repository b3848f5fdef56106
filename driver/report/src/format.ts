// Numbers as people read them.

function significant(value: number, digits = 3): string {
  if (value === 0) return '0';
  // Rounded first: 0.9999 has the digits of 1.
  const magnitude = Math.floor(Math.log10(Math.abs(Number(value.toPrecision(digits)))));
  return value.toFixed(Math.min(12, Math.max(0, digits - 1 - magnitude)));
}

function scaled(value: number, steps: [number, string][], digits?: number): string {
  const size = Math.abs(value);
  // 0.9995 of a step would show as 1000 of the one below.
  const [factor, unit] = steps.find(([f]) => size >= f * 0.9995) ?? steps[steps.length - 1];
  return `${significant(value / factor, digits)} ${unit}`.trim();
}

const kTime: [number, string][] = [[1e9, 's'], [1e6, 'ms'], [1e3, 'µs'], [1, 'ns']];
const kBinary: [number, string][] = [[2 ** 30, 'GiB'], [2 ** 20, 'MiB'], [2 ** 10, 'KiB'], [1, 'B']];
const kDecimal: [number, string][] = [[1e12, 'T'], [1e9, 'G'], [1e6, 'M'], [1e3, 'k'], [1, '']];

/** Nanoseconds in the unit that fits. */
export const time = (ns: number, digits?: number): string => (ns === 0 ? '0' : scaled(ns, kTime, digits));
export const bytes = (n: number): string => (n === 0 ? '0' : scaled(n, kBinary));
export const count = (n: number): string => (n === 0 ? '0' : scaled(n, kDecimal));
export const whole = (n: number): string => Math.round(n).toLocaleString('en').replace(/,/g, '\u202f');
export const percent = (share: number): string => {
  const p = share * 100;
  return `${p !== 0 && Math.abs(p) < 9.95 ? p.toFixed(1) : p.toFixed(0)} %`;
};
export const energy = (uj: number): string => {
  if (uj === 0) return '0';
  return scaled(uj * 1e-6, [[1, 'J'], [1e-3, 'mJ'], [1e-6, 'µJ'], [1e-9, 'nJ'], [1e-12, 'pJ']]);
};
export const rate = (perSecond: number, unit: string): string =>
  perSecond === 0 ? `0 ${unit}/s` : scaled(perSecond, kDecimal.map(([f, u]) => [f, `${u}${unit}/s`]));
export const ratio = (r: number): string => (Number.isFinite(r) ? `${significant(r)} ×` : '–');

/** A counter's value with its unit, prefixed where the unit is of a kind that takes prefixes. */
export function quantity(value: number, unit: string): string {
  if (unit === 'share') return percent(value);
  if (unit.endsWith('/s')) return rate(value, unit === 'bytes/s' ? 'B' : unit.slice(0, -2));
  if (unit === 'bytes') return bytes(value);
  if (unit === 'Celsius') return `${significant(value, 3)} °C`;
  return `${significant(value)} ${unit}`;
}

// Colours. Reasons have one each, after Okabe and Ito's set for all kinds of colour vision, adapted to the two backgrounds;
// everything that a colour says is also said by text.

const dark = matchMedia('(prefers-color-scheme: dark)');

const kReasonColours: Record<string, [light: string, dark: string]> = {
  compute: ['#0072b2', '#4aa3df'],
  dram: ['#d55e00', '#f0813a'],
  scratchpad: ['#009e73', '#2fc296'],
  noc: ['#b8568f', '#d98bb9'],
  pcie: ['#c98700', '#f0b13a'],
  launch: ['#3f9fd8', '#8ecdf5'],
  dependency: ['#6f7782', '#8d97a5'],
  engine: ['#8a7a00', '#e5d94e'],
};
const kSeries: [string, string][] = [
  ['#0072b2', '#4aa3df'], ['#d55e00', '#f0813a'], ['#009e73', '#2fc296'], ['#b8568f', '#d98bb9'],
  ['#c98700', '#f0b13a'], ['#6f7782', '#aab3c0'], ['#6a4fb3', '#a48fe6'], ['#8a7a00', '#e5d94e'],
];
const kUnknown: [string, string] = ['#a4abb5', '#5f6772'];

const pick = (pair: [string, string]): string => pair[dark.matches ? 1 : 0];

export const reasonColour = (reason: string | undefined): string =>
  pick((reason !== undefined && kReasonColours[reason]) || kUnknown);
export const seriesColour = (index: number): string => pick(index < 0 ? kUnknown : kSeries[index % kSeries.length]);

export interface Surface {
  background: string;
  panel: string;
  text: string;
  faint: string;
  line: string;
  accent: string;
  match: string;
}

/** What canvases draw with: the style sheet's own colours. */
export function surface(): Surface {
  const style = getComputedStyle(document.documentElement);
  const get = (name: string) => style.getPropertyValue(`--${name}`).trim();
  return {
    background: get('background'), panel: get('panel'), text: get('text'), faint: get('faint'), line: get('line'),
    accent: get('accent'), match: get('match'),
  };
}

/** Black or white, whichever reads better on `#rrggbb`. */
export function textOn(colour: string): string {
  const channel = (at: number) => {
    const c = parseInt(colour.slice(at, at + 2), 16) / 255;
    return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  };
  const luminance = 0.2126 * channel(1) + 0.7152 * channel(3) + 0.0722 * channel(5);
  return luminance > 0.179 ? '#000000' : '#ffffff';
}

export function onSchemeChange(redraw: () => void): () => void {
  dark.addEventListener('change', redraw);
  return () => dark.removeEventListener('change', redraw);
}

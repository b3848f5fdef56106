// Engines and counters over time. Every chart shows the same time; a drag on one zooms them all.
import uPlot from 'uplot';
import * as format from '../format.ts';
import {h, onResize} from '../dom.ts';
import {seriesColour, surface} from '../palette.ts';
import {engineSeries, StepSeries, type Series} from '../timeline/step_series.ts';
import type {Context, Panel} from './context.ts';

/** Means shown for each chart, whatever the run's length. */
const kPoints = 200;

interface Chart {
  title: string;
  series: Series[];
  share: boolean;
}

export function overTimePanel(context: Context): Panel {
  const {run} = context.current;
  const view = context.timeline();
  const [begin, end] = view.deviceTime;
  const charts: Chart[] = [];
  const engines = engineSeries(run, view.tracks, view.begin, view.end);
  if (engines.length > 0) charts.push({title: 'Engines: share of time busy', series: engines, share: true});
  const groups = new Map<string, Series[]>();
  for (const counter of run.counters) {
    // Spans tell the same, as closely as one looks.
    if (counter.group === 'utilisation' && engines.some((e) => e.name === counter.name)) continue;
    const key = `${counter.group}, ${counter.unit}`;
    groups.set(key, [...(groups.get(key) ?? []), new StepSeries(counter, view.end)]);
  }
  for (const [key, series] of groups) charts.push({title: key.replace(/, share$/, ''), series, share: key.endsWith(', share')});

  const grid = h('div', {class: 'charts'});
  let plots: uPlot[] = [];
  let stops: (() => void)[] = [];
  let range: [number, number] = [begin, end];

  const data = (chart: Chart): uPlot.AlignedData => {
    const step = (range[1] - range[0]) / kPoints;
    const at = Array.from({length: kPoints}, (_, i) => range[0] + i * step);
    return [at.map((t) => t + step / 2), ...chart.series.map((s) => at.map((t) => s.mean(t, t + step)))];
  };
  const refresh = (from: number, to: number) => {
    range = [from, to];
    plots.forEach((plot, i) => plot.setData(data(charts[i])));
    zoomed.hidden = from === begin && to === end;
    zoomed.textContent = `Show all (now ${format.time(to - from)})`;
  };
  const zoomed = h('button', {type: 'button', hidden: true, click: () => refresh(begin, end)}, '');

  const build = () => {
    for (const plot of plots) plot.destroy();
    for (const stop of stops) stop();
    plots = [];
    stops = [];
    grid.replaceChildren();
    const look = surface();
    charts.forEach((chart) => {
      const holder = h('div', {class: 'plot'});
      grid.append(h('section', {class: 'card'}, h('h3', {}, chart.title), holder));
      const unit = chart.series[0].unit;
      const axis = {stroke: look.text, grid: {stroke: look.line, width: 1}, ticks: {stroke: look.line, width: 1}, font: '11px system-ui, Arial, sans-serif'};
      const plot: uPlot = new uPlot({
        width: 400, height: 180,
        cursor: {sync: {key: 'over-time'}, drag: {x: true, y: false, setScale: false}},
        scales: {x: {time: false}, y: chart.share ? {range: [0, 1]} : {range: (_, low, high) => uPlot.rangeNum(Math.min(0, low), high || 1, 0.05, true)}},
        axes: [
          {...axis, values: (_, ticks) => ticks.map((t) => format.time(t, Math.max(3, Math.ceil(Math.log10(Math.abs(range[1]) / (range[1] - range[0]))) + 3)))},
          {...axis, size: 74, values: (_, ticks) => ticks.map((t) => (t === 0 ? '0' : format.quantity(t, unit)))},
        ],
        series: [
          {label: 'time', value: (_, v) => (v == null ? '' : format.time(v, 4))},
          ...chart.series.map((s, i) => ({
            label: s.name, stroke: seriesColour(i), width: 1.5, points: {show: false},
            dash: i >= 8 ? [6, 4] : undefined,
            value: (_: uPlot, v: number | null) => (v == null ? '' : format.quantity(v, s.unit)),
          })),
        ],
        hooks: {
          setSelect: [(u) => {
            if (u.select.width < 3) return;
            const from = u.posToVal(u.select.left, 'x');
            const to = u.posToVal(u.select.left + u.select.width, 'x');
            u.setSelect({left: 0, width: 0, top: 0, height: 0}, false);
            refresh(from, to);
          }],
        },
      }, data(chart), holder);
      plots.push(plot);
      stops.push(onResize(holder, (width, height) => plot.setSize({width, height: Math.max(80, height - (plot.root.querySelector('.u-legend')?.clientHeight ?? 0))})));
    });
  };
  build();
  return {
    element: h('div', {class: 'over-time'},
      h('div', {class: 'toolbar'}, h('span', {class: 'faint'}, `Each point is a mean over 1/${kPoints} of the time shown. Drag to zoom all charts; names switch lines.`), zoomed,
        h('button', {type: 'button', click: () => context.showTime(...range)}, 'Show this time in the timeline')),
      grid),
    dispose: () => {
      for (const plot of plots) plot.destroy();
      for (const stop of stops) stop();
    },
    restyle: build,
  };
}

// The report: reads the profiles in the page and shows them in panels.
import {embeddedDocuments, type LoadedDocument} from './document.ts';
import {h, hideTip} from './dom.ts';
import {onSchemeChange} from './palette.ts';
import {TimelineView, type FrameWork} from './timeline/view.ts';
import {comparePanel} from './panels/compare.ts';
import type {Context, Panel} from './panels/context.ts';
import {energyPanel} from './panels/energy.ts';
import {memoryPanel} from './panels/memory.ts';
import {nodesPanel, type NodesPanel} from './panels/nodes.ts';
import {overview} from './panels/overview.ts';
import {overTimePanel} from './panels/over_time.ts';
import {rooflinePanel} from './panels/roofline.ts';
import {timelinePanel} from './panels/timeline.ts';

declare global {
  interface Window {
    /** What tests and scripts may ask of the page. */
    cxReport: {ready: boolean; error: string | null; timeline: () => TimelineView; work: () => FrameWork};
  }
}

const app = document.getElementById('app')!;

const kPanels: {id: string; title: string; make: (context: Context) => Panel}[] = [
  {id: 'overview', title: 'Overview', make: overview},
  {id: 'timeline', title: 'Timeline', make: timelinePanel},
  {id: 'nodes', title: 'Nodes', make: nodesPanel},
  {id: 'roofline', title: 'Roofline', make: rooflinePanel},
  {id: 'over-time', title: 'Over time', make: overTimePanel},
  {id: 'memory', title: 'Memory', make: memoryPanel},
  {id: 'energy', title: 'Energy', make: energyPanel},
  {id: 'compare', title: 'Compare', make: comparePanel},
];

function start(documents: LoadedDocument[]): void {
  const runs = documents.flatMap((d) => d.runs);
  const panels = kPanels.filter((p) => p.id !== 'compare' || runs.length > 1);
  let timeline: TimelineView | null = null;
  let shown: {id: string; panel: Panel} | null = null;
  const holder = h('div', {id: 'panel', role: 'tabpanel'});
  const title = h('div', {class: 'title'});
  const tabs = h('nav', {role: 'tablist', 'aria-label': 'Views'});
  const context: Context = {
    documents, runs, current: runs[0],
    timeline: () => (timeline ??= new TimelineView(context.current.run)),
    showSpan: (span) => {
      open('timeline');
      context.timeline().goTo(span);
    },
    showTime: (from, to) => {
      open('timeline');
      const margin = (to - from) * 0.05;
      context.timeline().show(from - margin, to + margin);
    },
    showNode: (node) => {
      open('nodes');
      (shown!.panel as NodesPanel).reveal(node);
    },
  };

  function open(id: string): void {
    const chosen = panels.find((p) => p.id === id) ?? panels[0];
    hideTip();
    shown?.panel.dispose?.();
    const panel = chosen.make(context);
    shown = {id: chosen.id, panel};
    holder.replaceChildren(panel.element);
    holder.setAttribute('aria-labelledby', `tab-${chosen.id}`);
    for (const tab of tabs.children) {
      const active = tab.id === `tab-${chosen.id}`;
      tab.setAttribute('aria-selected', String(active));
      (tab as HTMLElement).tabIndex = active ? 0 : -1;
    }
    if (location.hash !== `#${chosen.id}`) history.replaceState(null, '', `#${chosen.id}`);
  }

  function describe(): void {
    const {run} = context.current;
    const {chip} = run;
    title.replaceChildren(h('b', {}, run.model), ` on ${run.config}, ${run.precision}`,
      h('small', {}, `${chip.tiles} tiles of ${chip.tile_rows} × ${chip.tile_cols}${chip.sca_tiles > 0 ? `, ${chip.sca_tiles} sparse` : ''}, ${chip.clock_mhz} MHz`));
  }

  for (const {id, title: text} of panels) {
    tabs.append(h('button', {type: 'button', role: 'tab', id: `tab-${id}`, 'aria-controls': 'panel', click: () => open(id)}, text));
  }
  tabs.addEventListener('keydown', (event) => {
    const step = event.key === 'ArrowRight' ? 1 : event.key === 'ArrowLeft' ? -1 : 0;
    if (step === 0) return;
    const now = panels.findIndex((p) => p.id === shown?.id);
    const next = panels[(now + step + panels.length) % panels.length].id;
    open(next);
    document.getElementById(`tab-${next}`)!.focus();
  });
  addEventListener('hashchange', () => {
    if (location.hash.slice(1) !== shown?.id) open(location.hash.slice(1));
  });
  addEventListener('keydown', (event) => {
    if (event.key !== '/' || event.target instanceof HTMLInputElement) return;
    const field = holder.querySelector<HTMLInputElement>('input[type=search]');
    if (field === null) return;
    event.preventDefault();
    field.focus();
    field.select();
  });
  onSchemeChange(() => (shown?.panel.restyle ? shown.panel.restyle() : open(shown!.id)));

  const header = h('header', {}, h('span', {class: 'mark'}, 'cx'), title);
  if (runs.length > 1) {
    const choose = h('select', {'aria-label': 'Run', id: 'run', change: () => {
      context.current = runs[Number(choose.value)];
      timeline?.dispose();
      timeline = null;
      describe();
      open(shown!.id);
    }});
    runs.forEach((run, i) => choose.append(h('option', {value: i}, run.label)));
    header.append(h('label', {}, 'run ', choose));
  }
  header.append(tabs);
  app.replaceChildren(header, holder);
  describe();
  window.cxReport.timeline = context.timeline;
  window.cxReport.work = () => ({...context.timeline().work});
  open(location.hash.slice(1));
}

function fail(error: unknown): void {
  window.cxReport.error = String(error);
  app.replaceChildren(h('section', {class: 'card', role: 'alert'}, h('h2', {}, 'This report cannot be shown'), h('p', {}, String(error))));
}

const notReady = () => {
  throw new Error('the report is not ready');
};
window.cxReport = {ready: false, error: null, timeline: notReady, work: notReady};
addEventListener('error', (event) => fail(event.error ?? event.message));
addEventListener('unhandledrejection', (event) => fail(event.reason));
embeddedDocuments().then((documents) => {
  start(documents);
  window.cxReport.ready = true;
}).catch(fail);

// The timeline with its search and what is known of the selected span.
import * as format from '../format.ts';
import {facts, h, hideTip, onResize, showTip} from '../dom.ts';
import {reasonColour} from '../palette.ts';
import {trackLabel} from '../timeline/step_series.ts';
import type {ColourBy, Hit} from '../timeline/view.ts';
import type {Run} from '../document.ts';
import type {Context, Panel} from './context.ts';

const kEffectsShown = 12;

function known(run: Run, span: number): [string, string | Element][] {
  const {spans} = run;
  const node = spans.node[span];
  const lines: [string, string | Element][] = [
    ['track', trackLabel(run, spans.track[span])],
    ['start', format.time(spans.start[span], 7)],
    ['time', format.time(spans.duration[span])],
  ];
  if (node >= 0) lines.push(['node', run.nodes[node].name], ['operator', run.nodes[node].op]);
  if (spans.reason[span] >= 0) lines.push(['mostly', run.reasons[spans.reason[span]]]);
  if (spans.bytes[span] > 0) {
    lines.push(['bytes', format.whole(spans.bytes[span])]);
    if (spans.duration[span] > 0) lines.push(['rate', format.rate((spans.bytes[span] / spans.duration[span]) * 1e9, 'B')]);
  }
  if (spans.operations[span] > 0) {
    lines.push(['operations', format.whole(spans.operations[span])]);
    if (spans.duration[span] > 0) lines.push(['', format.rate((spans.operations[span] / spans.duration[span]) * 1e9, 'op')]);
  }
  return lines;
}

const nameOf = (run: Run, span: number) => run.names[run.spans.name[span]];

function tipFor(run: Run, hit: Hit): Element[] {
  if (hit.kind === 'counter') return [h('b', {}, hit.name), h('div', {}, hit.text)];
  if (hit.kind === 'path') {
    const path = run.critical_path;
    const lines: [string, string][] = [['time', format.time(path.duration[hit.entry])], ['reason', run.reasons[path.reason[hit.entry]] ?? 'unknown']];
    if (path.node[hit.entry] >= 0) lines.unshift(['node', run.nodes[path.node[hit.entry]].name]);
    return [h('b', {}, 'Critical path'), facts(lines)];
  }
  const lines = known(run, hit.span);
  const cause = run.spans.cause[hit.span];
  if (cause >= 0) lines.push(['begun by', `${nameOf(run, cause)} (${trackLabel(run, run.spans.track[cause])})`]);
  const more = hit.count > 1 ? [h('div', {class: 'faint'}, `longest of ${hit.count} here, ${format.time(hit.busy)} together`)] : [];
  return [h('b', {}, nameOf(run, hit.span)), ...more, facts(lines)];
}

export function timelinePanel(context: Context): Panel {
  const {run} = context.current;
  const view = context.timeline();
  const detail = h('aside', {class: 'detail', 'aria-live': 'polite'});
  const found = h('output', {class: 'found'});
  const search = h('input', {
    type: 'search', placeholder: 'Search spans, nodes, operators (press /)', 'aria-label': 'Search', id: 'timeline-search',
    input: () => {
      const n = view.search(search.value);
      found.textContent = search.value.trim() === '' ? '' : `${format.whole(n)} found`;
    },
    keydown: ((event: KeyboardEvent) => {
      if (event.key === 'Enter') view.match(event.shiftKey ? -1 : 1);
      if (event.key === 'Escape') view.canvas.focus();
    }) as never,
  });
  const colour = h('select', {'aria-label': 'Colours', change: () => {
    view.colourBy(colour.value as ColourBy);
    drawLegend();
  }});
  for (const [value, text] of [['reason', 'colour: reason'], ['node', 'colour: node'], ['track', 'colour: track']]) {
    colour.append(h('option', {value}, text));
  }
  const legend = h('ul', {class: 'legend small'});
  const drawLegend = () => {
    legend.replaceChildren();
    if (colour.value !== 'reason') return;
    for (const reason of run.reasons) {
      const mark = h('i');
      mark.style.setProperty('--colour', reasonColour(reason));
      legend.append(h('li', {}, mark, reason));
    }
  };
  const button = (text: string, label: string, action: () => void) =>
    h('button', {type: 'button', title: label, 'aria-label': label, click: action}, text);
  const link = (span: number) =>
    h('button', {type: 'button', class: 'link', click: () => view.goTo(span, false), title: nameOf(run, span)},
      `${trackLabel(run, run.spans.track[span])}: ${nameOf(run, span)}`);

  const describe = (span: number) => {
    detail.replaceChildren();
    if (span < 0) {
      detail.append(h('h3', {}, 'No span selected'), h('p', {class: 'faint'},
        'Click a span for its arguments, what let it begin and what it began. Wheel: zoom. Drag: move. Shift and drag: zoom to a range. ' +
        'Double click: zoom to a span. Shift and wheel: move in time. Wheel over the names: scroll. Keys: arrows, F all, N and P matches.'));
      return;
    }
    const lines = known(run, span);
    detail.append(h('h3', {class: 'name'}, nameOf(run, span)), facts(lines));
    const cause = run.spans.cause[span];
    detail.append(h('h4', {}, 'Begun by'), cause >= 0 ? link(cause) : h('p', {class: 'faint'}, 'nothing that was recorded'));
    if (cause >= 0) {
      const gap = run.spans.start[span] - (run.spans.start[cause] + run.spans.duration[cause]);
      detail.append(h('p', {class: 'faint'}, gap >= 0 ? `${format.time(gap)} after its end` : `${format.time(-gap)} before its end`));
    }
    const effects = view.effects.list(span);
    if (effects.length > 0) {
      detail.append(h('h4', {}, `Began ${format.whole(effects.length)}`));
      const list = h('ul');
      for (const effect of effects.subarray(0, kEffectsShown)) list.append(h('li', {}, link(effect)));
      if (effects.length > kEffectsShown) list.append(h('li', {class: 'faint'}, `and ${format.whole(effects.length - kEffectsShown)} more`));
      detail.append(list);
    }
    const node = run.spans.node[span];
    if (node >= 0) {
      detail.append(h('h4', {}, 'Node'),
        h('button', {type: 'button', class: 'link', click: () => context.showNode(node)}, run.nodes[node].name));
    }
  };

  const holder = h('div', {class: 'canvas'}, view.canvas);
  const element = h('div', {class: 'timeline'},
    h('div', {class: 'toolbar'}, search, button('‹', 'Previous match', () => view.match(-1)), button('›', 'Next match', () => view.match(1)), found,
      colour, button('+', 'Zoom in', () => view.zoom(0.5)), button('−', 'Zoom out', () => view.zoom(2)), button('all', 'Show the whole run', () => view.showAll()),
      legend),
    h('div', {class: 'stage'}, holder, detail));
  view.onHover = (hit, x, y) => (hit === null ? hideTip() : showTip(x, y, ...tipFor(run, hit)));
  view.onSelect = describe;
  drawLegend();
  describe(view.selected);
  const stop = onResize(holder, (width, height) => view.resize(width, height));
  return {
    element,
    dispose: () => {
      stop();
      hideTip();
      view.onHover = () => {};
      view.onSelect = () => {};
      view.search('');
    },
    restyle: () => {
      view.restyle();
      drawLegend();
    },
  };
}

// Elements by function call. Text goes in as text nodes only: names of a model are never read as markup.

type Child = Element | Text | string | null | undefined | false;
type Attributes = Record<string, string | number | boolean | undefined | ((event: never) => void)>;

function apply(element: Element, attributes: Attributes, children: Child[]): void {
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined || value === false) continue;
    if (typeof value === 'function') element.addEventListener(key, value as EventListener);
    else element.setAttribute(key, value === true ? '' : String(value));
  }
  for (const child of children) if (child !== null && child !== undefined && child !== false) element.append(child);
}

export function h<K extends keyof HTMLElementTagNameMap>(
  tag: K, attributes: Attributes = {}, ...children: Child[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  apply(element, attributes, children);
  return element;
}

export function svg<K extends keyof SVGElementTagNameMap>(
  tag: K, attributes: Attributes = {}, ...children: Child[]
): SVGElementTagNameMap[K] {
  const element = document.createElementNS('http://www.w3.org/2000/svg', tag);
  apply(element, attributes, children);
  return element;
}

/** One tooltip for the page; beside the pointer, inside the window. */
const tip = h('div', {class: 'tip', role: 'status', hidden: true});

export function showTip(x: number, y: number, ...lines: Child[]): void {
  if (!tip.isConnected) document.body.append(tip);
  tip.replaceChildren(...lines.filter((l): l is Element | Text | string => !!l));
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(4, x + 14 + box.width > innerWidth ? x - 14 - box.width : x + 14)}px`;
  tip.style.top = `${Math.max(4, y + 14 + box.height > innerHeight ? y - 10 - box.height : y + 14)}px`;
}

export function hideTip(): void {
  tip.hidden = true;
}

/** Lines of name and value. */
export function facts(pairs: [string, Child][]): HTMLElement {
  const list = h('dl', {class: 'facts'});
  for (const [name, value] of pairs) list.append(h('dt', {}, name), h('dd', {}, value));
  return list;
}

/** Calls `draw` when the element gets a size and whenever that changes; returns what ends that. */
export function onResize(element: Element, draw: (width: number, height: number) => void): () => void {
  const observer = new ResizeObserver((entries) => {
    const {width, height} = entries[entries.length - 1].contentRect;
    if (width > 0 && height > 0) draw(Math.floor(width), Math.floor(height));
  });
  observer.observe(element);
  return () => observer.disconnect();
}

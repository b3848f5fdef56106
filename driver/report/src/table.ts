// A table that sorts by any column and hides rows that a filter does not want.
import {h} from './dom.ts';

export interface Column<T> {
  id: string;
  title: string;
  /** explains the column */
  hint?: string;
  value: (row: T) => number | string;
  /** what shows; the value as it is when absent */
  cell?: (row: T) => string | Element;
  numeric?: boolean;
}

export interface TableOptions<T> {
  columns: Column<T>[];
  rows: T[];
  sort: {id: string; descending: boolean};
  label: string;
  /** what a click on a row opens below it */
  details?: (row: T) => Element;
  /** a last row, of the rows that show */
  total?: (shown: T[]) => (string | Element)[];
}

export class DataTable<T> {
  readonly element: HTMLElement;
  private readonly head = h('tr');
  private readonly body = h('tbody');
  private readonly foot = h('tfoot');
  private sort: {id: string; descending: boolean};
  private wanted: (row: T) => boolean = () => true;
  private readonly open = new Set<T>();
  shown: T[] = [];

  constructor(private readonly options: TableOptions<T>) {
    this.sort = options.sort;
    this.element = h('div', {class: 'table', tabindex: 0, role: 'region', 'aria-label': options.label},
      h('table', {}, h('thead', {}, this.head), this.body, this.foot));
    for (const column of options.columns) {
      const button = h('button', {type: 'button', title: column.hint ?? '', click: () => this.sortBy(column)}, column.title);
      this.head.append(h('th', {scope: 'col', 'data-column': column.id, class: column.numeric ? 'number' : ''}, button));
    }
    this.render();
  }

  filter(wanted: (row: T) => boolean): void {
    this.wanted = wanted;
    this.render();
  }

  /** Opens a row's details and brings it into sight. */
  reveal(row: T): void {
    this.open.add(row);
    this.render();
    this.body.querySelector('tr.open')?.scrollIntoView({block: 'center'});
  }

  private sortBy(column: Column<T>): void {
    const descending = this.sort.id === column.id ? !this.sort.descending : column.numeric === true;
    this.sort = {id: column.id, descending};
    this.render();
  }

  private render(): void {
    const {columns, rows, details, total} = this.options;
    const by = columns.find((c) => c.id === this.sort.id)!;
    const sign = this.sort.descending ? -1 : 1;
    const compare = (a: T, b: T) => {
      const [x, y] = [by.value(a), by.value(b)];
      if (typeof x === 'string' || typeof y === 'string') return sign * String(x).localeCompare(String(y), 'en', {numeric: true});
      // What has no value comes last either way.
      if (Number.isNaN(x) || Number.isNaN(y)) return Number(Number.isNaN(x)) - Number(Number.isNaN(y));
      return sign * (x - y);
    };
    this.shown = rows.filter(this.wanted).sort(compare);
    for (const cell of this.head.children) {
      const active = cell.getAttribute('data-column') === this.sort.id;
      cell.setAttribute('aria-sort', active ? (this.sort.descending ? 'descending' : 'ascending') : 'none');
    }
    const lines = document.createDocumentFragment();
    for (const row of this.shown) {
      const isOpen = this.open.has(row);
      const line = h('tr', {class: details ? (isOpen ? 'opens open' : 'opens') : ''});
      for (const column of columns) {
        const content = column.cell?.(row) ?? String(column.value(row));
        line.append(h('td', {class: column.numeric ? 'number' : '', title: typeof content === 'string' ? content : ''}, content));
      }
      if (details) {
        line.tabIndex = 0;
        line.setAttribute('aria-expanded', String(isOpen));
        const toggle = () => {
          if (!this.open.delete(row)) this.open.add(row);
          this.render();
        };
        line.addEventListener('click', toggle);
        line.addEventListener('keydown', (event) => {
          if (event.key === 'Enter' && event.target === line) toggle();
        });
      }
      lines.append(line);
      if (details && isOpen) lines.append(h('tr', {class: 'details'}, h('td', {colspan: columns.length}, details(row))));
    }
    this.body.replaceChildren(lines);
    this.foot.replaceChildren();
    if (total) {
      const line = h('tr');
      total(this.shown).forEach((content, i) => line.append(h('td', {class: columns[i].numeric ? 'number' : ''}, content)));
      this.foot.append(line);
    }
  }
}

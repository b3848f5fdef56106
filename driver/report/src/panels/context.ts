// What the panels share: the run that shows, and the ways between them.
import type {LoadedDocument, LoadedRun} from '../document.ts';
import type {TimelineView} from '../timeline/view.ts';

export interface Context {
  documents: LoadedDocument[];
  runs: LoadedRun[];
  current: LoadedRun;
  /** the one timeline of the current run */
  timeline: () => TimelineView;
  /** opens the timeline at a span, or at a time */
  showSpan: (span: number) => void;
  showTime: (from: number, to: number) => void;
  /** opens the table at a node */
  showNode: (node: number) => void;
}

export interface Panel {
  element: HTMLElement;
  dispose?: () => void;
  /** the colour scheme has changed */
  restyle?: () => void;
}
